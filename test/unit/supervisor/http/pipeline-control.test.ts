/** The real control over tables and state in memory: verdicts, outages, wishes. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { stringify } from 'yaml';
import { systemAmbient } from '../../../../src/ambient.ts';
import { parsePipeline } from '../../../../src/config.ts';
import { openTables } from '../../../../src/engine/tables.ts';
import { PipelineError } from '../../../../src/errors.ts';
import { silentLogger } from '../../../../src/logger.ts';
import { bronzeAppId } from '../../../../src/pipeline/progress.ts';
import { MemoryObjectStore } from '../../../../src/storage/object-store/memory-object-store.ts';
import type { QueueCounts, WorkQueue } from '../../../../src/storage/queue/work-queue.ts';
import type { EventSource } from '../../../../src/storage/source/event-source.ts';
import { MemoryStateStore } from '../../../../src/storage/state/memory-state-store.ts';
import {
  pinUnit,
  readControl,
  readPinned,
  takeRebalanceRequest,
  writePlacement,
} from '../../../../src/supervisor/control.ts';
import { statusSchema, workersSchema } from '../../../../src/supervisor/http/api-schemas.ts';
import { createSupervisorControl } from '../../../../src/supervisor/http/pipeline-control.ts';
import { announceMember, type Member, memberLease } from '../../../../src/supervisor/membership.ts';
import type { Placement } from '../../../../src/supervisor/placement.ts';
import type { Unit } from '../../../../src/supervisor/units.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const TOPIC = { topic: 'usage', topicId: 'topic-id', partitionCount: 2 };
const LEASE_MS = 10 ** 9;
const PLAN: Placement = new Map<Unit, string>([
  ['partition:0', 'worker-1'],
  ['partition:1', 'worker-2'],
  ['silver:0', 'worker-1'],
  ['gold', 'worker-2'],
]);

class Away {
  error: PipelineError | undefined;

  check(): void {
    if (this.error) throw this.error;
  }

  set(isAway: boolean): void {
    this.error = isAway
      ? new PipelineError('unavailable', 'TM_SERVICE_UNAVAILABLE', 'connection refused')
      : undefined;
  }
}

async function world(t: TestContext, options: { readonly isLeading?: boolean } = {}) {
  const clock = new ManualClock();
  const ambient = { ...systemAmbient, clock };
  const parsed = parsePipeline(
    stringify({
      name: 'usage',
      source: { kind: 'embedded', path: 'log', topic: TOPIC.topic },
      event: {
        id: 'id',
        time: 'at',
        schema: { version: 1, fields: { id: 'string', at: 'timestamp' } },
      },
      gold: [{ name: 'hourly', window: '1h', groupBy: [], measures: { n: { fn: 'count' } } }],
    }),
    { environment: {}, cwd: '/nowhere' },
  );
  assert.ok(parsed.ok, JSON.stringify(parsed));
  const { config } = parsed;
  const codec = { encode: absent, decode: absent };
  const store = new MemoryObjectStore({ clock });
  const delta = { store, codec, ambient, logger: silentLogger };
  const tables = await openTables(delta, config);
  const state = new MemoryStateStore({ clock });
  const sourceAway = new Away();
  const stateAway = new Away();
  const queueAway = new Away();
  const ends = [100n, 50n];
  const failedJobs = { count: 0 };
  const source: Pick<EventSource, 'offsets'> = {
    async offsets(partition) {
      sourceAway.check();
      return { earliest: 0n, latest: ends[partition]! };
    },
  };
  const queue: Pick<WorkQueue, 'counts'> = {
    async counts(name): Promise<QueueCounts> {
      queueAway.check();
      const { count: failed } = failedJobs;
      return { name, waiting: 0, active: 0, delayed: 0, completed: 0, failed };
    },
  };
  const flakyState = new Proxy(state, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return async (...args: unknown[]) => {
        stateAway.check();
        return value.apply(target, args) as unknown;
      };
    },
  });
  let strategyCarriedOut: string | undefined;
  const after = new Map<Unit, string>([...PLAN, ['partition:1', 'worker-1']]);
  const control = createSupervisorControl({
    pipeline: {
      config,
      tables,
      delta,
      ports: {
        source: source as EventSource,
        state: flakyState,
        queue: queue as WorkQueue,
      },
    },
    supervisorId: 'supervisor-1',
    supervisor: {
      isLeading: options.isLeading ?? true,
      topic: TOPIC,
      plan: async () => ({ before: PLAN, after }),
      rebalance: async (strategy) => {
        strategyCarriedOut = strategy;
        return { before: PLAN, after };
      },
    },
    ambient,
    logger: silentLogger,
  });
  t.after(() => control.close());
  const member = async (memberId: string, differs: Partial<Member> = {}): Promise<void> => {
    await state.acquireLease(memberLease(memberId), memberId, LEASE_MS);
    await announceMember(state, {
      memberId,
      roles: ['worker', 'writer'],
      host: 'host',
      pid: 1,
      startedAtMs: clock.nowMs(),
      heartbeatMs: clock.nowMs(),
      draining: false,
      memoryBytes: 1_000,
      restarts: 0,
      counts: {},
      ...differs,
    });
  };
  const commit = async (partition: number, next: bigint): Promise<void> => {
    const appId = bronzeAppId(config.name, TOPIC.topic, TOPIC.topicId, partition);
    const outcome = await tables.bronze.commit({
      operation: 'STREAMING UPDATE',
      adds: [],
      progress: [{ appId, expected: tables.bronze.snapshot.progress(appId), next }],
    });
    assert.equal(outcome.kind, 'committed', JSON.stringify(outcome));
  };
  /** Workers, leader and placement as they are when all is well. */
  const settle = async (): Promise<void> => {
    await member('worker-1');
    await member('worker-2');
    await state.acquireLease('supervisor', 'supervisor-1', LEASE_MS);
    await writePlacement(state, new Map(), PLAN);
    for (const partition of [0, 1]) {
      const worker = PLAN.get(`partition:${partition}`)!;
      await state.setHash(`partition:${partition}`, { worker, state: 'running' });
    }
    await commit(0, 100n);
    await commit(1, 50n);
  };
  /** A reading of what is so now. */
  const look = async () => {
    clock.advance(1_000);
    return statusSchema.parse(await control.status());
  };
  return {
    clock,
    config,
    state,
    tables,
    control,
    ends,
    failedJobs,
    away: { source: sourceAway, state: stateAway, queue: queueAway },
    member,
    commit,
    settle,
    look,
    carriedOut: () => strategyCarriedOut,
  };
}

