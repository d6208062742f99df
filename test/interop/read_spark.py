"""Runs queries over Delta tables with Spark and writes its answers as JSON; see read_arrow.py."""

import json
import re
import sys

from spark_session import session  # noqa: I001

from pyspark.sql import Row

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
