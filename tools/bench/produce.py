"""Into Kafka, keyed by customer.

produce.py create --bootstrap B --topic T [--partitions 4]
produce.py bulk --bootstrap B --topic T --data DIR                    sends all that generate.py made;
                                                                      Kafka timestamp = arrival in the data
produce.py live --bootstrap B --topic T --rate R --secs S --out FILE  makes events as time passes;
                                                                      Kafka timestamp = time of sending; FILE: the truth
"""
import argparse
import glob
import json
import os
import time

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import generate

TICK_S = 0.05


def create(o):
    topic = NewTopic(o.topic, num_partitions=o.partitions, replication_factor=1, config={"retention.ms": "-1"})
    admin = AdminClient({"bootstrap.servers": o.bootstrap})
    for made in admin.create_topics([topic]).values():
        made.result(30)


def failed(error, _message):
    if error:
        raise SystemExit(f"not delivered: {error}")


def bulk(o):
    producer = Producer({"bootstrap.servers": o.bootstrap, "linger.ms": 50, "batch.num.messages": 20_000,
                         "batch.size": 1_000_000, "queue.buffering.max.messages": 500_000,
                         "queue.buffering.max.kbytes": 512_000, "compression.type": o.compression, "acks": "all",
                         "enable.idempotence": True, "partitioner": "murmur2_random"})
    arrival = np.fromfile(os.path.join(o.data, "arrival.i64"), "<i8").tolist()
    i = 0
    for name in sorted(glob.glob(os.path.join(o.data, "events-*.ndjson"))):
        with open(name, "rb") as f:
            lines = f.read().split(b"\n")
        for line in lines:
            if not line:
                continue
            while True:
                try:
                    producer.produce(o.topic, line, generate.key_of(line), timestamp=arrival[i], on_delivery=failed)
                    break
                except BufferError:
                    producer.poll(0.05)
            i += 1
            if not i & 8191:
                producer.poll(0)
    producer.flush()


def live(o):
    producer = Producer({"bootstrap.servers": o.bootstrap, "linger.ms": 5, "acks": "all", "enable.idempotence": True,
                         "compression.type": o.compression, "partitioner": "murmur2_random"})
    rng = np.random.default_rng(11)
    per_tick = max(1, int(o.rate * TICK_S))
    truth = dict(lines=0, unique_valid=0, duplicates=0, invalid=0, late=0, sum_response_bytes=0, sum_request_bytes=0)
    again = []  # (due tick, line), ascending
    started, worst = time.time(), 0.0
    for tick in range(int(o.secs / TICK_S)):
        due, now = started + tick * TICK_S, time.time()
        if now < due:
            producer.poll(0)
            time.sleep(due - now)
        else:
            worst = max(worst, now - due)
        duplicates = []
        while again and again[0][0] <= tick and len(duplicates) < per_tick:
            duplicates.append(again.pop(0)[1])
        arrival = np.full(per_tick - len(duplicates), int(time.time() * 1000), np.int64)
        lines, _, late, bad, _, _, response, request, _ = generate.make(rng, arrival)
        good = ~bad
        fresh = [line.encode() for line in lines]
        for i in np.flatnonzero(rng.random(len(fresh)) < 0.02).tolist():
            if good[i]:
                again.append((tick + int(20 + 10 * rng.random() / TICK_S), fresh[i]))
        again.sort(key=lambda entry: entry[0])
        for line in fresh + duplicates:
            producer.produce(o.topic, line, generate.key_of(line), on_delivery=failed)
        producer.poll(0)
        truth["lines"] += len(fresh) + len(duplicates)
        truth["unique_valid"] += int(good.sum())
        truth["invalid"] += int(bad.sum())
        truth["late"] += int((late & good).sum())
        truth["duplicates"] += len(duplicates)
        truth["sum_response_bytes"] += int(response[good].sum())
        truth["sum_request_bytes"] += int(request[good].sum())
    producer.flush()
    truth |= dict(rate=truth["lines"] / (time.time() - started), worst_tick_lag_s=round(worst, 3))
    with open(o.out, "w") as f:
        json.dump(truth, f)


a = argparse.ArgumentParser()
a.add_argument("mode", choices=["create", "bulk", "live"])
a.add_argument("--bootstrap", required=True)
a.add_argument("--topic", required=True)
a.add_argument("--partitions", type=int, default=4)
a.add_argument("--data")
a.add_argument("--compression", default="none")
a.add_argument("--rate", type=int, default=2000)
a.add_argument("--secs", type=float, default=120)
a.add_argument("--out")
options = a.parse_args()
{"create": create, "bulk": bulk, "live": live}[options.mode](options)
