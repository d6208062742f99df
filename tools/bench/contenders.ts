/**
 * One measured run of a pipeline over a topic that holds the events already: Tidemark or Spark, all
 * stages or bronze alone. Every run is compared with the generator's truth before it counts.
 */
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { TableRows } from '../lake-rows.ts';
import {
  type BenchEnvironment,
  type EventData,
  newRunFolder,
  sparkJars,
  tidemarkScript,
} from './environment.ts';
import { assertEnded, MeasuredProcess, reapedCpuSeconds } from './measured-process.ts';

/** What a run took; all of it for the whole process unless said otherwise. */
export interface Figures {
  /** From the start of the process to the last commit. */
  readonly wallS: number;
  /** From when all tables are there to the last commit. */
  readonly warmWallS: number;
  /** From the start of the process to its end, where it ends by itself. */
  readonly exitS?: number;
  /** Of the whole process for Tidemark, without start-up for Spark. */
  readonly cpuS: number;
  readonly peakRssBytes: number;
  /** Newest version of each table. */
  readonly versions: Readonly<Record<string, number>>;
}

export interface Run {
  readonly bench: BenchEnvironment;
  readonly topic: string;
  readonly data: EventData;
}

const LOOK_MS = 20;
const STALLED_MS = 300_000;
const pipelineFile = join(import.meta.dirname, 'pipeline.yaml');

/** Variables that pipeline.yaml takes; every run has a lake and a Redis prefix of its own. */
export function tidemarkEnv({ bench, topic }: Omit<Run, 'data'>, lake: string): NodeJS.ProcessEnv {
  return {
    BENCH_KAFKA: bench.kafka,
    BENCH_REDIS: bench.redis,
    BENCH_TOPIC: topic,
    BENCH_LAKE: lake,
    BENCH_PREFIX: `bench-${lake.replace(/\W+/g, '-').slice(-40)}`,
  };
}

/** Starts `tidemark ARGS` on the benchmark's pipeline. */
export function startTidemark(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  nodeArgs: readonly string[] = [],
): MeasuredProcess {
  const all = [...nodeArgs, tidemarkScript, ...args, '-c', pipelineFile];
  return new MeasuredProcess(process.execPath, all, env);
}

interface Checked {
  readonly versions: Readonly<Record<string, number>>;
  readonly differences: Readonly<Record<string, readonly [number, number]>>;
}

/** @throws Error when the tables differ from the truth: a fast wrong run is no run */
export async function checkTables(
  bench: BenchEnvironment,
  lake: string,
  truthFile: string,
  ...flags: string[]
): Promise<Checked['versions']> {
  const printed = await bench.python('check_tables.py', lake, truthFile, ...flags);
  const { versions, differences } = JSON.parse(printed) as Checked;
  if (Object.keys(differences).length > 0) {
    throw new Error(`the tables differ from the truth: ${JSON.stringify(differences)}`);
  }
  return versions;
}

/** When the first and the last commit of a table became visible, milliseconds since the epoch. */
function commitTimes(table: string): { readonly firstMs: number; readonly lastMs: number } {
  const log = join(table, '_delta_log');
  const entries = readdirSync(log).filter((name) => /^\d{20}\.json$/.test(name));
  const times = entries.map((name) => statSync(join(log, name)).mtimeMs);
  return { firstMs: Math.min(...times), lastMs: Math.max(...times) };
}

/** All stages: `tidemark run --until-caught-up`. */
export async function runTidemark(
  run: Run,
  nodeArgs: readonly string[] = [],
  workers = 1,
): Promise<Figures> {
  const lake = newRunFolder(run.bench, 'tidemark');
  const cpuBefore = reapedCpuSeconds();
  const args = ['run', '--until-caught-up', '--json', '--workers', `${workers}`];
  const startedMs = Date.now();
  const outcome = await startTidemark(args, tidemarkEnv(run, lake), nodeArgs).ended;
  const cpuS = reapedCpuSeconds() - cpuBefore;
  assertEnded('tidemark run', outcome);
  // The tables are right all the same, but crashes would be measured as slowness.
  if (outcome.stderr.includes('is started again')) {
    throw new Error(`a process of tidemark crashed:\n${outcome.stderr.slice(0, 2_000)}`);
  }
  const { firstMs, lastMs } = commitTimes(join(lake, 'gold', 'usage_hourly'));
  const versions = await checkTables(run.bench, lake, run.data.truthFile);
  rmSync(lake, { recursive: true, force: true });
  return {
    wallS: (lastMs - startedMs) / 1000,
    warmWallS: (lastMs - firstMs) / 1000,
    exitS: outcome.wallS,
    cpuS,
    peakRssBytes: outcome.peakRssBytes,
    versions,
  };
}

