"""Makes Delta tables of many kinds with Spark and delta-rs below a folder, and says what is in them.

Arguments: the folder, and the file for the answer: {"read": {table: {version: [row, ...]}}}. Rows are
in the order of `id`, values as `tidemark sql --json` gives them; "newest" stands for no version.
Tables that Tidemark has to refuse are made below the same folder, without an answer.
"""

from spark_session import session  # noqa: I001

import base64
import datetime
import decimal
import glob
import json
import os
import shutil
import sys

import pyarrow
from deltalake import DeltaTable, write_deltalake
from delta.tables import DeltaTable as SparkTable, IdentityGenerator
from pyspark.sql import types as T

UTC = datetime.timezone.utc
# Every character that a path, a URI, a glob or Hive's escaping could trip over.
SPECIAL = ["a b", "a/b", "a:b", "ü", "a%b", "a%20b", "a#b", "a=b", "a+b", "it's", 'say "x"', "back\\slash"]
SPECIAL += ["?", "*", "[x]", "{y}", "~", "^", "😀", "&", ".", "..", "x" * 120, None]


def instant(value):
    zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
    text = zoned.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return (text[:-3] if text.endswith("000") else text) + "Z"


def of_spark(value, kind):
    if value is None:
        return None
    if isinstance(kind, T.StructType):
        return {f.name: of_spark(value[f.name], f.dataType) for f in kind.fields}
    if isinstance(kind, T.ArrayType):
        return [of_spark(item, kind.elementType) for item in value]
    if isinstance(kind, T.MapType):
        pairs = [(of_spark(k, kind.keyType), of_spark(v, kind.valueType)) for k, v in value.items()]
        return [{"key": k, "value": v} for k, v in pairs]
    return of_scalar(value, isinstance(kind, T.LongType))


def of_arrow(value, kind):
    if value is None:
        return None
    if pyarrow.types.is_struct(kind):
        return {f.name: of_arrow(value[f.name], f.type) for f in kind}
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return [of_arrow(item, kind.value_type) for item in value]
    return of_scalar(value, pyarrow.types.is_int64(kind))


