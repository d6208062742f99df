/**
 * Sets of offsets as ascending, disjoint, half-open ranges. Pure.
 */

/** Offsets from `from` (inclusive) to `to` (exclusive); never empty. */
export interface OffsetRange {
  readonly from: bigint;
  readonly to: bigint;
}

/** Sorts and joins ranges that touch or overlap; empty ones vanish. */
export function normalizeRanges(ranges: readonly OffsetRange[]): OffsetRange[] {
  const joined: OffsetRange[] = [];
  const sorted = ranges
    .filter(({ from, to }) => from < to)
    .sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
  for (const range of sorted) {
    const last = joined.at(-1);
    if (last && range.from <= last.to) {
      if (range.to > last.to) joined[joined.length - 1] = { from: last.from, to: range.to };
    } else {
      joined.push({ from: range.from, to: range.to });
    }
  }
  return joined;
}

/** What of `ranges` is not in `without`; both normalized. */
export function subtractRanges(
  ranges: readonly OffsetRange[],
  without: readonly OffsetRange[],
): OffsetRange[] {
  const left: OffsetRange[] = [];
  let next = 0;
  for (const range of ranges) {
    let from = range.from;
    while (next < without.length && without[next]!.to <= from) next++;
    for (let i = next; i < without.length && without[i]!.from < range.to; i++) {
      const hole = without[i]!;
      if (hole.from > from) left.push({ from, to: hole.from });
      if (hole.to > from) from = hole.to;
    }
    if (from < range.to) left.push({ from, to: range.to });
  }
  return left;
}

/** What is in both; both normalized. */
export function intersectRanges(
  ranges: readonly OffsetRange[],
  other: readonly OffsetRange[],
): OffsetRange[] {
  return subtractRanges(ranges, subtractRanges(ranges, other));
}

/** Number of offsets. */
export function countOffsets(ranges: readonly OffsetRange[]): bigint {
  return ranges.reduce((sum, { from, to }) => sum + to - from, 0n);
}
