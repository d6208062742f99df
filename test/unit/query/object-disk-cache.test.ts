/** Objects as local files (invariants K2 to K4). */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import { type CacheBounds, ObjectDiskCache } from '../../../src/storage/query/object-disk-cache.ts';

const SIZE = 100;

/** A store with objects `0`, `1`, … and caches of it in one folder. */
async function world(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-cache-'));
  t.after(() => rm(folder, { recursive: true }));
  const store = new MemoryObjectStore({ clock: systemAmbient.clock });
  for (let i = 0; i < 64; i++) await store.put(String(i), new Uint8Array(SIZE).fill(i));
  let reads = 0;
  const get = store.get.bind(store);
  store.get = (...call) => {
    reads++;
    return get(...call);
  };
  return {
    folder,
    reads: () => reads,
    /** The cache as another process has it. */
    open: (bounds: Partial<CacheBounds>) => {
      const all = { bytes: 1e9, files: 1e9, ...bounds };
      return new ObjectDiskCache({ store, ambient: systemAmbient, folder, bounds: all });
    },
    /** Which of the objects are here. */
    present: async (cache: ObjectDiskCache): Promise<number[]> => {
      const names = new Set(await readdir(folder));
      return Array.from({ length: 64 }, (_, i) => i).filter((i) =>
        names.has(basename(cache.pathOf(String(i)))),
      );
    },
  };
}

function objects(...numbers: readonly number[]) {
  return numbers.map((i) => ({ key: String(i), sizeBytes: SIZE }));
}

/** Marks files as used long ago, the first longest. */
async function age(cache: ObjectDiskCache, ...numbers: readonly number[]): Promise<void> {
  for (const [at, i] of numbers.entries()) await utimes(cache.pathOf(String(i)), at + 1, at + 1);
}

test('an object is brought once, also for the next process', async (t) => {
  const { open, reads } = await world(t);
  for (const cache of [open({}), open({})]) {
    await (await cache.hold(objects(1, 2)))();
    await (await cache.hold(objects(2, 1)))();
  }
  assert.equal(reads(), 2);
});

for (const [what, bounds] of [
  ['bytes', { bytes: 2 * SIZE }],
  ['files', { files: 2 }],
] as const) {
  test(`what was used longest ago goes first, by ${what}, but nothing that is held (K3)`, async (t) => {
    const { open, present } = await world(t);
    await (await open({}).hold(objects(1, 2, 3)))();
    const cache = open(bounds);
    await age(cache, 2, 3, 1);
    const release = await cache.hold(objects(2));
    await age(cache, 2, 3, 1);
    await (await cache.hold(objects(4)))();
    assert.deepEqual(await present(cache), [2, 4]);
    await release();
  });
}

test('the folder is looked through for what was brought, not for each query (K4)', async (t) => {
  const { open, present } = await world(t);
  await (await open({}).hold(objects(...Array.from({ length: 40 }, (_, i) => i))))();
  const cache = open({ files: 32 });
  await (await cache.hold(objects(3)))();
  assert.equal((await present(cache)).length, 40, 'nothing was brought');
  await (await cache.hold(objects(50)))();
  assert.equal((await present(cache)).length, 32, 'the first time');
  await (await cache.hold(objects(51)))();
  assert.equal((await present(cache)).length, 33, 'less than a share of the bound');
  await (await cache.hold(objects(52)))();
  assert.equal((await present(cache)).length, 32, 'a share of the bound');
});

test('what a process left half written goes after an hour, not before (K2)', async (t) => {
  const { folder, open } = await world(t);
  for (const name of ['old.partial', 'new.partial']) await writeFile(join(folder, name), 'half');
  await utimes(join(folder, 'old.partial'), 1, 1);
  const cache = open({});
  await (await cache.hold(objects(1)))();
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.endsWith('.partial')),
    ['new.partial'],
  );
});
