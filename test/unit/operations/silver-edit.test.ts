/** The parts of an edit of silver: ids, coordinates, ranges and parts (CI1 to CI3, KC1, BR1, PT1, PT2). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  mayHoldOffsets,
  mayHoldRange,
  parseRange,
  rowsInRange,
  rowsInSpan,
  takeRows,
} from '../../../src/operations/silver-edit/bronze-range.ts';
import { partsOf } from '../../../src/operations/replay/replay-parts.ts';
import { CandidateIds } from '../../../src/operations/silver-edit/candidate-ids.ts';
import { CoordinateSet } from '../../../src/operations/silver-edit/coordinate-set.ts';
import type { TableFile } from '../../../src/operations/silver-edit/edited-lake.ts';
import {
  columnsFromRows,
  type RowValue,
  rowsFromColumns,
} from '../../../src/pipeline/column-builder.ts';
import type { ColumnBatch } from '../../../src/pipeline/columns.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import { bytesOfWords, FINGERPRINT_WORDS } from '../../../src/pipeline/silver/fingerprints.ts';
import { field, struct } from '../../../src/pipeline/types.ts';
import type { LiveFile } from '../../../src/storage/delta/transaction.ts';

/** Fingerprints of (id, payload) pairs; ids near each other share slots. */
function fingerprints(pairs: readonly (readonly [number, number])[]): Uint32Array {
  const words = new Uint32Array(pairs.length * FINGERPRINT_WORDS);
  pairs.forEach(([id, payload], i) => {
    words.set([id, id & 7, 0, id * 31, payload, 0], i * FINGERPRINT_WORDS);
  });
  return words;
}

async function verdictsOf(
  index: { lookupOrInsert: CandidateIds['lookupOrInsert'] },
  pairs: readonly (readonly [number, number])[],
): Promise<number[]> {
  const verdicts = new Uint8Array(pairs.length);
  const rows = Int32Array.from(pairs, (_, i) => i);
  await index.lookupOrInsert(fingerprints(pairs), pairs.length, verdicts, rows);
  return [...verdicts];
}

const COORDINATES = struct([
  field('_kafka_partition', 'integer'),
  field('_kafka_offset', 'long'),
  field('_ingested_at', 'timestamp'),
]);

/** Rows of (partition, offset, time of ingestion). */
function coordinates(rows: readonly (readonly [number, number, number])[]): ColumnBatch {
  return columnsFromRows(
    COORDINATES,
    rows.map(([partition, offset, ingested]) => ({
      _kafka_partition: partition,
      _kafka_offset: BigInt(offset),
      _ingested_at: BigInt(ingested),
    })),
  );
}

test('CI1, CI2 candidates are decided as the index of the whole table would, at any number', async () => {
  const inSilver = Array.from({ length: 3_000 }, (_, i) => [2 * i, 7] as const);
  const rows = Array.from({ length: 5_000 }, (_, i) => [i % 4_000, i % 3 === 0 ? 8 : 7] as const);
  const whole = new MemoryDedupIndex();
  whole.insertFingerprints(bytesOfWords(fingerprints(inSilver)));
  const expected = await verdictsOf(whole, rows);

  const candidates = new CandidateIds();
  candidates.readFrom(coordinates(rows.map((_, i) => [0, i, 0])), '_ingested_at');
  assert.ok((await verdictsOf(candidates, rows)).every((verdict) => verdict === 1));
  assert.equal(candidates.size, 4_000);
  candidates.probe(bytesOfWords(fingerprints(inSilver)));
  assert.equal(candidates.missing, 2_000);
  candidates.phase = 'decide';
  assert.deepEqual(await verdictsOf(candidates, rows), expected);
  candidates.undecide();
  assert.deepEqual(await verdictsOf(candidates, rows), expected, 'and again from the beginning');
});

/** What was said of record `order[i]` in place i, by record. */
function byRecord(order: readonly number[], said: readonly number[]): readonly number[] {
  const verdicts = Array.from(order, () => -1);
  for (const [at, i] of order.entries()) verdicts[i] = said[at]!;
  return verdicts;
}

