/**
 * The completeness ledger: decides from evidence about the tables whether every record counts exactly
 * once. Pure; evidence.ts gathers.
 *
 * Checks, each of which has a violation kind of its own:
 * L1 the ranges that commits state to cover follow one another without hole or overlap and end where
 *    the partition's progress stands (I3, P2);
 * L2 the table's rows are exactly the covered offsets minus the explained gaps (I1, I2, P4);
 * L3 every bronze record that silver has covered is in silver, in the dead letters, or repeats an
 *    event that is in silver; none is in two of them (I6, P6);
 * L4 silver holds each event id once (P5);
 * L5 gold counts each row of the silver version that it covers once (I7, P7).
 */
import type { Coverage } from '../../pipeline/bronze.ts';
import {
  countOffsets,
  normalizeRanges,
  type OffsetRange,
  subtractRanges,
} from './offset-ranges.ts';

export type ViolationKind =
  | 'coverage-overlap'
  | 'coverage-contradiction'
  | 'progress-mismatch'
  | 'topic-recreated'
  | 'missing-offsets'
  | 'unexpected-rows'
  | 'duplicate-offsets'
  | 'lost-events'
  | 'counted-twice'
  | 'rows-without-record'
  | 'lineage-mismatch'
  | 'silver-duplicates'
  | 'gold-mismatch'
  | 'unreadable';

/** One broken promise. */
export interface Violation {
  readonly kind: ViolationKind;
  /** As queries name it: `bronze.api_usage_events`. */
  readonly table: string;
  /** Names partition, offsets and commit where they are known. */
  readonly message: string;
}

/** What one add action states to cover, and the commit that added it. */
export interface StatedCoverage extends Coverage {
  /** undefined when only a checkpoint knows the file. */
  readonly version: number | undefined;
}

/** What is known about one partition of bronze at one version. */
export interface PartitionEvidence {
  readonly topic: string;
  readonly partition: number;
  /** More than one when the topic was re-created. */
  readonly topicIds: readonly string[];
  /** Exclusive end by the txn action; undefined when there is none. */
  readonly progress: bigint | undefined;
  readonly coverage: readonly StatedCoverage[];
  /** Rows by reading the files. */
  readonly rows: bigint;
  /** Offsets of the first and last row; undefined without rows. */
  readonly firstRow: bigint | undefined;
  readonly lastRow: bigint | undefined;
  /** Offsets between the first and the last row that have no row; normalized. */
  readonly holes: readonly OffsetRange[];
  /** Rows beyond the first of their offset, and the offsets they span. */
  readonly repeats: { readonly rows: bigint; readonly span: OffsetRange } | undefined;
}

/** Rows of every stage, for the bronze records that silver has covered. */
export interface StageEvidence {
  readonly bronzeVersion: number;
  readonly silverVersion: number;
  readonly bronzeRows: bigint;
  readonly silverRows: bigint;
  readonly conflicts: bigint;
  /** Dead letters other than conflicts. */
  readonly deadLetters: bigint;
  /** Records in neither table whose event id is in silver. */
  readonly duplicates: bigint;
  /** Records in neither table whose event id is not in silver. */
  readonly lost: bigint;
  /** Some of the lost ones. */
  readonly lostAt: readonly { readonly partition: number; readonly offset: bigint }[];
  /** Records that silver and dead letters hold both, or one of them twice. */
  readonly countedTwice: bigint;
  /** Rows of silver or dead letters whose record bronze does not have. */
  readonly withoutRecord: bigint;
  /** Rows of silver beyond the first of their event id. */
  readonly repeatedIds: bigint;
  /** Some event ids that are there more than once. */
  readonly repeatedIdsAt: readonly string[];
  /** Sums of what silver's commits say; undefined when old commits are no longer in the log. */
  readonly stated: { readonly duplicates: bigint; readonly conflicts: bigint } | undefined;
}

/** Rows per date of one gold table with a plain `count` measure. */
export interface GoldEvidence {
  readonly table: string;
  readonly version: number;
  readonly dates: readonly {
    /** `YYYY-MM-DD`. */
    readonly date: string;
    readonly silverVersion: number;
    readonly silverRows: bigint;
    /** Sum of the measure. */
    readonly counted: bigint;
  }[];
}

export interface Evidence {
  /** Names of the tables, as queries use them. */
  readonly tables: {
    readonly bronze: string;
    readonly silver: string;
    readonly deadLetter: string;
  };
  readonly bronzeVersion: number;
  readonly partitions: readonly PartitionEvidence[];
  readonly stages: StageEvidence;
  readonly gold: readonly GoldEvidence[];
}

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

export interface LedgerReport {
  readonly ok: boolean;
  readonly partitions: readonly PartitionBalance[];
  readonly stages: {
    readonly bronzeRows: bigint;
    readonly silverRows: bigint;
    readonly duplicates: bigint;
    readonly conflicts: bigint;
    readonly deadLetters: bigint;
  };
  readonly silverDuplicates: bigint;
  readonly violations: readonly Violation[];
}

