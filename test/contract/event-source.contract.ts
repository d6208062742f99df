/** What every event source must do, whatever it reads from. Run by event-source.test.ts and by the Kafka integration test. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { PipelineError } from '../../src/errors.ts';
import type { EventSource } from '../../src/storage/source/event-source.ts';
import type { RecordInput } from '../../src/storage/source/record-batch-encoder.ts';
import { eventually } from '../support/eventually.ts';
import { decodeFetch, readToEnd, rowsOf } from '../support/source-records.ts';

/** One topic of PARTITIONS empty partitions. */
export interface EventSourceWorld {
  /** Another source on the same topic. */
  readonly open: () => Promise<EventSource>;
  /** A source on a topic that does not exist. */
  readonly openMissing: () => Promise<EventSource>;
  /** Appends the records as one batch. */
  readonly append: (partition: number, records: readonly RecordInput[]) => Promise<void>;
  /** Makes the offsets below `offset`, which begins a batch, disappear. */
  readonly deleteBefore: (partition: number, offset: bigint) => Promise<void>;
  /** Deletes the topic and creates it again, empty. */
  readonly recreate: () => Promise<void>;
  readonly addPartitions: (partitionCount: number) => Promise<void>;
}

const PARTITIONS = 2;
const T0 = 1_790_000_000_000;
const KIB = 1024;

function records(from: number, to: number, size = 1): RecordInput[] {
  return Array.from({ length: to - from }, (_, index) => ({
    timestampMs: T0 + from + index,
    key: Buffer.from(`k${from + index}`),
    value: Buffer.from(`v${from + index}`.padEnd(size, '.')),
  }));
}

function failsWith(kind: string, code: string) {
  return (error: unknown) =>
    error instanceof PipelineError && error.kind === kind && error.code === code;
}