/** Bronze alone: processes with the worker's role, and one that supervises them. */
export async function runTidemarkBronze(run: Run, count = 1): Promise<Figures> {
  const lake = newRunFolder(run.bench, 'tidemark-bronze');
  const env = tidemarkEnv(run, lake);
  const table = new TableRows(join(lake, 'bronze', 'usage'));
  const cpuBefore = reapedCpuSeconds();
  const supervisor = startTidemark(['supervisor'], env);
  const workers = Array.from({ length: count }, () => startTidemark(['worker'], env));
  let tableMs: number | undefined;
  let lastChangeMs = performance.now();
  for (let rows = 0; table.rows < run.data.truth.lines; rows = table.rows) {
    table.refresh();
    const nowMs = performance.now();
    if (table.version >= 0) tableMs ??= nowMs;
    if (table.rows !== rows) lastChangeMs = nowMs;
    const isStalled = nowMs - lastChangeMs > STALLED_MS;
    const areRunning = [supervisor, ...workers].every(({ isRunning }) => isRunning);
    if (!areRunning || isStalled) break;
    await new Promise((wake) => setTimeout(wake, LOOK_MS));
  }
  const caughtUpMs = performance.now();
  for (const worker of workers) worker.stop();
  supervisor.stop();
  const bySupervisor = await supervisor.ended;
  const byWorkers = await Promise.all(workers.map(({ ended }) => ended));
  const cpuS = reapedCpuSeconds() - cpuBefore;
  assertEnded('tidemark supervisor', bySupervisor);
  for (const byWorker of byWorkers) assertEnded('tidemark worker', byWorker);
  const versions = await checkTables(run.bench, lake, run.data.truthFile, '--bronze-only');
  rmSync(lake, { recursive: true, force: true });
  return {
    wallS: (caughtUpMs - supervisor.startedMs) / 1000,
    warmWallS: (caughtUpMs - (tableMs ?? supervisor.startedMs)) / 1000,
    cpuS,
    peakRssBytes: [bySupervisor, ...byWorkers].reduce((sum, one) => sum + one.peakRssBytes, 0),
    versions,
  };
}

interface SparkResult {
  readonly stage: 'bronze' | 'silver' | 'gold' | 'chain';
  readonly wall_s: number;
  readonly process_wall_s: number;
  readonly cpu_s: number;
  readonly peak_kib: number;
}

/** All stages in one warm process; bronze is the first of them. */
export async function runSpark(
  run: Run,
): Promise<{ readonly chain: Figures; readonly bronze: Figures }> {
  const { bench, topic } = run;
  const base = newRunFolder(bench, 'spark');
  const script = join(import.meta.dirname, 'spark_pipeline.py');
  const source = ['--bootstrap', bench.kafka, '--topic', topic, '--jars', await sparkJars()];
  const args = [script, '--base', base, ...source];
  const outcome = await new MeasuredProcess(bench.pythonPath, args).ended;
  assertEnded('the Spark pipeline', outcome);
  const results = outcome.stdout
    .split('\n')
    .filter((line) => line.startsWith('RESULT '))
    .map((line) => JSON.parse(line.slice('RESULT '.length)) as SparkResult);
  const versions = await checkTables(bench, base, run.data.truthFile);
  rmSync(base, { recursive: true, force: true });
  const figures = (stage: SparkResult['stage']): Figures => {
    const result = results.find((candidate) => candidate.stage === stage)!;
    return {
      wallS: result.process_wall_s,
      warmWallS: result.wall_s,
      cpuS: result.cpu_s,
      peakRssBytes: result.peak_kib * 1024,
      versions,
    };
  };
  return { chain: figures('chain'), bronze: figures('bronze') };
}