/** Decides. */
export function buildLedger(evidence: Evidence): LedgerReport {
  const { tables, stages } = evidence;
  const checked = evidence.partitions.map((p) => checkPartition(p, tables.bronze));
  const violations = [
    ...checked.flatMap(({ violations }) => violations),
    ...checkStages(stages, tables),
    ...evidence.gold.flatMap(checkGold),
  ];
  return {
    ok: violations.length === 0,
    partitions: checked.map(({ balance }) => balance),
    stages: {
      bronzeRows: stages.bronzeRows,
      silverRows: stages.silverRows,
      duplicates: stages.duplicates,
      conflicts: stages.conflicts,
      deadLetters: stages.deadLetters,
    },
    silverDuplicates: stages.repeatedIds,
    violations,
  };
}

/** The report when stored data cannot be read at all: nothing is proven. */
export function unreadableLedger(violation: Omit<Violation, 'kind'>): LedgerReport {
  return {
    ok: false,
    partitions: [],
    stages: { bronzeRows: 0n, silverRows: 0n, duplicates: 0n, conflicts: 0n, deadLetters: 0n },
    silverDuplicates: 0n,
    violations: [{ kind: 'unreadable', ...violation }],
  };
}

/** Ranges named in one message. */
const NAMED_MAX = 20;

function checkPartition(
  evidence: PartitionEvidence,
  table: string,
): { readonly balance: PartitionBalance; readonly violations: readonly Violation[] } {
  const { topic, partition, coverage, progress, rows, firstRow, lastRow, repeats } = evidence;
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
  const whole =
    first === undefined || end === undefined || first >= end ? [] : [{ from: first, to: end }];
  if (progress !== undefined && (covered.at(-1)?.to ?? progress) !== progress) {
    report(
      'progress-mismatch',
      `commits cover up to ${covered.at(-1)!.to}, but the table's progress is ${progress}`,
    );
  }
  if (evidence.topicIds.length > 1) {
    report('topic-recreated', `has progress of the topics ${evidence.topicIds.join(', ')}`);
  }

  const explained = normalizeRanges(coverage.flatMap(({ gaps }) => gaps));
  const present =
    firstRow === undefined || lastRow === undefined
      ? []
      : subtractRanges([{ from: firstRow, to: lastRow + 1n }], evidence.holes);
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
  const unexpected = [
    ...subtractRanges(present, whole),
    ...subtractRanges(explained, subtractRanges(explained, present)),
  ];
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
      maxOffset: whole[0] === undefined ? null : whole[0].to - 1n,
      expected: countOffsets(whole),
      actual: rows,
      gapsExplained: pairs(explained),
      gapsUnexplained: pairs(unexplained),
    },
    violations,
  };
}

function checkStages(stages: StageEvidence, tables: Evidence['tables']): Violation[] {
  const violations: Violation[] = [];
  const upTo = `up to bronze version ${stages.bronzeVersion}`;
  if (stages.lost > 0n) {
    const some = stages.lostAt.map(({ partition, offset }) => `${partition}/${offset}`).join(', ');
    violations.push({
      kind: 'lost-events',
      table: tables.silver,
      message:
        `${stages.lost} records ${upTo} are neither in silver nor dead letters, and repeat no ` +
        `event of silver (partition/offset ${some})`,
    });
  }
  if (stages.countedTwice > 0n) {
    violations.push({
      kind: 'counted-twice',
      table: tables.silver,
      message: `${stages.countedTwice} records ${upTo} are in silver and dead letters more than once`,
    });
  }
  if (stages.withoutRecord > 0n) {
    violations.push({
      kind: 'rows-without-record',
      table: tables.silver,
      message: `${stages.withoutRecord} rows of silver or dead letters have no record in bronze`,
    });
  }
  if (stages.repeatedIds > 0n) {
    violations.push({
      kind: 'silver-duplicates',
      table: tables.silver,
      message:
        `${stages.repeatedIds} rows of version ${stages.silverVersion} repeat an event id ` +
        `(${stages.repeatedIdsAt.join(', ')})`,
    });
  }
  const { stated } = stages;
  for (const name of ['duplicates', 'conflicts'] as const) {
    if (stated && stated[name] !== stages[name]) {
      violations.push({
        kind: 'lineage-mismatch',
        table: tables.silver,
        message: `the commits state ${stated[name]} ${name}, the tables have ${stages[name]}`,
      });
    }
  }
  return violations;
}

function checkGold(gold: GoldEvidence): Violation[] {
  return gold.dates
    .filter(({ silverRows, counted }) => silverRows !== counted)
    .map(({ date, silverVersion, silverRows, counted }) => ({
      kind: 'gold-mismatch',
      table: gold.table,
      message:
        `version ${gold.version} counts ${counted} events on ${date}, but silver version ` +
        `${silverVersion} has ${silverRows}`,
    }));
}

function rangeText({ from, to }: OffsetRange): string {
  return to - from === 1n ? `offset ${from}` : `offsets ${from} to ${to - 1n}`;
}

function commitText({ version }: StatedCoverage): string {
  return version === undefined ? 'a commit before the checkpoint' : `commit ${version}`;
}