async function absent(): Promise<never> {
  throw new Error('no checkpoints in this test');
}

test('PF1 offsets are those of the log, whatever hints say', async (t) => {
  const { settle, look, state } = await world(t);
  await settle();
  await state.setHash('partition:0', { nextOffset: '999999', endOffset: '7', state: 'running' });
  const [first] = (await look()).partitions;
  assert.deepEqual([first?.nextOffset, first?.endOffset, first?.lag], [100, 100, 0]);
});

test('a partition that stopped loudly makes the pipeline failed, with its reason', async (t) => {
  const { settle, look, state } = await world(t);
  await settle();
  const reason = 'offsets 3 to 9 were deleted before Tidemark read them';
  await state.setHash('partition:1', { state: 'failed', reason });
  const { health, findings, partitions } = await look();
  assert.equal(health, 'failed');
  assert.deepEqual(findings[0], { severity: 'failed', subject: 'partition 1', message: reason });
  assert.deepEqual([partitions[1]?.state, partitions[1]?.reason], ['failed', reason]);
  await state.setHash('partition:1', { state: 'running' });
  const recovered = await look();
  assert.deepEqual(recovered.partitions[1]?.reason, null, 'an old reason says nothing');
  assert.ok(recovered.findings.every(({ severity }) => severity !== 'failed'));
});

test('a writer that stopped loudly is told too', async (t) => {
  const { settle, look, state } = await world(t);
  await settle();
  await state.setHash('writer:silver:0', { state: 'failed', reason: 'schema' });
  const { health, writers } = await look();
  assert.equal(health, 'failed');
  assert.equal(writers.find(({ unit }) => unit === 'silver:0')?.state, 'failed');
});