test('CI3 the row that came first is new, in whatever order rows are read', async () => {
  // Three partitions, of which the third is a second behind; every id comes several times.
  const records = Array.from({ length: 6_000 }, (_, i) => {
    const [partition, offset] = [i % 3, Math.floor(i / 3)];
    const place = [
      partition,
      offset,
      Math.floor(offset / 50) + (partition === 2 ? 10 : 0),
    ] as const;
    return { place, pair: [(offset * 7) % 1_900, offset % 2] as const };
  });
  const decide = async (order: readonly number[]): Promise<readonly number[]> => {
    const read = order.map((i) => records[i]!);
    const candidates = new CandidateIds();
    candidates.readFrom(coordinates(read.map(({ place }) => place)), '_ingested_at');
    const pairs = read.map(({ pair }) => pair);
    await verdictsOf(candidates, pairs);
    candidates.phase = 'decide';
    const verdicts = await verdictsOf(candidates, pairs);
    return byRecord(order, verdicts);
  };
  const asIngested = records
    .map((_, i) => i)
    .sort((a, b) => {
      const [x, y] = [records[a]!.place, records[b]!.place];
      return x[2] - y[2] || x[0] - y[0] || x[1] - y[1];
    });
  const whole = new MemoryDedupIndex();
  const streamed = await verdictsOf(
    whole,
    asIngested.map((i) => records[i]!.pair),
  );
  const expected = byRecord(asIngested, streamed);

  assert.deepEqual(await decide(asIngested), expected);
  assert.deepEqual(await decide(asIngested.toReversed()), expected, 'the last one first');
  const scattered = records.map((_, i) => (i * 3_677) % records.length);
  assert.deepEqual(await decide(scattered), expected, 'scattered');
});

/** A file of rows that were ingested from `from` to `to`, in milliseconds. */
function ingested(name: string, from: number, to: number, rows: number): TableFile {
  const at = (ms: number) => ({ _ingested_at: new Date(ms).toISOString() });
  const stats = { numRecords: rows, minValues: at(from), maxValues: at(to) };
  const file = { path: name, stats: JSON.stringify(stats), partitionValues: {} };
  return { key: name, file: file as unknown as LiveFile };
}

test('PT1, PT2 parts ascend and have every file that may hold rows of their span', () => {
  const files = [
    ingested('later', 900, 950, 10),
    ingested('compacted', 0, 700, 100),
    ingested('same time', 500, 500, 10),
    ingested('between', 500, 600, 10),
    { key: 'unknown', file: { path: 'unknown', partitionValues: {} } as unknown as LiveFile },
  ];
  const parts = partsOf(files, 20);
  assert.deepEqual(
    parts.map(({ span, files: own }) => [
      span.fromMicros,
      span.toMicros,
      own.map(({ key }) => key),
    ]),
    [
      [undefined, 500_000n, ['compacted', 'unknown']],
      [500_000n, 900_000n, ['compacted', 'unknown', 'same time', 'between']],
      [900_000n, undefined, ['unknown', 'later']],
    ],
  );
  const times = [499_999, 500_000, 899_999, 900_000];
  const batch = coordinates(times.map((time) => [0, 0, time]));
  assert.deepEqual(
    parts.map(({ span }) => rowsInSpan(batch, span)),
    [[0], [1, 2], [3]],
  );
  assert.deepEqual(partsOf([], 20), []);
});

test('KC1 a coordinate is taken once, whatever order it was added in', () => {
  const schema = struct([field('_kafka_partition', 'integer'), field('_kafka_offset', 'long')]);
  const rows = Array.from({ length: 3_000 }, (_, i) => ({
    _kafka_partition: i % 2,
    _kafka_offset: BigInt((i * 7_919) % 3_000),
  }));
  const set = new CoordinateSet();
  set.add(
    columnsFromRows(schema, rows),
    rows.map((_, i) => i),
  );
  assert.equal(set.size, 3_000);
  for (const [i, row] of rows.entries()) {
    const { _kafka_partition: partition, _kafka_offset: offset } = row;
    assert.equal(set.markOf(partition, offset), i);
    assert.equal(set.take(partition, offset), true);
    assert.equal(set.take(partition, offset), false);
    assert.equal(set.has(partition, offset), true);
    assert.equal(set.has(2, offset), false);
  }
});

