/** The BullMQ queue on a Redis that dies, freezes, fills up or forgets, and with workers that die. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { mock, test, type TestContext } from 'node:test';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import {
  BullmqWorkQueue,
  type BullmqWorkQueueOptions,
} from '../../src/storage/queue/bullmq-work-queue.ts';
import { startRedis, type TestServer } from '../../tools/servers.ts';
import { eventually } from '../support/eventually.ts';
import { sharedRedis, uniqueName } from '../support/servers.ts';

/** Long enough for a machine that does much else, short enough to wait for. */
const COMMAND_TIMEOUT_MS = 2_000;
const unavailable = { kind: 'unavailable', code: 'TM_QUEUE_UNAVAILABLE' };

/** Of the test that runs: closed before its Redis is stopped. */
const opened: BullmqWorkQueue[] = [];

async function closeQueues(): Promise<void> {
  await Promise.all(opened.splice(0).map((queue) => queue.close()));
}

function queueAt(
  t: TestContext,
  url: string,
  options: Partial<BullmqWorkQueueOptions> = {},
): BullmqWorkQueue {
  const queue = new BullmqWorkQueue({
    url,
    prefix: 'tidemark:test',
    ambient: systemAmbient,
    logger: silentLogger,
    retryDelays: { baseMs: 10, maxMs: 50 },
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    ...options,
  });
  opened.push(queue);
  t.after(closeQueues);
  return queue;
}

async function ownRedis(t: TestContext): Promise<{ server: TestServer; url: string }> {
  const server = await startRedis();
  t.after(() => closeQueues().then(() => server.stop()));
  return { server, url: `redis://${server.address}` };
}

function bystander(t: TestContext, url: string): Redis {
  const client = new Redis(url, { maxRetriesPerRequest: null });
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  return client;
}

/** Adds what is missing until nothing is, as the writers' timers do. */
async function addUntilDone(
  queue: BullmqWorkQueue,
  ids: readonly string[],
  done: ReadonlySet<string>,
): Promise<void> {
  await eventually(
    async () => {
      const missing = ids.filter((id) => !done.has(id));
      await Promise.all(missing.map((id) => queue.add('silver', { id, data: {} })));
      assert.deepEqual(missing, []);
    },
    { withinMs: 30_000 },
  );
}

