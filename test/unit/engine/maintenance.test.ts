/** MT1 to MT3: periodic tasks over a queue. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { Maintenance, type MaintenanceTask } from '../../../src/engine/maintenance.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import { EmbeddedWorkQueue } from '../../../src/storage/queue/embedded-work-queue.ts';
import { eventually } from '../../support/eventually.ts';

const ambient = systemAmbient;
const logger = silentLogger;
const HOUR_MS = 3_600_000;

function maintain(
  t: TestContext,
  ...tasks: readonly MaintenanceTask[]
): { readonly maintenance: Maintenance; readonly queue: EmbeddedWorkQueue } {
  const retryDelays = { baseMs: 1, maxMs: 5 };
  const queue = new EmbeddedWorkQueue({ ambient, logger, retryDelays });
  const maintenance = new Maintenance({ tasks, queue, ambient, logger });
  t.after(async () => {
    await maintenance.close();
    await queue.close();
  });
  return { maintenance, queue };
}

test('MT1 a task runs again and again, and once after the start when it says so', async (t) => {
  const runs = { often: 0, first: 0, later: 0 };
  maintain(
    t,
    { name: 'often', everyMs: 5, run: async () => void runs.often++ },
    { name: 'first', everyMs: HOUR_MS, firstAfterMs: 5, run: async () => void runs.first++ },
    { name: 'later', everyMs: HOUR_MS, run: async () => void runs.later++ },
  );
  await eventually(() => assert.ok(runs.often >= 3 && runs.first === 1));
  assert.deepEqual([runs.first, runs.later], [1, 0]);
});

test('MT3 what waits for a service is tried again soon, a bug waits for its next time', async (t) => {
  let outages = 0;
  let bugs = 0;
  maintain(
    t,
    {
      name: 'outage',
      everyMs: HOUR_MS,
      firstAfterMs: 1,
      run: async () => {
        outages += 1;
        if (outages < 3) throw new PipelineError('unavailable', 'TM_STORE_UNAVAILABLE', 'away');
      },
    },
    {
      name: 'bug',
      everyMs: HOUR_MS,
      firstAfterMs: 1,
      run: async () => {
        bugs += 1;
        throw new Error('a bug');
      },
    },
  );
  await eventually(() => assert.equal(outages, 3));
  assert.equal(bugs, 1);
});

test('MT3 a task that is due while it runs is left out, and closing stops it', async (t) => {
  let running = 0;
  let most = 0;
  let stopped = false;
  const { maintenance, queue } = maintain(t, {
    name: 'long',
    everyMs: 2,
    run: async (signal) => {
      running += 1;
      most = Math.max(most, running);
      await ambient.clock.sleep(HOUR_MS, signal);
      stopped = signal.aborted;
      running -= 1;
    },
  });
  await eventually(async () => {
    assert.equal(running, 1);
    await queue.add('maintenance', { id: 'again', data: {} });
  });
  await maintenance.close();
  assert.deepEqual([most, stopped], [1, true]);
});
