/**
 * SIGKILL at every named point of the crash sequences (faults.md 1), on real Kafka, Redis and S3: before
 * and after, as a freeze, and again while the pipeline recovers. It gets on by itself after each, and in
 * the end delta-rs and DuckDB find in the tables what was generated, no more and no less (I1 to I7, I19).
 *
 * `TIDEMARK_CRASH_ROUNDS` (default 40) and `TIDEMARK_TEST_SEED`; `npm run crash-rounds` sets both.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type { CrashPoint } from '../../src/crash-points.ts';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';
import { CrashRounds } from '../support/crash-rounds.ts';
import { askArrowReaders, type ForeignTable } from '../support/foreign-readers.ts';
import { type JsonRow, TableReader } from '../support/pipeline-tables.ts';
import { assertUsage, attachUsage, loadLines, USAGE_TABLES } from '../support/pipeline-usage.ts';

const ASKED = process.env['TIDEMARK_CRASH_ROUNDS'];
const ROUNDS = Number(ASKED ?? 40);
/** Rounds that nobody asked for end here: a busy machine plays fewer of them. */
const WITHIN_MS = ASKED === undefined ? 540_000 : Number.POSITIVE_INFINITY;
const SEED = Number(process.env['TIDEMARK_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/**
 * After as many rounds, while crashes go on, the ledger is asked, and the tables are compacted: no
 * process lives until the schedule would do it.
 */
const ROUNDS_PER_CARE = 20;

test(`${ROUNDS} crashes at named points leave every event counted once`, async (t) => {
  t.diagnostic(`TIDEMARK_TEST_SEED=${SEED}`);
  const crashes = await CrashRounds.start(t, { seed: SEED });
  const startedMs = performance.now();
  for (const [index, point] of pointsOf(ROUNDS).entries()) {
    if (performance.now() - startedMs > WITHIN_MS) break;
    const { order, outcome, recoveredMs } = await crashes.play(point);
    const told = `${index + 1}/${ROUNDS} ${order}: ${outcome}, recovered in ${recoveredMs} ms`;
    // Diagnostics are shown in the end; who asked for hours of rounds is told at once.
    if (ASKED === undefined) t.diagnostic(told);
    else console.log(told);
    if ((index + 1) % ROUNDS_PER_CARE === 0) {
      const { violations } = await crashes.pipeline.json<{ violations: unknown[] }>(['verify']);
      assert.deepEqual(violations, []);
      await crashes.pipeline.json(['table', 'optimize', '--all', '--min-age', '0s']);
    }
  }
  const { lines, truth } = await crashes.finish();
  await assertForeign(crashes.pipeline.config, await crashes.pipeline.lakeFolder(), truth);
  await assertRows(t, { lake: await crashes.pipeline.lakeFolder(), lines, truth });
  await crashes.pipeline.verify();
  report(t, crashes);
});

/** Every point as often as any other, in an order that the seed decides. */
function pointsOf(rounds: number): CrashPoint[] {
  const random = new SeededRandom(SEED);
  const points: CrashPoint[] = [];
  while (points.length < rounds) {
    const rest = [...CrashRounds.points];
    while (rest.length > 0) points.push(...rest.splice(random.below(rest.length), 1));
  }
  return points.slice(0, rounds);
}

/** Delta-rs lists the files and reads them itself; DuckDB reads what it lists. */
async function assertForeign(
  config: CrashRounds['pipeline']['config'],
  lake: string,
  truth: Truth,
): Promise<void> {
  assert.equal(config.lake.kind, 's3');
  const tables = Object.fromEntries(
    Object.entries(USAGE_TABLES).map(([name, path]): [string, ForeignTable] => [
      name,
      { uri: join(lake, path), files: join(lake, path) },
    ]),
  );
  const sums =
    'CAST(sum(requests) AS BIGINT) AS requests, CAST(sum(response_bytes) AS BIGINT) AS bytes';
  const gold = { requests: truth.unique_valid, bytes: truth.sum_response_bytes };
  const asked: readonly (readonly [table: string, sql: string, expected: JsonRow])[] = [
    ['bronze', 'SELECT count(*) AS n FROM t', { n: truth.lines }],
    ['dead', 'SELECT count(*) AS n FROM t', { n: truth.invalid }],
    [
      'silver',
      'SELECT count(*) AS n, count(DISTINCT event_id) AS ids, CAST(sum(response_bytes) AS BIGINT) AS bytes FROM t',
      { n: truth.unique_valid, ids: truth.unique_valid, bytes: truth.sum_response_bytes },
    ],
    ['hourly', `SELECT count(*) AS n, ${sums} FROM t`, { n: truth.gold_hourly_rows, ...gold }],
    ['daily', `SELECT count(*) AS n, ${sums} FROM t`, { n: truth.gold_daily_rows, ...gold }],
  ];
  const queries = asked.map(([table, sql]) => [table, sql] as const);
  const { answers } = await askArrowReaders({ tables, queries });
  for (const [reader, found] of Object.entries(answers)) {
    asked.forEach(([table, , expected], i) => {
      assert.deepEqual(found[i], [expected], `${reader}: ${table}`);
    });
  }
}

/** Every row, by a replay of the log that is not ours. */
async function assertRows(
  t: TestContext,
  given: { readonly lake: string; readonly lines: string; readonly truth: Truth },
): Promise<void> {
  const reader = await TableReader.open(t);
  await loadLines(reader, [given.lines]);
  await attachUsage(reader, given.lake);
  await assertUsage(reader, given.truth);
}

function report(t: TestContext, { rounds }: CrashRounds): void {
  const byPoint = Object.groupBy(
    rounds.filter(({ outcome }) => outcome !== 'not passed'),
    ({ point }) => point,
  );
  const counts = Object.entries(byPoint).map(([point, of]) => `${point} ${of.length}`);
  const crashed = rounds.filter(({ outcome }) => outcome !== 'not passed').length;
  t.diagnostic(`${rounds.length} rounds, ${crashed} carried out: ${counts.toSorted().join(', ')}`);
  const unreached = [...new Set(rounds.map(({ point }) => point))].filter((p) => !byPoint[p]);
  t.diagnostic(`points never passed in time: ${unreached.join(', ') || 'none'}`);
  // Most orders must find somebody, or this proves nothing.
  assert.ok(crashed >= rounds.length * 0.8, `only ${crashed} of ${rounds.length} were carried out`);
}
