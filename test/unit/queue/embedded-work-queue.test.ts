/** What the embedded queue promises beyond the contract: bounds, turns, and an orderly end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ambient, systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { EmbeddedWorkQueue } from '../../../src/storage/queue/embedded-work-queue.ts';
import { eventually } from '../../support/eventually.ts';

const job = (id: string) => ({ id, data: {} });

test('a full queue is unavailable, until there is room again (EQ2)', async () => {
  const queue = new EmbeddedWorkQueue({
    ambient: systemAmbient,
    logger: silentLogger,
    jobsMax: 2,
  });
  await queue.add('silver', job('a'));
  await queue.add('silver', job('b'));
  await queue.add('silver', job('a')); // It waits already: no more room is needed.
  await assert.rejects(queue.add('silver', job('c')), {
    kind: 'unavailable',
    code: 'TM_QUEUE_UNAVAILABLE',
  });
  await queue.add('gold', job('c'));
  const done: string[] = [];
  await queue.consume('silver', async (one) => void done.push(one.id));
  await eventually(() => assert.equal(done.length, 2));
  await queue.add('silver', job('c'));
  await eventually(() => assert.deepEqual(done, ['a', 'b', 'c']));
  await queue.close();
});

test('a handler never runs inside add() (EQ3)', async () => {
  const queue = new EmbeddedWorkQueue({ ambient: systemAmbient, logger: silentLogger });
  const events: string[] = [];
  await queue.consume('silver', async () => void events.push('handled'));
  const added = queue.add('silver', job('a'));
  events.push('add returned');
  await added;
  await eventually(() => assert.deepEqual(events, ['add returned', 'handled']));
  await queue.close();
});

test('closing cancels what was put off, and nothing runs afterwards', async () => {
  let pending = 0;
  const clock: Ambient['clock'] = {
    ...systemAmbient.clock,
    after: () => {
      pending += 1;
      return { cancel: () => void (pending -= 1) };
    },
  };
  const queue = new EmbeddedWorkQueue({
    ambient: { ...systemAmbient, clock },
    logger: silentLogger,
  });
  await queue.consume('silver', () => Promise.reject(new Error('never')), { concurrency: 3 });
  for (const id of ['a', 'b', 'c']) await queue.add('silver', job(id));
  await eventually(async () => assert.equal((await queue.counts('silver')).delayed, 3));
  assert.equal(pending, 3);
  await queue.close();
  assert.equal(pending, 0);
});

test('a job that fails while the queue closes leaves no timer behind', async () => {
  let timers = 0;
  const clock: Ambient['clock'] = {
    ...systemAmbient.clock,
    after: () => {
      timers += 1;
      return { cancel: () => void (timers -= 1) };
    },
  };
  const queue = new EmbeddedWorkQueue({
    ambient: { ...systemAmbient, clock },
    logger: silentLogger,
  });
  const { promise: opened, reject: fail } = Promise.withResolvers<void>();
  let started = false;
  await queue.consume('silver', () => {
    started = true;
    return opened;
  });
  await queue.add('silver', job('a'));
  await eventually(() => assert.ok(started));
  const closed = queue.close();
  fail(new Error('late'));
  await closed;
  assert.equal(timers, 0);
});

test('thousands of jobs are taken in order of arrival', async () => {
  const queue = new EmbeddedWorkQueue({ ambient: systemAmbient, logger: silentLogger });
  const ids = Array.from({ length: 5_000 }, (_, i) => `job-${i}`);
  for (const id of ids) await queue.add('silver', job(id));
  const done: string[] = [];
  await queue.consume('silver', async (one) => void done.push(one.id));
  await eventually(() => assert.equal(done.length, ids.length));
  assert.deepEqual(done, ids);
  await queue.close();
});
