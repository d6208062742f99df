/** Runs seeds in several processes side by side, so that all cores work and a run cannot harm the next. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LogLevel } from '../../src/logger.ts';
import type { SeedOrder, SeedReport } from './seed-worker.ts';

export interface PoolOptions {
  /** Processes side by side. */
  readonly jobs: number;
  readonly seeds: Iterable<number>;
  /** Every so many seeds are run twice; 0: none. */
  readonly twiceEvery: number;
  readonly logLevel?: LogLevel | undefined;
  /** For Node itself, such as hooks that change what is loaded. */
  readonly execArgv?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly onReport: (report: SeedReport) => void;
  /** Asked after each report. */
  readonly isEnough: () => boolean;
  /** A seed that takes longer counts as failed, milliseconds; default 5 minutes. */
  readonly timeoutMs?: number;
}

/** After so many seeds a process makes room for a fresh one. */
const SEEDS_PER_PROCESS = 150;
const WORKER = fileURLToPath(new URL('./seed-worker.ts', import.meta.url));

/** Runs all seeds; resolves when they are done or it is enough. */
export async function runSeeds(options: PoolOptions): Promise<void> {
  const seeds = options.seeds[Symbol.iterator]();
  const lane = async (): Promise<void> => {
    while (!options.isEnough()) {
      const child = startWorker(options);
      try {
        for (let i = 0; i < SEEDS_PER_PROCESS && !options.isEnough(); i++) {
          const { value: seed, done } = seeds.next();
          if (done) return;
          const report = await order(child, seed, options);
          options.onReport(report);
          if (child.exitCode !== null || child.killed) break;
        }
      } finally {
        child.kill('SIGKILL');
      }
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, lane));
}

function startWorker({ execArgv = [], environment = {} }: PoolOptions): ChildProcess {
  return fork(WORKER, {
    execArgv: [...execArgv],
    env: { ...process.env, ...environment },
    serialization: 'json',
  });
}

function order(child: ChildProcess, seed: number, options: PoolOptions): Promise<SeedReport> {
  const { twiceEvery, logLevel, timeoutMs = 300_000 } = options;
  return new Promise((resolve) => {
    const end = (report: SeedReport): void => {
      clearTimeout(deadline);
      child.removeAllListeners();
      resolve(report);
    };
    const broken = (problem: string): void => end({ ...NOTHING, seed, violation: problem });
    const deadline = setTimeout(() => {
      child.kill('SIGKILL');
      broken(`hung: no result after ${timeoutMs / 1000} s`);
    }, timeoutMs);
    child.on('message', (report) => end(report as SeedReport));
    child.on('exit', (code, signal) => broken(`the process ended with ${signal ?? code}`));
    const twice = twiceEvery > 0 && seed % twiceEvery === 0;
    child.send({ seed, twice, logLevel } satisfies SeedOrder);
  });
}

const NOTHING = {
  traceHash: '',
  events: 0,
  virtualSeconds: 0,
  commits: 0,
  records: 0,
  counts: {},
};

/** Sums of reports. */
export class Totals {
  seeds = 0;
  events = 0;
  virtualSeconds = 0;
  commits = 0;
  records = 0;
  readonly failures: SeedReport[] = [];
  readonly counts = new Map<string, number>();

  add(report: SeedReport): void {
    this.seeds += 1;
    this.events += report.events;
    this.virtualSeconds += report.virtualSeconds;
    this.commits += report.commits;
    this.records += report.records;
    if (report.violation !== undefined) this.failures.push(report);
    for (const [name, count] of Object.entries(report.counts)) {
      this.counts.set(name, (this.counts.get(name) ?? 0) + count);
    }
  }
}

/** The command that runs a seed again. */
export function replayCommand(seed: number): string {
  return `npm run simulate -- --seed ${seed}`;
}
