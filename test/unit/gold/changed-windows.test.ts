/** CW1, CW2: which windows differ, and by how much. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { columnsFromRows } from '../../../src/pipeline/column-builder.ts';
import type { ColumnBatch } from '../../../src/pipeline/columns.ts';
import { changedWindows } from '../../../src/pipeline/gold/changed-windows.ts';
import { goldFileSchema } from '../../../src/pipeline/gold/gold-schema.ts';
import type { AggregateConfig, EventConfig } from '../../../src/pipeline/pipeline-config.ts';
import { field, struct } from '../../../src/pipeline/types.ts';

const EVENT: EventConfig = {
  id: 'id',
  time: { field: 'at', unit: 'rfc3339' },
  schemaVersion: 1,
  schema: struct([
    field('id', 'string'),
    field('at', 'timestamp'),
    field('customer', 'string'),
    field('tier', 'integer'),
    { name: 'price', type: { kind: 'decimal', precision: 18, scale: 6 }, nullable: true },
    field('seconds', 'double'),
  ]),
};
const AGGREGATE: AggregateConfig = {
  name: 'hourly',
  windowMs: 3_600_000,
  groupBy: ['customer', 'tier'],
  measures: [
    { name: 'n', fn: 'count', field: undefined },
    { name: 'price', fn: 'sum', field: 'price' },
    { name: 'seconds', fn: 'max', field: 'seconds' },
  ],
};
const START = 1_795_305_600_000_000n;

type Row = Readonly<Record<string, string | number | bigint | null>>;

function slot(rows: readonly Row[], meta: Row = {}): ColumnBatch {
  const window = { window_start: START, window_end: START + 3_600_000_000n };
  return columnsFromRows(
    goldFileSchema(AGGREGATE, EVENT),
    rows.map((row) => ({ ...window, ...row, ...meta })),
  );
}

const A: Row = { customer: 'a', tier: 1, n: 2n, price: 1_500_000n, seconds: 0.5 };
const B: Row = { customer: 'b', tier: null, n: 1n, price: null, seconds: null };

test('CW1 equal rows are no change, whatever they say of themselves', () => {
  const before = slot([A, B], { _source: 'streaming', _revision: 0 });
  const after = slot([A, B], { _source: 'batch', _revision: 1 });
  assert.deepEqual(changedWindows(AGGREGATE, before, after), []);
});

test('CW1 rows meet by window and group in any order; only measures that differ are named', () => {
  const [change, ...rest] = changedWindows(
    AGGREGATE,
    slot([B, A]),
    slot([{ ...A, n: 3n, price: 1_750_001n }, B]),
  );
  assert.equal(rest.length, 0);
  assert.equal(change!.groups, '{"customer":"a","tier":1}');
  assert.equal(change!.windowStartMicros, START);
  assert.equal(change!.windowEndMicros, START + 3_600_000_000n);
  assert.deepEqual(change!.measures, [
    { name: 'n', before: '2', after: '3', difference: '1' },
    { name: 'price', before: '1.500000', after: '1.750001', difference: '0.250001' },
  ]);
  assert.deepEqual(change!.events, { before: 2n, after: 3n });
});

test('CW2 a window that came counts from nothing, one that went to nothing; a null sum is none', () => {
  const [came] = changedWindows(AGGREGATE, undefined, slot([A]));
  assert.deepEqual(came!.measures, [
    { name: 'n', before: null, after: '2', difference: '2' },
    { name: 'price', before: null, after: '1.500000', difference: '1.500000' },
    { name: 'seconds', before: null, after: '0.5', difference: null },
  ]);
  const [went] = changedWindows(AGGREGATE, slot([A]), slot([]));
  assert.deepEqual(went!.measures[0], { name: 'n', before: '2', after: null, difference: '-2' });
  assert.deepEqual(went!.measures[1]!.difference, '-1.500000');
  const [nothing] = changedWindows(AGGREGATE, slot([B]), slot([{ ...B, n: 2n }]));
  assert.deepEqual(
    nothing!.measures.map(({ name }) => name),
    ['n'],
  );
});

test('CW2 sums beyond 2^53 differ exactly, and NaN equals NaN', () => {
  const big = 9_007_199_254_740_993n;
  const [change] = changedWindows(
    AGGREGATE,
    slot([{ ...A, n: big, seconds: Number.NaN }]),
    slot([{ ...A, n: big + 1n, seconds: Number.NaN }]),
  );
  assert.deepEqual(change!.measures, [
    { name: 'n', before: `${big}`, after: `${big + 1n}`, difference: '1' },
  ]);
});
