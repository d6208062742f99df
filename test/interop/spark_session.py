"""A Spark session with Delta. The jars that pyspark lacks are local files, named by
TIDEMARK_TEST_SPARK_JARS: nothing is downloaded. To be imported before anything else of pyspark."""

import os

os.environ["TZ"] = "UTC"

from pyspark.sql import SparkSession  # noqa: E402


def session():
    return (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", os.environ["TIDEMARK_TEST_SPARK_JARS"])
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        # Short queries are interpreted sooner than compiled.
        .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC -XX:TieredStopAtLevel=1")
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
