/**
 * What workers bring and what partitions cost: the same events by 1, 2 and 4 workers as ratios of one
 * run, and one worker on 256 mostly idle partitions beside the same on 4.
 *
 * - SC1 Every run is compared with the generator's truth, or with what the producer sent.
 * - SC2 CPU and memory of partitions are those of the worker's process alone, by /proc, over the window in
 *   which nothing but the trickle of events comes.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { byteText, groupDigits, textTable } from '../../src/cli/text-table.ts';
import { TableRows } from '../lake-rows.ts';
import {
  checkTables,
  type Figures,
  type Run,
  runTidemark,
  runTidemarkBronze,
  startTidemark,
  tidemarkEnv,
} from './contenders.ts';
import { type BenchEnvironment, newRunFolder, newTopic } from './environment.ts';
import { assertEnded, cpuSecondsOf } from './measured-process.ts';

const WORKER_COUNTS = [1, 2, 4] as const;
const PARTITION_COUNTS = [4, 256] as const;
const TRICKLE_PER_S = 20;
/** Until all partitions are attached and compiled code is warm. */
const WARM_MS = 20_000;
const LATE_MS = 60_000;

/** One number of workers. */
export interface WorkersFigures {
  readonly workers: number;
  readonly bronze: Figures;
  readonly chain: Figures;
}

/** One worker on mostly idle partitions. */
export interface IdleFigures {
  readonly partitions: number;
  readonly seconds: number;
  /** Share of one core, 0 to 1. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly commits: number;
}

export interface Scaling {
  readonly workers: readonly WorkersFigures[];
  readonly idle: readonly IdleFigures[];
}

/** Measures both; `seconds` is the window of each run on idle partitions. */
export async function measureScaling(run: Run, seconds: number): Promise<Scaling> {
  const workers: WorkersFigures[] = [];
  for (const count of WORKER_COUNTS) {
    const bronze = await runTidemarkBronze(run, count);
    workers.push({ workers: count, bronze, chain: await runTidemark(run, [], count) });
  }
  const idle: IdleFigures[] = [];
  for (const partitions of PARTITION_COUNTS) {
    idle.push(await measureIdle(run.bench, partitions, seconds));
  }
  return { workers, idle };
}

async function measureIdle(
  bench: BenchEnvironment,
  partitions: number,
  seconds: number,
): Promise<IdleFigures> {
  const lake = newRunFolder(bench, `idle-${partitions}`);
  const topic = await newTopic(bench, `idle-${partitions}-${Date.now()}`, undefined, partitions);
  const truthFile = join(bench.folder, `${topic}.json`);
  const env = tidemarkEnv({ bench, topic }, lake);
  const supervisor = startTidemark(['supervisor'], env);
  const worker = startTidemark(['worker'], env);
  const at = ['--bootstrap', bench.kafka, '--topic', topic];
  const sending = ['--rate', `${TRICKLE_PER_S}`, '--secs', `${seconds + WARM_MS / 1000 + 5}`];
  const sent = bench.python('produce.py', 'live', ...at, ...sending, '--out', truthFile);
  const bronze = new TableRows(join(lake, 'bronze', 'usage'));
  await pause(WARM_MS);
  bronze.refresh();
  const [cpuBefore, versionBefore, startedMs] = [
    cpuSecondsOf(worker.pid),
    bronze.version,
    performance.now(),
  ];
  await pause(seconds * 1000);
  const cpuS = cpuSecondsOf(worker.pid) - cpuBefore;
  const tookS = (performance.now() - startedMs) / 1000;
  bronze.refresh();
  const commits = bronze.version - versionBefore;
  const memoryBytes = residentBytesOf(worker.pid);
  await sent;
  const { lines } = JSON.parse(readFileSync(truthFile, 'utf8')) as { readonly lines: number };
  const deadline = performance.now() + LATE_MS;
  while (bronze.refresh() < lines && performance.now() < deadline) await pause(100);
  worker.stop();
  supervisor.stop();
  assertEnded('tidemark worker', await worker.ended);
  assertEnded('tidemark supervisor', await supervisor.ended);
  await checkTables(bench, lake, truthFile, '--bronze-only');
  rmSync(lake, { recursive: true, force: true });
  return { partitions, seconds: tookS, cores: cpuS / tookS, memoryBytes, commits };
}

/** Both tables as text. */
export function scalingText(scaling: Scaling, events: number): string {
  const right = 'right' as const;
  const [one] = scaling.workers;
  const rate = ({ warmWallS }: Figures): string => groupDigits(Math.round(events / warmWallS));
  const ratio = (base: Figures, figures: Figures): string =>
    `${(base.warmWallS / figures.warmWallS).toFixed(2)} x`;
  const byWorkers = textTable(
    [
      { title: 'workers', align: right },
      { title: 'bronze events/s', align: right },
      { title: 'ratio', align: right },
      { title: 'all stages events/s', align: right },
      { title: 'ratio', align: right },
      { title: 'CPU µs/event', align: right },
      { title: 'peak memory', align: right },
    ],
    scaling.workers.map(({ workers, bronze, chain }) => [
      `${workers}`,
      rate(bronze),
      ratio(one!.bronze, bronze),
      rate(chain),
      ratio(one!.chain, chain),
      ((chain.cpuS / events) * 1e6).toFixed(1),
      byteText(chain.peakRssBytes),
    ]),
  );
  const byPartitions = textTable(
    [
      { title: 'partitions', align: right },
      { title: 'CPU of a core', align: right },
      { title: 'memory', align: right },
      { title: 'commits/s', align: right },
    ],
    scaling.idle.map(({ partitions, seconds, cores, memoryBytes, commits }) => [
      `${partitions}`,
      `${(cores * 100).toFixed(1)} %`,
      byteText(memoryBytes),
      (commits / seconds).toFixed(2),
    ]),
  );
  const [few, many] = scaling.idle as readonly [IdleFigures, IdleFigures];
  const more = many.partitions - few.partitions;
  const cpu = (((many.cores - few.cores) / more) * 100).toFixed(3);
  const memory = byteText(Math.max(0, many.memoryBytes - few.memoryBytes) / more);
  return (
    `\nBy workers, ${groupDigits(events)} events of 4 partitions\n\n${byWorkers}\n` +
    `\nOne worker, ${TRICKLE_PER_S} events/s over all partitions together\n\n${byPartitions}\n\n` +
    `each further idle partition: ${cpu} % of a core, ${memory}\n`
  );
}

function residentBytesOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

function pause(ms: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, ms));
}