const BRONZE = struct([
  field('_kafka_partition', 'integer'),
  field('_kafka_offset', 'long'),
  field('_kafka_timestamp', 'timestamp'),
]);
const MIDNIGHT = BigInt(Date.parse('2026-11-22T00:00:00Z')) * 1000n;
const HOUR = 3_600_000_000n;

function batchOf(records: readonly (readonly [number, number, bigint])[]): ColumnBatch {
  const rows = records.map(
    ([partition, offset, time]): RowValue => ({
      _kafka_partition: partition,
      _kafka_offset: BigInt(offset),
      _kafka_timestamp: time,
    }),
  );
  return columnsFromRows(BRONZE, rows);
}

test('ranges take whole days, half-open spans and starting offsets', () => {
  const batch = batchOf([
    [0, 0, MIDNIGHT - 1n],
    [0, 1, MIDNIGHT],
    [1, 5, MIDNIGHT + 24n * HOUR - 1n],
    [1, 6, MIDNIGHT + 24n * HOUR],
  ]);
  const rows = (given: Parameters<typeof parseRange>[0]): number[] =>
    rowsInRange(batch, parseRange(given));
  assert.deepEqual(rows({ date: '2026-11-22' }), [1, 2]);
  assert.deepEqual(rows({ from: '2026-11-22', to: '2026-11-23T00:00:00Z' }), [1, 2]);
  assert.deepEqual(rows({ from: '2026-11-23T01:00:00+01:00' }), [3]);
  assert.deepEqual(rows({ to: '2026-11-22' }), [0]);
  assert.deepEqual(rows({ startingOffsets: '{"1": 6}' }), [3]);
  assert.deepEqual(rows({ startingOffsets: '{"0":1,"1":9223372036854775807}' }), [1]);
  assert.deepEqual(
    rowsFromColumns(takeRows(batch, [3, 0])).map((row) => row['_kafka_offset']),
    [6n, 0n],
  );
});

test('a range that says nothing, two things or nonsense is refused', () => {
  const wrong: Parameters<typeof parseRange>[0][] = [
    {},
    { date: '2026-11-22', from: '2026-11-22' },
    { date: '2026-02-30' },
    { from: 'yesterday' },
    { from: '2026-11-23', to: '2026-11-22' },
    { startingOffsets: '[1]' },
    { startingOffsets: '{}' },
    { startingOffsets: '{"a":1}' },
    { startingOffsets: '{"0":-1}' },
  ];
  for (const given of wrong) {
    assert.throws(
      () => parseRange(given),
      { kind: 'invalid', code: 'TM_USAGE' },
      JSON.stringify(given),
    );
  }
});

test('BR1 a file is skipped only by what the log states of it', () => {
  const file = (date: string | null, stats?: string): Parameters<typeof mayHoldRange>[0] => ({
    path: 'a',
    partitionValues: { _event_date: date },
    sizeBytes: 1,
    modifiedMs: 0,
    stats,
    addedVersion: 1,
    dataChange: true,
  });
  const day = parseRange({ date: '2026-11-22' });
  assert.equal(mayHoldRange(file('2026-11-22'), day), true);
  assert.equal(mayHoldRange(file('2026-11-23'), day), false);
  assert.equal(mayHoldRange(file(null), day), true);
  const offsets = parseRange({ startingOffsets: '{"0":100000}' });
  const upTo = (offset: number): string => `{"maxValues":{"_kafka_offset":${offset}}}`;
  assert.equal(mayHoldRange(file('2026-11-22', upTo(50)), offsets), false);
  assert.equal(mayHoldRange(file('2026-11-22', upTo(100_000)), offsets), true);
  assert.equal(mayHoldRange(file('2026-11-22', 'no JSON'), offsets), true);
  const bounds = '{"minValues":{"_kafka_offset":10},"maxValues":{"_kafka_offset":20}}';
  assert.equal(mayHoldOffsets(file('2026-11-22', bounds), [9n, 21n]), false);
  assert.equal(mayHoldOffsets(file('2026-11-22', bounds), [9n, 10n]), true);
  assert.equal(mayHoldOffsets(file('2026-11-22'), [9n]), true);
});
