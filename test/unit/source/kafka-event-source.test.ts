/** The Kafka source against answers that a healthy broker never gives. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import type { EventSource, PartitionReader } from '../../../src/storage/source/event-source.ts';
import { API } from '../../../src/storage/source/kafka-api.ts';
import { createKafkaEventSource } from '../../../src/storage/source/kafka-event-source.ts';
import { encodeRecordBatch } from '../../../src/storage/source/record-batch-encoder.ts';
import {
  type FakeBroker,
  type FakeFetchRequest,
  startFakeBroker,
} from '../../support/fake-kafka-broker.ts';
import { kafkaConfig } from '../../support/kafka-topic-fixture.ts';

const context = { ambient: systemAmbient, logger: silentLogger };
const OTHER_TOPIC_ID = '22222222-2222-4222-8222-222222222222';
const NOT_LEADER = 6;
const FENCED_LEADER_EPOCH = 74;
const UNKNOWN_TOPIC_ID = 100;
const TOPIC_DENIED = 29;

function sourceOn(t: TestContext, broker: FakeBroker): EventSource {
  const source = createKafkaEventSource(kafkaConfig(`127.0.0.1:${broker.port}`, 'topic'), context);
  t.after(() => source.close());
  return source;
}

function read(reader: PartitionReader, offset = 0n) {
  return reader.fetch({ offset, maxBytes: 1024, maxWaitMs: 50 });
}

function failsWith(kind: string, code: string) {
  return (error: unknown) =>
    error instanceof PipelineError && error.kind === kind && error.code === code;
}

function batch(baseOffset: bigint, leaderEpoch = 0): Uint8Array {
  return encodeRecordBatch([{ timestampMs: 0, value: Buffer.from('v') }], {
    baseOffset,
    leaderEpoch,
  });
}

test('a partition that moved is followed to its new leader at once (fault 26)', async (t) => {
  const [first, second] = await Promise.all([startFakeBroker(t), startFakeBroker(t)]);
  const reader = await sourceOn(t, first).openPartition(0);
  const epochs: number[] = [];
  first.onFetch = ({ leaderEpoch }) => {
    epochs.push(leaderEpoch);
    first.leaderPort = second.port;
    first.leaderEpoch = 6;
    return { error: NOT_LEADER };
  };
  second.onFetch = ({ leaderEpoch }) => {
    epochs.push(leaderEpoch);
    return { latest: 1n, records: batch(0n) };
  };
  const result = await read(reader);
  assert.ok(result.kind === 'records' && result.bytes.length > 0);
  assert.deepEqual(epochs, [5, 6]);
});

test('an answer that stays wrong is unavailable after one more try (F3)', async (t) => {
  const broker = await startFakeBroker(t);
  const reader = await sourceOn(t, broker).openPartition(0);
  let asked = 0;
  broker.onFetch = () => {
    asked += 1;
    return { error: FENCED_LEADER_EPOCH };
  };
  await assert.rejects(read(reader), failsWith('unavailable', 'TM_SOURCE_UNAVAILABLE'));
  assert.equal(asked, 2);
});

test('a broker that hangs up in the middle is unavailable, and the next fetch connects anew', async (t) => {
  const broker = await startFakeBroker(t);
  const reader = await sourceOn(t, broker).openPartition(0);
  broker.onFetch = () => ({ hangUp: true });
  await assert.rejects(read(reader), failsWith('unavailable', 'TM_SOURCE_UNAVAILABLE'));
  broker.onFetch = () => ({ latest: 1n, records: batch(0n) });
  assert.equal((await read(reader)).kind, 'records');
});

test('fetches name the topic by the id it was opened with, and stop when that is gone (F1)', async (t) => {
  const broker = await startFakeBroker(t);
  const reader = await sourceOn(t, broker).openPartition(0);
  const asked: FakeFetchRequest[] = [];
  const opened = broker.topicId;
  broker.onFetch = (request) => {
    asked.push(request);
    return request.topic === broker.topicId
      ? { latest: 1n, records: batch(0n) }
      : { error: UNKNOWN_TOPIC_ID };
  };
  await read(reader);
  broker.topicId = OTHER_TOPIC_ID;
  await assert.rejects(read(reader), failsWith('invalid', 'TM_TOPIC_RECREATED'));
  assert.ok(asked.every(({ topic }) => topic === opened));
});

test('brokers before topic ids in fetches are read by name', async (t) => {
  const broker = await startFakeBroker(t);
  broker.fetchVersionMax = 11;
  const reader = await sourceOn(t, broker).openPartition(0);
  broker.onFetch = ({ topic }) =>
    topic === 'topic' ? { latest: 1n, records: batch(0n) } : { error: 3 };
  const result = await read(reader);
  assert.ok(result.kind === 'records' && result.bytes.length > 0);
});

test('a log that lost records we had read is corrupt, not simply shorter (fault 36)', async (t) => {
  const broker = await startFakeBroker(t);
  const reader = await sourceOn(t, broker).openPartition(0);
  const epochs: number[] = [];
  broker.onFetch = ({ offset, lastFetchedEpoch }) => {
    epochs.push(lastFetchedEpoch);
    return offset === 0n ? { latest: 1n, records: batch(0n, 5) } : { latest: 9n, divergedAt: 0n };
  };
  await read(reader);
  await assert.rejects(read(reader, 1n), failsWith('corrupt', 'TM_OFFSET_OUT_OF_RANGE'));
  assert.deepEqual(epochs, [-1, 5]);
});

test('lost authorization is denied, not retried (fault 39)', async (t) => {
  const broker = await startFakeBroker(t);
  const source = sourceOn(t, broker);
  const reader = await source.openPartition(0);
  let asked = 0;
  broker.onFetch = () => {
    asked += 1;
    return { error: TOPIC_DENIED };
  };
  await assert.rejects(read(reader), failsWith('invalid', 'TM_SOURCE_DENIED'));
  assert.equal(asked, 1);
});

test('a topic that was there and is missing is unavailable first, gone only after a while (T2)', async (t) => {
  const broker = await startFakeBroker(t);
  let elapsedMs = 0;
  const clock = Object.create(systemAmbient.clock, {
    monotonicMs: { value: () => systemAmbient.clock.monotonicMs() + elapsedMs },
  }) as typeof systemAmbient.clock;
  const source = createKafkaEventSource(kafkaConfig(`127.0.0.1:${broker.port}`, 'topic'), {
    ...context,
    ambient: { ...systemAmbient, clock },
  });
  t.after(() => source.close());
  await source.describe();
  broker.metadataError = 3;
  await assert.rejects(source.describe(), failsWith('unavailable', 'TM_SOURCE_UNAVAILABLE'));
  elapsedMs = 6000;
  await assert.rejects(source.describe(), failsWith('invalid', 'TM_TOPIC_MISSING'));
  broker.metadataError = 0;
  await source.describe();
});

test('another broker of the list answers when the first is down', async (t) => {
  const broker = await startFakeBroker(t);
  const config = {
    ...kafkaConfig('127.0.0.1:1', 'topic'),
    brokers: ['127.0.0.1:1', `127.0.0.1:${broker.port}`],
  };
  const source = createKafkaEventSource(config, context);
  t.after(() => source.close());
  assert.equal((await source.describe()).partitionCount, 1);
});

test('partitions that are asked for together share requests (L1)', async (t) => {
  const broker = await startFakeBroker(t);
  broker.partitions = 50;
  const source = sourceOn(t, broker);
  const readers = await Promise.all(Array.from({ length: 50 }, (_, p) => source.openPartition(p)));
  broker.onFetch = () => ({ latest: 1n, records: batch(0n) });
  const results = await Promise.all(readers.map((reader) => read(reader)));
  assert.ok(results.every((result) => result.kind === 'records' && result.bytes.length > 0));
  assert.ok(
    broker.requests.get(API.fetch.key)! <= 2,
    `${broker.requests.get(API.fetch.key)} requests`,
  );
});

test('a partition that was crowded out comes first the next time (L2)', async (t) => {
  const broker = await startFakeBroker(t);
  broker.partitions = 3;
  const source = sourceOn(t, broker);
  const readers = await Promise.all([0, 1, 2].map((partition) => source.openPartition(partition)));
  const firsts: number[] = [];
  broker.onFetchRequest = (requests) => {
    const first = requests[0]!.partition;
    firsts.push(first);
    // Only the first of a request gets room.
    return ({ partition }) =>
      partition === first ? { latest: 9n, records: batch(0n) } : { latest: 9n };
  };
  // All at once, and each answered although its time is over: it had not had its turn.
  await Promise.all(
    readers.map(async (reader) => {
      const result = await reader.fetch({ offset: 0n, maxBytes: 10, maxWaitMs: 0 });
      assert.ok(result.kind === 'records' && result.bytes.length > 0);
    }),
  );
  assert.deepEqual(firsts, [0, 1, 2]);
});

test('a throttled connection is left alone for that long (K3)', async (t) => {
  const broker = await startFakeBroker(t);
  const reader = await sourceOn(t, broker).openPartition(0);
  broker.onFetch = () => ({ latest: 1n, records: batch(0n), throttleMs: 150 });
  const startedMs = performance.now();
  await read(reader);
  await read(reader);
  assert.ok(performance.now() - startedMs >= 140);
});

for (const [mechanism, sasl] of [
  ['PLAIN', { mechanism: 'plain', username: 'u', password: 'p' }],
  ['OAUTHBEARER', { mechanism: 'oauthbearer', token: { kind: 'file', path: '/nowhere' } }],
] as const) {
  test(`${mechanism} without TLS is refused before anything is sent (S1)`, async (t) => {
    const broker = await startFakeBroker(t);
    const config = { ...kafkaConfig(`127.0.0.1:${broker.port}`, 'topic'), sasl };
    assert.throws(
      () => createKafkaEventSource(config, context),
      failsWith('invalid', 'TM_CONFIG_INVALID'),
    );
    assert.equal(broker.requests.size, 0);
  });
}

test('a token endpoint without https is refused unless it is the loopback (S1)', () => {
  const tls = { caFile: undefined, certFile: undefined, keyFile: undefined, serverName: undefined };
  const withTokenUrl = (tokenUrl: string) => () =>
    createKafkaEventSource(
      {
        ...kafkaConfig('127.0.0.1:1', 'topic'),
        tls,
        sasl: {
          mechanism: 'oauthbearer',
          token: {
            kind: 'client-credentials',
            tokenUrl,
            clientId: 'c',
            clientSecret: 's',
            scope: undefined,
          },
        },
      },
      context,
    );
  assert.throws(
    withTokenUrl('http://login.example/token'),
    failsWith('invalid', 'TM_CONFIG_INVALID'),
  );
  assert.throws(withTokenUrl('no url'), failsWith('invalid', 'TM_CONFIG_INVALID'));
  withTokenUrl('https://login.example/token')();
  withTokenUrl('http://127.0.0.1:9/token')();
});
