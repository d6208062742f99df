import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Vector } from '../../../src/pipeline/columns.ts';
import {
  doubleOfUnits,
  roundedRatio,
  unitsOfDouble,
} from '../../../src/pipeline/gold/exact-ratio.ts';
import { createRunScratch } from '../../../src/pipeline/gold/field-rows.ts';
import { loadNumbers } from '../../../src/pipeline/gold/fixed-values.ts';
import { FloatSum } from '../../../src/pipeline/gold/float-sum.ts';
import { IntegerSum } from '../../../src/pipeline/gold/integer-sum.ts';
import { primitive } from '../../../src/pipeline/types.ts';
import { exactFloatSum, nearestDouble } from './gold-reference.ts';

const scratch = createRunScratch(1);

function sumOf(values: readonly number[]): number {
  const vector: Vector = {
    type: primitive('double'),
    length: values.length,
    nullCount: 0,
    values: Float64Array.from(values),
  };
  const rows = Int32Array.from(values.keys());
  const numbers = new Float64Array(values.length);
  loadNumbers(vector, rows, numbers);
  const sum = new FloatSum();
  sum.grow(1);
  sum.add({ vector, rows, groups: new Int32Array(values.length), numbers, scratch });
  const request = { order: Int32Array.of(0), counts: Float64Array.of(values.length) };
  return (sum.sums(request).values as Float64Array)[0]!;
}

test('G6: a sum of small integers stays exact beyond 2^53', () => {
  const count = 1_000_000;
  const vector: Vector = {
    type: primitive('integer'),
    length: 1,
    nullCount: 0,
    values: Int32Array.of(2 ** 31 - 1),
  };
  const sum = new IntegerSum(vector.type);
  sum.grow(1);
  const input = {
    vector,
    rows: new Int32Array(count),
    groups: new Int32Array(count),
    numbers: new Float64Array(count).fill(2 ** 31 - 1),
    scratch,
  };
  for (let i = 0; i < 5; i++) sum.add(input);
  assert.equal(sum.total(0), 5_000_000n * (2n ** 31n - 1n));
});

test('every finite double survives the way through exact units', () => {
  fc.assert(
    fc.property(fc.double({ noDefaultInfinity: true, noNaN: true }), (value) => {
      assert.equal(doubleOfUnits(unitsOfDouble(value)), value + 0);
    }),
  );
});

test('a ratio is rounded once, ties to even', () => {
  fc.assert(
    fc.property(
      fc.bigInt(-(2n ** 190n), 2n ** 190n),
      fc.oneof(fc.bigInt(1n, 10n), fc.bigInt(1n, 2n ** 90n)),
      (numerator, denominator) => {
        assert.equal(roundedRatio(numerator, denominator), nearestDouble(numerator, denominator));
      },
    ),
  );
  assert.equal(roundedRatio(2n ** 53n + 1n, 1n), 2 ** 53);
  assert.equal(roundedRatio(2n ** 53n + 3n, 1n), 2 ** 53 + 4);
  // Half way between two doubles but for one part in 10^40: rounding twice would get it wrong.
  assert.equal(roundedRatio((2n ** 53n + 1n) * 10n ** 40n + 1n, 10n ** 40n), 2 ** 53 + 2);
  assert.equal(doubleOfUnits(1n << 2098n), Number.POSITIVE_INFINITY);
  assert.equal(doubleOfUnits(-1n), -Number.MIN_VALUE);
});

test('G7: sums that cancel over the whole range of doubles are exact in any order', () => {
  const terms = fc.array(fc.double({ noDefaultInfinity: true, noNaN: true }), { maxLength: 8 });
  const cancelling = fc.tuple(terms, terms).chain(([cancelled, left]) => {
    const all = [...cancelled, ...cancelled.map((value) => -value), ...left];
    return fc.shuffledSubarray(all, { minLength: all.length });
  });
  fc.assert(
    fc.property(cancelling, (values) => {
      assert.deepStrictEqual(sumOf(values), exactFloatSum(values));
    }),
    { numRuns: 1000 },
  );
});

test('G7: small terms are not lost beside large ones', () => {
  assert.equal(sumOf([1e300, 1, 1e-300, -1e300, -1]), 1e-300);
  assert.equal(sumOf([Number.MAX_VALUE, Number.MAX_VALUE, -Number.MAX_VALUE]), Number.MAX_VALUE);
  assert.equal(sumOf(Array.from({ length: 4000 }, () => 0.1)), 400);
  assert.equal(sumOf([2 ** 53, 1, 2 ** -60]), 2 ** 53 + 2); // just above a tie
});

test('G8: what is not finite sums as IEEE says, and no sum is -0', () => {
  assert.equal(sumOf([Infinity, 1, Infinity]), Infinity);
  assert.equal(sumOf([-Infinity, Number.MAX_VALUE]), -Infinity);
  assert.ok(Number.isNaN(sumOf([Infinity, 1, -Infinity])));
  assert.ok(Number.isNaN(sumOf([1, NaN, Infinity])));
  assert.equal(sumOf([Number.MAX_VALUE, Number.MAX_VALUE]), Infinity);
  assert.ok(Object.is(sumOf([-0, -0]), 0));
});
