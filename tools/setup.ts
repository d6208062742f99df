/**
 * Brings what the tests need beyond npm onto a fresh Debian-like machine with git, Node, Java 17, Go
 * and Maven: Redis, Kafka, an S3 server, Python with Delta readers, Spark, Chromium, Helm. Every part is
 * idempotent, uses what is there, and runs beside the others.
 *
 * `node tools/setup.ts [redis kafka s3 python spark chromium helm deployCheck]`; no part named means all
 * of them.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  buildOnce,
  ensureCommand,
  ensureDebianPackage,
  findCommand,
  projectDir,
  runCommand,
  SetupError,
  toolsDir,
} from './tool-install.ts';

const KAFKA_VERSION = '4.1.2';
const SCALA_VERSION = '2.13';
const VERSITYGW_VERSION = 'v1.8.0';
const HELM_VERSION = 'v3.19.0';
const SPARK_VERSION = '4.0.1';
const DELTA_SPARK_VERSION = '4.0.1';
const PYTHON_PACKAGES = [
  'deltalake==1.6.6',
  'duckdb==2.0.0',
  'pyarrow==26.0.1',
  `pyspark==${SPARK_VERSION}`,
  `delta-spark==${DELTA_SPARK_VERSION}`,
];

/**
 * What a part hands over:
 * - `redis`: path of redis-server
 * - `kafka`: folder of the broker's jars
 * - `s3`: path of versitygw
 * - `python`: interpreter of a virtual environment with deltalake, duckdb, pyarrow, pyspark and delta
 * - `spark`: comma-separated paths for `spark.jars`, what the `python` part's pyspark lacks
 * - `chromium`: path of a browser
 * - `helm`: path of helm
 * - `deployCheck`: path of the program in tools/deploy-check
 */
export type SetupPart =
  | 'redis'
  | 'kafka'
  | 's3'
  | 'python'
  | 'spark'
  | 'chromium'
  | 'helm'
  | 'deployCheck';

export const SETUP_PARTS: readonly SetupPart[] = [
  'redis',
  'kafka',
  's3',
  'python',
  'spark',
  'chromium',
  'helm',
  'deployCheck',
];

// Two Maven runs share one local repository, which is not made for that.
let mavenQueue: Promise<unknown> = Promise.resolve();

