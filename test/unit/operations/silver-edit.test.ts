/** The parts of an edit of silver: ids, coordinates, ranges (CI1, CI2, KC1, BR1). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  mayHoldOffsets,
  mayHoldRange,
  parseRange,
  rowsInRange,
  takeRows,
} from '../../../src/operations/silver-edit/bronze-range.ts';
import { CandidateIds } from '../../../src/operations/silver-edit/candidate-ids.ts';
import { CoordinateSet } from '../../../src/operations/silver-edit/coordinate-set.ts';
import {
  columnsFromRows,
  type RowValue,
  rowsFromColumns,
} from '../../../src/pipeline/column-builder.ts';
import type { ColumnBatch } from '../../../src/pipeline/columns.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import { bytesOfWords, FINGERPRINT_WORDS } from '../../../src/pipeline/silver/fingerprints.ts';
import { field, struct } from '../../../src/pipeline/types.ts';

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
  await index.lookupOrInsert(fingerprints(pairs), pairs.length, verdicts);
  return [...verdicts];
}

test('CI1, CI2 candidates are decided as the index of the whole table would, at any number', async () => {
  const inSilver = Array.from({ length: 3_000 }, (_, i) => [2 * i, 7] as const);
  const rows = Array.from({ length: 5_000 }, (_, i) => [i % 4_000, i % 3 === 0 ? 8 : 7] as const);
  const whole = new MemoryDedupIndex();
  whole.insertFingerprints(bytesOfWords(fingerprints(inSilver)));
  const expected = await verdictsOf(whole, rows);

  const candidates = new CandidateIds();
  assert.ok((await verdictsOf(candidates, rows)).every((verdict) => verdict === 1));
  assert.equal(candidates.size, 4_000);
  candidates.probe(bytesOfWords(fingerprints(inSilver)));
  assert.equal(candidates.missing, 2_000);
  candidates.phase = 'decide';
  assert.deepEqual(await verdictsOf(candidates, rows), expected);
  candidates.undecide();
  assert.deepEqual(await verdictsOf(candidates, rows), expected, 'and again from the beginning');
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
