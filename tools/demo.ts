/**
 * `npm run demo`: the guarantee, shown. Generates an hour of usage events with repeats, late and
 * broken ones, kills the pipeline with SIGKILL in the middle, starts it again, and compares every
 * table with what was generated. Needs no server and no network; exit code 1 when a count is off.
 *
 * `node tools/demo.ts [--events N] [--json] [--force]`
 *
 * Invariants:
 * - DM1 Only a folder that a demo made is removed without being asked (--force).
 * - DM2 Nothing that was started outlives this process.
 * - DM3 The kill counts only if silver lacked events; else all is done again, with an earlier kill.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Style, Terminal } from '../src/cli/terminal.ts';
import { groupDigits, textTable } from '../src/cli/text-table.ts';
import type { Truth } from '../src/pipeline/generator/usage-truth.ts';
import { TableRows } from './lake-rows.ts';

const { values: options } = parseArgs({
  options: {
    events: { type: 'string', default: '300000' },
    json: { type: 'boolean', default: false },
    force: { type: 'boolean', default: false },
  },
});
const EVENTS = Number(options.events);
const PROJECT = resolve(import.meta.dirname, '..');
/** Named in the pipeline file, which the commands to try next use too. */
const DATA = join(PROJECT, 'tidemark-data');
const MARKER = join(DATA, 'made-by-demo');
const PIPELINE = 'examples/api-usage-events/tidemark.yaml';
const LAKE = join(DATA, 'lake');
const EVENTS_FILE = join('tidemark-data', 'events.ndjson');
const TRUTH_FILE = join('tidemark-data', 'truth.json');
/** Often enough to hit the time between two silver commits. */
const LOOK_MS = 5;
const KILLS_MAX = 3;
/** The share of events that the watched table has at the kill. */
const KILL_FROM = 0.1;
const BILL = { perThousandRequests: 0.5, perGigabyte: 0.09 };

const terminal = new Terminal({
  stdout: process.stdout,
  stderr: process.stderr,
  json: options.json,
  colors: process.env['NO_COLOR'] === undefined,
});

/** Text for people as it comes; with --json only the document at the end is printed. */
async function say(render: (style: Style) => string): Promise<void> {
  if (!options.json) await terminal.result(undefined, render);
}

