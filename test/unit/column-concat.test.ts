/** Bit copies, and slices of columns joined into one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bitAt, bitmapBytes, copyBits, countSetBits, setBits } from '../../src/pipeline/bitmaps.ts';
import { type RowValue, rowsFromColumns } from '../../src/pipeline/column-builder.ts';
import { concatBatches, concatSlices } from '../../src/pipeline/column-concat.ts';
import type { Vector } from '../../src/pipeline/columns.ts';
import { anyBatch } from './parquet/column-arbitraries.ts';

const bitsOf = (bitmap: Uint8Array, length: number): boolean[] =>
  Array.from({ length }, (_, bit) => bitAt(bitmap, bit));

test('bits are copied between any positions, the others stay clear', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 12, maxLength: 12 }),
      fc.nat(30),
      fc.nat(30),
      fc.nat(60),
      (source, from, to, count) => {
        const target = new Uint8Array(12);
        copyBits(source, from, target, to, count);
        const expected = Array.from({ length: 96 }, (_, bit) =>
          bit >= to && bit < to + count ? bitAt(source, bit - to + from) : false,
        );
        assert.deepEqual(bitsOf(target, 96), expected);
        assert.equal(countSetBits(target, to + count), expected.filter(Boolean).length);
      },
    ),
  );
});

test('a run of bits is set, no other', () => {
  fc.assert(
    fc.property(fc.nat(40), fc.nat(40), (from, count) => {
      const bitmap = new Uint8Array(bitmapBytes(80));
      setBits(bitmap, from, count);
      const expected = Array.from({ length: 80 }, (_, bit) => bit >= from && bit < from + count);
      assert.deepEqual(bitsOf(bitmap, 80), expected);
    }),
  );
});

test('slices of every type, and runs of nulls, are joined in order', () => {
  const slice = fc.record({ from: fc.nat(20), to: fc.nat(20), isNull: fc.boolean() });
  fc.assert(
    fc.property(anyBatch, fc.array(slice, { maxLength: 5 }), (batch, cuts) => {
      const ranges = cuts.map(({ from, to, isNull }) => {
        const bounds = [from % (batch.length + 1), to % (batch.length + 1)] as const;
        return { from: Math.min(...bounds), to: Math.max(...bounds), isNull };
      });
      const columns = batch.columns.map((vector) =>
        concatSlices(
          vector.type,
          ranges.map(({ from, to, isNull }) => ({ vector: isNull ? undefined : vector, from, to })),
        ),
      );
      const rows = rowsFromColumns(batch);
      const nullRow = Object.fromEntries(batch.schema.fields.map(({ name }) => [name, null]));
      const expected = ranges.flatMap(({ from, to, isNull }): RowValue[] =>
        rows.slice(from, to).map((row) => (isNull ? nullRow : row)),
      );
      const joined = { schema: batch.schema, length: expected.length, columns };
      assert.deepEqual(rowsFromColumns(joined), expected);
    }),
  );
});

test('joined batches own their memory, offsets start at zero (C1)', () => {
  const check = (vector: Vector, sources: readonly Vector[]): void => {
    assert.equal(vector.offsets?.[0] ?? 0, 0);
    assert.equal(vector.validity === undefined, vector.nullCount === 0);
    for (const key of ['validity', 'values', 'offsets', 'data'] as const) {
      const buffers = sources.map((source) => source[key]?.buffer);
      if (vector[key]) assert.ok(!buffers.includes(vector[key].buffer));
    }
    vector.children?.forEach((child, i) =>
      check(
        child,
        sources.map((source) => source.children![i]!),
      ),
    );
  };
  fc.assert(
    fc.property(anyBatch, (batch) => {
      const joined = concatBatches(batch.schema, [batch, batch]);
      const rows = rowsFromColumns(batch);
      assert.deepEqual(rowsFromColumns(joined), [...rows, ...rows]);
      joined.columns.forEach((vector, i) => check(vector, [batch.columns[i]!]));
    }),
  );
});
