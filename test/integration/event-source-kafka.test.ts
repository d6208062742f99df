/**
 * The event source on a real broker: its contract, and what only Kafka has: codecs written by Java,
 * transactions, compaction, re-created topics, giants, a broker that dies.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { type Message, Partitioners } from 'kafkajs';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import type { EventSource } from '../../src/storage/source/event-source.ts';
import { createKafkaEventSource } from '../../src/storage/source/kafka-event-source.ts';
import { openKafkaRecordSink } from '../../src/storage/source/kafka-record-sink.ts';
import { partitionOfKey } from '../../src/storage/source/murmur2.ts';
import { COMPRESSIONS } from '../../src/storage/source/record-batch-codec.ts';
import { encodeRecordBatch } from '../../src/storage/source/record-batch-encoder.ts';
import { startKafka } from '../../tools/servers.ts';
import { eventSourceContract } from '../contract/event-source.contract.ts';
import { eventually } from '../support/eventually.ts';
import { kafkaConfig, KafkaTopicFixture } from '../support/kafka-topic-fixture.ts';
import { sharedKafka, uniqueName } from '../support/servers.ts';
import { decodeFetch, gapText, readToEnd } from '../support/source-records.ts';

const context = { ambient: systemAmbient, logger: silentLogger };
const T0 = 1_790_000_000_000;
const MIB = 1 << 20;

const address = await sharedKafka();

function batch(
  values: readonly (string | Buffer)[],
  options: { compression?: (typeof COMPRESSIONS)[number] } = {},
) {
  const records = values.map((value, i) => ({ timestampMs: T0 + i, value: Buffer.from(value) }));
  return encodeRecordBatch(records, { baseOffset: 0n, ...options });
}

eventSourceContract('Kafka', async (t, partitions) => {
  const topic = await KafkaTopicFixture.create(t, address, { partitions });
  return {
    open: async () => topic.openSource(),
    async openMissing() {
      const source = createKafkaEventSource(kafkaConfig(address, uniqueName('missing')), context);
      t.after(() => source.close());
      return source;
    },
    async append(partition, records) {
      await topic.append(partition, encodeRecordBatch(records, { baseOffset: 0n }));
    },
    async deleteBefore(partition, offset) {
      await topic.admin.deleteTopicRecords({
        topic: topic.config.topic,
        partitions: [{ partition, offset: String(offset) }],
      });
    },
    recreate: () => topic.recreate(partitions),
    async addPartitions(count) {
      await topic.admin.createPartitions({
        topicPartitions: [{ topic: topic.config.topic, count }],
      });
    },
  };
});

/** A producer that sends each call's messages as one transaction, to partition 0. */
async function transactions(t: TestContext, topic: KafkaTopicFixture) {
  const producer = topic.client.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    transactionalId: uniqueName('tx'),
    idempotent: true,
    maxInFlightRequests: 1,
  });
  await producer.connect();
  t.after(() => producer.disconnect());
  return {
    /** Begins a transaction, and sends each message as a batch of its own. */
    async begin(...messages: (string | Message)[]) {
      const transaction = await eventually(() => producer.transaction());
      const send = async (message: string | Message): Promise<void> => {
        const one = typeof message === 'string' ? { value: message } : message;
        await transaction.send({ topic: topic.config.topic, messages: [{ partition: 0, ...one }] });
      };
      for (const message of messages) await send(message);
      return { send, commit: () => transaction.commit(), abort: () => transaction.abort() };
    },
  };
}

/** EndTxn is answered before its marker is in the log. */
async function stableAt(topic: KafkaTopicFixture, end: bigint): Promise<EventSource> {
  const source = topic.openSource();
  await eventually(async () => assert.equal((await source.offsets(0)).latest, end));
  return source;
}

const values = (content: Awaited<ReturnType<typeof readToEnd>>): string[] =>
  content.rows.map(({ offset, value }) => `${offset}:${String(value)}`);