async function step(title: string, startedMs: number, told: string): Promise<void> {
  const seconds = `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
  await say(
    (style) => `  ${style.bold(title.padEnd(10))} ${told.padEnd(58)} ${seconds.padStart(7)}`,
  );
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
// Whoever reads us may go, as in `| head`.
process.stdout.on('error', () => process.exit(0));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(130));
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `tidemark ARGS`, as `npx tidemark` would. */
function start(args: readonly string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(process.execPath, [join(PROJECT, 'bin', 'tidemark.js'), ...args], {
    cwd: PROJECT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<Ended>((done, failed) => {
    child.on('error', failed);
    child.on('close', (code) => {
      running.delete(child);
      done({ code, stdout, stderr });
    });
  });
  return { child, ended };
}

/** Runs a command to its end. @returns its JSON document */
async function tidemark<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await start([...args, '--json']).ended;
  if (code !== 0 && stdout.trim() === '')
    fail(`tidemark ${args[0]} ended with ${code}.\n${stderr}`);
  return JSON.parse(stdout) as T;
}

function fail(message: string): never {
  terminal.note(message.trimEnd());
  process.exit(1);
}

/** Rows of each table by its log, looked at from outside. */
const watchTables = () => ({
  bronze: new TableRows(join(LAKE, 'bronze', 'api_usage_events')),
  silver: new TableRows(join(LAKE, 'silver', 'api_usage_events')),
  deadLetters: new TableRows(join(LAKE, 'bronze', 'api_usage_events_dlq')),
  goldHourly: new TableRows(join(LAKE, 'gold', 'api_usage_hourly')),
  goldDaily: new TableRows(join(LAKE, 'gold', 'api_usage_daily')),
});
let tables = watchTables();
type Counts = Record<keyof typeof tables, number>;

function countRows(): Counts {
  const rows = Object.entries(tables).map(([name, table]) => [name, table.refresh()]);
  return Object.fromEntries(rows) as Counts;
}

function pause(ms: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, ms));
}

function showRun(counts: Counts, truth: Truth): void {
  const width = 16;
  const share = counts.silver / truth.unique_valid;
  const done = Math.round(Math.min(1, share) * width);
  terminal.progress(
    `  running   ${'█'.repeat(done)}${'░'.repeat(width - done)}  bronze ${groupDigits(counts.bronze)}` +
      `  silver ${groupDigits(counts.silver)}  gold ${groupDigits(counts.goldHourly)}`,
  );
}

const RUN = ['run', '-c', PIPELINE, '--until-caught-up', '--json'];
const INPUT = ['--input', EVENTS_FILE];

interface Status {
  readonly partitions: readonly { readonly endOffset: number | string | null }[];
}

/** Runs the pipeline and kills it as soon as a table has some of the events. */
async function runAndKill(truth: Truth, watched: 'silver' | 'bronze'): Promise<Counts> {
  const { child, ended } = start([...RUN, ...INPUT]);
  for (let looks = 0; ; looks += 1) {
    await pause(LOOK_MS);
    if (tables[watched].refresh() >= truth.unique_valid * KILL_FROM) break;
    if (child.exitCode !== null) break;
    if (looks % 20 === 0) showRun(countRows(), truth);
  }
  const isKilled = child.kill('SIGKILL');
  const { code, stderr } = await ended;
  if (!isKilled && code !== 0) fail(`tidemark run ended with ${code}.\n${stderr}`);
  return countRows();
}

async function runToTheEnd(truth: Truth): Promise<void> {
  // An input that was cut off is continued; one that was read to its end would be appended again.
  const { partitions } = await tidemark<Status>('status', '-c', PIPELINE);
  const appended = partitions.reduce((sum, { endOffset }) => sum + Number(endOffset), 0);
  const { ended } = start(appended < truth.lines ? [...RUN, ...INPUT] : RUN);
  let result: Ended | undefined;
  void ended.then((how) => (result = how));
  while (result === undefined) {
    await pause(LOOK_MS * 20);
    showRun(countRows(), truth);
  }
  if (result.code !== 0) fail(`tidemark run ended with ${result.code}.\n${result.stderr}`);
}

/** Makes `tidemark-data` anew (DM1). */
function freshFolder(): void {
  if (existsSync(DATA) && !existsSync(MARKER) && !options.force) {
    terminal.note(
      `${DATA} was not made by the demo, which would remove it. ` +
        'Move it away, or run `npm run demo -- --force`.',
    );
    process.exit(2);
  }
  rmSync(DATA, { recursive: true, force: true, maxRetries: 5 });
  mkdirSync(DATA);
  writeFileSync(MARKER, 'The demo removes this folder and makes it anew.\n');
}

async function generate(): Promise<Truth> {
  // The last hour, so that records that arrive now are late exactly if they were generated so.
  const start = new Date(Date.now() - 3_600_000).toISOString();
  const shape = ['--events', `${EVENTS}`, '--seed', '7', '--start', start, '--hours', '1'];
  await tidemark('generate', ...shape, '--out', EVENTS_FILE, '--truth', TRUTH_FILE);
  return JSON.parse(readFileSync(join(PROJECT, TRUTH_FILE), 'utf8')) as Truth;
}

interface Check {
  readonly what: string;
  readonly expected: number;
  readonly atKill: number | null;
  readonly actual: number;
}

/** By reading the tables, not their logs. */
async function checkTables(truth: Truth, atKill: Counts): Promise<readonly Check[]> {
  const [row] = await tidemark<readonly Record<string, string | number>[]>(
    'sql',
    '-c',
    PIPELINE,
    `WITH b AS (SELECT count(*) AS records FROM bronze.api_usage_events),
       d AS (SELECT count(*) AS letters FROM bronze.api_usage_events_dlq),
       s AS (SELECT count(*) AS events, count(DISTINCT event_id) AS ids,
               count(*) FILTER (_is_late_arriving) AS late FROM silver.api_usage_events),
       h AS (SELECT count(*) AS hours, sum(requests) AS hour_requests,
               sum(response_bytes) AS hour_bytes FROM gold.api_usage_hourly),
       y AS (SELECT count(*) AS days, sum(requests) AS day_requests FROM gold.api_usage_daily)
     SELECT * FROM b, d, s, h, y`,
  );
  const count = (column: string): number => Number(row?.[column]);
  const check = (what: string, expected: number, actual: number, atKillRows?: number): Check => ({
    what,
    expected,
    atKill: atKillRows ?? null,
    actual,
  });
  return [
    check('bronze  records', truth.lines, count('records'), atKill.bronze),
    check('dead letters  not JSON', truth.invalid, count('letters'), atKill.deadLetters),
    check('silver  events', truth.unique_valid, count('events'), atKill.silver),
    check('silver  distinct event ids', truth.unique_valid, count('ids')),
    check('silver  late events', truth.late, count('late')),
    check('gold    hourly groups', truth.gold_hourly_rows, count('hours'), atKill.goldHourly),
    check('gold    daily groups', truth.gold_daily_rows, count('days'), atKill.goldDaily),
    check('gold    requests, by hours', truth.unique_valid, count('hour_requests')),
    check('gold    requests, by days', truth.unique_valid, count('day_requests')),
    check('gold    response bytes', truth.sum_response_bytes, count('hour_bytes')),
  ];
}

interface BillRow {
  readonly customer_id: string;
  readonly requests: number | string;
  readonly gigabytes: number | string;
  readonly latency_ms_max: number | string;
  readonly amount: number | string;
}

const BILLING_SQL = `SELECT customer_id, sum(requests)::BIGINT AS requests,
    round(sum(response_bytes) / 1e9, 3)::DOUBLE AS gigabytes, max(latency_ms_max) AS latency_ms_max,
    round(sum(requests) / 1000 * ${BILL.perThousandRequests}
      + sum(response_bytes) / 1e9 * ${BILL.perGigabyte}, 2)::DOUBLE AS amount
  FROM gold.api_usage_hourly GROUP BY customer_id ORDER BY requests DESC, customer_id LIMIT 10`;

interface Ledger {
  readonly ok: boolean;
  readonly partitions: readonly unknown[];
  readonly violations: readonly { readonly kind: string; readonly message: string }[];
}

const right = 'right' as const;

function checksTable(checks: readonly Check[], style: Style): string {
  const rows = checks.map(({ what, expected, atKill, actual }) => [
    what,
    groupDigits(expected),
    atKill === null ? '' : groupDigits(atKill),
    groupDigits(actual),
    actual === expected ? 'equal' : 'DIFFERS',
  ]);
  return textTable(
    [
      { title: 'table' },
      { title: 'generated', align: right },
      { title: 'at the kill', align: right },
      { title: 'now', align: right },
      { title: '' },
    ],
    rows,
    style.bold,
  )
    .replace(/equal$/gm, (word) => style.good(word))
    .replace(/DIFFERS$/gm, (word) => style.bad(word));
}

function billingTable(bill: readonly BillRow[], style: Style): string {
  return textTable(
    [
      { title: 'customer' },
      { title: 'requests', align: right },
      { title: 'GB out', align: right },
      { title: 'slowest', align: right },
      { title: 'amount', align: right },
    ],
    bill.map((row) => [
      row.customer_id,
      groupDigits(row.requests as number),
      Number(row.gigabytes).toFixed(3),
      `${Number(row.latency_ms_max).toFixed(0)} ms`,
      `$${Number(row.amount).toFixed(2)}`,
    ]),
    style.bold,
  );
}

const indent = (text: string): string => text.replace(/^(?=.)/gm, '  ');

async function demo(): Promise<void> {
  const demoStartedMs = performance.now();
  freshFolder();
  await say((style) =>
    [
      '',
      `${style.bold('Tidemark')}  ${groupDigits(EVENTS)} usage events, one SIGKILL, every event counted once`,
      style.dim('tidemark-data is made anew; no server, no network'),
      '',
    ].join('\n'),
  );

  let startedMs = performance.now();
  terminal.progress('  generate  an hour of usage events ...');
  const truth = await generate();
  const events = groupDigits(truth.unique_valid);
  const flaws =
    `${groupDigits(truth.duplicates)} repeats, ${groupDigits(truth.late)} late, ` +
    `${groupDigits(truth.invalid)} not JSON`;
  await step('generate', startedMs, `${events} events, ${flaws}`);

  startedMs = performance.now();
  let atKill = await runAndKill(truth, 'silver');
  for (let kills = 1; atKill.silver >= truth.unique_valid; kills += 1) {
    if (kills === KILLS_MAX) fail(`The run was over before it was killed, ${kills} times.`);
    for (const folder of ['lake', 'log', 'state']) {
      rmSync(join(DATA, folder), { recursive: true, force: true, maxRetries: 5 });
    }
    tables = watchTables();
    atKill = await runAndKill(truth, 'bronze');
  }
  const { silver, bronze } = atKill;
  const had = `bronze had ${groupDigits(bronze)} records, silver ${groupDigits(silver)} events`;
  await step('run', startedMs, `SIGKILL: ${had}`);

  startedMs = performance.now();
  await runToTheEnd(truth);
  await step('run again', startedMs, 'went on from where the tables say they are, caught up');

  startedMs = performance.now();
  terminal.progress('  verify    reading every table back ...');
  const [checks, bill, ledger] = await Promise.all([
    checkTables(truth, atKill),
    tidemark<readonly BillRow[]>('sql', '-c', PIPELINE, BILLING_SQL),
    tidemark<Ledger>('verify', '-c', PIPELINE),
  ]);
  const verdict = ledger.ok
    ? `every record counts exactly once, in all ${ledger.partitions.length} partitions`
    : `${ledger.violations.length} violations`;
  await step('verify', startedMs, verdict);

  const isEqual = checks.every(({ expected, actual }) => expected === actual);
  const ok = isEqual && ledger.ok;
  const seconds = (performance.now() - demoStartedMs) / 1000;
  const { perThousandRequests, perGigabyte } = BILL;
  await terminal.result({ ok, seconds, truth, checks, bill, ledger }, (style) =>
    [
      '',
      indent(checksTable(checks, style)),
      '',
      `${style.bold('The bill')}  10 busiest customers, at $${perThousandRequests.toFixed(2)} per 1,000 requests and $${perGigabyte} per GB`,
      '',
      indent(billingTable(bill, style)),
      '',
      ...ledger.violations.map(({ kind, message }) => style.bad(`${kind}: ${message}`)),
      ok
        ? `${style.good('Nothing lost, nothing counted twice')}, in ${seconds.toFixed(0)} s.`
        : style.bad('The tables differ from what was generated.'),
      '',
      'Try next:',
      `  npx tidemark status -c ${PIPELINE}`,
      `  npx tidemark sql -c ${PIPELINE} "SELECT * FROM gold.api_usage_daily LIMIT 5"`,
      `  npx tidemark verify -c ${PIPELINE}`,
      '',
    ].join('\n'),
  );
  process.exitCode = ok ? 0 : 1;
}

await demo();
