/**
 * Starts test servers and keeps them until Ctrl-C: `node tools/serve.ts [kafka redis s3]`. Prints
 * `export` lines for another shell, so that test files can be run there again and again; with all three
 * running it also makes a topic and writes a pipeline file that uses them.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { systemAmbient } from '../src/ambient.ts';
import { loadPipeline } from '../src/config.ts';
import { silentLogger } from '../src/logger.ts';
import { openKafkaTopicAdmin } from '../src/storage/source/kafka-topic-admin.ts';
import { startKafka, startRedis, startS3, type TestServer } from './servers.ts';
import { projectDir, toolsDir } from './tool-install.ts';

/** Of the topic. */
const PARTITIONS = 8;

const STARTS: Readonly<Record<TestServer['name'], () => Promise<TestServer>>> = {
  kafka: () => startKafka({ heap: '1g' }),
  redis: startRedis,
  s3: startS3,
};

const named = process.argv.slice(2);
const chosen = Object.entries(STARTS).filter(
  ([name]) => named.length === 0 || named.includes(name),
);
const servers = await Promise.all(chosen.map(([, start]) => start()));
for (const server of servers) {
  for (const [name, value] of Object.entries(server.env)) console.log(`export ${name}=${value}`);
}
if (servers.length === Object.keys(STARTS).length) {
  const env = Object.assign({}, ...servers.map((server) => server.env)) as Record<string, string>;
  const file = await makePipeline(env);
  console.error(`\nIn another shell, after the lines above, with a topic that is there already:`);
  console.error(`  npx tidemark run -c ${file} --workers 2`);
  console.error(`  npx tidemark generate -c ${file} --events 120000 --rate 1000`);
}
console.error('servers run until this is interrupted');
// The servers themselves do not keep this process alive.
setInterval(() => undefined, 60_000);

/** The example pipeline on these servers, and its topic. @returns the file */
async function makePipeline(env: Readonly<Record<string, string>>): Promise<string> {
  const example = join(projectDir, 'examples', 'api-usage-events', 'tidemark.yaml');
  const definition = {
    ...(parse(readFileSync(example, 'utf8')) as object),
    source: { kind: 'kafka', brokers: [env['TIDEMARK_TEST_KAFKA']], topic: 'api-usage-events' },
    lake: {
      kind: 's3',
      bucket: env['TIDEMARK_TEST_S3_BUCKET'],
      prefix: 'try',
      endpoint: env['TIDEMARK_TEST_S3_ENDPOINT'],
      region: env['AWS_REGION'],
      forcePathStyle: true,
    },
    state: { kind: 'redis', url: env['TIDEMARK_TEST_REDIS'], prefix: 'try' },
  };
  const folder = join(toolsDir, 'servers');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'tidemark.yaml');
  writeFileSync(file, stringify(definition));
  const { source } = loadPipeline(file, { environment: env, cwd: folder });
  if (source.kind !== 'kafka') throw new Error('the source is Kafka');
  const admin = await openKafkaTopicAdmin(source, { ambient: systemAmbient, logger: silentLogger });
  try {
    await admin.create(PARTITIONS);
  } finally {
    await admin.close();
  }
  return file;
}
