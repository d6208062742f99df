"""Runs queries over Delta tables with Spark and writes its answers as JSON; see read_arrow.py.

The jars that pyspark lacks are local files, named by TIDEMARK_TEST_SPARK_JARS: nothing is downloaded.
"""

import json
import os
import re
import sys

os.environ["TZ"] = "UTC"

from pyspark.sql import Row, SparkSession  # noqa: E402

from rows import normal  # noqa: E402


def plain(value):
    """Rows become dicts; maps, which other readers give as pairs, become pairs."""
    if isinstance(value, Row):
        return {name: plain(value[name]) for name in value.__fields__}
    if isinstance(value, dict):
        return [[plain(key), plain(member)] for key, member in value.items()]
    if isinstance(value, list):
        return [plain(member) for member in value]
    return value


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


def main():
    request = json.load(sys.stdin)
    spark = session()
    spark.sparkContext.setLogLevel("ERROR")
    for name, spec in request["tables"].items():
        reader = spark.read.format("delta")
        if spec.get("version") is not None:
            reader = reader.option("versionAsOf", spec["version"])
        reader.load(spec["files"]).createOrReplaceTempView(name)
    answers = []
    for name, sql in request["queries"]:
        text = re.sub(r"TS'([^']*)'", r"TIMESTAMP '\1'", sql)
        text = re.sub(r"\bFROM t\b", f"FROM {name}", text)
        answers.append(normal([plain(row) for row in spark.sql(text).collect()]))
    with open(sys.argv[1], "w") as file:
        json.dump({"answers": {"spark": answers}}, file)
    spark.stop()


main()
