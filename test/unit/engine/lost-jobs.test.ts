/** A stage that is behind gets its queue job back, and no other one does (LJ1). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stageJob } from '../../../src/actors/stage-writer/stage-job.ts';
import { restoreLostJob } from '../../../src/engine/lost-jobs.ts';
import type { Job, WorkQueue } from '../../../src/storage/queue/work-queue.ts';

const jobOf = (version: number): Job => stageJob('usage', 'bronze', version);

async function restore(
  position: { readonly head: number; readonly covered: number },
  jobs: Partial<Record<'waiting' | 'active' | 'delayed' | 'completed' | 'failed', number>>,
): Promise<readonly Job[]> {
  const added: Job[] = [];
  const queue: Pick<WorkQueue, 'add' | 'counts'> = {
    async add(name, job) {
      assert.equal(name, 'silver');
      added.push(job);
    },
    async counts(name) {
      return { name, waiting: 0, active: 0, delayed: 0, completed: 0, failed: 0, ...jobs };
    },
  };
  const done = await restoreLostJob(queue as WorkQueue, 'silver', position, jobOf);
  assert.equal(done, added.length > 0);
  return added;
}

test('LJ1 a stage that is behind an empty queue gets the job of the newest version', async () => {
  const job = { id: 'usage-bronze-v9', data: { table: 'bronze/usage', version: 9 } };
  assert.deepEqual(await restore({ head: 9, covered: 4 }, { completed: 7, failed: 1 }), [job]);
});

test('LJ1 nothing is added while a job waits, runs or will be tried again', async () => {
  for (const state of ['waiting', 'active', 'delayed'] as const) {
    assert.deepEqual(await restore({ head: 9, covered: 4 }, { [state]: 1 }), []);
  }
});

test('nothing is added for a stage that is in step, or does not know yet where it is', async () => {
  assert.deepEqual(await restore({ head: 9, covered: 9 }, {}), []);
  assert.deepEqual(await restore({ head: 9, covered: -1 }, {}), []);
});
