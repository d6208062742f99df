/**
 * The contract of the work queue port. Each adapter runs it; a caller may rely on what is here and on
 * nothing else: not on order, and not on a job coming only once.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Job, WorkQueue } from '../../src/storage/queue/work-queue.ts';
import { eventually } from '../support/eventually.ts';

const job = (id: string, data: Job['data'] = {}): Job => ({ id, data });

/** A promise to be settled by hand. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}

/** Registers the suite. `open` gives an empty queue per test that retries within 100 ms. */
export function workQueueContract(
  name: string,
  open: (t: TestContext) => Promise<WorkQueue>,
): void {
  const withQueue =
    (body: (queue: WorkQueue, t: TestContext) => Promise<void>) =>
    async (t: TestContext): Promise<void> => {
      const queue = await open(t);
      t.after(() => queue.close());
      await body(queue, t);
    };

  describe(`work queue contract: ${name}`, () => {
    it(
      'a usable queue has no warnings',
      withQueue(async (queue) => {
        assert.deepEqual(await queue.check(), []);
        assert.ok(queue.description.length > 0);
      }),
    );

    it(
      'a job reaches the handler as it was added, and counts as completed',
      withQueue(async (queue) => {
        const sent = job('api_usage-bronze-v7', { table: 'bronze/x', version: 7, full: true });
        const received: Job[] = [];
        await queue.add('silver', sent);
        await queue.consume('silver', async (one) => void received.push(one));
        await eventually(async () => assert.equal((await queue.counts('silver')).completed, 1));
        assert.deepEqual(received, [sent]);
      }),
    );

    it(
      'jobs added before and after the consumer came all arrive',
      withQueue(async (queue) => {
        const seen = new Set<string>();
        for (let i = 0; i < 20; i += 1) await queue.add('silver', job(`early-${i}`));
        await queue.consume('silver', async (one) => void seen.add(one.id));
        for (let i = 0; i < 20; i += 1) await queue.add('silver', job(`later-${i}`));
        await eventually(() => assert.equal(seen.size, 40));
      }),
    );

    it(
      'queues of different names do not mix',
      withQueue(async (queue) => {
        const seen: string[] = [];
        await queue.consume('silver', async (one) => void seen.push(`silver ${one.id}`));
        await queue.consume('gold', async (one) => void seen.push(`gold ${one.id}`));
        await queue.add('silver', job('a'));
        await queue.add('gold', job('a'));
        await eventually(() => assert.deepEqual(seen.toSorted(), ['gold a', 'silver a']));
      }),
    );

    it(
      'an id that waits is not added again',
      withQueue(async (queue) => {
        await Promise.all([1, 2, 3].map(() => queue.add('silver', job('a', { version: 1 }))));
        assert.equal((await queue.counts('silver')).waiting, 1);
      }),
    );

    it(
      'an id that runs is not added again',
      withQueue(async (queue) => {
        const { opened, open: openGate } = gate();
        let runs = 0;
        await queue.consume('silver', async () => {
          runs += 1;
          await opened;
        });
        await queue.add('silver', job('a'));
        await eventually(() => assert.equal(runs, 1));
        await queue.add('silver', job('a'));
        const { waiting, active } = await queue.counts('silver');
        assert.deepEqual({ waiting, active }, { waiting: 0, active: 1 });
        openGate();
        await eventually(async () => assert.equal((await queue.counts('silver')).completed, 1));
        assert.equal(runs, 1);
      }),
    );

    it(
      'an id whose work is done may come again, with new data',
      withQueue(async (queue) => {
        const versions: unknown[] = [];
        await queue.consume('silver', async (one) => void versions.push(one.data['version']));
        for (let version = 1; version <= 3; version += 1) {
          await queue.add('silver', job('same', { version }));
          await eventually(async () => {
            const { waiting, active } = await queue.counts('silver');
            assert.deepEqual([versions.length, waiting, active], [version, 0, 0]);
          });
        }
        assert.deepEqual(versions, [1, 2, 3]);
      }),
    );

    it(
      'a job whose handler fails comes again until it succeeds',
      withQueue(async (queue) => {
        let tries = 0;
        await queue.consume('silver', async () => {
          tries += 1;
          if (tries === 1) throw new Error('rate limit exceeded');
          if (tries === 2) throw Object.assign(new Error('x'), { name: 'UnrecoverableError' });
          if (tries < 6) throw new Error('not yet');
        });
        await queue.add('silver', job('a'));
        await eventually(async () => assert.equal((await queue.counts('silver')).completed, 1));
        assert.equal(tries, 6);
        assert.equal((await queue.counts('silver')).failed, 0);
      }),
    );

    it(
      'a job that waits for its next try keeps its id',
      withQueue(async (queue) => {
        let tries = 0;
        await queue.consume('silver', async () => {
          tries += 1;
          throw new Error('never');
        });
        await queue.add('silver', job('a'));
        await eventually(() => assert.ok(tries >= 2));
        await queue.add('silver', job('a'));
        const { waiting, active, delayed } = await queue.counts('silver');
        assert.equal(waiting + active + delayed, 1);
      }),
    );

    it(
      'a failing job does not hold up the others',
      withQueue(async (queue) => {
        const done: string[] = [];
        await queue.consume('silver', async (one) => {
          if (one.id === 'bad') throw new Error('never');
          done.push(one.id);
        });
        await queue.add('silver', job('bad'));
        for (const id of ['a', 'b', 'c']) await queue.add('silver', job(id));
        await eventually(() => assert.deepEqual(done.toSorted(), ['a', 'b', 'c']));
      }),
    );

    for (const concurrency of [1, 3]) {
      it(
        `with a concurrency of ${concurrency}, that many handlers run at a time`,
        withQueue(async (queue) => {
          const { opened, open: openGate } = gate();
          let running = 0;
          let most = 0;
          const handler = async (): Promise<void> => {
            running += 1;
            most = Math.max(most, running);
            await opened;
            running -= 1;
          };
          await queue.consume('silver', handler, { concurrency });
          for (let i = 0; i < 10; i += 1) await queue.add('silver', job(`j${i}`));
          await eventually(() => assert.equal(running, concurrency));
          openGate();
          await eventually(async () => assert.equal((await queue.counts('silver')).completed, 10));
          assert.equal(most, concurrency);
        }),
      );
    }

    it(
      'two consumers share the jobs of a queue',
      withQueue(async (queue) => {
        const { opened, open: openGate } = gate();
        const takenBy = new Set<string>();
        for (const consumer of ['a', 'b']) {
          await queue.consume('silver', async () => {
            takenBy.add(consumer);
            await opened;
          });
        }
        for (let i = 0; i < 4; i += 1) await queue.add('silver', job(`j${i}`));
        await eventually(() => assert.deepEqual([...takenBy].toSorted(), ['a', 'b']));
        openGate();
        await eventually(async () => assert.equal((await queue.counts('silver')).completed, 4));
      }),
    );

    it(
      'closing a consumer waits for the job that runs and takes no other',
      withQueue(async (queue) => {
        const { opened, open: openGate } = gate();
        const events: string[] = [];
        const consumer = await queue.consume('silver', async (one) => {
          events.push(`${one.id} starts`);
          await opened;
          events.push(`${one.id} ends`);
        });
        await queue.add('silver', job('a'));
        await eventually(() => assert.equal(events.length, 1));
        await queue.add('silver', job('b'));
        const closed = consumer.close().then(() => events.push('closed'));
        openGate();
        await closed;
        assert.deepEqual(events, ['a starts', 'a ends', 'closed']);
        const { waiting, completed } = await queue.counts('silver');
        assert.deepEqual({ waiting, completed }, { waiting: 1, completed: 1 });
        await consumer.close();
      }),
    );

    it(
      'a job that waits when its consumer closes goes to the next one',
      withQueue(async (queue) => {
        await (await queue.consume('silver', async () => undefined)).close();
        await queue.add('silver', job('a'));
        const seen: string[] = [];
        await queue.consume('silver', async (one) => void seen.push(one.id));
        await eventually(() => assert.deepEqual(seen, ['a']));
      }),
    );

    it(
      'a repeated job comes again and again under its id, however often its rhythm is said',
      withQueue(async (queue) => {
        const seen: Job[] = [];
        await queue.consume('maintenance', async (one) => void seen.push(one));
        const repeated = job('reconcile', { all: true });
        for (let i = 0; i < 3; i += 1)
          await queue.repeat('maintenance', repeated, { everyMs: 100 });
        await eventually(() => assert.ok(seen.length >= 3));
        assert.deepEqual(new Set(seen.map(({ id }) => id)), new Set(['reconcile']));
        assert.deepEqual(seen[0], repeated);
      }),
    );

    it(
      'a daily job waits for its time',
      withQueue(async (queue) => {
        const seen: string[] = [];
        await queue.consume('maintenance', async (one) => void seen.push(one.id));
        const minuteNow = Math.floor(Date.now() / 60_000) % 1_440;
        await queue.repeat('maintenance', job('a'), { dailyAtMinute: (minuteNow + 720) % 1_440 });
        await queue.add('maintenance', job('b'));
        await eventually(() => assert.deepEqual(seen, ['b']));
      }),
    );

    it(
      'a closed queue is unavailable',
      withQueue(async (queue) => {
        await queue.close();
        await assert.rejects(queue.add('silver', job('a')), { kind: 'unavailable' });
        await queue.close();
      }),
    );

    it(
      'an id or a payload that no queue could carry is a bug',
      withQueue(async (queue) => {
        const deep = { nested: {} } as unknown as Job['data'];
        for (const bad of [job(''), job('a:b'), job('a b'), job('123'), job('a', deep)]) {
          await assert.rejects(queue.add('silver', bad), { kind: 'internal' });
        }
        await assert.rejects(queue.add('sil:ver', job('a')), { kind: 'internal' });
      }),
    );

    it(
      'a queue that nobody used is empty',
      withQueue(async (queue) => {
        const none = { waiting: 0, active: 0, delayed: 0, completed: 0, failed: 0 };
        assert.deepEqual(await queue.counts('new'), { name: 'new', ...none });
      }),
    );
  });
}
