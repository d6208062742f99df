/**
 * The count after a drill: what the tables hold, by SQL on their rows, against what was produced. The
 * pipeline's own counters are not asked; `verify --deep` has to find nothing besides.
 */
import { GOLD_TABLES } from './definition.ts';
import type { DrillTruth } from './feed.ts';
import type { Sandbox } from './sandbox.ts';

/** A number of the tables beside the number that it must be. */
export interface Check {
  readonly what: string;
  readonly expected: number;
  readonly actual: number;
  /** Whether a difference is rows lost or doubled, and not a sum that is wrong. */
  readonly countsRows: boolean;
}

/** A further number that a scenario says the tables must hold. */
export interface Expectation {
  readonly what: string;
  /** A query of one number. */
  readonly sql: string;
  readonly expected: number;
}

export interface Audit {
  /** Records and events that a table lacks, the worst table. */
  readonly lost: number;
  /** Rows that a table has too many, the worst table. */
  readonly duplicated: number;
  readonly checks: readonly Check[];
  /** What `verify --deep` found. */
  readonly violations: readonly string[];
}

interface Ledger {
  readonly ok?: boolean;
  readonly violations?: readonly { readonly kind: string; readonly message: string }[];
  readonly error?: { readonly message: string };
}

/**
 * Counts; the pipeline must have stopped.
 * @throws PipelineError internal when the tables cannot be queried
 */
export async function audit(
  sandbox: Sandbox,
  truth: DrillTruth,
  expectations: readonly Expectation[],
): Promise<Audit> {
  const checks = await count(sandbox, truth, expectations);
  const ledger = await sandbox.json<Ledger>('verify', '--deep');
  const violations = (ledger.violations ?? []).map(({ kind, message }) => `${kind}: ${message}`);
  if (ledger.ok !== true && violations.length === 0) {
    violations.push(ledger.error?.message ?? 'verify failed');
  }
  return { ...difference(checks), checks, violations };
}

/** Rows that are missing, or too many, in the table where it is worst. */
export function difference(checks: readonly Check[]): Pick<Audit, 'lost' | 'duplicated'> {
  const rows = checks.filter(({ countsRows }) => countsRows);
  const most = (of: (check: Check) => number): number => Math.max(0, ...rows.map(of));
  return {
    lost: most(({ expected, actual }) => expected - actual),
    duplicated: most(({ expected, actual }) => actual - expected),
  };
}

async function count(
  sandbox: Sandbox,
  truth: DrillTruth,
  expectations: readonly Expectation[],
): Promise<readonly Check[]> {
  const table = sandbox.config.tableName;
  const sums = `sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes`;
  const further = expectations.map(({ sql }, i) => `, (${sql}) AS further_${i}`).join('');
  const [counted] = await sandbox.json<readonly Readonly<Record<string, unknown>>[]>(
    'sql',
    `WITH bronze AS (SELECT count(*) AS records FROM bronze.${table}),
      dead AS (SELECT count(*) AS dead FROM bronze.${table}_dlq),
      silver AS (SELECT count(*) AS events, count(DISTINCT event_id) AS ids,
        count(*) FILTER (_is_late_arriving) AS late, ${sums} FROM silver.${table}),
      ${GOLD_TABLES.map((gold) => `${gold} AS (SELECT sum(requests) AS requests, ${sums} FROM gold.${gold})`).join(', ')}
    SELECT bronze.*, dead.*, silver.*, ${GOLD_TABLES.flatMap((gold) =>
      ['requests', 'request_bytes', 'response_bytes'].map(
        (column) => `${gold}.${column} AS ${gold}_${column}`,
      ),
    ).join(', ')}${further} FROM bronze, dead, silver, ${GOLD_TABLES.join(', ')}`,
  );
  const check = (what: string, expected: number, column: string): Check => ({
    what,
    expected,
    actual: Number(counted?.[column] ?? 0),
    countsRows: false,
  });
  const rows = (...of: Parameters<typeof check>): Check => ({ ...check(...of), countsRows: true });
  return [
    rows('bronze rows', truth.records, 'records'),
    rows('dead letter rows', truth.invalid, 'dead'),
    rows('silver rows', truth.events, 'events'),
    rows('silver distinct ids', truth.events, 'ids'),
    check('silver late', truth.late, 'late'),
    check('silver request bytes', truth.requestBytes, 'request_bytes'),
    check('silver response bytes', truth.responseBytes, 'response_bytes'),
    ...GOLD_TABLES.flatMap((gold) => [
      rows(`${gold} requests`, truth.events, `${gold}_requests`),
      check(`${gold} request bytes`, truth.requestBytes, `${gold}_request_bytes`),
      check(`${gold} response bytes`, truth.responseBytes, `${gold}_response_bytes`),
    ]),
    ...expectations.map(({ what, expected }, i) => check(what, expected, `further_${i}`)),
  ];
}
