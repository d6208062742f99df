/**
 * The completeness ledger: decides from evidence about the tables whether every record counts exactly
 * once. Pure; src/operations/ledger gathers the evidence.
 *
 * Checks:
 * L1 the ranges that commits state to cover follow one another without hole or overlap and end where
 *    the partition's progress stands (I3, P2);
 * L2 the table's rows are exactly the covered offsets minus the explained gaps (I1, I2, P4);
 * L3 every bronze record that silver has covered is in silver, in the dead letters, or repeats an
 *    event that is in silver; none is in two of them (I6, P6);
 * L4 silver holds each event id once (P5);
 * L5 gold counts each row of the silver version that it covers once (I7, P7).
 * L6 the running totals of silver's commits add up, and agree with the rows that the tables' files
 *    state to hold (P4, P6).
 * L7 every file of a table is in the store as it was committed, and no entry of a log is missing.
 * Without data files L2 to L4 rest on what the commits state, which L6 and L7 hold against the tables.
 */
import type { Coverage } from '../bronze.ts';
import type { LedgerTotals } from './ledger-totals.ts';
import {
  countOffsets,
  intersectRanges,
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
  | 'totals-mismatch'
  | 'rows-mismatch'
  | 'unfinished-retry'
  | 'missing-file'
  | 'changed-file'
  | 'missing-commit'
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
  /** Retention removed rows below this offset for good: the ledger begins here. */
  readonly expiredBefore: bigint;
  readonly coverage: readonly StatedCoverage[];
  /** undefined when only the logs were read. */
  readonly read: PartitionRows | undefined;
}

/** The rows of one partition, by reading the files. */
export interface PartitionRows {
  /** The offsets that are judged; undefined: all that are covered. */
  readonly within: readonly OffsetRange[] | undefined;
  readonly rows: bigint;
  /** Offsets of the first and last row; undefined without rows. */
  readonly firstRow: bigint | undefined;
  readonly lastRow: bigint | undefined;
  /** Offsets between the first and the last row that have no row; normalized. */
  readonly holes: readonly OffsetRange[];
  /** Rows beyond the first of their offset, and the offsets they span. */
  readonly repeats: { readonly rows: bigint; readonly span: OffsetRange } | undefined;
}

/** What the logs state about the rows of all stages, without reading one. */
export interface StatedTotals {
  /**
   * Rows of bronze at the lowest and the highest version that a dedup bucket of silver covers;
   * undefined when a file does not state its rows.
   */
  readonly bronzeRows: { readonly atLeast: bigint; readonly atMost: bigint } | undefined;
  /** Rows of bronze's files, all of them; undefined when one does not state them. */
  readonly bronzeFileRows: bigint | undefined;
  /** What retention removed for good: rows, and the rows that the removed coverage speaks of. */
  readonly expired: { readonly rows: bigint; readonly coveredRows: bigint };
  /** Silver's running totals; 0 where there is none. */
  readonly totals: LedgerTotals;
  /** Live rows; undefined when a file does not state its rows. */
  readonly silverRows: bigint | undefined;
  readonly deadRows: bigint | undefined;
  /** A retry of dead letters stopped between its two commits. */
  readonly isRetryUnfinished: boolean;
}

/** Something wrong with a file of a table. */
export interface FileFinding {
  readonly kind: 'missing-file' | 'changed-file' | 'missing-commit' | 'rows-mismatch';
  readonly table: string;
  readonly message: string;
}

/** Rows of every stage, for the bronze records that silver has covered, by reading the files. */
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
  /** What silver's commits say; undefined when they speak of other records than these. */
  readonly stated: { readonly duplicates: bigint; readonly conflicts: bigint } | undefined;
}

