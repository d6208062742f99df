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
import type {
  Evidence,
  GoldEvidence,
  StageEvidence,
  StatedTotals,
  Unproven,
  Violation,
  ViolationKind,
} from './ledger-evidence.ts';
import { checkPartition, type PartitionBalance, statedRows } from './partition-balance.ts';

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