describe('record batches of a real broker', { concurrency: true }, () => {
  for (const codec of COMPRESSIONS) {
    it(`reads ${codec} as Java wrote it, and Java reads ${codec} as we wrote it`, async (t) => {
      // The broker compresses anew what comes uncompressed, and inflates to check what comes compressed.
      const javas = codec === 'none' ? 'uncompressed' : codec;
      const lines = Array.from(
        { length: 3000 },
        (_, i) => `{"id":${i},"text":"${'ab€'.repeat(i % 40)}"}`,
      );
      const fromJava = await KafkaTopicFixture.create(t, address, {
        settings: { 'compression.type': javas },
      });
      await fromJava.append(0, batch(lines));
      const fromUs = await KafkaTopicFixture.create(t, address);
      await fromUs.append(0, batch(lines, { compression: codec }));
      for (const topic of [fromJava, fromUs]) {
        const reader = await topic.openSource().openPartition(0);
        const result = await reader.fetch({ offset: 0n, maxBytes: MIB, maxWaitMs: 5000 });
        assert.ok(result.kind === 'records');
        assert.equal(COMPRESSIONS[result.bytes[22]! & 7], codec);
        const content = await readToEnd(topic.openSource(), 0);
        assert.deepEqual(
          content.rows.map(({ value }) => String(value)),
          lines,
        );
      }
    });
  }

  it("takes the broker's time where the topic says LogAppendTime", async (t) => {
    const topic = await KafkaTopicFixture.create(t, address, {
      settings: { 'message.timestamp.type': 'LogAppendTime' },
    });
    const beforeMs = Date.now();
    await topic.append(0, batch(['a', 'b']));
    const { rows } = await readToEnd(topic.openSource(), 0);
    for (const { timestampMs } of rows) {
      assert.ok(
        timestampMs >= beforeMs - 1000 && timestampMs <= Date.now() + 1000,
        String(timestampMs),
      );
    }
  });

  it('keeps null keys and values, and headers in their order with their duplicates', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const producer = topic.client.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    t.after(() => producer.disconnect());
    await producer.send({
      topic: topic.config.topic,
      messages: [
        { key: null, value: null, timestamp: String(T0) },
        {
          key: 'k',
          value: 'v',
          headers: { many: ['1', '2'], one: 'x' },
          timestamp: String(T0 + 1),
        },
      ],
    });
    const { rows } = await readToEnd(topic.openSource(), 0);
    assert.deepEqual(rows, [
      { offset: 0n, timestampMs: T0, key: null, value: null, headers: null },
      {
        offset: 1n,
        timestampMs: T0 + 1,
        key: 'k',
        value: Buffer.from('v'),
        headers: [
          ['many', '1'],
          ['many', '2'],
          ['one', 'x'],
        ],
      },
    ]);
  });

  it('reads values of 1 to 20 MB whole, whatever maxBytes (fault 43)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address, {
      settings: { 'max.message.bytes': String(32 * MIB) },
    });
    const sizes = [1, 20, 5, 1].map((mebibytes) => mebibytes * MIB);
    for (const size of sizes) await topic.append(0, batch([Buffer.alloc(size, 'x')]));
    const { rows } = await readToEnd(topic.openSource(), 0, { maxBytes: 64 << 10 });
    assert.deepEqual(
      rows.map(({ value }) => value!.length),
      sizes,
    );
  });

  it('brings a giant of one partition although another always has more to read', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address, {
      partitions: 2,
      settings: { 'max.message.bytes': String(32 * MIB) },
    });
    for (let i = 0; i < 40; i++) await topic.append(0, batch([Buffer.alloc(MIB, 'x')]));
    await topic.append(1, batch([Buffer.alloc(4 * MIB, 'y')]));
    const source = topic.openSource();
    const [busy, giant] = await Promise.all([
      readToEnd(source, 0, { maxBytes: 32 * MIB }),
      readToEnd(source, 1, { maxBytes: 1 }),
    ]);
    assert.deepEqual([busy.rows.length, giant.rows.length], [40, 1]);
  });

  it('puts keyed records of the sink where Java would', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address, { partitions: 5 });
    const sink = await openKafkaRecordSink(topic.config, context);
    t.after(() => sink.close());
    const keys = Array.from({ length: 50 }, (_, i) => `customer-${i}`);
    await sink.append(keys.map((key) => ({ key, value: key, timestampMs: T0 })));
    const source = topic.openSource();
    for (let partition = 0; partition < 5; partition++) {
      const { rows } = await readToEnd(source, partition);
      const expected = keys.filter((key) => partitionOfKey(Buffer.from(key), 5) === partition);
      assert.deepEqual(
        rows.map(({ key }) => key),
        expected,
      );
    }
  });

  it('tells lag tools how far we are', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address, { partitions: 2 });
    const source = topic.openSource();
    await eventually(
      () =>
        source.reportProgress(
          new Map([
            [0, 7n],
            [1, 9n],
          ]),
        ),
      { withinMs: 30_000 },
    );
    const [stored] = await topic.admin.fetchOffsets({
      groupId: `tidemark-${topic.config.clientId}`,
      topics: [topic.config.topic],
    });
    assert.deepEqual(
      stored!.partitions
        .map(({ partition, offset }) => [partition, offset] as const)
        .toSorted(([a], [b]) => a - b),
      [
        [0, '7'],
        [1, '9'],
      ],
    );
  });
});

