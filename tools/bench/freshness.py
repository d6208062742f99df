"""freshness.py LAKE --warm S: from each row's Kafka timestamp to the moment it is visible, as JSON.

Visible: the mtime of the commit that made it so; the entry is created by an atomic link, so readers see it from then on.
Bronze and silver: the commit that added the row's file. Gold: the first commit whose txn covers the silver version
that added the row. Rows of the first S seconds do not count."""
import argparse
import glob
import json
import os
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

a = argparse.ArgumentParser()
a.add_argument("lake")
a.add_argument("--warm", type=float, default=20)
o = a.parse_args()


def commits(table):
    for name in sorted(glob.glob(f"{o.lake}/{table}/_delta_log/*.json")):
        version = os.path.basename(name)[:-5]
        if version.isdigit():
            with open(name) as f:
                yield int(version), os.stat(name).st_mtime, [json.loads(line) for line in f if line.strip()]


def rows(table):
    """Per row: Kafka timestamp and time visible in seconds, version; number of commits."""
    stamps, visible, versions, count = [], [], [], 0
    for version, at, actions in commits(table):
        count += 1
        for action in actions:
            if "add" not in action or not action["add"].get("dataChange", True):
                continue
            path = os.path.join(o.lake, table, unquote(action["add"]["path"]))
            column = pq.ParquetFile(path).read(columns=["_kafka_timestamp"]).column(0)
            ts = column.cast(pa.timestamp("us", "UTC")).cast("int64").to_numpy() / 1e6
            stamps.append(ts)
            visible.append(np.full(len(ts), at))
            versions.append(np.full(len(ts), version))
    return np.concatenate(stamps), np.concatenate(visible), np.concatenate(versions), count


def stat(delay, count):
    q = np.percentile(delay, [50, 99, 100])
    return dict(p50=round(q[0], 3), p99=round(q[1], 3), max=round(q[2], 3), rows=len(delay), commits=count)


bronze_ts, bronze_at, _, bronze_count = rows("bronze/usage")
begin = bronze_ts.min() + o.warm
silver_ts, silver_at, silver_version, silver_count = rows("silver/usage")
covers, gold_at = [], []
for _, at, actions in commits("gold/usage_hourly"):
    txn = [action["txn"]["version"] for action in actions if "txn" in action]
    if txn:
        covers.append(max(txn))
        gold_at.append(at)
first = np.searchsorted(np.array(covers), silver_version, side="left")
chosen = (silver_ts >= begin) & (first < len(covers))
print(json.dumps(dict(
    bronze=stat((bronze_at - bronze_ts)[bronze_ts >= begin], bronze_count),
    silver=stat((silver_at - silver_ts)[silver_ts >= begin], silver_count),
    gold=stat(np.array(gold_at)[first[chosen]] - silver_ts[chosen], len(covers)),
    uncovered=int(((silver_ts >= begin) & (first >= len(covers))).sum()))))