/** Rows per date of one gold table. */
export interface GoldEvidence {
  readonly table: string;
  readonly version: number;
  readonly dates: readonly {
    /** `YYYY-MM-DD`. */
    readonly date: string;
    readonly silverVersion: number;
    readonly silverRows: bigint;
    /** Events counted: the sum of a plain `count` measure, or what the files' tags state. */
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
  readonly partitions: readonly PartitionEvidence[];
  /** undefined when the check is about one date only. */
  readonly stated: StatedTotals | undefined;
  /** undefined when only the logs were read. */
  readonly stages: StageEvidence | undefined;
  readonly gold: readonly GoldEvidence[];
  readonly files: readonly FileFinding[];
  readonly unproven: readonly Unproven[];
}

/** What can no longer be proved, and why; no violation. */
export interface Unproven {
  readonly table: string;
  readonly message: string;
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
  /** Whether the data files were read. */
  readonly deep: boolean;
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
  readonly unproven: readonly Unproven[];
}

/** Decides. */
export function buildLedger(evidence: Evidence): LedgerReport {
  const { tables, stages, stated } = evidence;
  const checked = evidence.partitions.map((p) => checkPartition(p, tables.bronze));
  const violations = [
    ...evidence.files,
    ...checked.flatMap(({ violations }) => violations),
    ...(stated ? checkTotals(stated, evidence) : []),
    ...(stages ? checkStages(stages, tables) : []),
    ...evidence.gold.flatMap(checkGold),
  ];
  return {
    ok: violations.length === 0,
    deep: stages !== undefined,
    partitions: checked.map(({ balance }) => balance),
    stages: stages ? stagesRead(stages) : stagesStated(stated!),
    silverDuplicates: stages?.repeatedIds ?? surplus(stated!),
    violations,
    unproven: evidence.unproven,
  };
}

function stagesRead(stages: StageEvidence): LedgerReport['stages'] {
  const { bronzeRows, silverRows, duplicates, conflicts, deadLetters } = stages;
  return { bronzeRows, silverRows, duplicates, conflicts, deadLetters };
}

function stagesStated({ totals, silverRows }: StatedTotals): LedgerReport['stages'] {
  return {
    bronzeRows: totals.bronzeRows,
    silverRows: silverRows ?? totals.silverRows,
    duplicates: totals.duplicates,
    conflicts: totals.conflicts,
    deadLetters: totals.deadLetters - totals.retried,
  };
}

/** Rows of silver beyond those that its commits account for. */
function surplus({ totals, silverRows }: StatedTotals): bigint {
  const beyond = (silverRows ?? 0n) - (totals.silverRows - totals.lacking);
  return beyond > 0n ? beyond : 0n;
}

/** The report when stored data cannot be read at all: nothing is proven. */
export function unreadableLedger(violation: Omit<Violation, 'kind'>): LedgerReport {
  return {
    ok: false,
    deep: false,
    partitions: [],
    stages: { bronzeRows: 0n, silverRows: 0n, duplicates: 0n, conflicts: 0n, deadLetters: 0n },
    silverDuplicates: 0n,
    violations: [{ kind: 'unreadable', ...violation }],
    unproven: [],
  };
}

/** Ranges named in one message. */
const NAMED_MAX = 20;

function checkPartition(
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

function statedRows(coverage: readonly StatedCoverage[]): bigint {
  return coverage.reduce((sum, { rows }) => sum + BigInt(rows), 0n);
}

/** The offsets that have a row. */
function presentRanges({ within, firstRow, lastRow, holes }: PartitionRows): OffsetRange[] {
  if (firstRow === undefined || lastRow === undefined) return [];
  const rows = subtractRanges([{ from: firstRow, to: lastRow + 1n }], holes);
  return within ? intersectRanges(rows, within) : rows;
}

/** L6 */
function checkTotals(stated: StatedTotals, evidence: Evidence): Violation[] {
  const { totals, bronzeRows, bronzeFileRows, expired, silverRows, deadRows } = stated;
  const { tables } = evidence;
  const violations: Violation[] = [];
  const report = (kind: ViolationKind, table: string, message: string): void => {
    violations.push({ kind, table, message });
  };
  const covered =
    statedRows(evidence.partitions.flatMap(({ coverage }) => coverage)) +
    (expired.coveredRows - expired.rows);
  const deadLetters = totals.conflicts + totals.deadLetters - totals.retried;
  const derived = totals.silverRows + totals.duplicates + deadLetters;
  if (bronzeFileRows !== covered) {
    report(
      'rows-mismatch',
      tables.bronze,
      `the files hold ${countText(bronzeFileRows)} rows, the commits account for ${covered}`,
    );
  }
  if (
    !bronzeRows ||
    totals.bronzeRows < bronzeRows.atLeast ||
    totals.bronzeRows > bronzeRows.atMost
  ) {
    report(
      'totals-mismatch',
      tables.silver,
      `${totals.bronzeRows} records were derived, bronze has ${rangeOfCounts(bronzeRows)} up to the ` +
        'version that silver covers',
    );
  }
  if (totals.bronzeRows !== derived) {
    report(
      'totals-mismatch',
      tables.silver,
      `${totals.bronzeRows} records became ${totals.silverRows} events, ${totals.duplicates} ` +
        `duplicates and ${deadLetters} dead letters, which are ${derived}`,
    );
  }
  const events = totals.silverRows - totals.lacking;
  if (silverRows !== events) {
    report(
      'rows-mismatch',
      tables.silver,
      `the files hold ${countText(silverRows)} rows, the commits account for ${events}`,
    );
  }
  if (totals.lacking > 0n) {
    report(
      'lost-events',
      tables.silver,
      `a restore took out ${totals.lacking} rows that are not back; \`tidemark replay\` puts them back, ` +
        'and once it went over all records (`--from 1970-01-01`) counts those whose place a copy has',
    );
  }
  if (deadRows !== deadLetters && stated.isRetryUnfinished) {
    report(
      'unfinished-retry',
      tables.deadLetter,
      'a retry took dead letters into silver and stopped before it took them out of here; ' +
        '`tidemark dlq retry` finishes it',
    );
  } else if (deadRows !== deadLetters) {
    report(
      'rows-mismatch',
      tables.deadLetter,
      `the files hold ${countText(deadRows)} rows, the commits account for ${deadLetters}`,
    );
  }
  return violations;
}

function countText(count: bigint | undefined): string {
  return count === undefined ? 'an unknown number of' : String(count);
}

function rangeOfCounts(range: StatedTotals['bronzeRows']): string {
  if (!range) return 'an unknown number';
  const { atLeast, atMost } = range;
  return atLeast === atMost ? String(atLeast) : `${atLeast} to ${atMost}`;
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
