"""check_tables.py LAKE TRUTH [--bronze-only]: counts the tables with delta-rs and DuckDB, which know nothing of Tidemark;
prints them as JSON with `differences` from the truth. LAKE has bronze, dlq, silver and gold, or Tidemark's folders."""
import argparse
import json
import os

import duckdb
from deltalake import DeltaTable

a = argparse.ArgumentParser()
a.add_argument("lake")
a.add_argument("truth")
a.add_argument("--bronze-only", action="store_true")
o = a.parse_args()

NAMES = {"bronze": "bronze/usage", "dlq": "bronze/usage_dlq", "silver": "silver/usage", "gold": "gold/usage_hourly"}
versions = {}


def query(table, columns):
    path = os.path.join(o.lake, NAMES[table])
    at = DeltaTable(path if os.path.isdir(path) else os.path.join(o.lake, table))
    versions[table] = at.version()
    files = [uri.removeprefix("file://") for uri in at.file_uris()]
    if not files:
        return tuple(0 for _ in columns.split(", "))
    return duckdb.execute(f"SELECT {columns} FROM read_parquet($files, hive_partitioning=false)", dict(files=files)).fetchone()


with open(o.truth) as f:
    truth = json.load(f)
expected = {"bronze rows": truth["lines"]}
actual = {"bronze rows": query("bronze", "count(*)")[0]}
if not o.bronze_only:
    rows, ids, response = query("silver", "count(*), count(DISTINCT event_id), sum(response_bytes)")
    requests, gold_response, gold_request = query("gold", "sum(request_count), sum(response_bytes), sum(request_bytes)")
    actual |= {"silver rows": rows, "silver distinct ids": ids, "silver response bytes": response,
               "gold requests": requests, "gold response bytes": gold_response, "gold request bytes": gold_request,
               "dead letters": query("dlq", "count(*)")[0]}
    expected |= {"silver rows": truth["unique_valid"], "silver distinct ids": truth["unique_valid"],
                 "silver response bytes": truth["sum_response_bytes"], "gold requests": truth["unique_valid"],
                 "gold response bytes": truth["sum_response_bytes"], "gold request bytes": truth["sum_request_bytes"],
                 "dead letters": truth["invalid"]}
    if "gold_hourly_rows" in truth:
        actual["gold rows"] = query("gold", "count(*)")[0]
        expected["gold rows"] = truth["gold_hourly_rows"]
actual = {name: int(value or 0) for name, value in actual.items()}
differences = {name: [value, actual[name]] for name, value in expected.items() if actual[name] != value}
print(json.dumps(dict(actual=actual, versions=versions, differences=differences)))