describe('transactions of a real broker (R3, I5)', { concurrency: true }, () => {
  it('hides an aborted transaction, also one that holds an int32 key 0 (fault 28)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const one = await transactions(t, topic);
    const looksLikeMarker = { key: Buffer.from([0, 0, 0, 0]), value: 'no marker' };
    await (await one.begin('a', looksLikeMarker, 'b')).abort();
    await (await one.begin(looksLikeMarker, 'c')).commit();
    const content = await readToEnd(await stableAt(topic, 7n), 0);
    assert.deepEqual(values(content), ['4:no marker', '5:c']);
    assert.deepEqual(gapText(content.gaps), ['aborted[0,3)', 'marker[3,4)', 'marker[6,7)']);
  });

  it('hides two transactions that are open where the fetch starts (fault 29)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => transactions(t, topic)));
    const first = await one!.begin('a1');
    const second = await two!.begin('b1');
    const third = await three!.begin('c1');
    await first.send('a2');
    await second.send('b2');
    await third.send('c2');
    await second.abort();
    await first.abort();
    await third.commit();
    const source = await stableAt(topic, 9n);
    assert.deepEqual(values(await readToEnd(source, 0)), ['2:c1', '5:c2']);
    for (let from = 1n; from < 9n; from++) {
      const content = await readToEnd(source, 0, { fromOffset: from });
      assert.deepEqual(
        values(content),
        ['2:c1', '5:c2'].filter((row) => BigInt(row[0]!) >= from),
      );
    }
  });

  it('tells several transactions of one producer in one fetch apart (fault 30)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const one = await transactions(t, topic);
    for (const [value, end] of [
      ['a', 'abort'],
      ['b', 'commit'],
      ['c', 'abort'],
      ['d', 'abort'],
      ['e', 'commit'],
    ] as const) {
      await (await one.begin(value))[end]();
    }
    const content = await readToEnd(await stableAt(topic, 10n), 0);
    assert.equal(content.fetches, 1);
    assert.deepEqual(values(content), ['2:b', '8:e']);
  });

  it('starts at a marker, and ends with nothing but markers (faults 31, 33)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const one = await transactions(t, topic);
    await (await one.begin('a')).abort();
    await (await one.begin('b')).commit();
    const source = await stableAt(topic, 4n);
    const fromMarker = await readToEnd(source, 0, { fromOffset: 1n });
    assert.deepEqual(values(fromMarker), ['2:b']);
    assert.deepEqual(gapText(fromMarker.gaps), ['marker[1,2)', 'marker[3,4)']);
    const onlyMarker = await readToEnd(source, 0, { fromOffset: 3n });
    assert.deepEqual([onlyMarker.rows.length, onlyMarker.nextOffset], [0, 4n]);
  });

  it('follows transactions over many small fetches and restarts inside them (faults 27, 32)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const one = await transactions(t, topic);
    const two = await transactions(t, topic);
    const aborted = await one.begin();
    const committed = await two.begin();
    for (let i = 0; i < 30; i++) {
      await aborted.send(`a${i}`.padEnd(500));
      await committed.send(`c${i}`.padEnd(500));
    }
    await aborted.abort();
    await committed.commit();
    const source = await stableAt(topic, 62n);
    const whole = await readToEnd(source, 0, { maxBytes: 2000 });
    assert.ok(whole.fetches > 10, `${whole.fetches} fetches`);
    assert.equal(whole.rows.length, 30);
    assert.ok(whole.rows.every(({ value }) => String(value).startsWith('c')));
    for (const fromOffset of [7n, 8n, 33n, 59n]) {
      const rest = await readToEnd(source, 0, { fromOffset, maxBytes: 2000 });
      assert.deepEqual(
        rest.rows,
        whole.rows.filter(({ offset }) => offset >= fromOffset),
      );
    }
  });

  it('never reads beyond the last stable offset (I5)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address);
    const one = await transactions(t, topic);
    await topic.append(0, batch(['before']));
    const open = await one.begin('undecided');
    await topic.append(0, batch(['after']));
    const source = topic.openSource();
    assert.deepEqual(await source.offsets(0), { earliest: 0n, latest: 1n });
    const reader = await source.openPartition(0);
    const result = await reader.fetch({ offset: 0n, maxBytes: MIB, maxWaitMs: 500 });
    assert.equal(decodeFetch(0, 0n, result).nextOffset, 1n);
    const waiting = reader.fetch({ offset: 1n, maxBytes: MIB, maxWaitMs: 30_000 });
    await open.commit();
    assert.equal(decodeFetch(0, 1n, await waiting).offsets[0], 1n);
    assert.deepEqual(values(await readToEnd(source, 0)), ['0:before', '1:undecided', '2:after']);
  });
});