/** @param make a new world; what it opens it closes after the test */
export function eventSourceContract(
  name: string,
  make: (t: TestContext, partitions: number) => Promise<EventSourceWorld>,
): void {
  const world = (t: TestContext): Promise<EventSourceWorld> => make(t, PARTITIONS);

  describe(`event source: ${name}`, { concurrency: true }, () => {
    it('describes its topic, the same each time', async (t) => {
      const source = await (await world(t)).open();
      const info = await source.describe();
      assert.equal(info.partitionCount, PARTITIONS);
      assert.match(info.topicId, /^[0-9a-f-]{36}$/);
      assert.deepEqual(await source.describe(), info);
    });

    it('refuses a topic that does not exist', async (t) => {
      const { openMissing } = await world(t);
      await assert.rejects(
        async () => (await openMissing()).describe(),
        failsWith('invalid', 'TM_TOPIC_MISSING'),
      );
    });

    it('knows the earliest and the latest offset of each partition', async (t) => {
      const { open, append } = await world(t);
      const source = await open();
      assert.deepEqual(await source.offsets(0), { earliest: 0n, latest: 0n });
      await append(0, records(0, 3));
      await append(0, records(3, 5));
      assert.deepEqual(await source.offsets(0), { earliest: 0n, latest: 5n });
      assert.deepEqual(await source.offsets(1), { earliest: 0n, latest: 0n });
    });

    it('hands out keys, values, headers and times as they were appended', async (t) => {
      const { open, append } = await world(t);
      await append(1, [
        {
          timestampMs: T0,
          key: Buffer.from('k'),
          value: Buffer.from('v'),
          headers: [
            ['h', Buffer.from('1')],
            ['h', null],
          ],
        },
        { timestampMs: T0 + 1, key: null, value: null },
      ]);
      const { rows } = await readToEnd(await open(), 1);
      assert.deepEqual(rows, [
        {
          offset: 0n,
          timestampMs: T0,
          key: 'k',
          value: Buffer.from('v'),
          headers: [
            ['h', '1'],
            ['h', null],
          ],
        },
        { offset: 1n, timestampMs: T0 + 1, key: null, value: null, headers: null },
      ]);
    });

    it('starts inside a batch', async (t) => {
      const { open, append } = await world(t);
      await append(0, records(0, 10));
      await append(0, records(10, 12));
      const { rows } = await readToEnd(await open(), 0, { fromOffset: 7n });
      assert.deepEqual(
        rows.map(({ key }) => key),
        ['k7', 'k8', 'k9', 'k10', 'k11'],
      );
    });

    it('reads each offset once, in order, in many small fetches', async (t) => {
      const { open, append } = await world(t);
      for (let from = 0; from < 60; from += 3) await append(0, records(from, from + 3, KIB));
      const { rows, fetches } = await readToEnd(await open(), 0, { maxBytes: 10 * KIB });
      assert.deepEqual(
        rows.map(({ offset }) => offset),
        Array.from({ length: 60 }, (_, offset) => BigInt(offset)),
      );
      assert.ok(fetches > 5, `${fetches} fetches`);
    });

    it('brings a batch larger than maxBytes whole, also between others', async (t) => {
      const { open, append } = await world(t);
      await append(0, records(0, 1));
      await append(0, records(1, 3, 300 * KIB));
      await append(0, records(3, 4));
      const { rows } = await readToEnd(await open(), 0, { maxBytes: 4 * KIB });
      assert.deepEqual(
        rows.map(({ value }) => value!.length),
        [2, 300 * KIB, 300 * KIB, 2],
      );
    });

    // A small answer shares a pool's memory; a large one has memory that is all its own.
    for (const valueBytes of [2, 300 * KIB]) {
      it(`hands over bytes that may be transferred to a thread: ${valueBytes}`, async (t) => {
        const { open, append } = await world(t);
        await append(0, records(0, 2, valueBytes));
        const reader = await (await open()).openPartition(0);
        const result = await reader.fetch({ offset: 0n, maxBytes: KIB, maxWaitMs: 1000 });
        assert.ok(result.kind === 'records' && result.bytes.length > 0);
        const { buffer } = result.bytes;
        assert.equal(buffer.byteLength, result.bytes.length);
        structuredClone(buffer, { transfer: [buffer] });
        const again = await reader.fetch({ offset: 0n, maxBytes: KIB, maxWaitMs: 1000 });
        assert.equal(decodeFetch(0, 0n, again).length, 2);
      });
    }

    it('waits at the end for maxWaitMs and brings nothing', async (t) => {
      const { open, append } = await world(t);
      await append(0, records(0, 1));
      const reader = await (await open()).openPartition(0);
      const startedMs = performance.now();
      const result = await reader.fetch({ offset: 1n, maxBytes: KIB, maxWaitMs: 200 });
      assert.ok(performance.now() - startedMs >= 190);
      assert.ok(result.kind === 'records');
      assert.equal(result.bytes.length, 0);
      assert.deepEqual([result.earliest, result.latest], [0n, 1n]);
    });

    it('wakes up for an append long before maxWaitMs', async (t) => {
      const { open, append } = await world(t);
      const reader = await (await open()).openPartition(0);
      const waiting = reader.fetch({ offset: 0n, maxBytes: KIB, maxWaitMs: 60_000 });
      await append(0, records(0, 1));
      assert.deepEqual(
        rowsOf(decodeFetch(0, 0n, await waiting)).map(({ key }) => key),
        ['k0'],
      );
    });

    it('lets a partition with records go on while others wait', async (t) => {
      const { open, append } = await world(t);
      const source = await open();
      const [idle, busy] = await Promise.all([source.openPartition(0), source.openPartition(1)]);
      const ended = new AbortController();
      const waiting = idle.fetch({
        offset: 0n,
        maxBytes: KIB,
        maxWaitMs: 60_000,
        signal: ended.signal,
      });
      for (let from = 0; from < 5; from++) {
        await append(1, records(from, from + 1));
        const result = await busy.fetch({ offset: BigInt(from), maxBytes: KIB, maxWaitMs: 60_000 });
        assert.equal(decodeFetch(1, BigInt(from), result).length, 1);
      }
      ended.abort();
      await waiting;
    });

    it('ends a wait with nothing when the signal aborts', async (t) => {
      const reader = await (await (await world(t)).open()).openPartition(0);
      const ended = new AbortController();
      const waiting = reader.fetch({
        offset: 0n,
        maxBytes: KIB,
        maxWaitMs: 60_000,
        signal: ended.signal,
      });
      ended.abort();
      const result = await waiting;
      assert.ok(result.kind === 'records');
      assert.equal(result.bytes.length, 0);
    });

    it('ends a wait when the reader is closed, and fetches no more', async (t) => {
      const reader = await (await (await world(t)).open()).openPartition(0);
      const request = { offset: 0n, maxBytes: KIB, maxWaitMs: 60_000 };
      const waiting = reader.fetch(request);
      await Promise.all([
        assert.rejects(waiting, failsWith('unavailable', 'TM_STOPPED')),
        reader.close(),
      ]);
      await assert.rejects(reader.fetch(request), failsWith('unavailable', 'TM_STOPPED'));
    });

    it('says out-of-range above the end (P8)', async (t) => {
      const { open, append } = await world(t);
      await append(0, records(0, 3));
      const reader = await (await open()).openPartition(0);
      assert.deepEqual(await reader.fetch({ offset: 4n, maxBytes: KIB, maxWaitMs: 0 }), {
        kind: 'out-of-range',
        earliest: 0n,
        latest: 3n,
      });
    });

    it('says out-of-range below the earliest offset, also to a reader that was there before (P8)', async (t) => {
      const { open, append, deleteBefore } = await world(t);
      await append(0, records(0, 3, 300 * KIB));
      await append(0, records(3, 6, 300 * KIB));
      const source = await open();
      const reader = await source.openPartition(0);
      await reader.fetch({ offset: 0n, maxBytes: KIB, maxWaitMs: 1000 });
      await deleteBefore(0, 3n);
      assert.deepEqual(await source.offsets(0), { earliest: 3n, latest: 6n });
      const late = await source.openPartition(0);
      const expected = { kind: 'out-of-range', earliest: 3n, latest: 6n };
      assert.deepEqual(await late.fetch({ offset: 2n, maxBytes: KIB, maxWaitMs: 0 }), expected);
      // A reader may still hold what it had open, but never beyond it.
      await eventually(async () => {
        const result = await reader.fetch({ offset: 2n, maxBytes: KIB, maxWaitMs: 0 });
        if (result.kind === 'records') decodeFetch(0, 2n, result);
        else assert.deepEqual(result, expected);
      });
    });

    it('notices new partitions', async (t) => {
      const { open, append, addPartitions } = await world(t);
      const source = await open();
      await source.describe();
      await addPartitions(PARTITIONS + 1);
      await eventually(async () => (await source.describe()).partitionCount === PARTITIONS + 1);
      await append(PARTITIONS, records(0, 1));
      assert.equal((await readToEnd(source, PARTITIONS)).rows.length, 1);
    });

    it('refuses a topic that was deleted and created again, and describes the new one (P8)', async (t) => {
      const { open, append, recreate } = await world(t);
      await append(0, records(0, 1));
      const source = await open();
      const before = await source.describe();
      const reader = await source.openPartition(0);
      await recreate();
      await append(0, records(100, 105));
      await assert.rejects(
        // A broker may still know the old topic for a moment; the old topic's records are right then.
        eventually(
          async () => {
            try {
              const result = await reader.fetch({ offset: 1n, maxBytes: KIB, maxWaitMs: 1500 });
              assert.ok(
                result.kind === 'records' && result.bytes.length === 0,
                'read a strange topic',
              );
              return false;
            } catch (error) {
              if (error instanceof PipelineError && error.kind === 'unavailable') throw error;
              return Promise.resolve(error);
            }
          },
          { withinMs: 20_000 },
        ).then((error) => {
          throw error;
        }),
        failsWith('invalid', 'TM_TOPIC_RECREATED'),
      );
      await assert.rejects(source.openPartition(0), failsWith('invalid', 'TM_TOPIC_RECREATED'));
      assert.notEqual((await source.describe()).topicId, before.topicId);
      const fresh = await open();
      assert.equal((await readToEnd(fresh, 0)).rows[0]!.key, 'k100');
    });
  });
}