const idsOf = (label: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${label}-${i}`);

test('FLUSHALL under load loses jobs, not the consumer: all that is added again is done', async (t) => {
  const { url } = await ownRedis(t);
  const queue = queueAt(t, url);
  const admin = bystander(t, url);
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id), { concurrency: 4 });
  const ids = idsOf('job', 400);
  const flushing = (async () => {
    for (let i = 0; i < 10; i += 1) {
      await admin.flushall();
      await new Promise((wake) => setTimeout(wake, 30));
    }
  })();
  for (const id of ids) await queue.add('silver', { id, data: {} });
  await flushing;
  await admin.flushall();
  await addUntilDone(queue, ids, done);
});

test('a Redis that dies fails adding at once, comes back empty, and is consumed again', async (t) => {
  const { server, url } = await ownRedis(t);
  const queue = queueAt(t, url);
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id));
  await addUntilDone(queue, idsOf('before', 5), done);
  for (let round = 0; round < 2; round += 1) {
    await server.kill();
    const started = performance.now();
    await assert.rejects(queue.add('silver', { id: 'lost', data: {} }), unavailable);
    await assert.rejects(queue.counts('silver'), unavailable);
    assert.ok(performance.now() - started < COMMAND_TIMEOUT_MS, 'BQ1');
    await server.restart();
    await addUntilDone(queue, idsOf(`after-${round}`, 5), done);
  }
  assert.ok(!done.has('lost'), 'RD1: what was refused was not sent later');
});

test('a job whose Redis dies while it runs ends, and the consumer goes on', async (t) => {
  const { server, url } = await ownRedis(t);
  const queue = queueAt(t, url);
  const done = new Set<string>();
  const { promise: opened, resolve: open } = Promise.withResolvers<void>();
  let started = 0;
  await queue.consume('silver', async (job) => {
    started += 1;
    await opened;
    done.add(job.id);
  });
  await queue.add('silver', { id: 'a', data: {} });
  await eventually(() => assert.equal(started, 1));
  await server.restart();
  open();
  await eventually(() => assert.ok(done.has('a')));
  await addUntilDone(queue, ['b'], done);
});

test('a frozen Redis is waited out', async (t) => {
  const { server, url } = await ownRedis(t);
  const queue = queueAt(t, url);
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id));
  await addUntilDone(queue, ['a'], done);
  await server.kill('SIGSTOP');
  await assert.rejects(queue.add('silver', { id: 'b', data: {} }), unavailable);
  await server.kill('SIGCONT');
  await addUntilDone(queue, ['b', 'c'], done);
});

test('connections that are cut again and again do not stop the consumer', async (t) => {
  const { url } = await ownRedis(t);
  const queue = queueAt(t, url);
  const admin = bystander(t, url);
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id));
  for (let round = 0; round < 5; round += 1) {
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await addUntilDone(queue, idsOf(`round-${round}`, 3), done);
  }
});

test('a full Redis is unavailable for adding, and serves again when there is room', async (t) => {
  const { url } = await ownRedis(t);
  const queue = queueAt(t, url);
  const admin = bystander(t, url);
  await queue.add('silver', { id: 'a', data: {} });
  await admin.config('SET', 'maxmemory', '1');
  await assert.rejects(queue.add('silver', { id: 'b', data: {} }), unavailable);
  await admin.config('SET', 'maxmemory', '0');
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id));
  await addUntilDone(queue, ['a', 'b'], done);
});

test('a queue whose Redis was never there can be opened, consumed and closed, and works later', async (t) => {
  const { server, url } = await ownRedis(t);
  await server.kill();
  const early = queueAt(t, url);
  const done = new Set<string>();
  await early.consume('silver', async (job) => void done.add(job.id));
  await assert.rejects(early.add('silver', { id: 'a', data: {} }), unavailable);
  await server.restart();
  await addUntilDone(early, ['a'], done);
});

test('closing does not wait for a Redis that is away (BC4)', async (t) => {
  const { server, url } = await ownRedis(t);
  const [idle, fresh] = [queueAt(t, url), queueAt(t, url)];
  const done = new Set<string>();
  await idle.consume('silver', async (job) => void done.add(job.id));
  await addUntilDone(idle, ['a'], done);
  await server.kill();
  await fresh.consume('silver', async () => undefined);
  const started = performance.now();
  await Promise.all([idle.close(), fresh.close()]);
  assert.ok(performance.now() - started < 8_000);
});

test('a job whose worker is killed goes to another, however often that happens (BQ2, BC3)', async (t) => {
  const url = await sharedRedis();
  const prefix = uniqueName('killed');
  const timings = { lockMs: 400, stalledCheckMs: 100 };
  const queue = queueAt(t, url, { prefix, timings });
  await queue.add('silver', { id: 'hard', data: { version: 1 } });
  for (let round = 0; round < 3; round += 1) {
    const script = join(import.meta.dirname, '../support/queue-worker.ts');
    const args = [url, prefix, 'silver', `${timings.lockMs}`, `${timings.stalledCheckMs}`];
    const worker = spawn(process.execPath, [script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => worker.kill('SIGKILL'));
    const taken = await new Promise((resolve) => worker.stdout.once('data', resolve));
    assert.equal(String(taken).trim(), 'hard');
    worker.kill('SIGKILL');
  }
  const done: unknown[] = [];
  await queue.consume('silver', async (job) => void done.push(job));
  await eventually(() => assert.deepEqual(done, [{ id: 'hard', data: { version: 1 } }]));
  await eventually(async () => assert.equal((await queue.counts('silver')).completed, 1));
  assert.equal((await queue.counts('silver')).failed, 0);
});

test('a worker that falls silent is replaced (BC2, BQ4)', async (t) => {
  const url = await sharedRedis();
  const timings = { watchMs: 50, silentMs: 1_000 };
  const queue = queueAt(t, url, { prefix: uniqueName('silent'), timings });
  const done = new Set<string>();
  // The first look for a job never comes back, as after a lost reply.
  const fetch = mock.method(
    Worker.prototype as unknown as { _getNextJob: () => Promise<unknown> },
    '_getNextJob',
    () => new Promise(() => undefined),
    { times: 1 },
  );
  t.after(() => fetch.mock.restore());
  const consumer = await queue.consume('silver', async (job) => void done.add(job.id));
  await eventually(() => assert.equal(fetch.mock.callCount(), 1));
  await queue.add('silver', { id: 'a', data: {} });
  await eventually(() => assert.ok(done.has('a')));
  await addUntilDone(queue, ['b'], done);
  await consumer.close();
});

test('a consumer with nothing to do, or with a long job, is left alone (BC2)', async (t) => {
  const url = await sharedRedis();
  const warnings: string[] = [];
  const queue = queueAt(t, url, {
    prefix: uniqueName('calm'),
    timings: { watchMs: 10, silentMs: 1_000 },
    logger: { ...silentLogger, warn: (message) => void warnings.push(message) },
  });
  const { promise: opened, resolve: open } = Promise.withResolvers<void>();
  let started = 0;
  await queue.consume('silver', async () => {
    started += 1;
    await opened;
  });
  await new Promise((wake) => setTimeout(wake, 1_300));
  for (const id of ['a', 'b', 'c']) await queue.add('silver', { id, data: {} });
  await eventually(() => assert.equal(started, 1));
  await new Promise((wake) => setTimeout(wake, 1_300));
  open();
  await eventually(async () => assert.equal((await queue.counts('silver')).completed, 3));
  assert.deepEqual(warnings, []);
});

test('what is no job of ours is set aside and holds up nothing (BQ2)', async (t) => {
  const url = await sharedRedis();
  const queue = queueAt(t, url, { prefix: uniqueName('foreign') });
  const connection = bystander(t, url);
  const foreign = new Queue('silver', { connection, prefix: queue.bullmqPrefix });
  t.after(() => foreign.close());
  await foreign.add('x', { table: { path: '../../etc/passwd' } }, { jobId: 'nested' });
  await foreign.add('x', ['list'], { jobId: 'list' });
  await foreign.add('x', {}); // BullMQ's own id: digits
  await foreign.add('x', { text: 'x'.repeat(5_000) }, { jobId: 'long' });
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id));
  await addUntilDone(queue, ['good'], done);
  await eventually(async () => assert.equal((await queue.counts('silver')).failed, 4));
  // Its id is not lost to us: adding it puts the right content in its place (BQ3).
  await addUntilDone(queue, ['nested'], done);
  assert.deepEqual([...done].toSorted(), ['good', 'nested']);
});

test('a paused queue is not taken for a silent worker', async (t) => {
  const url = await sharedRedis();
  const warnings: string[] = [];
  const queue = queueAt(t, url, {
    prefix: uniqueName('paused'),
    timings: { watchMs: 10, silentMs: 50 },
    logger: { ...silentLogger, warn: (message) => void warnings.push(message) },
  });
  const board = new Queue('silver', {
    connection: bystander(t, url),
    prefix: queue.bullmqPrefix,
  });
  t.after(() => board.close());
  await board.pause();
  const done = new Set<string>();
  await queue.consume('silver', async (job) => void done.add(job.id));
  await queue.add('silver', { id: 'a', data: {} });
  assert.equal((await queue.counts('silver')).waiting, 1);
  await new Promise((wake) => setTimeout(wake, 300));
  assert.deepEqual([done.size, warnings], [0, []]);
  await board.resume();
  await eventually(() => assert.ok(done.has('a')));
});
