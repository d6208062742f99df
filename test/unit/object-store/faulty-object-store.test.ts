import assert from 'node:assert/strict';
import { it } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import {
  FaultScript,
  FaultyObjectStore,
  randomFaults,
  type StoreCall,
} from '../../support/faulty-object-store.ts';

const { clock } = systemAmbient;
const body = new Uint8Array([1]);
const unavailable = { name: 'PipelineError', kind: 'unavailable' };

function faulty(script: FaultScript): { inner: MemoryObjectStore; store: FaultyObjectStore } {
  const inner = new MemoryObjectStore({ clock });
  return { inner, store: new FaultyObjectStore(inner, { clock, plan: script.plan }) };
}

it('a lost response leaves the object behind an unknown', async () => {
  const { inner, store } = faulty(
    new FaultScript().next('createIfAbsent', { kind: 'lost-response' }),
  );
  assert.equal(await store.createIfAbsent('k', body), 'unknown');
  assert.equal((await inner.get('k'))?.length, 1);
  assert.equal(await store.createIfAbsent('k', body), 'exists');
});

it('a lost request leaves nothing behind an unknown', async () => {
  const { inner, store } = faulty(
    new FaultScript().next('createIfAbsent', { kind: 'lost-request' }),
  );
  assert.equal(await store.createIfAbsent('k', body), 'unknown');
  assert.equal(await inner.get('k'), undefined);
  assert.equal(await store.createIfAbsent('k', body), 'created');
});

it('a late write lands after the caller looked, with the bytes of its time, and loses to an earlier one', async () => {
  const later = { kind: 'lands-later', delayMs: 3_600_000 } as const;
  const { inner, store } = faulty(new FaultScript().next('createIfAbsent', later, { times: 2 }));
  const sent = body.slice();
  assert.equal(await store.createIfAbsent('late', sent), 'unknown');
  assert.equal(await store.createIfAbsent('beaten', sent), 'unknown');
  sent[0] = 9;
  assert.equal(await store.get('late'), undefined);
  await inner.createIfAbsent('beaten', new Uint8Array([2, 2]));
  await store.landPending();
  assert.deepEqual(await inner.get('late'), body);
  assert.equal((await inner.get('beaten'))?.length, 2);
});

it('faults hit only the operation and keys they name, and are counted', async () => {
  const { store } = faulty(
    new FaultScript()
      .next('put', { kind: 'unavailable' }, { key: /^a\// })
      .next('list', { kind: 'stale-list', missing: 1 }),
  );
  await store.put('b/1', body);
  await assert.rejects(store.put('a/1', body), unavailable);
  await store.put('a/1', body);
  const listed = async (): Promise<string[]> => {
    const keys: string[] = [];
    for await (const info of store.list('')) keys.push(info.key);
    return keys;
  };
  assert.deepEqual(await listed(), ['a/1']);
  assert.deepEqual(await listed(), ['a/1', 'b/1']);
  assert.equal(store.faultCount('unavailable'), 1);
  assert.equal(store.calls.length, 5);
});

it('a held operation waits for its gate, before or after it takes effect', async () => {
  for (const landsFirst of [true, false]) {
    const gate = Promise.withResolvers<void>();
    const { inner, store } = faulty(
      new FaultScript().next('put', { kind: 'held', until: gate.promise, landsFirst }),
    );
    const done = store.put('k', body);
    await clock.yieldTurn();
    assert.equal((await inner.get('k')) !== undefined, landsFirst);
    gate.resolve();
    await done;
    assert.ok(await inner.get('k'));
  }
});

it('the same seed breaks the same operations', async () => {
  const run = async (): Promise<readonly StoreCall[]> => {
    let state = 7;
    const random = { next: () => (state = (state * 16_807) % 2_147_483_647) / 2_147_483_647 };
    const store = new FaultyObjectStore(new MemoryObjectStore({ clock }), {
      clock,
      plan: randomFaults({ random, probability: 0.5, delayMsMax: 1 }),
    });
    for (let i = 0; i < 40; i++) {
      await store.createIfAbsent(`${i}`, body).catch(() => undefined);
      await store.get(`${i}`).catch(() => undefined);
    }
    await store.close();
    return store.calls;
  };
  const first = await run();
  assert.deepEqual(await run(), first);
  for (const kind of ['lost-response', 'lost-request', 'lands-later', 'unavailable', 'slow']) {
    assert.ok(
      first.some((call) => call.fault?.kind === kind),
      kind,
    );
  }
});
