/**
 * The HTTP side on a pipeline that runs: what it shows is what the tables say, and what operators ask
 * for happens.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { eventText, type ServedPipeline, servePipeline } from '../support/served-pipeline.ts';
import type {
  Assignments,
  Rebalanced,
  Status,
  Workers,
} from '../../src/supervisor/http/api-schemas.ts';

const EVENTS = 1_000;

async function get<Shape>({ address }: ServedPipeline, path: string): Promise<Shape> {
  const response = await fetch(`${address}${path}`);
  assert.equal(response.status, 200, `${path}: ${await response.clone().text()}`);
  return (await response.json()) as Shape;
}

async function change<Shape>(
  { address }: ServedPipeline,
  method: 'POST' | 'PUT',
  path: string,
  body: unknown = {},
): Promise<{ readonly status: number; readonly body: Shape }> {
  const response = await fetch(`${address}${path}`, {
    method,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Shape };
}

function events(from: number, count: number): string[] {
  const nowMs = Date.now();
  return Array.from({ length: count }, (_, index) => eventText(from + index, nowMs));
}

/** Runs until gold has what was appended. */
async function servedWithEvents(t: TestContext): Promise<ServedPipeline> {
  const served = await servePipeline(t);
  const appended = events(0, EVENTS);
  await served.append([...appended, ...appended.slice(0, 10), 'no json']);
  await eventually(
    async () => {
      const status = await get<Status>(served, '/v1/status');
      // Each worker tells its own totals, with its next heartbeat.
      assert.equal(status.totals.bronzeRows, EVENTS + 11);
      assert.equal(status.totals.silverRows, EVENTS);
      assert.equal(status.totals.duplicates, 10);
      assert.equal(status.totals.deadLetters, 1);
      assert.deepEqual(
        status.hops.map(({ behind }) => behind),
        [0, 0, 0],
      );
    },
    { withinMs: 60_000 },
  );
  return served;
}

test('status shows offsets, watermarks, owners, versions and counts of a pipeline that caught up', async (t) => {
  const served = await servedWithEvents(t);
  const status = await get<Status>(served, '/v1/status');
  assert.equal(status.health, 'ok', JSON.stringify(status.findings));
  assert.equal(status.supervisor.isLeading, true);
  const taken = status.partitions.reduce((sum, { nextOffset }) => sum + Number(nextOffset), 0);
  assert.equal(taken, EVENTS + 11);
  for (const { lag, worker, state, watermark } of status.partitions) {
    assert.equal(lag, 0);
    assert.match(worker ?? '', /^worker-[12]$/);
    assert.equal(state, 'running');
    assert.match(watermark ?? '', /^\d{4}-/);
  }
  const rows = Object.fromEntries(status.tables.map((table) => [table.name, table.rows]));
  assert.equal(rows['bronze.usage_events'], EVENTS + 11);
  assert.equal(rows['silver.usage_events'], EVENTS);
  assert.equal(rows['bronze.usage_events_dlq'], 1);

  let metrics = '';
  // What members announce of their commits comes with their next heartbeat.
  await eventually(async () => {
    metrics = await (await fetch(`${served.address}/metrics`)).text();
    return /^tidemark_commit_duration_seconds_count\{stage="gold"\} [1-9]/m.test(metrics);
  });
  assert.match(metrics, /^tidemark_rows_total\{stage="silver"\} 1000$/m);
  assert.match(metrics, /^tidemark_partition_lag_records\{topic="[^"]+",partition="0"\} 0$/m);
});

test('a pause holds new records back until the pipeline is resumed', async (t) => {
  const served = await servedWithEvents(t);
  assert.equal((await change(served, 'POST', '/v1/pause')).status, 200);
  await eventually(async () => {
    const { partitions, isPaused } = await get<Status>(served, '/v1/status');
    return isPaused && partitions.every(({ state }) => state === 'paused');
  });
  await served.append(events(EVENTS, 100));
  await eventually(async () => {
    const { hops, health } = await get<Status>(served, '/v1/status');
    assert.equal(health, 'paused');
    assert.equal(hops[0]?.behind, 100);
  });
  assert.equal((await change(served, 'POST', '/v1/resume')).status, 200);
  await eventually(async () => {
    assert.equal((await get<Status>(served, '/v1/status')).totals.silverRows, EVENTS + 100);
  });
});

test('a drained worker gives everything back and takes it again when that is ended', async (t) => {
  const served = await servedWithEvents(t);
  const drained = await change(served, 'POST', '/v1/workers/worker-1/drain');
  assert.equal(drained.status, 202);
  const ownersOf = async (): Promise<Set<string | null>> => {
    const { assignments } = await get<Assignments>(served, '/v1/assignments');
    return new Set(assignments.map(({ owner }) => owner));
  };
  await eventually(async () => assert.deepEqual(await ownersOf(), new Set(['worker-2'])));
  const { workers } = await get<Workers>(served, '/v1/workers');
  assert.deepEqual(
    workers.map(({ id, isDraining }) => [id, isDraining]),
    [
      ['worker-1', true],
      ['worker-2', false],
    ],
  );
  await change(served, 'POST', '/v1/workers/worker-1/drain', { draining: false });
  await eventually(async () => assert.equal((await ownersOf()).size, 2));
});

test('a partition placed by hand moves there, stays, and is let go of again', async (t) => {
  const served = await servedWithEvents(t);
  const place = (worker: string | null) =>
    change<unknown>(served, 'PUT', '/v1/partitions/0/worker', { worker });
  const pinned = async () => {
    const { assignments } = await get<Assignments>(served, '/v1/assignments');
    return assignments.find(({ unit }) => unit === 'partition:0');
  };
  for (const worker of ['worker-1', 'worker-2']) {
    assert.equal((await place(worker)).status, 202);
    await eventually(async () => {
      const { owner, isPinned } = (await pinned())!;
      assert.deepEqual([owner, isPinned], [worker, true]);
    });
  }
  assert.equal((await place(null)).status, 202);
  await eventually(async () => assert.equal((await pinned())?.isPinned, false));
  assert.equal((await place('worker-9')).status, 409);
  const dryRun = { strategy: 'even', dryRun: true };
  const planned = await change<Rebalanced>(served, 'POST', '/v1/rebalance', dryRun);
  assert.equal(planned.body.outcome, 'planned');
  const carriedOut = await change<Rebalanced>(served, 'POST', '/v1/rebalance', {
    strategy: 'even',
  });
  assert.equal(carriedOut.body.outcome, 'carried out');
});
