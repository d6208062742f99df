/** One partition of bronze: what its commits state against its progress and its rows (L1, L2). Pure. */
import type {
  PartitionEvidence,
  PartitionRows,
  StatedCoverage,
  Violation,
  ViolationKind,
} from './ledger-evidence.ts';
import {
  countOffsets,
  intersectRanges,
  normalizeRanges,
  type OffsetRange,
  subtractRanges,
} from './offset-ranges.ts';

/** One partition's balance: `expected` = `actual` + explained + unexplained gaps. */
export interface PartitionBalance {
  readonly topic: string;
  readonly partition: number;
  /** Of the covered range, inclusive; null when nothing is covered. */
  readonly minOffset: bigint | null;
  readonly maxOffset: bigint | null;
  /** Offsets of the covered range. */
  readonly expected: bigint;
  /** Rows. */
  readonly actual: bigint;
  /** `[from, to)`: markers, aborted and compacted records. */
  readonly gapsExplained: readonly (readonly [bigint, bigint])[];
  readonly gapsUnexplained: readonly (readonly [bigint, bigint])[];
}

/** Ranges named in one message. */
const NAMED_MAX = 20;

/** Judges one partition. @param table name of bronze */
export function checkPartition(
  evidence: PartitionEvidence,
  table: string,
): { readonly balance: PartitionBalance; readonly violations: readonly Violation[] } {
  const { topic, partition, coverage, progress, expiredBefore, read } = evidence;
  const { firstRow, lastRow, repeats } = read ?? {};
  const violations: Violation[] = [];
  const where = `partition ${partition} of ${topic}`;
  const report = (kind: ViolationKind, message: string): void => {
    violations.push({ kind, table, message: `${where}: ${message}` });
  };

  const stated = [...coverage].sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
  for (const [index, range] of stated.entries()) {
    const before = stated[index - 1];
    if (before && range.from < before.to) {
      const shared = rangeText({
        from: range.from,
        to: before.to < range.to ? before.to : range.to,
      });
      report(
        'coverage-overlap',
        `${shared} are covered twice, by ${commitText(before)} and ${commitText(range)}`,
      );
    }
    if (BigInt(range.rows) + countOffsets(range.gaps) !== range.to - range.from) {
      report(
        'coverage-contradiction',
        `${commitText(range)} covers ${rangeText(range)} with ${range.rows} rows and ` +
          `${countOffsets(range.gaps)} explained, which does not add up`,
      );
    }
  }
  const covered = normalizeRanges(stated);
  const first = covered[0]?.from ?? firstRow;
  const end = progress ?? covered.at(-1)?.to ?? (lastRow === undefined ? undefined : lastRow + 1n);
  const begin = first === undefined || first > expiredBefore ? first : expiredBefore;
  const all =
    begin === undefined || end === undefined || begin >= end ? [] : [{ from: begin, to: end }];
  const whole = read?.within ?? all;
  if (progress !== undefined && (covered.at(-1)?.to ?? progress) !== progress) {
    report(
      'progress-mismatch',
      `commits cover up to ${covered.at(-1)!.to}, but the table's progress is ${progress}`,
    );
  }
  if (evidence.topicIds.length > 1) {
    report('topic-recreated', `has progress of the topics ${evidence.topicIds.join(', ')}`);
  }

  const explained = intersectRanges(
    normalizeRanges(coverage.flatMap(({ gaps }) => gaps)),
    read?.within ?? all,
  );
  const rows = read ? presentRanges(read) : subtractRanges(covered, explained);
  const present = expiredBefore > 0n ? intersectRanges(rows, all) : rows;
  const absent = subtractRanges(whole, present);
  const unexplained = subtractRanges(absent, explained);
  for (const range of unexplained.slice(0, NAMED_MAX)) {
    const commit = stated.find(({ from, to }) => from <= range.from && range.from < to);
    report(
      'missing-offsets',
      commit
        ? `${rangeText(range)} have no row and no explanation, though ${commitText(commit)} covers them`
        : `${rangeText(range)} are covered by no commit`,
    );
  }
  if (unexplained.length > NAMED_MAX) {
    report('missing-offsets', `${unexplained.length - NAMED_MAX} more such ranges`);
  }
  const unexpected = [...subtractRanges(present, whole), ...intersectRanges(explained, present)];
  for (const range of unexpected.slice(0, NAMED_MAX)) {
    report('unexpected-rows', `${rangeText(range)} have rows, though no commit says so`);
  }
  if (repeats) {
    report(
      'duplicate-offsets',
      `${repeats.rows} rows repeat an offset, within ${rangeText(repeats.span)}`,
    );
  }
  const pairs = (ranges: readonly OffsetRange[]): (readonly [bigint, bigint])[] =>
    ranges.map(({ from, to }) => [from, to]);
  return {
    balance: {
      topic,
      partition,
      minOffset: whole[0]?.from ?? null,
      maxOffset: whole.length === 0 ? null : whole.at(-1)!.to - 1n,
      expected: countOffsets(whole),
      actual: expiredBefore > 0n ? countOffsets(present) : (read?.rows ?? statedRows(coverage)),
      gapsExplained: pairs(explained),
      gapsUnexplained: pairs(unexplained),
    },
    violations,
  };
}

/** Rows that commits state to cover. */
export function statedRows(coverage: readonly StatedCoverage[]): bigint {
  return coverage.reduce((sum, { rows }) => sum + BigInt(rows), 0n);
}

/** The offsets that have a row. */
function presentRanges({ within, firstRow, lastRow, holes }: PartitionRows): OffsetRange[] {
  if (firstRow === undefined || lastRow === undefined) return [];
  const rows = subtractRanges([{ from: firstRow, to: lastRow + 1n }], holes);
  return within ? intersectRanges(rows, within) : rows;
}

function rangeText({ from, to }: OffsetRange): string {
  return to - from === 1n ? `offset ${from}` : `offsets ${from} to ${to - 1n}`;
}

function commitText({ version }: StatedCoverage): string {
  return version === undefined ? 'a commit before the checkpoint' : `commit ${version}`;
}
