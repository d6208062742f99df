/**
 * The contract of the state port. Each adapter runs it; a caller may rely on what is here and on
 * nothing else.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StateStore } from '../../src/storage/state/state-store.ts';

/** Long enough to be held while a test goes on. */
const LONG_MS = 60_000;
/** Short enough to be waited for. */
const SHORT_MS = 60;

/** Registers the suite. `open` gives an empty store per test; cleaned up through the context. */
export function stateStoreContract(
  name: string,
  open: (t: TestContext) => Promise<StateStore>,
): void {
  const withStore =
    (body: (store: StateStore) => Promise<void>) =>
    async (t: TestContext): Promise<void> => {
      const store = await open(t);
      t.after(() => store.close());
      await body(store);
    };

  describe(`state store contract: ${name}`, () => {
    it(
      'a usable store has no warnings',
      withStore(async (store) => {
        assert.deepEqual(await store.check(), []);
        assert.ok(store.description.length > 0);
      }),
    );

    it(
      'a hash that was never set is empty',
      withStore(async (store) => {
        assert.deepEqual({ ...(await store.getHash('partition:0')) }, {});
      }),
    );

    it(
      'setting fields keeps the others',
      withStore(async (store) => {
        await store.setHash('partition:0', { nextOffset: '12', watermark: '5' });
        await store.setHash('partition:0', { nextOffset: '13' });
        assert.deepEqual(
          { ...(await store.getHash('partition:0')) },
          {
            nextOffset: '13',
            watermark: '5',
          },
        );
      }),
    );

    it(
      'keys and values come back as they were, whatever their characters',
      withStore(async (store) => {
        const fields = { 'a:b c*': 'ü\n"', empty: '', ['__proto__']: 'x', '0': '9007199254740993' };
        await store.setHash('odd [key]*?\\:{1}', fields);
        const read = await store.getHash('odd [key]*?\\:{1}');
        assert.deepEqual(new Map(Object.entries(read)), new Map(Object.entries(fields)));
        assert.equal(({} as Record<string, unknown>)['x'], undefined);
      }),
    );

    it(
      'setting no fields changes nothing',
      withStore(async (store) => {
        await store.setHash('none', {});
        assert.deepEqual(await store.keys(''), []);
      }),
    );

    it(
      'what was read is a copy',
      withStore(async (store) => {
        await store.setHash('a', { x: '1' });
        const read = (await store.getHash('a')) as Record<string, string>;
        read['x'] = 'changed';
        assert.equal((await store.getHash('a'))['x'], '1');
      }),
    );

    it(
      'keys lists exactly those with the prefix, and no leases',
      withStore(async (store) => {
        for (const key of ['p:1', 'p:2', 'p*:3', 'q:1']) await store.setHash(key, { a: '1' });
        await store.acquireLease('p:lease', 'me', LONG_MS);
        assert.deepEqual((await store.keys('p:')).toSorted(), ['p:1', 'p:2']);
        assert.deepEqual(await store.keys('p*'), ['p*:3']);
        assert.equal((await store.keys('')).length, 4);
      }),
    );

    it(
      'keys finds all of many',
      withStore(async (store) => {
        const names = Array.from({ length: 2_500 }, (_, i) => `many:${i}`);
        await Promise.all(names.map((key) => store.setHash(key, { a: '1' })));
        assert.deepEqual((await store.keys('many:')).toSorted(), names.toSorted());
      }),
    );

    it(
      'a deleted hash is gone; deleting nothing is fine',
      withStore(async (store) => {
        await store.setHash('a', { x: '1' });
        await store.delete('a');
        await store.delete('a');
        assert.deepEqual({ ...(await store.getHash('a')) }, {});
        assert.deepEqual(await store.keys(''), []);
      }),
    );

    it(
      'a lease has one owner at a time, of many that ask at once',
      withStore(async (store) => {
        const owners = Array.from({ length: 20 }, (_, i) => `worker-${i}`);
        const leases = await Promise.all(
          owners.map((owner) => store.acquireLease('leader', owner, LONG_MS)),
        );
        const granted = leases.filter((lease) => lease !== undefined);
        assert.equal(granted.length, 1);
        const { owner, epoch } = granted[0]!;
        assert.deepEqual(await store.leaseHolder('leader'), { owner, epoch });
        assert.ok(Number.isSafeInteger(epoch));
      }),
    );

    it(
      'the owner takes its own lease again under the same epoch',
      withStore(async (store) => {
        const first = await store.acquireLease('leader', 'a', LONG_MS);
        assert.deepEqual(await store.acquireLease('leader', 'a', LONG_MS), first);
      }),
    );

    it(
      'the epoch grows with each change of owner',
      withStore(async (store) => {
        let last = 0;
        for (const owner of ['a', 'b', 'a', 'c']) {
          const lease = await store.acquireLease('leader', owner, LONG_MS);
          assert.ok(lease !== undefined && lease.epoch > last, `${owner} ${last}`);
          last = lease.epoch;
          await store.releaseLease(lease);
        }
      }),
    );

    it(
      'a lease that runs out is free, and can no longer be renewed or given back',
      withStore(async (store) => {
        const old = await store.acquireLease('leader', 'a', SHORT_MS);
        assert.ok(old);
        await sleep(SHORT_MS + 30);
        assert.equal(await store.leaseHolder('leader'), undefined);
        assert.equal(await store.renewLease(old, LONG_MS), false);
        const next = await store.acquireLease('leader', 'b', LONG_MS);
        assert.ok(next && next.epoch > old.epoch);
        assert.equal(await store.renewLease(old, LONG_MS), false);
        await store.releaseLease(old);
        assert.deepEqual(await store.leaseHolder('leader'), { owner: 'b', epoch: next.epoch });
      }),
    );

    it(
      'the same owner, back after its lease ran out, holds another epoch, and the old lease is void',
      withStore(async (store) => {
        const old = await store.acquireLease('leader', 'a', SHORT_MS);
        assert.ok(old);
        await sleep(SHORT_MS + 30);
        const next = await store.acquireLease('leader', 'a', LONG_MS);
        assert.ok(next && next.epoch > old.epoch);
        assert.equal(await store.renewLease(old, LONG_MS), false);
        await store.releaseLease(old);
        assert.equal(await store.renewLease(next, LONG_MS), true);
      }),
    );

    it(
      'renewing prolongs a lease beyond its first time',
      withStore(async (store) => {
        const firstMs = 2_000;
        const lease = await store.acquireLease('leader', 'a', firstMs);
        assert.ok(lease);
        assert.equal(await store.renewLease(lease, LONG_MS), true);
        await sleep(firstMs + 30);
        assert.equal(await store.acquireLease('leader', 'b', LONG_MS), undefined);
      }),
    );

    it(
      'a lease given back is free at once; giving it back twice is fine',
      withStore(async (store) => {
        const lease = await store.acquireLease('leader', 'a', LONG_MS);
        assert.ok(lease);
        await store.releaseLease(lease);
        await store.releaseLease(lease);
        assert.equal(await store.leaseHolder('leader'), undefined);
        assert.ok(await store.acquireLease('leader', 'b', LONG_MS));
      }),
    );

    it(
      'leases of different names do not touch each other',
      withStore(async (store) => {
        assert.ok(await store.acquireLease('partition:0', 'a', LONG_MS));
        assert.ok(await store.acquireLease('partition:1', 'b', LONG_MS));
        assert.equal((await store.leaseHolder('partition:0'))?.owner, 'a');
      }),
    );
  });
}