def of_scalar(value, is_long):
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime.datetime):
        return instant(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return str(value) if is_long else value


class Golden:
    def __init__(self, folder):
        self.folder = folder
        self.spark = session()
        self.spark.sparkContext.setLogLevel("ERROR")
        self.read = {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def sql(self, text, name=None):
        if name:
            text = text.replace("$T", f"delta.`{self.path(name)}`")
        return self.spark.sql(text)

    def write(self, name, frame, mode="append", partition=None, **options):
        writer = frame.write.format("delta").mode(mode).options(**options)
        if partition:
            writer = writer.partitionBy(*partition)
        writer.save(self.path(name))

    def numbers(self, first, count, extra="id * 2 AS n"):
        return self.spark.sql(f"SELECT id, {extra} FROM range({first}, {first + count}, 1, 1)")

    def answer(self, name, *versions):
        """Asks Spark for the newest rows and for those of `versions`."""
        for version in ("newest", *versions):
            reader = self.spark.read.format("delta")
            if version != "newest":
                reader = reader.option("versionAsOf", version)
            frame = reader.load(self.path(name))
            rows = [of_spark(row, frame.schema) for row in frame.orderBy("id").collect()]
            self.read.setdefault(name, {})[str(version)] = rows

    def answer_rs(self, name, *versions):
        """Asks delta-rs."""
        for version in ("newest", *versions):
            at = None if version == "newest" else version
            table = DeltaTable(self.path(name), version=at).to_pyarrow_table().sort_by("id")
            kinds = {f.name: f.type for f in table.schema}
            rows = [
                {key: of_arrow(value, kinds[key]) for key, value in row.items()}
                for row in table.to_pylist()
            ]
            self.read.setdefault(name, {})[str(version)] = rows


def every_type(g):
    schema = (
        "id INT, s STRING, l LONG, sh SHORT, by BYTE, f FLOAT, d DOUBLE, bo BOOLEAN, bi BINARY, da DATE,"
        " ts TIMESTAMP, small DECIMAL(9,2), mid DECIMAL(18,6), big DECIMAL(38,10)"
    )
    at = datetime.datetime(2026, 11, 23, 10, 0, 0, 123456)
    big = decimal.Decimal("9999999999999999999999999999.9999999999")
    day = datetime.date(2026, 11, 23)
    rows = [
        (1, "text", 2**63 - 1, 32767, 127, 1.5, 0.1, True, bytearray(b"\x00\xff"), day, at,
         decimal.Decimal("1234567.89"), decimal.Decimal("-0.000001"), big),
        (2, "", -(2**63), -32768, -128, float("nan"), float("inf"), False, bytearray(),
         datetime.date(1, 1, 1), datetime.datetime(1600, 1, 1), decimal.Decimal("-0.01"),
         decimal.Decimal("0"), big.copy_negate()),
        (3, "ü😀\n\t\"'\\", 0, 0, 0, -0.0, float("-inf"), None, None, datetime.date(9999, 12, 31),
         datetime.datetime(9999, 12, 31, 23, 59, 59, 999999), None, None, None),
        (4, *[None] * 13),
    ]  # fmt: skip
    for name, kind in (("types-int96", "INT96"), ("types-micros", "TIMESTAMP_MICROS")):
        g.spark.conf.set("spark.sql.parquet.outputTimestampType", kind)
        # Some of these instants are older than the calendars agree on.
        for mode in ("int96RebaseModeInWrite", "datetimeRebaseModeInWrite"):
            g.spark.conf.set(f"spark.sql.parquet.{mode}", "CORRECTED")
            g.spark.conf.set(f"spark.sql.parquet.{mode.replace('Write', 'Read')}", "CORRECTED")
        g.write(name, g.spark.createDataFrame(rows, schema))
        g.answer(name)
    g.spark.conf.unset("spark.sql.parquet.outputTimestampType")


def partitions(g):
    rows = [(i, text) for i, text in enumerate(SPECIAL)]
    g.write("partition-text", g.spark.createDataFrame(rows, "id INT, p STRING"), partition=["p"])
    g.answer("partition-text")
    g.sql(
        "CREATE TABLE $T (id INT, da DATE, ts TIMESTAMP, i INT, l LONG, sh SHORT, by BYTE, bo BOOLEAN,"
        " f FLOAT, d DOUBLE, de DECIMAL(20,4)) USING delta"
        " PARTITIONED BY (da, ts, i, l, sh, by, bo, f, d, de)",
        "partition-types",
    )
    rows = (
        "1, DATE'2026-11-23', TIMESTAMP'2026-11-23 10:00:00.123456', -1, 9223372036854775807, 1, -128,"
        " true, CAST(1.5 AS FLOAT), 1e300, 1234567890123456.7891",
        "2, DATE'0001-01-01', TIMESTAMP'1969-12-31 23:59:59.5', 0, -9223372036854775808, -1, 0, false,"
        " CAST('NaN' AS FLOAT), CAST('-Infinity' AS DOUBLE), -0.0001",
        "3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
    )
    g.sql("INSERT INTO $T " + " UNION ALL ".join(f"SELECT {values}" for values in rows), "partition-types")
    g.answer("partition-types")
    name = "partition-overwrite"
    g.write(name, g.numbers(0, 20, "id % 4 AS p"), partition=["p"])
    g.write(name, g.numbers(100, 3, "1L AS p"), mode="overwrite", replaceWhere="p = 1")
    g.write(name, g.numbers(200, 4, "id % 2 AS p"), mode="overwrite", partitionOverwriteMode="dynamic")
    g.answer(name, 0, 1)


def nested(g):
    name = "nested"
    first = (
        "named_struct('x', id, 'y', named_struct('z', cast(id AS STRING))) AS s,"
        " array(named_struct('a', id), null) AS items,"
        " map('k', named_struct('v', id), 'none', null) AS m"
    )
    g.write(name, g.numbers(0, 3, first))
    later = (
        "named_struct('x', id, 'y', named_struct('z', cast(id AS STRING), 'new', true), 'w', 1.5D) AS s,"
        " array(named_struct('a', id, 'b', 'added'), null) AS items,"
        " map('k', named_struct('v', id, 'more', 'm')) AS m, array(array(1), null, array()) AS deep"
    )
    g.write(name, g.numbers(10, 3, later), mergeSchema="true")
    g.write(name, g.numbers(20, 1, "CAST(NULL AS STRUCT<x: LONG>) AS s"), mergeSchema="true")
    g.answer(name, 0, 1)


def logs(g):
    """Tables whose log is read through checkpoints of several kinds."""
    conf = g.spark.conf
    interval = {"delta.checkpointInterval": "3"}
    conf.set("spark.databricks.delta.checkpoint.partSize", "2")
    name = "checkpoint-parts"
    g.write(name, g.numbers(0, 1), **interval)
    for i in range(1, 5):
        g.write(name, g.numbers(i, 1), txnAppId="stream", txnVersion=str(9007199254740993 + i))
    g.answer(name, 1, 3)
    trim(g, name, "checkpoint-parts-trimmed", 3)
    g.answer("checkpoint-parts-trimmed")
    conf.unset("spark.databricks.delta.checkpoint.partSize")

    name = "checkpoint-struct"
    stats = {"delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpoint.writeStatsAsJson": "false"}
    g.write(name, g.numbers(0, 1, "id % 2 AS p"), partition=["p"], **interval, **stats)
    for i in range(1, 3):
        g.write(name, g.numbers(i, 1, "id % 2 AS p"))
    g.sql("DELETE FROM $T WHERE id = 2", name)
    g.answer(name, 1)
    trim(g, name, "checkpoint-struct-trimmed", 3)
    g.answer("checkpoint-struct-trimmed")


def trim(g, name, copy, checkpoint):
    """What a log clean-up leaves, and no hint of the checkpoint."""
    shutil.copytree(g.path(name), g.path(copy))
    log = os.path.join(g.path(copy), "_delta_log")
    for entry in glob.glob(os.path.join(log, "*")) + glob.glob(os.path.join(log, ".*")):
        base = os.path.basename(entry).lstrip(".")
        if base.startswith("_last_checkpoint") or (base[:20].isdigit() and int(base[:20]) < checkpoint):
            os.remove(entry)


def changes(g):
    name = "changed"
    g.write(name, g.numbers(0, 10, "id * 2 AS n, cast(id % 2 AS STRING) AS p"), partition=["p"])
    g.sql("DELETE FROM $T WHERE id = 3", name)
    g.sql("UPDATE $T SET n = -1, p = 'moved' WHERE id < 2", name)
    source = "(SELECT id, 7L AS n, 'merged' AS p FROM range(8, 13))"
    g.sql(
        f"MERGE INTO $T t USING {source} s ON t.id = s.id WHEN MATCHED AND t.id = 9 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
        name,
    )
    g.sql("DELETE FROM $T WHERE p = '0'", name)
    g.sql("RESTORE TABLE $T TO VERSION AS OF 1", name)
    g.sql("INSERT INTO $T VALUES (99, 99, null)", name)
    g.answer(name, 1, 3, 5)

    name = "overwritten"
    g.write(name, g.numbers(0, 3))
    g.write(name, g.numbers(0, 3, "cast(id AS STRING) AS n, 1.5D AS added"), mode="overwrite", overwriteSchema="true")
    g.sql("ALTER TABLE $T ADD COLUMN (late DECIMAL(10,2) AFTER id)", name)
    g.sql("ALTER TABLE $T ALTER COLUMN added FIRST", name)
    g.answer(name, 0, 1, 2)

    name = "optimized"
    for i in range(2):
        g.write(name, g.numbers(i * 10, 10))
    g.sql("OPTIMIZE $T", name)
    g.write(name, g.numbers(50, 5))
    g.sql("OPTIMIZE $T ZORDER BY (id)", name)
    g.spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    g.sql("VACUUM $T RETAIN 0 HOURS", name)
    g.answer(name)

    name = "append-only"
    g.sql("CREATE TABLE $T (id LONG NOT NULL, v VARCHAR(9)) USING delta"
          " TBLPROPERTIES (delta.appendOnly = true)", name)  # fmt: skip
    g.sql("INSERT INTO $T VALUES (1, 'text')", name)
    g.answer(name)

    name = "features-listed"
    g.write(name, g.numbers(0, 2))
    g.sql("ALTER TABLE $T SET TBLPROPERTIES ('delta.feature.appendOnly' = 'supported')", name)
    g.sql("ALTER TABLE $T SET TBLPROPERTIES ('delta.minWriterVersion' = '7')", name)
    g.answer(name)

    name = "odd-names"
    g.write(name, g.numbers(0, 2, "1 AS `a.b`, 2 AS `Größe`, 3 AS `it's`, 4 AS `say\"`, 5 AS `SELECT`, 6 AS `a-b`"))
    g.answer(name)

    name = "empty"
    g.sql("CREATE TABLE $T (id LONG, p STRING) USING delta PARTITIONED BY (p)", name)
    g.answer(name)


def delta_rs(g):
    at = datetime.datetime(2026, 11, 23, 10, 0, 0, 1, tzinfo=UTC)
    kinds = pyarrow.schema(
        [
            ("id", pyarrow.int32()),
            ("p", pyarrow.string()),
            ("n", pyarrow.int64()),
            ("ts", pyarrow.timestamp("us", "UTC")),
            ("de", pyarrow.decimal128(20, 4)),
            ("tags", pyarrow.list_(pyarrow.string())),
            ("s", pyarrow.struct([("a", pyarrow.int64()), ("b", pyarrow.binary())])),
        ]
    )

    def rows(ids, texts):
        return pyarrow.Table.from_pylist(
            [
                {"id": i, "p": p, "n": 2**53 + i, "ts": at, "de": decimal.Decimal(i) / 4,
                 "tags": [p, None], "s": {"a": i, "b": b"\x00"}}
                for i, p in zip(ids, texts, strict=True)
            ],
            schema=kinds,
        )  # fmt: skip

    name = "rs-changed"
    path = g.path(name)
    texts = [text for text in SPECIAL if text not in (".", "..")]
    write_deltalake(path, rows(range(len(texts)), texts), partition_by=["p"])
    DeltaTable(path).delete("id = 3")
    DeltaTable(path).update(updates={"n": "-1"}, predicate="id < 2")
    (
        DeltaTable(path)
        .merge(rows([5, 90], ["merged", "new"]), "t.id = s.id", source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )
    g.answer_rs(name, 0, 1, 2)
    DeltaTable(path).create_checkpoint()
    write_deltalake(path, rows([100], ["after"]), mode="append")
    g.answer_rs(name, 0, 3)

    name = "rs-optimized"
    path = g.path(name)
    for i in range(3):
        write_deltalake(path, pyarrow.table({"id": pyarrow.array([i, i + 10], pyarrow.int64())}), mode="append")
    DeltaTable(path).optimize.compact()
    wider = pyarrow.table({"id": pyarrow.array([50], pyarrow.int64()), "more": ["x"]})
    write_deltalake(path, wider, mode="append", schema_mode="merge")
    DeltaTable(path).optimize.z_order(["id"])
    DeltaTable(path).vacuum(0, dry_run=False, enforce_retention_duration=False)
    g.answer_rs(name)


def refused(g):
    def table(name, columns="id LONG, n LONG", **properties):
        text = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
        g.sql(f"CREATE TABLE $T ({columns}) USING delta" + (f" TBLPROPERTIES ({text})" if text else ""), name)

    def prop(name, key, value="true", columns="id LONG, n LONG"):
        table(name, columns, **{key: value})

    prop("refused-deletion-vectors", "delta.enableDeletionVectors")
    g.write("refused-deletion-vectors", g.numbers(0, 3))
    g.sql("DELETE FROM $T WHERE id = 1", "refused-deletion-vectors")
    prop("refused-column-mapping-name", "delta.columnMapping.mode", "name")
    prop("refused-column-mapping-id", "delta.columnMapping.mode", "id")
    prop("refused-cdf", "delta.enableChangeDataFeed")
    prop("refused-in-commit-timestamps", "delta.enableInCommitTimestamps")
    prop("refused-row-tracking", "delta.enableRowTracking")
    prop("refused-type-widening", "delta.enableTypeWidening", columns="id LONG, n LONG, w INT")
    g.sql("ALTER TABLE $T ALTER COLUMN w TYPE LONG", "refused-type-widening")
    prop("refused-v2-checkpoint", "delta.checkpointPolicy", "v2")
    prop("refused-column-defaults", "delta.feature.allowColumnDefaults", "supported")
    prop("refused-domain-metadata", "delta.feature.domainMetadata", "supported")
    table("refused-iceberg-compat", **{"delta.enableIcebergCompatV2": "true", "delta.columnMapping.mode": "name"})
    table("refused-check-constraint")
    g.sql("ALTER TABLE $T ADD CONSTRAINT positive CHECK (id >= 0)", "refused-check-constraint")
    table("refused-timestamp-ntz", "id LONG, at TIMESTAMP_NTZ")
    table("refused-variant", "id LONG, v VARIANT")
    for name, rule in (("generated", "id * 2"), ("identity", IdentityGenerator())):
        builder = SparkTable.create(g.spark).location(g.path(f"refused-{name}")).addColumn("id", "LONG")
        builder.addColumn("n", "LONG", generatedAlwaysAs=rule).execute()
    g.sql("CREATE TABLE $T (id LONG, n LONG) USING delta CLUSTER BY (id)", "refused-clustering")
    g.write("refused-void", g.numbers(0, 3, "NULL AS n"))
    expression = json.dumps({"expression": {"expression": "id >= 0"}})
    fields = [T.StructField("id", T.LongType(), True, {"delta.invariants": expression})]
    g.write("refused-invariant", g.spark.createDataFrame([(1,)], T.StructType(fields)))
    g.write("clone-source", g.numbers(0, 3))
    source = g.path("clone-source")
    g.sql(f"CREATE TABLE $T SHALLOW CLONE delta.`{source}`", "refused-shallow-clone")

    # What clean-up leaves of a log with v2 checkpoints says what it needs only in their files.
    name = "refused-v2-checkpoint-trimmed"
    prop(name, "delta.checkpointPolicy", "v2")
    g.sql("ALTER TABLE $T SET TBLPROPERTIES ('delta.checkpointInterval' = '3')", name)
    for i in range(2):
        g.write(name, g.numbers(10 + i, 1))
    log = os.path.join(g.path(name), "_delta_log")
    newest = max(os.path.basename(file)[:20] for file in glob.glob(os.path.join(log, "*.checkpoint.*")))
    for file in glob.glob(os.path.join(log, "*.json")):
        if ".checkpoint." not in file and os.path.basename(file)[:20] < newest:
            os.remove(file)


def main():
    folder, answer = sys.argv[1:]
    g = Golden(folder)
    for make in (every_type, partitions, nested, logs, changes, delta_rs, refused):
        make(g)
    with open(answer, "w") as file:
        json.dump({"read": g.read}, file)
    g.spark.stop()


main()
