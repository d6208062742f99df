/**
 * Issue 4: Redis and the queues may lose, refuse or repeat anything at any moment (49, 50, 53, 60, 63;
 * P1, I14, I16). Prints how long each recovery took.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { startRedis } from '../../tools/servers.ts';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { createWorkQueue } from '../../src/storage/queue/create-work-queue.ts';
import { PipelineFixture, type StatusResult } from '../support/pipeline-fixture.ts';
import {
  assertExact,
  pause,
  PipelineWatch,
  RECOVERY_DEFINITION,
  SteadyLoad,
} from '../support/recovery.ts';

const WITHIN_MS = 60_000;
const TROUBLE_MS = 5_000;

test('a Redis that loses, refuses or repeats everything costs time, nothing else (P1, I14, I16)', async (t) => {
  const server = await startRedis();
  t.after(() => server.stop());
  const redisUrl = `redis://${server.address}`;
  const redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
  redis.on('error', () => {});
  t.after(() => redis.disconnect());
  const pipeline = await PipelineFixture.create(t, {
    definition: RECOVERY_DEFINITION,
    on: 'servers',
    redisUrl,
  });
  const run = pipeline.start(['run', '--workers', '2']);
  const load = await SteadyLoad.start(t, pipeline);
  const watch = await PipelineWatch.open(t, pipeline);
  await watch.untilCommit('gold', WITHIN_MS);

  const recovered = async (t: TestContext): Promise<void> => {
    const bronzeMs = await watch.untilBronzeHasAll(WITHIN_MS);
    const goldMs = bronzeMs + (await watch.untilCommit('gold', WITHIN_MS));
    const [bronze, gold] = [bronzeMs, goldMs].map((ms) => `${(ms / 1_000).toFixed(1)} s`);
    t.diagnostic(`${t.name}: bronze has all after ${bronze}, gold commits after ${gold}`);
  };

  await t.test('FLUSHALL, three times', async (t) => {
    for (let time = 1; time <= 3; time += 1) {
      await redis.flushall();
      await recovered(t);
    }
  });

  await t.test('killed, away for a while, restarted empty', async (t) => {
    await server.kill();
    await pause(TROUBLE_MS);
    const awayMs = await watch.untilBronzeHasAll(WITHIN_MS);
    t.diagnostic(`while it is away bronze has all after ${(awayMs / 1_000).toFixed(1)} s`);
    await server.restart();
    await recovered(t);
  });

  await t.test('out of memory', async (t) => {
    await redis.config('SET', 'maxmemory', '1');
    await pause(TROUBLE_MS);
    await recovered(t);
    await assert.rejects(redis.set('anything', '1'), /OOM/, 'it was full all the time');
    await redis.config('SET', 'maxmemory', '0');
    await recovered(t);
  });

  await t.test('every queue job lost', async (t) => {
    const untilMs = performance.now() + TROUBLE_MS;
    let lost = 0;
    while (performance.now() < untilMs) {
      const keys = await redis.keys('*:q:*');
      if (keys.length > 0) lost += await redis.del(...keys);
      await pause(50);
    }
    assert.ok(lost > 0);
    await recovered(t);
  });

  await t.test('every job twice, out of order, with jobs that mean nothing between', async (t) => {
    const context = { ambient: systemAmbient, logger: silentLogger };
    const queue = await createWorkQueue(pipeline.config, context);
    t.after(() => queue.close());
    const { bronze, silver } = await watch.versions();
    for (const [name, head] of [
      ['silver', bronze],
      ['gold', silver],
    ] as const) {
      const versions = Array.from({ length: 60 }, (_, i) => head + 10 - i);
      for (const version of versions) {
        for (const copy of ['a', 'b']) {
          const data = { table: 'bronze/recovery', version };
          await queue.add(name, { id: `again-${copy}-v${version}`, data });
        }
      }
      await queue.add(name, { id: 'no-version', data: { table: '../../elsewhere' } });
    }
    await recovered(t);
  });

  const events = await load.stop();
  await watch.caughtUp();
  const { queues } = await pipeline.json<StatusResult>(['status']);
  assert.ok(
    queues.every(({ completed }) => completed > 0),
    JSON.stringify(queues),
  );
  const { code, stdout, stderr } = await run.kill('SIGTERM');
  assert.equal(code, 0, stderr);
  assert.equal((JSON.parse(stdout) as { restarts: number }).restarts, 0, stderr);
  await assertExact(t, pipeline, events);
  const again = await pipeline.runUntilCaughtUp();
  assert.equal(again.bronzeRows, 0, 'running again finds nothing to do (I14)');
});
