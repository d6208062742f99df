/**
 * Issue 4: a broker that is away, partitions added, rebalances without end, workers that come and go
 * (21, 22, 24, 25, 38), all under load. Prints how long each took.
 *
 * The broker is away, and rebalances go on, for a minute (`TIDEMARK_TEST_OUTAGE_S`).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startKafka } from '../../tools/servers.ts';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { createStateStore } from '../../src/storage/state/create-state-store.ts';
import { eventually } from '../support/eventually.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import {
  assertExact,
  OUTAGE_MS,
  pause,
  PipelineWatch,
  RECOVERY_DEFINITION,
  SteadyLoad,
} from '../support/recovery.ts';

const WITHIN_MS = 60_000;

test('a broker killed for a while, partitions added, a rebalance every second (I1, I2, I19)', async (t) => {
  const server = await startKafka();
  t.after(() => server.stop());
  const pipeline = await PipelineFixture.create(t, {
    definition: RECOVERY_DEFINITION,
    on: 'servers',
    kafka: server.address,
  });
  const run = pipeline.start(['run', '--workers', '2']);
  const load = await SteadyLoad.start(t, pipeline);
  const watch = await PipelineWatch.open(t, pipeline);
  await watch.untilCommit('gold', WITHIN_MS);

  await t.test(`the broker killed and restarted after ${OUTAGE_MS / 1_000} s`, async (t) => {
    await server.kill();
    await pause(OUTAGE_MS);
    await server.restart();
    const startedMs = performance.now();
    await eventually(() => watch.untilBronzeHasAll(WITHIN_MS), { withinMs: WITHIN_MS });
    await watch.untilCommit('gold', WITHIN_MS);
    const tookMs = performance.now() - startedMs;
    t.diagnostic(`caught up ${(tookMs / 1_000).toFixed(1)} s after the broker was back`);
  });

  await t.test('4 partitions become 8', async (t) => {
    const { admin, config } = pipeline.topic!;
    const startedMs = performance.now();
    await admin.createPartitions({ topicPartitions: [{ topic: config.topic, count: 8 }] });
    await eventually(
      async () => {
        const { partitions } = await watch.progress();
        return (
          partitions.size === 8 && [...partitions.values()].every(({ next }) => (next ?? 0n) > 0n)
        );
      },
      { withinMs: WITHIN_MS },
    );
    const tookMs = performance.now() - startedMs;
    t.diagnostic(`all 8 partitions committed after ${(tookMs / 1_000).toFixed(1)} s`);
  });

  await t.test(`a rebalance every second for ${OUTAGE_MS / 1_000} s`, async (t) => {
    const address = /watch it at (\S+)/.exec(run.stderr)![1]!;
    const call = async (method: string, path: string, body?: object): Promise<unknown> => {
      const response = await fetch(`${address}${path}`, {
        method,
        ...(body
          ? { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
          : {}),
      });
      assert.ok(
        response.ok,
        `${method} ${path}: ${response.status} ${await response.clone().text()}`,
      );
      return response.json();
    };
    const { workers } = (await call('GET', '/v1/workers')) as { workers: { id: string }[] };
    assert.equal(workers.length, 2);
    const before = await watch.versions();
    /** A worker that was silent for a moment takes no unit; the next round asks again. */
    let refusals = 0;
    const refused = (thrown: Error): void => {
      if (!/: 409 /.test(thrown.message)) throw thrown;
      refusals += 1;
    };
    // An operator who cannot decide: half of the partitions change sides every second.
    const rebalance = async (round: number): Promise<void> => {
      const places = [0, 2, 4, 6].map((even) => {
        const partition = even + (round % 2);
        const worker = workers[(partition + Math.floor(round / 2)) % 4 < 2 ? 0 : 1]!.id;
        return call('PUT', `/v1/partitions/${partition}/worker`, { worker }).catch(refused);
      });
      await Promise.all(places);
      const strategy = round % 2 === 0 ? 'even' : 'sticky';
      await call('POST', '/v1/rebalance', { strategy }).catch(refused);
    };
    const rounds = OUTAGE_MS / 1_000;
    const rebalances: Promise<void>[] = [];
    for (let round = 0; round < rounds; round += 1) {
      // The next one does not wait for an answer.
      rebalances.push(rebalance(round));
      await pause(1_000);
    }
    await Promise.all(rebalances);
    assert.ok(refusals < rounds / 2, `${refusals} refused`);
    const after = await watch.versions();
    for (let partition = 0; partition < 8; partition += 1) {
      await call('PUT', `/v1/partitions/${partition}/worker`, { worker: null });
    }
    const tookMs = await watch.untilBronzeHasAll(WITHIN_MS);
    t.diagnostic(
      `${rounds} rebalances: ${after.bronze - before.bronze} bronze commits and ` +
        `${after.gold - before.gold} gold commits meanwhile, all there ${(tookMs / 1_000).toFixed(1)} s after`,
    );
    assert.ok(after.bronze > before.bronze && after.gold > before.gold, 'work went on');
  });

  const events = await load.stop();
  await watch.caughtUp();
  const { code, stderr } = await run.kill('SIGTERM');
  assert.equal(code, 0, stderr);
  await assertExact(t, pipeline, events);
});

test('workers scaled 1 to 4 to 2 under load (22)', async (t) => {
  const pipeline = await PipelineFixture.create(t, {
    definition: RECOVERY_DEFINITION,
    on: 'servers',
    partitions: 8,
  });
  const state = await createStateStore(pipeline.config, {
    ambient: systemAmbient,
    logger: silentLogger,
  });
  t.after(() => state.close());
  const ownersAre = (count: number) => async (): Promise<boolean> => {
    const holders = await Promise.all(
      Array.from({ length: 8 }, (_, p) => state.leaseHolder(`partition:${p}`)),
    );
    const owners = new Set(holders.map((holder) => holder?.owner));
    return owners.size === count && !owners.has(undefined);
  };
  const seconds = async (work: Promise<unknown>): Promise<string> => {
    const startedMs = performance.now();
    await work;
    return `${((performance.now() - startedMs) / 1_000).toFixed(1)} s`;
  };
  const worker = (number: number) => pipeline.start(['worker', '--id', `worker-${number}`]);
  const others = [pipeline.start(['supervisor']), pipeline.start(['writer'])];
  const workers = [worker(1)];
  const load = await SteadyLoad.start(t, pipeline);
  const watch = await PipelineWatch.open(t, pipeline);
  await watch.untilCommit('gold', WITHIN_MS);

  const startedMs = performance.now();
  workers.push(worker(2), worker(3), worker(4));
  const up = await seconds(eventually(ownersAre(4), { withinMs: WITHIN_MS }));
  const upAllMs = performance.now() - startedMs + (await watch.untilBronzeHasAll(WITHIN_MS));
  t.diagnostic(
    `1 to 4: partitions on 4 workers after ${up}, all caught up after ${upAllMs | 0} ms`,
  );

  const leaving = workers.splice(1, 2);
  const down = await seconds(Promise.all(leaving.map((process) => process.kill('SIGTERM'))));
  for (const { code, stderr } of await Promise.all(leaving.map(({ exited }) => exited))) {
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /longer than its grace/);
  }
  await eventually(ownersAre(2), { withinMs: WITHIN_MS });
  const downAll = await seconds(watch.untilBronzeHasAll(WITHIN_MS));
  t.diagnostic(`4 to 2: two workers drained in ${down}, all caught up ${downAll} later`);

  const events = await load.stop();
  await watch.caughtUp();
  await Promise.all([...workers, ...others].map((process) => process.kill('SIGTERM')));
  await assertExact(t, pipeline, events);
});