describe('a real broker over time', { concurrency: true }, () => {
  it('explains what compaction took away, also at the tail of a batch (fault 34)', async (t) => {
    const topic = await KafkaTopicFixture.create(t, address, {
      settings: {
        'cleanup.policy': 'compact',
        'segment.ms': '100',
        'min.cleanable.dirty.ratio': '0.001',
        'min.compaction.lag.ms': '0',
        'max.compaction.lag.ms': '1',
        'delete.retention.ms': '0',
      },
    });
    const now = Date.now();
    const keyed = (keys: readonly string[], age: number) =>
      encodeRecordBatch(
        keys.map((key) => ({
          timestampMs: now - age,
          key: Buffer.from(key),
          value: Buffer.from(`${key}@${age}`),
        })),
        { baseOffset: 0n },
      );
    // Offsets 0-4: 0, 2 and the tail 3, 4 are overwritten; 5-6 as a whole; 7 stays.
    await topic.append(0, keyed(['a', 'keep', 'b', 'c', 'd'], 60_000));
    await topic.append(0, keyed(['b', 'c'], 50_000));
    await topic.append(0, keyed(['a', 'b', 'c', 'd'], 40_000));
    const source = topic.openSource();
    await eventually(
      async () => {
        // Segments roll, and are cleaned, only when something new is appended.
        await topic.append(0, keyed(['tick'], 0));
        const { rows, gaps, nextOffset } = await readToEnd(source, 0);
        assert.equal(nextOffset, (await source.offsets(0)).latest);
        assert.deepEqual(
          rows.map(({ value }) => String(value)).filter((value) => !value.startsWith('tick')),
          ['keep@60000', 'a@40000', 'b@40000', 'c@40000', 'd@40000'],
        );
        assert.deepEqual(gapText(gaps).slice(0, 2), ['compacted[0,1)', 'compacted[2,7)']);
        const inside = await readToEnd(source, 0, { fromOffset: 4n });
        assert.deepEqual(gapText(inside.gaps)[0], 'compacted[4,7)');
        return true;
      },
      { withinMs: 120_000 },
    );
  });

  it('keeps 64 idle partitions on few requests and still answers at once', async (t) => {
    const partitions = 64;
    const topic = await KafkaTopicFixture.create(t, address, { partitions });
    const source = topic.openSource();
    const readers = await Promise.all(
      Array.from({ length: partitions }, (_, p) => source.openPartition(p)),
    );
    const ended = new AbortController();
    const idle = readers
      .slice(1)
      .map((reader) =>
        reader.fetch({ offset: 0n, maxBytes: MIB, maxWaitMs: 60_000, signal: ended.signal }),
      );
    for (let offset = 0n; offset < 10n; offset++) {
      await topic.append(0, batch(['x']));
      const result = await readers[0]!.fetch({ offset, maxBytes: MIB, maxWaitMs: 30_000 });
      assert.equal(decodeFetch(0, offset, result).length, 1);
    }
    await topic.append(63, batch(['y']));
    assert.equal(decodeFetch(63, 0n, await idle[62]!).length, 1);
    ended.abort();
    await Promise.all(idle);
  });

  it('says unavailable while the broker is dead, and goes on where it was (faults 24, 25)', async (t) => {
    const server = await startKafka();
    t.after(() => server.stop());
    const topic = await KafkaTopicFixture.create(t, server.address);
    await topic.append(0, batch(['a', 'b']));
    const source = topic.openSource();
    const reader = await source.openPartition(0);
    const first = await reader.fetch({ offset: 0n, maxBytes: MIB, maxWaitMs: 1000 });
    assert.equal(decodeFetch(0, 0n, first).nextOffset, 2n);
    const waiting = reader.fetch({ offset: 2n, maxBytes: MIB, maxWaitMs: 60_000 });
    await Promise.all([
      assert.rejects(waiting, { kind: 'unavailable', code: 'TM_SOURCE_UNAVAILABLE' }),
      server.kill(),
    ]);
    await assert.rejects(source.offsets(0), { kind: 'unavailable', code: 'TM_SOURCE_UNAVAILABLE' });
    await server.restart();
    const again = await eventually(
      async () => {
        const result = await reader.fetch({ offset: 2n, maxBytes: MIB, maxWaitMs: 100 });
        assert.ok(result.kind === 'records');
        return result;
      },
      { withinMs: 60_000 },
    );
    assert.equal(again.bytes.length, 0);
    await topic.append(0, batch(['c']));
    assert.deepEqual(values(await readToEnd(source, 0)), ['0:a', '1:b', '2:c']);
  });
});
