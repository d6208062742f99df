"""The same job as Spark users write it: Structured Streaming into Delta tables, trigger AvailableNow, tuned fairly. Bronze, silver
by MERGE and gold run one after another in one warm process, one batch each, which is Spark's best case.

Prints a line `RESULT {json}` per stage and one for the chain; times of the chain start once the session and tables are there."""
import argparse
import json
import os
import time

STARTED = time.time()
a = argparse.ArgumentParser()
a.add_argument("--base", required=True)
a.add_argument("--bootstrap", required=True)
a.add_argument("--topic", required=True)
a.add_argument("--jars", required=True, help="comma-separated paths")
a.add_argument("--heap", default="4g")
a.add_argument("--master", default="local[2]")
o = a.parse_args()

from delta.tables import DeltaTable  # noqa: E402
from pyspark import StorageLevel  # noqa: E402
from pyspark.sql import SparkSession, functions as F, types as T  # noqa: E402

PATHS = {name: f"{o.base}/{name}" for name in ("bronze", "silver", "gold", "dlq")}
CHECKPOINTS = {name: f"{o.base}/_checkpoints/{name}" for name in ("bronze", "silver", "gold")}
LATE_S = 900
builder = SparkSession.builder
for key, value in {
    "spark.master": o.master,
    "spark.driver.memory": o.heap,
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.jars": o.jars,
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.databricks.delta.merge.materializeSource": "none",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "WARN",
    "spark.local.dir": f"{o.base}/_tmp",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.streaming.stateStore.providerClass":
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
}.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
JVM = spark._jvm.java.lang.ProcessHandle.current().pid()
HZ = os.sysconf("SC_CLK_TCK")

SCHEMA = T.StructType([
    T.StructField("event_id", T.StringType()), T.StructField("customer_id", T.StringType()),
    T.StructField("api_key_id", T.StringType()), T.StructField("endpoint", T.StringType()),
    T.StructField("method", T.StringType()), T.StructField("status_code", T.IntegerType()),
    T.StructField("request_bytes", T.LongType()), T.StructField("response_bytes", T.LongType()),
    T.StructField("latency_ms", T.DoubleType()), T.StructField("region", T.StringType()),
    T.StructField("event_time", T.TimestampType())])


