/**
 * How soon events are visible while they come at a steady rate: the pipeline runs, a producer sends,
 * and freshness.py compares Kafka timestamps with the times of the commits.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { TableRows } from '../lake-rows.ts';
import { checkTables, startTidemark, tidemarkEnv } from './contenders.ts';
import { type BenchEnvironment, newRunFolder, newTopic } from './environment.ts';
import { assertEnded, reapedCpuSeconds } from './measured-process.ts';

/** Seconds from the Kafka timestamp to visible. */
interface Delay {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly rows: number;
  readonly commits: number;
}

export interface Freshness {
  readonly bronze: Delay;
  readonly silver: Delay;
  readonly gold: Delay;
  /** Rows of silver that gold does not have. */
  readonly uncovered: number;
  readonly rate: number;
  readonly seconds: number;
  /** The longest that the producer was behind; a machine too busy to measure shows here. */
  readonly producerLagS: number;
  /** Of the pipeline, from its start to its end. */
  readonly cores: number;
  readonly peakRssBytes: number;
}

const START_WITHIN_MS = 120_000;
const DRAIN_WITHIN_MS = 120_000;
/** The last gold windows may still be on their way when silver is complete. */
const GOLD_MS = 6_000;

export async function measureFreshness(
  bench: BenchEnvironment,
  load: { readonly rate: number; readonly seconds: number },
): Promise<Freshness> {
  const lake = newRunFolder(bench, 'live');
  const topic = await newTopic(bench, `live-${Date.now()}`);
  const truthFile = join(bench.folder, `${topic}.json`);
  const cpuBefore = reapedCpuSeconds();
  const pipeline = startTidemark(['run'], tidemarkEnv({ bench, topic }, lake));
  const gold = new TableRows(join(lake, 'gold', 'usage_hourly'));
  const silver = new TableRows(join(lake, 'silver', 'usage'));
  const until = async (what: string, withinMs: number, isSo: () => boolean): Promise<void> => {
    const deadline = performance.now() + withinMs;
    while (!isSo()) {
      if (!pipeline.isRunning) assertEnded('tidemark run', await pipeline.ended);
      if (performance.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms`);
      await new Promise((wake) => setTimeout(wake, 100));
    }
  };
  await until('tables', START_WITHIN_MS, () => {
    gold.refresh();
    return gold.version >= 0;
  });
  const sending = ['--rate', `${load.rate}`, '--secs', `${load.seconds}`, '--out', truthFile];
  const producerCpuBefore = reapedCpuSeconds();
  await bench.python(
    'produce.py',
    'live',
    '--bootstrap',
    bench.kafka,
    '--topic',
    topic,
    ...sending,
  );
  const producerCpuS = reapedCpuSeconds() - producerCpuBefore;
  const truth = JSON.parse(readFileSync(truthFile, 'utf8')) as {
    readonly unique_valid: number;
    readonly rate: number;
    readonly worst_tick_lag_s: number;
  };
  await until('silver', DRAIN_WITHIN_MS, () => silver.refresh() >= truth.unique_valid);
  await new Promise((wake) => setTimeout(wake, GOLD_MS));
  pipeline.stop();
  const outcome = await pipeline.ended;
  assertEnded('tidemark run', outcome);
  const cpuS = reapedCpuSeconds() - cpuBefore - producerCpuS;
  await checkTables(bench, lake, truthFile);
  // Connecting and compiling delay the first rows; they count as start-up.
  const warmS = Math.min(20, load.seconds / 4);
  const printed = await bench.python('freshness.py', lake, '--warm', `${warmS}`);
  rmSync(lake, { recursive: true, force: true });
  return {
    ...(JSON.parse(printed) as Pick<Freshness, 'bronze' | 'silver' | 'gold' | 'uncovered'>),
    rate: truth.rate,
    seconds: load.seconds,
    producerLagS: truth.worst_tick_lag_s,
    cores: cpuS / outcome.wallS,
    peakRssBytes: outcome.peakRssBytes,
  };
}
