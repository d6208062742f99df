/**
 * What a benchmark needs around the two pipelines: the broker with the events in a topic, Redis, a
 * Python that can make events and check tables, Spark's jars.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startKafka, startRedis } from '../servers.ts';
import { setUp } from '../setup.ts';
import { buildOnce, ensureCommand, projectDir, runCommand, toolsDir } from '../tool-install.ts';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';

const PYTHON_PACKAGES = ['numpy==2.3.5', 'confluent-kafka==2.16.1'];
const SPARK_KAFKA_JARS = [
  'spark-sql-kafka-',
  'spark-token-provider-kafka-',
  'kafka-clients-',
  'commons-pool2-',
];
const SPARK_KAFKA = 'spark-sql-kafka-0-10_2.13';
const SPARK_KAFKA_VERSION = '4.0.0';
export const PARTITIONS = 4;

export interface BenchEnvironment {
  /** `host:port` */
  readonly kafka: string;
  /** URL. */
  readonly redis: string;
  /** Below it each run has a lake of its own; removed by close(). */
  readonly folder: string;
  /** Runs a script of this folder. @returns what it printed */
  python(script: string, ...args: string[]): Promise<string>;
  readonly pythonPath: string;
  close(): Promise<void>;
}

/** Events that were generated, once per number of events. */
export interface EventData {
  readonly folder: string;
  readonly truthFile: string;
  readonly truth: Truth;
}

export async function openEnvironment(): Promise<BenchEnvironment> {
  const { python: pythonPath } = await setUp(['python']);
  await runCommand(pythonPath, ['-c', 'import numpy, confluent_kafka']).catch(() =>
    runCommand(pythonPath, ['-m', 'pip', 'install', '-q', '--no-input', ...PYTHON_PACKAGES]),
  );
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-bench-'));
  const removeFolder = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  process.once('exit', removeFolder);
  const [kafka, redis] = await Promise.all([
    // The JVM's own choice of collector and compilers: the broker is a long-lived one here.
    startKafka({ heap: '1g', jvmFlags: ['-XX:-UsePerfData'] }),
    startRedis(),
  ]);
  return {
    kafka: kafka.address,
    redis: `redis://${redis.address}/0`,
    folder,
    pythonPath,
    python: (script, ...args) =>
      runCommand(pythonPath, [join(import.meta.dirname, script), ...args]),
    close: async () => {
      await Promise.all([kafka.stop(), redis.stop()]);
      removeFolder();
    },
  };
}

export async function eventData(bench: BenchEnvironment, events: number): Promise<EventData> {
  const folder = join(toolsDir, 'bench-data', `${events}`);
  const truthFile = join(folder, 'truth.json');
  // Written last: data that was cut off is made again.
  if (!existsSync(truthFile)) {
    await bench.python('generate.py', '--n', `${events}`, '--out', folder);
  }
  return { folder, truthFile, truth: JSON.parse(readFileSync(truthFile, 'utf8')) as Truth };
}

/** Creates a topic, with `data` in it. @returns its name */
export async function newTopic(
  bench: BenchEnvironment,
  topic: string,
  data?: EventData,
  partitions = PARTITIONS,
): Promise<string> {
  const at = ['--bootstrap', bench.kafka, '--topic', topic];
  await bench.python('produce.py', 'create', ...at, '--partitions', `${partitions}`);
  if (data) await bench.python('produce.py', 'bulk', ...at, '--data', data.folder);
  return topic;
}

/** Jars for `spark.jars`: Delta, and Spark's Kafka source. */
export async function sparkJars(): Promise<string> {
  const { spark } = await setUp(['spark']);
  const recipe = `${SPARK_KAFKA}:${SPARK_KAFKA_VERSION}`;
  const folder = await buildOnce('spark-kafka-jars', recipe, async (target) => {
    const mvn = await ensureCommand('mvn', 'maven');
    const pom = join(import.meta.dirname, 'spark-kafka-pom.xml');
    const copy = ['dependency:copy-dependencies', `-DoutputDirectory=${target}`];
    await runCommand(mvn, ['-B', '-q', '-f', pom, ...copy, '-DincludeScope=runtime']);
  });
  const jars = readdirSync(folder).filter((name) =>
    SPARK_KAFKA_JARS.some((start) => name.startsWith(start)),
  );
  return [spark, ...jars.map((name) => join(folder, name))].join(',');
}

let runs = 0;

/** An empty folder for one run. */
export function newRunFolder(bench: BenchEnvironment, name: string): string {
  runs += 1;
  const folder = join(bench.folder, `${runs}-${name}`);
  mkdirSync(folder);
  return folder;
}

export const tidemarkScript = join(projectDir, 'bin', 'tidemark.js');