def cpu_s():
    """Of this process and its JVM."""
    own = os.times()
    with open(f"/proc/{JVM}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HZ + own.user + own.system


def peak_kib():
    """VmHWM of this process and its JVM."""
    total = 0
    for pid in (JVM, os.getpid()):
        with open(f"/proc/{pid}/status") as f:
            total += next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    return total


def emit(stage, since, cpu_since, rows):
    wall = time.time() - since
    print("RESULT " + json.dumps(dict(stage=stage, wall_s=wall, cpu_s=cpu_s() - cpu_since, rows=rows,
                                      process_wall_s=time.time() - STARTED, peak_kib=peak_kib())), flush=True)


def once(query):
    return query.trigger(availableNow=True)


def bronze_query():
    records = (spark.readStream.format("kafka").option("kafka.bootstrap.servers", o.bootstrap)
               .option("subscribe", o.topic).option("startingOffsets", "earliest").option("failOnDataLoss", "true")
               .load().select(
                   F.col("key").cast("string").alias("key"), F.col("value").cast("string").alias("value"),
                   "topic", "partition", "offset", F.col("timestamp").alias("kafka_timestamp"),
                   F.current_timestamp().alias("ingested_at"), F.to_date("timestamp").alias("ingest_date")))
    return once(records.writeStream.format("delta").option("checkpointLocation", CHECKPOINTS["bronze"])
                .partitionBy("ingest_date").outputMode("append")).start(PATHS["bronze"])


def parsed():
    p = spark.readStream.format("delta").load(PATHS["bronze"]).select(
        F.from_json("value", SCHEMA).alias("e"), "key", "value", "topic", "partition", "offset", "kafka_timestamp",
        "ingest_date")
    p = p.withColumn("ok", F.col("e.event_id").isNotNull() & F.col("e.customer_id").isNotNull()
                     & F.col("e.event_time").isNotNull() & F.col("e.status_code").isNotNull()
                     & F.col("e.response_bytes").isNotNull())
    # The raw text is needed for dead letters only: good rows do not carry it through cache and shuffle.
    return (p.withColumn("value", F.when(~F.col("ok"), F.col("value")))
            .withColumn("key", F.when(~F.col("ok"), F.col("key"))))


def silver_columns(df):
    delay = F.unix_micros("kafka_timestamp") / 1e6 - F.unix_micros("e.event_time") / 1e6
    return df.select(
        "e.*", F.to_date("e.event_time").alias("event_date"), (delay > LATE_S).alias("_is_late_arriving"),
        F.round(delay, 3).alias("_arrival_delay_seconds"), F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"), F.col("kafka_timestamp").alias("_kafka_timestamp"),
        F.current_timestamp().alias("_processed_at"))


def dead_letter_columns(df):
    return df.select("key", "value", "topic", "partition", "offset", "kafka_timestamp",
                     F.lit("json does not match schema").alias("reason"), F.current_timestamp().alias("failed_at"),
                     "ingest_date")


def create_tables():
    """MERGE and the next stage's stream need a table to start from."""
    empty = spark.createDataFrame([], T.StructType([
        T.StructField("e", SCHEMA), T.StructField("partition", T.IntegerType()), T.StructField("offset", T.LongType()),
        T.StructField("kafka_timestamp", T.TimestampType())]))
    text, integer, long, time_, date = T.StringType(), T.IntegerType(), T.LongType(), T.TimestampType(), T.DateType()
    gold = [("window_start", time_), ("window_end", time_), ("customer_id", text), ("endpoint", text),
            ("request_count", long), ("request_bytes", long), ("response_bytes", long),
            ("latency_sum_ms", T.DoubleType()), ("avg_latency_ms", T.DoubleType()), ("event_date", date),
            ("updated_at", time_)]
    record = [("key", text), ("value", text), ("topic", text), ("partition", integer), ("offset", long),
              ("kafka_timestamp", time_)]
    for name, columns, by in [
        ("silver", silver_columns(empty).schema, "event_date"), ("gold", gold, "event_date"),
        ("dlq", [*record, ("reason", text), ("failed_at", time_), ("ingest_date", date)], "ingest_date"),
        ("bronze", [*record, ("ingested_at", time_), ("ingest_date", date)], "ingest_date"),
    ]:
        schema = columns if isinstance(columns, T.StructType) else T.StructType([T.StructField(*c) for c in columns])
        DeltaTable.createIfNotExists(spark).location(PATHS[name]).addColumns(schema).partitionedBy(by).execute()


def dates_in(df):
    return ",".join(f"DATE'{row[0]}'" for row in df.select("event_date").distinct().collect())


def merge_silver(df, batch):
    df.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        good = silver_columns(df.filter("ok"))
        dates = dates_in(good)
        if dates:
            (DeltaTable.forPath(df.sparkSession, PATHS["silver"]).alias("t").merge(
                good.dropDuplicates(["event_id"]).alias("s"),
                f"t.event_date IN ({dates}) AND t.event_date = s.event_date AND t.event_id = s.event_id")
             .whenNotMatchedInsertAll().execute())
        (dead_letter_columns(df.filter("NOT ok")).write.format("delta").mode("append")
         .option("txnAppId", "silver-dlq").option("txnVersion", batch).save(PATHS["dlq"]))
    finally:
        df.unpersist()


def silver_query():
    return once(parsed().writeStream.foreachBatch(merge_silver)
                .option("checkpointLocation", CHECKPOINTS["silver"])).start()


def merge_gold(df, _batch):
    df.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        dates = dates_in(df)
        if dates:
            (DeltaTable.forPath(df.sparkSession, PATHS["gold"]).alias("t").merge(
                df.alias("s"), f"t.event_date IN ({dates}) AND t.window_start = s.window_start AND t.customer_id = "
                "s.customer_id AND t.endpoint = s.endpoint AND t.event_date = s.event_date")
             .whenMatchedUpdateAll().whenNotMatchedInsertAll().execute())
    finally:
        df.unpersist()


def gold_query():
    grouped = (spark.readStream.format("delta").load(PATHS["silver"]).withWatermark("event_time", "2 hours")
               .groupBy(F.window("event_time", "1 hour"), "customer_id", "endpoint").agg(
                   F.count(F.lit(1)).alias("request_count"), F.sum("request_bytes").alias("request_bytes"),
                   F.sum("response_bytes").alias("response_bytes"), F.sum("latency_ms").alias("latency_sum_ms"),
                   F.avg("latency_ms").alias("avg_latency_ms")))
    rows = grouped.select(
        F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end"), "customer_id",
        "endpoint", "request_count", "request_bytes", "response_bytes", "latency_sum_ms", "avg_latency_ms",
        F.to_date("window.start").alias("event_date"), F.current_timestamp().alias("updated_at"))
    return once(rows.writeStream.outputMode("update").foreachBatch(merge_gold)
                .option("checkpointLocation", CHECKPOINTS["gold"])).start()


def rows_read(query):
    return sum(p["numInputRows"] for p in query.recentProgress)


create_tables()
chain_since, chain_cpu, total = time.time(), cpu_s(), 0
for stage, start in (("bronze", bronze_query), ("silver", silver_query), ("gold", gold_query)):
    since, cpu_since = time.time(), cpu_s()
    query = start()
    query.awaitTermination()
    emit(stage, since, cpu_since, rows_read(query))
    total = total or rows_read(query)
emit("chain", chain_since, chain_cpu, total)
spark.stop()
