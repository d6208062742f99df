"""Seeded API usage events for the benchmark, with what a correct pipeline must end with.

generate.py --n 2000000 --out DIR   writes events-0000.ndjson ... in arrival order, arrival.i64 (each line's arrival in
  epoch ms, little-endian int64: the Kafka timestamp) and, last of all, truth.json

Of n lines 2 % are duplicates (same bytes, sent again 0 to 10 min later), 1 % are late by 2 to 6 h, 0.1 % are not JSON.
Otherwise event_time = arrival - U(0, 5 min); arrivals cover 24 hours evenly.
"""
import argparse
import json
import os

import numpy as np

CUSTOMERS, ENDPOINTS = 10_000, 50
REGIONS = ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-south-1"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
STATUS = [200, 201, 204, 400, 401, 404, 429, 500, 503]
RESOURCES = ["users", "orders", "invoices", "payments", "search", "reports", "webhooks", "files", "sessions", "tokens"]
VERBS = ["list", "get", "create", "update", "export"]
PATHS = [f"/v1/{r}/{v}" for r in RESOURCES for v in VERBS]
LATE, BAD, DUPLICATES, CHUNK = 0.01, 0.001, 0.02, 250_000
START, SPAN_MS = "2026-11-22T00:00:00", 24 * 3_600_000


def zipf(rng, n, k, a):
    weights = 1.0 / np.arange(1, k + 1) ** a
    cumulative = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(cumulative, rng.random(n)), k - 1)


def make(rng, arrival_ms, jitter_s=300):
    """JSON lines for the given arrival times, with event times, masks and the columns that truth needs."""
    n = len(arrival_ms)
    hexs = rng.bytes(16 * n).hex()
    customer = zipf(rng, n, CUSTOMERS, 1.1)
    path = zipf(rng, n, ENDPOINTS, 0.8)
    key = rng.integers(1, 4, n)
    method = rng.choice(5, n, p=[.62, .2, .09, .04, .05])
    status = rng.choice(9, n, p=[.78, .07, .04, .03, .015, .03, .015, .012, .008])
    request = rng.lognormal(6.5, 1.1, n).astype(np.int64) + 40
    response = rng.lognormal(8.2, 1.3, n).astype(np.int64) + 20
    latency = np.round(rng.lognormal(3.6, 0.8, n), 2)
    region = rng.choice(5, n, p=[.35, .2, .25, .12, .08])
    u = rng.random(n)
    late = u < LATE
    bad = (u >= LATE) & (u < LATE + BAD)
    delay = rng.integers(0, jitter_s * 1000, n) if jitter_s else np.zeros(n, np.int64)
    delay[late] = rng.integers(2 * 3_600_000, 6 * 3_600_000, int(late.sum()))
    event_ms = arrival_ms - delay
    times = np.datetime_as_string(event_ms.astype("datetime64[ms]"), unit="ms").tolist()
    cl, kl, pl, ml, sl = customer.tolist(), key.tolist(), path.tolist(), method.tolist(), status.tolist()
    ql, wl, ll, gl = request.tolist(), response.tolist(), latency.tolist(), region.tolist()
    out = [""] * n
    for i in range(n):
        h = hexs[32 * i:32 * i + 32]
        c = cl[i]
        out[i] = (f'{{"event_id":"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}","customer_id":"cust_{c:05d}",'
                  f'"api_key_id":"ak_{c:05d}_{kl[i]}","endpoint":"{PATHS[pl[i]]}","method":"{METHODS[ml[i]]}",'
                  f'"status_code":{STATUS[sl[i]]},"request_bytes":{ql[i]},"response_bytes":{wl[i]},'
                  f'"latency_ms":{ll[i]},"region":"{REGIONS[gl[i]]}","event_time":"{times[i]}Z"}}')
    kinds = rng.integers(0, 3, n)
    for i in np.flatnonzero(bad).tolist():
        s, kind = out[i], kinds[i]
        if kind == 0:
            out[i] = s[:len(s) * 2 // 3]
        else:
            out[i] = s.replace('"status_code":', '"status_code":oops', 1) if kind == 1 else f"not json at all #{i}"
    return out, event_ms, late, bad, customer, path, response, request, latency


def key_of(line):
    """customer_id by its place in the line: {"event_id":"<36>","customer_id":"<10>"""
    return line[66:76] if line[:13] == b'{"event_id":"' and len(line) > 80 else b"unknown"


assert key_of(b'{"event_id":"00000000-0000-0000-0000-000000000000","customer_id":"cust_00001",...') == b"cust_00001"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--n", type=int, required=True)
    a.add_argument("--seed", type=int, default=7)
    a.add_argument("--out", required=True)
    o = a.parse_args()
    rng = np.random.default_rng(o.seed)
    os.makedirs(o.out, exist_ok=True)
    start = int(np.datetime64(START, "ms").astype(np.int64))
    duplicates = int(o.n * DUPLICATES)
    unique = o.n - duplicates
    arrival = start + (np.arange(unique, dtype=np.int64) * SPAN_MS) // unique
    lines, event_ms, late, bad, customer, path, response, request, latency = make(rng, arrival)
    # A duplicate of a bad line would be a second bad line: only good lines are sent again.
    source = rng.choice(np.flatnonzero(~bad), duplicates, replace=False)
    again = np.minimum(arrival[source] + rng.integers(1, 600_000, duplicates), start + SPAN_MS - 1)
    when = np.concatenate([arrival, again])
    order = np.argsort(when, kind="stable")
    which = np.concatenate([np.arange(unique), source])[order].tolist()
    when[order].astype("<i8").tofile(os.path.join(o.out, "arrival.i64"))
    size = 0
    for k in range(0, o.n, CHUNK):
        blob = ("\n".join([lines[i] for i in which[k:k + CHUNK]]) + "\n").encode()
        size += len(blob)
        with open(os.path.join(o.out, f"events-{k // CHUNK:04d}.ndjson"), "wb") as f:
            f.write(blob)
    good = ~bad
    groups = (event_ms[good] // 3_600_000 * CUSTOMERS + customer[good]) * ENDPOINTS + path[good]
    truth = dict(lines=o.n, seed=o.seed, unique_valid=int(good.sum()), duplicates=duplicates,
                 late=int((late & good).sum()), invalid=int(bad.sum()), bytes=size,
                 gold_hourly_rows=int(len(np.unique(groups))), sum_request_bytes=int(request[good].sum()),
                 sum_response_bytes=int(response[good].sum()), sum_latency_ms=float(latency[good].sum()))
    with open(os.path.join(o.out, "truth.json"), "w") as f:
        json.dump(truth, f, indent=1)


if __name__ == "__main__":
    main()
