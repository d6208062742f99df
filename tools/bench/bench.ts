/**
 * `npm run bench`: Tidemark beside Spark on the same events, the same broker and the same machine, as
 * ratios. Linux only. Every figure is also a line of JSON in `.tools/bench-results.jsonl`.
 *
 * `npm run bench -- [--only throughput|bronze|freshness|scaling|dedup|reconcile] [--rounds N] [--events N]
 *   [--no-spark] [--seconds N] [--rate N] [--profile] [--ids N] [--rows N]`. `dedup` and `reconcile` need
 * 8 to 10 GB of disk at their 100,000,000 ids and rows, and run only when they are asked for.
 *
 * Invariants:
 * - BN1 A run whose tables differ from the generator's truth ends the benchmark with exit code 1.
 * - BN2 Who runs first alternates between rounds; ratios compare within a round.
 * - BN3 The load of the machine is written down before each round: noise must be visible.
 */
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { byteText, groupDigits, textTable } from '../../src/cli/text-table.ts';
import { toolsDir } from '../tool-install.ts';
import { type Figures, type Run, runSpark, runTidemark, runTidemarkBronze } from './contenders.ts';
import { type BenchEnvironment, eventData, newTopic, openEnvironment } from './environment.ts';
import { dedupText, measureDedup } from './dedup.ts';
import { type Freshness, measureFreshness } from './freshness.ts';
import { loadAverage } from './measured-process.ts';
import { profileTidemark, type ThreadProfile } from './profile.ts';
import { measureReconcile, reconcileText } from './reconcile.ts';
import { measureScaling, scalingText } from './scaling.ts';

const SECTIONS = ['throughput', 'bronze', 'freshness', 'scaling', 'dedup', 'reconcile'] as const;
type Section = (typeof SECTIONS)[number];

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '2' },
    events: { type: 'string', default: '2000000' },
    seconds: { type: 'string', default: '90' },
    rate: { type: 'string', default: '2000' },
    'no-spark': { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    ids: { type: 'string', default: '100000000' },
    rows: { type: 'string', default: '100000000' },
  },
});
const rounds = Number(options.rounds);
const events = Number(options.events);
const withSpark = !options['no-spark'];
const resultsFile = join(toolsDir, 'bench-results.jsonl');
const startedAt = new Date().toISOString();

function isWanted(section: Section): boolean {
  return !options.profile && (options.only === undefined || options.only === section);
}

