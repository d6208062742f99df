import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { createObjectStore } from '../../../src/storage/object-store/create-object-store.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import type { CreateOutcome, ObjectInfo } from '../../../src/storage/object-store/object-store.ts';
import { probeConditionalCreate } from '../../../src/storage/object-store/probe.ts';
import { type Fault, FaultScript, FaultyObjectStore } from '../../support/faulty-object-store.ts';

const { clock, ids } = systemAmbient;
const unsafe = { kind: 'invalid', code: 'TM_STORE_IGNORES_CONDITION' };

class IgnoresCondition extends MemoryObjectStore {
  override async createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    await this.put(key, body);
    return 'created';
  }
}

class ChecksThenWrites extends MemoryObjectStore {
  override async createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    if (await this.head(key)) return 'exists';
    await clock.yieldTurn();
    await this.put(key, body);
    return 'created';
  }
}

class RemembersDeleted extends MemoryObjectStore {
  override async delete(_key: string): Promise<void> {}
}

class ListsLate extends MemoryObjectStore {
  override async *list(): AsyncIterable<ObjectInfo> {}
}

class StoresOthersBytes extends MemoryObjectStore {
  override async createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    const outcome = await super.createIfAbsent(key, body);
    await this.put(key, body);
    return outcome;
  }
}

for (const Store of [
  IgnoresCondition,
  ChecksThenWrites,
  RemembersDeleted,
  ListsLate,
  StoresOthersBytes,
]) {
  it(`the probe refuses a store that ${Store.name}`, async () => {
    const store = new Store({ clock });
    await assert.rejects(probeConditionalCreate(store, ids), unsafe);
  });
}

it('the probe accepts memory and the file system, and leaves nothing behind', async (t) => {
  const path = await mkdtemp(join(tmpdir(), 'tidemark-probe-'));
  t.after(() => rm(path, { recursive: true }));
  const fs = await createObjectStore(
    { kind: 'fs', path },
    { ambient: systemAmbient, logger: silentLogger },
  );
  for (const store of [new MemoryObjectStore({ clock }), fs]) {
    await probeConditionalCreate(store, ids);
    for await (const { key } of store.list('')) assert.fail(`${key} was left`);
  }
  await fs.close();
});

it('racing creates that are refused do not count against a store', async () => {
  const refusals = new FaultScript().next(
    'createIfAbsent',
    { kind: 'unavailable' },
    { key: /1$/, times: 20 },
  );
  const inner = new MemoryObjectStore({ clock });
  await probeConditionalCreate(new FaultyObjectStore(inner, { clock, plan: refusals.plan }), ids);
});

it('a store that does not answer is said to be so, with what it said', async () => {
  const { plan } = new FaultScript().next('createIfAbsent', { kind: 'unavailable' });
  const store = new FaultyObjectStore(new MemoryObjectStore({ clock }), { clock, plan });
  await assert.rejects(probeConditionalCreate(store, ids), /refused: injected store failure/);
});

for (const fault of [{ kind: 'lost-response' }, { kind: 'unavailable' }] satisfies Fault[]) {
  it(`the probe does not judge a store by ${fault.kind}, and cleans up`, async () => {
    const inner = new MemoryObjectStore({ clock });
    const { plan } = new FaultScript().next('createIfAbsent', fault);
    const store = new FaultyObjectStore(inner, { clock, plan });
    await assert.rejects(probeConditionalCreate(store, ids), { kind: 'unavailable' });
    for await (const { key } of inner.list('')) assert.fail(`${key} was left`);
  });
}