test('a worker without a lease owns nothing; without workers the pipeline has failed', async (t) => {
  const { settle, look, state } = await world(t);
  await settle();
  const lease = await state.leaseHolder(memberLease('worker-2'));
  await state.releaseLease({ name: memberLease('worker-2'), ...lease! });
  const one = await look();
  assert.deepEqual(
    one.partitions.map(({ worker, state: s }) => [worker, s]),
    [
      ['worker-1', 'running'],
      [null, 'not running'],
    ],
  );
  const other = await state.leaseHolder(memberLease('worker-1'));
  await state.releaseLease({ name: memberLease('worker-1'), ...other! });
  const { health, findings } = await look();
  assert.equal(health, 'failed');
  assert.ok(findings.some(({ subject }) => subject === 'workers'));
});

test('what does not answer is named, and the last answers stay', async (t) => {
  const { settle, look, away, control } = await world(t);
  await settle();
  assert.equal((await look()).health, 'ok');
  for (const part of Object.values(away)) part.set(true);
  const dark = await look();
  const subjects = dark.findings.filter((f) => f.message.includes('refused')).map((f) => f.subject);
  assert.deepEqual(subjects, ['state store', 'source', 'queues']);
  assert.equal(dark.workers.alive, 2);
  assert.equal(dark.partitions[0]?.endOffset, 100);
  assert.deepEqual(control.readiness(), {
    isReady: false,
    why: 'the state store does not answer',
  });
  for (const part of Object.values(away)) part.set(false);
  const light = await look();
  assert.ok(light.findings.every((f) => !f.message.includes('refused')));
  assert.equal(control.readiness().isReady, true);
});

test('lag has an age, and a stage behind for over a minute needs a look', async (t) => {
  const { settle, look, ends, clock, commit } = await world(t);
  await settle();
  await look();
  ends[0] = 130n;
  clock.advance(30_000);
  assert.equal((await look()).partitions[0]?.lag, 30);
  clock.advance(70_000);
  const late = await look();
  assert.ok(late.partitions[0]!.lagSeconds! >= 70, String(late.partitions[0]?.lagSeconds));
  assert.ok(late.findings.some(({ subject }) => subject === 'bronze'));
  await commit(0, 130n);
  const done = await look();
  assert.deepEqual([done.partitions[0]?.lag, done.partitions[0]?.lagSeconds], [0, 0]);
  assert.ok(done.findings.every(({ subject }) => subject !== 'bronze'));
});

test('failed jobs, pauses and drains are findings of their own weight', async (t) => {
  const { settle, look, failedJobs, control, state } = await world(t);
  await settle();
  failedJobs.count = 3;
  const subjects = (await look()).findings.map(({ subject }) => subject);
  assert.ok(subjects.includes('queue silver'));
  failedJobs.count = 0;
  await control.setPaused(true);
  assert.equal((await readControl(state)).paused, true);
  const paused = await look();
  assert.equal(paused.isPaused, true);
  assert.ok(paused.findings.some((f) => f.severity === 'notice' && f.subject === 'pipeline'));
  assert.equal((await control.drain('worker-2', true)).kind, 'done');
  assert.ok((await readControl(state)).draining.has('worker-2'));
  assert.equal((await look()).workers.draining, 1);
  assert.equal((await control.drain('worker-9', true)).kind, 'not-found');
  const { workers } = workersSchema.parse(await control.workers());
  assert.deepEqual(
    workers.map(({ isDraining }) => isDraining),
    [false, true],
  );
});

test('counts of members become totals, rates and histograms', async (t) => {
  const { settle, look, member, clock, control } = await world(t);
  await settle();
  const counts = (bronzeRows: number) => ({
    bronzeRows,
    silverRows: bronzeRows,
    late: 2,
    inFlightBytes: 512,
    'commit:bronze:0.1': 3,
    'commit:bronze:1': 4,
    'commit:bronze:count': 5,
    'commit:bronze:sum': 7.5,
  });
  await member('worker-1', { counts: counts(1_000) });
  await look();
  clock.advance(9_000);
  await member('worker-1', { counts: counts(21_000) });
  const { totals, rates, memory } = await look();
  assert.equal(totals.bronzeRows, 21_000);
  assert.equal(totals.late, 2);
  assert.equal(rates.recordsPerSecond, 2_000);
  assert.deepEqual(memory, { processBytes: 1_000, inFlightBytes: 512 }, 'one process, two members');
  assert.deepEqual(control.commitDurations.get('bronze'), {
    buckets: [
      { seconds: 0.1, count: 3 },
      { seconds: 1, count: 4 },
    ],
    count: 5,
    sumSeconds: 7.5,
  });
});

