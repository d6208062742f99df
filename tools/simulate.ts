/**
 * The simulation by command: one seed, a range, as many as fit into some minutes, or the proof that it
 * finds bugs.
 *
 *   npm run simulate -- --seed N [--log info]
 *   npm run simulate -- --seeds A..B
 *   npm run simulate -- --minutes M [--from SEED]
 *   npm run simulate -- --breakages [NAME…] [--seeds A..B]
 *
 * Exit code 1 when a seed failed or a breakage survived, 2 for arguments that make no sense.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { LogLevel } from '../src/logger.ts';
import {
  BREAKAGE_VARIABLE,
  type Breakage,
  BREAKAGES,
  breakSource,
} from '../test/simulation/breakages.ts';
import { replayCommand, runSeeds, Totals } from '../test/simulation/seed-pool.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    minutes: { type: 'string' },
    from: { type: 'string' },
    jobs: { type: 'string' },
    log: { type: 'string' },
    breakages: { type: 'boolean' },
  },
});

function* upFrom(seed: number): Generator<number> {
  for (let next = seed; ; next++) yield next;
}

function range(text: string): Iterable<number> {
  const [first = Number.NaN, last = first] = text.split('..').map(Number);
  if (!Number.isSafeInteger(first) || !(last >= first)) throw usage(`not a range: ${text}`);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function usage(problem: string): Error {
  return new Error(`${problem}; see the head of tools/simulate.ts`);
}

/** Most seeds that a breakage may survive before it counts as not caught. */
const BREAKAGE_SEEDS = 300;

/** @returns how many breakages no seed caught */
async function tryBreakages(chosen: readonly Breakage[]): Promise<number> {
  let survivors = 0;
  for (const breakage of chosen) {
    breakSource(breakage, readFileSync(new URL(`../${breakage.file}`, import.meta.url), 'utf8'));
    const totals = new Totals();
    await runSeeds({
      jobs: Number(values.jobs ?? availableParallelism()),
      seeds: range(values.seeds ?? `1..${BREAKAGE_SEEDS}`),
      twiceEvery: 0,
      execArgv: ['--import', new URL('../test/simulation/breakage-hook.ts', import.meta.url).href],
      environment: { [BREAKAGE_VARIABLE]: breakage.name },
      onReport: (report) => totals.add(report),
      isEnough: () => totals.failures.length > 0,
    });
    const [first] = totals.failures.toSorted((a, b) => a.seed - b.seed);
    if (!first) survivors += 1;
    const verdict = first
      ? `seed ${first.seed}: ${first.violation?.split('\n')[0]?.slice(0, 110)}`
      : `SURVIVED ${totals.seeds} seeds`;
    console.log(`| ${breakage.name} | ${verdict} |`);
  }
  console.log(`${chosen.length - survivors} of ${chosen.length} breakages caught`);
  return survivors;
}

async function main(): Promise<number> {
  if (values.breakages) {
    const wanted = BREAKAGES.filter(
      ({ name }) => positionals.length === 0 || positionals.includes(name),
    );
    if (wanted.length === 0) throw usage('no such breakage');
    return (await tryBreakages(wanted)) > 0 ? 1 : 0;
  }
  const totals = new Totals();
  const startedMs = performance.now();
  const minutes = Number(values.minutes ?? Number.POSITIVE_INFINITY);
  if (!(minutes > 0)) throw usage('--minutes takes a number of minutes');
  const untilMs = startedMs + minutes * 60_000;
  const seeds =
    values.minutes === undefined
      ? range(values.seed ?? values.seeds ?? '1..2000')
      : upFrom(Number(values.from ?? Math.floor(Date.now() / 1000)));
  await runSeeds({
    jobs: Number(values.jobs ?? availableParallelism()),
    seeds,
    twiceEvery: values.seed === undefined ? 10 : 1,
    logLevel: values.log as LogLevel | undefined,
    onReport: (report) => {
      totals.add(report);
      if (report.violation === undefined && values.seed === undefined) return;
      console.log(`seed ${report.seed}: ${report.violation ?? `right, trace ${report.traceHash}`}`);
      if (report.violation !== undefined) console.log(`  ${replayCommand(report.seed)}`);
    },
    isEnough: () => performance.now() >= untilMs,
  });
  printTotals(totals, (performance.now() - startedMs) / 1000);
  return totals.failures.length > 0 || totals.seeds === 0 ? 1 : 0;
}

function printTotals(totals: Totals, seconds: number): void {
  const rate = (totals.seeds / seconds).toFixed(1);
  console.log(
    `${totals.seeds} seeds in ${seconds.toFixed(0)} s (${rate}/s), ${totals.failures.length} failed; ` +
      `${(totals.virtualSeconds / 3600).toFixed(1)} virtual hours, ${totals.events} events, ` +
      `${totals.commits} commits, ${totals.records} offsets`,
  );
  for (const [name, count] of [...totals.counts].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    console.log(`  ${name}: ${count}`);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
