/** Ranges of offsets behave as the sets they stand for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  countOffsets,
  normalizeRanges,
  type OffsetRange,
  subtractRanges,
} from '../../../src/pipeline/ledger/offset-ranges.ts';

const anyRanges = fc.array(
  fc.tuple(fc.nat(30), fc.nat(6)).map(([from, length]) => ({
    from: BigInt(from),
    to: BigInt(from + length),
  })),
  { maxLength: 8 },
);

function setOf(ranges: readonly OffsetRange[]): Set<bigint> {
  const set = new Set<bigint>();
  for (const { from, to } of ranges) for (let o = from; o < to; o++) set.add(o);
  return set;
}

test('normalizing keeps the set and leaves ascending ranges with a hole between', () => {
  fc.assert(
    fc.property(anyRanges, (ranges) => {
      const normal = normalizeRanges(ranges);
      assert.deepEqual(setOf(normal), new Set([...setOf(ranges)].sort((a, b) => Number(a - b))));
      normal.forEach((range, i) => {
        assert.ok(range.from < range.to && (i === 0 || normal[i - 1]!.to < range.from));
      });
      assert.equal(countOffsets(normal), BigInt(setOf(ranges).size));
    }),
  );
});

test('subtracting is set difference', () => {
  fc.assert(
    fc.property(anyRanges, anyRanges, (a, b) => {
      const left = subtractRanges(normalizeRanges(a), normalizeRanges(b));
      const removed = setOf(b);
      const expected = [...setOf(normalizeRanges(a))].filter((offset) => !removed.has(offset));
      assert.deepEqual([...setOf(left)], expected);
      assert.deepEqual(left, normalizeRanges(left));
    }),
  );
});