/** Copies artifacts and all they need at run time into `folder`. */
async function copyJars(folder: string, artifacts: readonly string[]): Promise<void> {
  const mvn = await ensureCommand('mvn', 'maven');
  const dependencies = artifacts.map((artifact) => {
    const [group, name, version] = artifact.split(':');
    return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`;
  });
  const pom = join(folder, 'pom.xml');
  writeFileSync(
    pom,
    `<project><modelVersion>4.0.0</modelVersion><groupId>tidemark</groupId><artifactId>tools</artifactId>
<version>1</version><packaging>pom</packaging><dependencies>${dependencies.join('\n')}</dependencies></project>\n`,
  );
  const turn = mavenQueue.then(() =>
    runCommand(mvn, [
      '-B',
      '-q',
      '-f',
      pom,
      'dependency:copy-dependencies',
      `-DoutputDirectory=${folder}`,
      '-DincludeScope=runtime',
    ]),
  );
  mavenQueue = turn.catch(() => undefined);
  await turn;
}

function setUpRedis(): Promise<string> {
  return ensureCommand('redis-server', 'redis-server');
}

async function setUpKafka(): Promise<string> {
  await ensureCommand('java', 'openjdk-17-jre-headless');
  const artifacts = [
    `org.apache.kafka:kafka_${SCALA_VERSION}:${KAFKA_VERSION}`,
    `org.apache.kafka:kafka-tools:${KAFKA_VERSION}`,
    'org.slf4j:slf4j-simple:1.7.36',
  ];
  return buildOnce('kafka', artifacts.join('\n'), (folder) => copyJars(folder, artifacts));
}

async function setUpS3(): Promise<string> {
  const path = 'github.com/versity/versitygw/cmd/versitygw';
  const go = findCommand('go');
  const installed = join(homedir(), 'go', 'bin', 'versitygw');
  if (go !== undefined && existsSync(installed)) {
    const buildInfo = execFileSync(go, ['version', '-m', installed], { encoding: 'utf8' });
    if (buildInfo.includes(`${path.replace('/cmd/versitygw', '')}\t${VERSITYGW_VERSION}`)) {
      return installed;
    }
  }
  const folder = await buildOnce('versitygw', VERSITYGW_VERSION, async (target) => {
    if (go === undefined) {
      throw new SetupError('please install Go (go.mod of versitygw names the version needed)');
    }
    await runCommand(go, ['install', `${path}@${VERSITYGW_VERSION}`], { env: { GOBIN: target } });
  });
  return join(folder, 'versitygw');
}

async function setUpPython(): Promise<string> {
  const folder = await buildOnce('venv', PYTHON_PACKAGES.join('\n'), async (target) => {
    const base = await ensureCommand('python3', 'python3');
    await ensureDebianPackage('python3-venv', () =>
      runCommand(base, ['-c', 'import ensurepip, venv']).catch(() => undefined),
    );
    await runCommand(base, ['-m', 'venv', target]);
    const python = join(target, 'bin', 'python');
    await runCommand(python, ['-m', 'pip', 'install', '-q', '--no-input', ...PYTHON_PACKAGES]);
  });
  return join(folder, 'bin', 'python');
}

async function setUpSpark(): Promise<string> {
  await ensureCommand('java', 'openjdk-17-jre-headless');
  // The jars that pyspark lacks; Spark gets them as local paths, so that it never downloads.
  const artifacts = [`io.delta:delta-spark_${SCALA_VERSION}:${DELTA_SPARK_VERSION}`];
  const folder = await buildOnce('spark-jars', artifacts.join('\n'), (target) =>
    copyJars(target, artifacts),
  );
  return readdirSync(folder)
    .filter((name) => name.startsWith('delta-'))
    .map((name) => join(folder, name))
    .join(',');
}

async function setUpChromium(): Promise<string> {
  return ensureDebianPackage(
    'chromium',
    () => findCommand('chromium') ?? findCommand('google-chrome'),
  );
}

async function setUpHelm(): Promise<string> {
  const folder = await buildOnce('helm', HELM_VERSION, async (target) => {
    const install = ['install', `helm.sh/helm/v3/cmd/helm@${HELM_VERSION}`];
    await runCommand(goCommand(), install, { env: { GOBIN: target } });
  });
  return join(folder, 'helm');
}

async function setUpDeployCheck(): Promise<string> {
  const source = join(projectDir, 'tools', 'deploy-check');
  const files = readdirSync(source).toSorted();
  const recipe = files.map((name) => readFileSync(join(source, name), 'utf8')).join('\n');
  const hash = createHash('sha256').update(recipe).digest('hex');
  const folder = await buildOnce('deploy-check', hash, async (target) => {
    await runCommand(goCommand(), ['build', '-o', target, '.'], { cwd: source });
  });
  return join(folder, 'deploy-check');
}

/** @throws SetupError where Go is missing */
function goCommand(): string {
  const go = findCommand('go');
  if (go === undefined) throw new SetupError('please install Go');
  return go;
}

const STEPS: Readonly<Record<SetupPart, () => Promise<string>>> = {
  redis: setUpRedis,
  kafka: setUpKafka,
  s3: setUpS3,
  python: setUpPython,
  spark: setUpSpark,
  chromium: setUpChromium,
  helm: setUpHelm,
  deployCheck: setUpDeployCheck,
};

/**
 * Sets up the named parts, side by side.
 * @returns what each part hands over (see SetupPart)
 * @throws SetupError naming every part that failed and what to do
 */
export async function setUp<P extends SetupPart>(
  parts: readonly P[],
): Promise<Readonly<Record<P, string>>> {
  const results: Partial<Record<P, string>> = {};
  const failures: string[] = [];
  await Promise.all(
    parts.map(async (part) => {
      try {
        results[part] = await STEPS[part]();
      } catch (error) {
        failures.push(`${part}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }),
  );
  if (failures.length > 0) throw new SetupError(failures.join('\n'));
  return results as Record<P, string>;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const named = process.argv.slice(2) as SetupPart[];
  const unknown = named.filter((part) => !SETUP_PARTS.includes(part));
  if (unknown.length > 0) {
    console.error(`unknown part ${unknown.join(', ')}; known: ${SETUP_PARTS.join(', ')}`);
    process.exitCode = 2;
  } else {
    try {
      await setUp(named.length > 0 ? named : SETUP_PARTS);
      console.log(`setup: done, tools are in ${toolsDir}`);
    } catch (error) {
      console.error(error instanceof SetupError ? error.message : error);
      process.exitCode = 1;
    }
  }
}
