import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type CellValue, columnsFromRows } from '../../../src/pipeline/column-builder.ts';
import { type DataType, field, struct } from '../../../src/pipeline/types.ts';
import { sameColumns } from '../../../src/storage/delta/same-columns.ts';

const text: DataType = { kind: 'primitive', name: 'string' };
const SCHEMA = struct([
  field('text', text),
  field('long', 'long'),
  field('flag', 'boolean'),
  field('price', { kind: 'decimal', precision: 30, scale: 2 }),
  field('list', { kind: 'array', element: text, containsNull: true }),
  field('map', { kind: 'map', key: text, value: text, valueContainsNull: true }),
  field('part', struct([field('inner', 'double')])),
]);

const ROW: Readonly<Record<string, CellValue>> = {
  text: 'abc',
  long: 2n ** 60n,
  flag: true,
  price: 2n ** 70n,
  list: ['a', null],
  map: new Map([['k', 'v']]),
  part: { inner: 1.5 },
};

/** Nine rows: the changed one, nulls, and enough to fill more than a byte of a bitmap. */
const batch = (change: Readonly<Record<string, CellValue>> = {}) =>
  columnsFromRows(SCHEMA, [{ ...ROW, ...change }, {}, ...Array.from({ length: 7 }, () => ROW)]);

describe('same columns', () => {
  it('of equal rows', () => assert.equal(sameColumns(batch(), batch()), true));

  const changes: readonly Readonly<Record<string, CellValue>>[] = [
    { text: 'abd' },
    { text: 'ab' },
    { text: null },
    { text: '' },
    { long: 2n ** 60n + 1n },
    { flag: false },
    { price: 2n ** 70n + 1n },
    { price: 0n },
    { list: ['a'] },
    { list: ['a', ''] },
    { list: [] },
    { map: new Map([['k', 'w']]) },
    { map: new Map([['l', 'v']]) },
    { part: { inner: 2.5 } },
    { part: { inner: null } },
    { part: null },
  ];
  for (const change of changes) {
    const shown = JSON.stringify(change, (_key, value: unknown) =>
      typeof value === 'bigint' ? `${value}` : value instanceof Map ? [...value] : value,
    );
    it(`not after ${shown}`, () => {
      assert.equal(sameColumns(batch(), batch(change)), false);
      assert.equal(sameColumns(batch(change), batch()), false);
    });
  }

  it('not of values that trade places with a null', () => {
    const one = columnsFromRows(SCHEMA, [ROW, {}]);
    const other = columnsFromRows(SCHEMA, [{}, ROW]);
    assert.equal(sameColumns(one, other), false);
  });

  it('not of other lengths, names or types', () => {
    const rows = [{ a: 1n }];
    const of = (schema: typeof SCHEMA, count = 1) =>
      columnsFromRows(
        schema,
        Array.from({ length: count }, () => rows[0]!),
      );
    const base = struct([field('a', 'long')]);
    assert.equal(sameColumns(of(base), of(base, 2)), false);
    assert.equal(sameColumns(of(base), of(struct([field('b', 'long')]))), false);
    assert.equal(sameColumns(of(base), of(struct([field('a', 'timestamp')]))), false);
  });
});