function note(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

function record(figure: string, fields: Readonly<Record<string, unknown>>): void {
  mkdirSync(toolsDir, { recursive: true });
  appendFileSync(resultsFile, `${JSON.stringify({ startedAt, figure, ...fields })}\n`);
}

interface Measured {
  readonly tidemark: Figures;
  readonly spark: Figures | undefined;
}

interface Round {
  readonly chain: Measured | undefined;
  readonly bronze: Measured | undefined;
}

/** Both sides once; `sparkFirst` says in which order (BN2). */
async function measureRound(run: Run, round: number): Promise<Round> {
  const sparkFirst = round % 2 === 1;
  const load = loadAverage();
  note(`round ${round + 1} of ${rounds}, load ${load}`);
  const spark = async () => (withSpark ? await runSpark(run) : undefined);
  const before = sparkFirst ? await spark() : undefined;
  const chain = isWanted('throughput') ? await runTidemark(run) : undefined;
  const bronze = isWanted('bronze') ? await runTidemarkBronze(run) : undefined;
  const bySpark = sparkFirst ? before : await spark();
  const keep = (figure: string, tidemark: Figures | undefined, other: Figures | undefined) => {
    if (tidemark === undefined) return undefined;
    record(figure, { events, round, load, sparkFirst, tidemark, spark: other });
    return { tidemark, spark: other };
  };
  return {
    chain: keep('throughput', chain, bySpark?.chain),
    bronze: keep('bronze', bronze, bySpark?.bronze),
  };
}

const right = 'right' as const;

function throughputTable(title: string, measured: readonly Measured[]): string {
  const rows = measured.flatMap(({ tidemark, spark }, round) => {
    const row = (name: string, figures: Figures, ratio: string): string[] => [
      `${round + 1}`,
      name,
      groupDigits(Math.round(events / figures.wallS)),
      groupDigits(Math.round(events / figures.warmWallS)),
      ((figures.cpuS / events) * 1e6).toFixed(1),
      byteText(figures.peakRssBytes),
      Object.entries(figures.versions)
        .map(([table, version]) => `${table} ${version}`)
        .join(', '),
      ratio,
    ];
    const times = spark ? `${(spark.warmWallS / tidemark.warmWallS).toFixed(2)} x` : '';
    return [row('tidemark', tidemark, times), ...(spark ? [row('spark', spark, '')] : [])];
  });
  const table = textTable(
    [
      { title: 'round', align: right },
      { title: 'pipeline' },
      { title: 'events/s', align: right },
      { title: 'without start', align: right },
      { title: 'CPU µs/event', align: right },
      { title: 'peak memory', align: right },
      { title: 'versions' },
      { title: 'ratio', align: right },
    ],
    rows,
  );
  return `\n${title}, ${groupDigits(events)} events\n\n${table}\n`;
}

function freshnessTable(freshness: Freshness): string {
  const stages = (['bronze', 'silver', 'gold'] as const).map((stage) => {
    const { p50, p99, max, rows, commits } = freshness[stage];
    const seconds = [p50, p99, max].map((value) => `${value.toFixed(2)} s`);
    return [stage, ...seconds, groupDigits(rows), groupDigits(commits)];
  });
  const table = textTable(
    [
      { title: 'visible in' },
      { title: 'median', align: right },
      { title: '99th', align: right },
      { title: 'longest', align: right },
      { title: 'rows', align: right },
      { title: 'commits', align: right },
    ],
    stages,
  );
  const rate = groupDigits(Math.round(freshness.rate));
  return (
    `\nFreshness at ${rate} events/s for ${freshness.seconds} s\n\n${table}\n\n` +
    `${freshness.cores.toFixed(2)} cores, ${byteText(freshness.peakRssBytes)} at most, ` +
    `producer late by ${freshness.producerLagS.toFixed(2)} s at most\n`
  );
}

/** Steps below this are added up. */
const SHOWN_US = 0.05;

function profileTable({ thread, usPerEvent, steps }: ThreadProfile): string {
  const shown = steps.filter((step) => step.usPerEvent >= SHOWN_US);
  const rest = usPerEvent - shown.reduce((sum, step) => sum + step.usPerEvent, 0);
  const table = textTable(
    [{ title: 'µs/event', align: right }, { title: `${thread} thread` }],
    [...shown, { file: 'all others', usPerEvent: rest }, { file: 'total', usPerEvent }].map(
      (step) => [step.usPerEvent.toFixed(2), step.file],
    ),
  );
  return `\n${table}\n`;
}

async function throughput(bench: BenchEnvironment): Promise<void> {
  note(`making ${groupDigits(events)} events`);
  const data = await eventData(bench, events);
  const topic = await newTopic(bench, 'usage-events', data);
  const run: Run = { bench, topic, data };
  if (options.profile) {
    note(`profiling, load ${loadAverage()}`);
    const { figures, threads } = await profileTidemark(run);
    record('profile', { events, figures, threads });
    for (const thread of threads) process.stdout.write(profileTable(thread));
    return;
  }
  const measured: Round[] = [];
  for (let round = 0; round < rounds; round += 1) measured.push(await measureRound(run, round));
  const chains = measured.flatMap(({ chain }) => chain ?? []);
  const bronzes = measured.flatMap(({ bronze }) => bronze ?? []);
  if (chains.length > 0) {
    process.stdout.write(throughputTable('Bronze, silver, gold and dead letters', chains));
  }
  if (bronzes.length > 0) process.stdout.write(throughputTable('Bronze alone', bronzes));
}

async function freshness(bench: BenchEnvironment): Promise<void> {
  const load = loadAverage();
  const [rate, seconds] = [Number(options.rate), Number(options.seconds)];
  note(`freshness for ${seconds} s, load ${load}`);
  const measured = await measureFreshness(bench, { rate, seconds });
  record('freshness', { load, ...measured });
  process.stdout.write(freshnessTable(measured));
}

async function scaling(bench: BenchEnvironment): Promise<void> {
  const data = await eventData(bench, events);
  const topic = await newTopic(bench, 'usage-events-scaling', data);
  const load = loadAverage();
  note(`workers 1, 2 and 4, then mostly idle partitions, load ${load}`);
  const measured = await measureScaling({ bench, topic, data }, Number(options.seconds));
  record('scaling', { events, load, ...measured });
  process.stdout.write(scalingText(measured, events));
}

if (options.only !== undefined && !SECTIONS.some((section) => section === options.only)) {
  note(`--only takes ${SECTIONS.join(', ')}`);
  process.exit(2);
}
if (options.only === 'dedup') {
  const figures = await measureDedup(Number(options.ids), note);
  record('dedup', { ids: Number(options.ids), load: loadAverage(), ...figures });
  for (const [name, some] of Object.entries(figures)) {
    if (typeof some === 'object') process.stdout.write(dedupText(name, some));
  }
  process.exit();
}
if (options.only === 'reconcile') {
  const load = loadAverage();
  const figures = await measureReconcile(Number(options.rows), note);
  record('reconcile', { load, ...figures });
  process.stdout.write(reconcileText(figures));
  process.exit();
}
const bench = await openEnvironment();
try {
  if (options.profile || isWanted('throughput') || isWanted('bronze')) await throughput(bench);
  if (isWanted('freshness')) await freshness(bench);
  if (isWanted('scaling')) await scaling(bench);
  note(`figures are in ${resultsFile}`);
} catch (error) {
  note(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  await bench.close();
}