test('PC1 a leader rebalances itself, one that stands by asks the leader, a dry run does neither', async (t) => {
  const leading = await world(t);
  const planned = await leading.control.rebalance({ strategy: 'even', dryRun: true });
  assert.equal(planned.outcome, 'planned');
  assert.deepEqual(planned.moves, [{ unit: 'partition:1', from: 'worker-2', to: 'worker-1' }]);
  assert.deepEqual(planned.loads, [
    { worker: 'worker-1', before: 2, after: 3 },
    { worker: 'worker-2', before: 2, after: 1 },
  ]);
  assert.equal(leading.carriedOut(), undefined);
  const done = await leading.control.rebalance({ strategy: 'even', dryRun: false });
  assert.equal(done.outcome, 'carried out');
  assert.equal(leading.carriedOut(), 'even');

  const standby = await world(t, { isLeading: false });
  const asked = await standby.control.rebalance({ strategy: 'even', dryRun: false });
  assert.equal(asked.outcome, 'requested');
  assert.equal(standby.carriedOut(), undefined);
  assert.equal(await takeRebalanceRequest(standby.state), 'even');
  assert.equal(await takeRebalanceRequest(standby.state), undefined, 'it is carried out once');
});

test('a partition is placed on a live worker that takes some, or on nobody', async (t) => {
  const { settle, control, state, member, clock } = await world(t);
  await settle();
  await member('writer-1', { roles: ['writer'] });
  await member('worker-3', { draining: true });
  clock.advance(1_000);
  const kinds = [];
  for (const worker of ['worker-1', 'worker-9', 'writer-1', 'worker-3']) {
    kinds.push((await control.place(0, worker)).kind);
  }
  assert.deepEqual(kinds, ['done', 'conflict', 'conflict', 'conflict']);
  assert.deepEqual([...(await readPinned(state))], [['partition:0', 'worker-1']]);
  clock.advance(1_000);
  const pinned = (await control.workers()).workers.map((worker) => [worker.id, worker.pinned]);
  assert.deepEqual(
    pinned.filter(([, units]) => units!.length > 0),
    [['worker-1', ['partition:0']]],
  );
  assert.equal((await control.place(2, 'worker-1')).kind, 'not-found');
  assert.equal((await control.place(0, undefined)).kind, 'done');
  assert.equal((await readPinned(state)).size, 0);
});

test('a partition shows its placement, its epoch and its last commit', async (t) => {
  const { settle, control, state, clock } = await world(t);
  await settle();
  const lease = await state.acquireLease('partition:0', 'worker-1', LEASE_MS);
  await pinUnit(state, 'partition:0', 'worker-1');
  await state.setHash('partition:0', { bronzeVersion: '12', committedAtMs: 'not a number' });
  clock.advance(1_000);
  const detail = await control.partition(0);
  assert.equal(detail?.placedOn, 'worker-1');
  assert.equal(detail?.isPinned, true);
  assert.equal(detail?.epoch, lease?.epoch);
  assert.equal(detail?.bronzeVersion, 12);
  assert.equal(detail?.committedAt, null);
  assert.equal(await control.partition(2), undefined);
});

test('PC3 who asked for a change and then reads sees it at once', async (t) => {
  const { settle, look, control } = await world(t);
  await settle();
  await look();
  const drained = async () => (await control.workers()).workers.map(({ isDraining }) => isDraining);
  assert.deepEqual(await drained(), [false, false]);
  await control.drain('worker-1', true);
  assert.deepEqual(await drained(), [true, false]);
  const underWay = control.status();
  await control.setPaused(true);
  assert.equal((await control.status()).isPaused, true);
  await underWay;
});

test('PC2 history is bounded and tells each reading once to whoever listens', async (t) => {
  const { settle, look, control } = await world(t);
  await settle();
  let heard = 0;
  const end = control.onStatus(() => (heard += 1));
  for (let reading = 0; reading < 470; reading += 1) await look();
  end();
  await look();
  assert.equal(control.history.length, 450);
  assert.ok(heard >= 470);
  const times = control.history.map(({ at }) => at);
  assert.deepEqual(times, times.toSorted());
});
