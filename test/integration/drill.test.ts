/**
 * `tidemark drill` as users run it: a crash on real Kafka, Redis and S3 and an outage on the embedded
 * services, judged by the count of the tables; and nothing is left behind, after a signal either.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { Redis } from 'ioredis';
import { stringify } from 'yaml';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { createKafkaClient } from '../../src/storage/source/kafka-client.ts';
import { eventually } from '../support/eventually.ts';
import { kafkaConfig } from '../support/kafka-topic-fixture.ts';
import { TidemarkProcess } from '../support/pipeline-process.ts';
import { usageDefinition } from '../support/pipeline-usage.ts';
import { sharedKafka, sharedRedis, sharedS3, uniqueName } from '../support/servers.ts';

interface DrillOutput {
  readonly scenarios: readonly {
    readonly scenario: string;
    readonly events: number;
    readonly lost: number;
    readonly duplicated: number;
    readonly problems: readonly string[];
    readonly recovery: { readonly commitAgainMs: number; readonly caughtUpMs: number };
    readonly checks: readonly { readonly expected: number; readonly actual: number }[];
    readonly lag: readonly { readonly gold: number }[];
  }[];
}

/** A drill makes its folders below a temporary folder of the test. */
function newFolder(t: TestContext): { readonly cwd: string; readonly temporary: string } {
  const cwd = mkdtempSync(join(tmpdir(), 'tidemark-test-drill-'));
  t.after(() => rmSync(cwd, { recursive: true, force: true }));
  const temporary = mkdtempSync(join(cwd, 'tmp-'));
  return { cwd, temporary };
}

/** Drills left in it; a compile cache is none. */
function leftBehind(temporary: string): readonly string[] {
  return readdirSync(temporary).filter((name) => name.includes('drill'));
}

/** Loss and duplicates must be none; how long recovery took says more about a busy machine than about us. */
function assertNothingLost({ scenarios }: DrillOutput): void {
  for (const { scenario, events, lost, duplicated, problems, checks, recovery } of scenarios) {
    assert.deepEqual({ scenario, lost, duplicated }, { scenario, lost: 0, duplicated: 0 });
    assert.ok(events > 500, scenario);
    assert.ok(checks.every(({ expected, actual }) => expected === actual));
    assert.ok(recovery.caughtUpMs > 0);
    const others = problems.filter((problem) => !problem.includes('were promised'));
    assert.deepEqual(others, [], scenario);
  }
}

test('an outage of the embedded store costs nothing, and the report shows it', async (t) => {
  const { cwd, temporary } = newFolder(t);
  const drill = new TidemarkProcess(
    t,
    ['drill', 'storage-outage', '--json', '--report', 'report.html'],
    { cwd, environment: { TMPDIR: temporary } },
  );
  const { stdout, stderr } = await drill.ended();
  assert.notEqual(stdout, '', stderr);
  assertNothingLost(JSON.parse(stdout) as DrillOutput);
  const report = readFileSync(join(cwd, 'report.html'), 'utf8');
  assert.match(report, /storage-outage.*<svg/s);
  assert.doesNotMatch(report, /<script|https?:\/\//);
  assert.deepEqual(leftBehind(temporary), []);
});

test('a drill on one’s own servers leaves no topic, no key and no object', async (t) => {
  const { cwd, temporary } = newFolder(t);
  const { endpoint, bucket, region } = await sharedS3();
  const [kafka, redis] = [await sharedKafka(), await sharedRedis()];
  const prefix = uniqueName('drill');
  const definition = {
    ...usageDefinition(),
    source: { kind: 'kafka', brokers: [kafka], topic: 'not-there-and-not-needed' },
    lake: { kind: 's3', bucket, prefix, endpoint, region, forcePathStyle: true },
    state: { kind: 'redis', url: redis, prefix },
  };
  writeFileSync(join(cwd, 'mine.yaml'), stringify(definition));
  const context = { ambient: systemAmbient, logger: silentLogger };
  const admin = (await createKafkaClient(kafkaConfig(kafka, 'any'), context)).admin();
  const keys = new Redis(redis);
  const s3 = new S3Client({ endpoint, region, forcePathStyle: true });
  t.after(async () => {
    await admin.disconnect();
    keys.disconnect();
    s3.destroy();
  });
  await admin.connect();

  const drill = new TidemarkProcess(t, ['drill', 'redis-loss', '-c', 'mine.yaml', '--json'], {
    cwd,
    environment: { TMPDIR: temporary },
  });
  const { stdout, stderr } = await drill.ended();
  assert.notEqual(stdout, '', stderr);
  assertNothingLost(JSON.parse(stdout) as DrillOutput);
  assert.deepEqual(
    (await admin.listTopics()).filter((topic) => topic.startsWith('drill-redis-loss')),
    [],
  );
  assert.deepEqual(await keys.keys(`${prefix}:*`), []);
  const listed = await s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: `${prefix}/` }));
  assert.deepEqual(listed.Contents ?? [], []);
  assert.deepEqual(leftBehind(temporary), []);
});

test('a drill that is interrupted cleans up and ends with 2', async (t) => {
  const { cwd, temporary } = newFolder(t);
  const drill = new TidemarkProcess(t, ['drill', 'crash'], {
    cwd,
    environment: { TMPDIR: temporary },
  });
  await eventually(() => leftBehind(temporary).length > 0, { withinMs: 60_000 });
  drill.send('SIGINT');
  const { code, stderr } = await drill.ended();
  assert.equal(code, 2, stderr);
  assert.deepEqual(leftBehind(temporary), []);
});

test('a drill that is killed takes its pipeline with it (DP1)', async (t) => {
  const { cwd, temporary } = newFolder(t);
  const drill = new TidemarkProcess(t, ['drill', 'crash'], {
    cwd,
    environment: { TMPDIR: temporary },
  });
  /** Command lines that name a folder of this drill. */
  const started = (): readonly string[] =>
    execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes(temporary));
  await eventually(() => started().length > 0, { withinMs: 60_000 });
  drill.send('SIGKILL');
  await drill.ended();
  await eventually(() => started().length === 0, { withinMs: 60_000 });
});

test('a report that cannot be written is refused before anything is broken', async (t) => {
  const { cwd, temporary } = newFolder(t);
  const args = ['drill', 'crash', '--report', join('nowhere', 'report.html')];
  const drill = new TidemarkProcess(t, args, { cwd, environment: { TMPDIR: temporary } });
  const { code, stderr } = await drill.ended();
  assert.equal(code, 2);
  assert.match(stderr, /--report: .*nowhere.* cannot be written/);
});

test('a scenario that does not exist is refused with the names of those that do', async (t) => {
  const { cwd } = newFolder(t);
  const { code, stderr } = await new TidemarkProcess(t, ['drill', 'fire'], { cwd }).ended();
  assert.equal(code, 2);
  assert.match(stderr, /no scenario fire; there are crash, kafka-restart,/);
});
