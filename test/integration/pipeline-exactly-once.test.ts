/** Issue 3: generated events through real Kafka, Redis, BullMQ and S3, each in the tables exactly once. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';
import { startRedis } from '../../tools/servers.ts';
import { PipelineFixture, type StatusResult } from '../support/pipeline-fixture.ts';
import { TableReader } from '../support/pipeline-tables.ts';
import {
  assertUsage,
  attachUsage,
  dataChanges,
  loadLines,
  TEST_EVENTS,
  usageDefinition,
} from '../support/pipeline-usage.ts';

test('every generated event is in the tables once, and a replay changes nothing (P1, P5, I6, I7, I14)', async (t) => {
  // Of its own, because it is emptied.
  const server = await startRedis();
  t.after(() => server.stop());
  const redisUrl = `redis://${server.address}`;
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition({ maxRows: 20_000 }),
    on: 'servers',
    redisUrl,
  });
  const reader = await TableReader.open(t);

  const truthFile = join(pipeline.folder, 'truth.json');
  const shape = ['--events', String(TEST_EVENTS), '--seed', '11', '--poison', '0.003'];
  await pipeline.json(['generate', ...shape, '--truth', truthFile]);
  const truth = JSON.parse(readFileSync(truthFile, 'utf8')) as Truth;
  const linesFile = join(pipeline.folder, 'lines.ndjson');
  await pipeline.json(['generate', ...shape, '--out', linesFile]);
  await loadLines(reader, [linesFile]);

  await t.test('the tables are those of the truth', async (t) => {
    const run = await pipeline.runUntilCaughtUp();
    t.diagnostic(`${TEST_EVENTS} events in ${run.seconds.toFixed(1)} s`);
    assert.deepEqual(
      { ...run, seconds: 0 },
      {
        seconds: 0,
        bronzeRows: truth.lines,
        silverRows: truth.unique_valid,
        duplicates: truth.duplicates,
        conflicts: 0,
        deadLetters: truth.invalid,
        late: truth.late,
        restarts: 0,
        failures: [],
      },
    );
    await attachUsage(reader, await pipeline.lakeFolder());
    await assertUsage(reader, truth);
  });

  await t.test('verify finds nothing, and the counts add up', async () => {
    const { stages, silverDuplicates, partitions } = await pipeline.verify();
    assert.deepEqual(stages, {
      bronzeRows: truth.lines,
      silverRows: truth.unique_valid,
      duplicates: truth.duplicates,
      conflicts: 0,
      deadLetters: truth.invalid,
    });
    assert.equal(silverDuplicates, 0);
    assert.equal(partitions.length, 4);
  });

  await t.test('the queue carried the hints, and nothing is left over', async () => {
    const { queues, partitions } = await pipeline.json<StatusResult>(['status']);
    for (const { name, completed } of queues) assert.ok(completed > 0, `queue ${name}`);
    assert.deepEqual(
      partitions.map(({ lag }) => lag),
      [0, 0, 0, 0],
    );
  });

  const before = await dataChanges(reader, await pipeline.lakeFolder());
  const unchanged = async (): Promise<void> => {
    const run = await pipeline.runUntilCaughtUp();
    assert.equal(run.bronzeRows, 0);
    const lake = await pipeline.lakeFolder();
    assert.deepEqual(await dataChanges(reader, lake), before);
    await attachUsage(reader, lake);
    await assertUsage(reader, truth);
  };

  await t.test('running again commits nothing', unchanged);

  await t.test('running again after Redis lost everything commits nothing', async () => {
    const redis = new Redis(redisUrl);
    await redis.flushall();
    await redis.quit();
    await unchanged();
  });
});
