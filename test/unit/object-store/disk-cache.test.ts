import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { type DiskCache, openDiskCache } from '../../../src/storage/object-store/disk-cache.ts';
import { openFsObjectStore } from '../../../src/storage/object-store/fs-object-store.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import { FaultScript, FaultyObjectStore } from '../../support/faulty-object-store.ts';

const SIZE = 1000;
const content = (key: string): Buffer => Buffer.alloc(SIZE, key);

interface World {
  readonly folder: string;
  readonly store: FaultyObjectStore;
  readonly script: FaultScript;
  /** Another process's view of the same folder. */
  readonly open: (bytesMax?: number) => Promise<DiskCache>;
}

async function world(t: TestContext): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-cache-'));
  t.after(() => rm(folder, { recursive: true }));
  // Each look at the clock is one second later, so that uses have an order.
  let nowMs = Date.now() - 600_000;
  const clock = { ...systemAmbient.clock, nowMs: () => (nowMs += 1000) };
  const inner = new MemoryObjectStore({ clock });
  for (const key of ['a', 'b', 'c', 'd']) await inner.put(key, content(key));
  const script = new FaultScript();
  const store = new FaultyObjectStore(inner, { clock: systemAmbient.clock, plan: script.plan });
  const ambient = { clock, ids: systemAmbient.ids };
  const open = (bytesMax = 3 * SIZE): Promise<DiskCache> =>
    openDiskCache({ store, path: folder, bytesMax, ambient });
  return { folder, store, script, open };
}

const downloads = (store: FaultyObjectStore): string[] => store.calls.map((call) => call.key);

it('D1 an object is downloaded once, also across restarts and by a second process', async (t) => {
  const { store, open } = await world(t);
  const cache = await open();
  const path = await cache.localFile('a', SIZE);
  assert.deepEqual(await readFile(path), content('a'));
  assert.equal(await cache.localFile('a', SIZE), path);
  assert.equal(await (await open()).localFile('a', SIZE), path);
  assert.deepEqual(downloads(store), ['a']);
});

it('D3 the file used longest ago is evicted, and use is remembered across restarts', async (t) => {
  const { store, open } = await world(t);
  const first = await open();
  for (const key of ['a', 'b', 'c', 'a']) await first.localFile(key, SIZE);
  const second = await open();
  await second.localFile('d', SIZE);
  await second.localFile('a', SIZE);
  await second.localFile('c', SIZE);
  assert.deepEqual(downloads(store), ['a', 'b', 'c', 'd']);
  await second.localFile('b', SIZE);
  assert.deepEqual(downloads(store).slice(4), ['b']);
});

it('D3 the bound holds over what several processes put there', async (t) => {
  const { folder, open } = await world(t);
  const [one, other] = [await open(), await open()];
  await one.localFile('a', SIZE);
  await one.localFile('b', SIZE);
  for (const key of ['c', 'd']) await other.localFile(key, SIZE);
  await open();
  assert.equal((await readdir(folder)).length, 3);
  // A file that the other process evicted is fetched again.
  assert.deepEqual(await readFile(await one.localFile('a', SIZE)), content('a'));
});

it('D3 files in use stay, beyond the bound if need be, and go afterwards', async (t) => {
  const { folder, open } = await world(t);
  const cache = await open(SIZE);
  const objects = ['a', 'b', 'c'].map((key) => ({ key, sizeBytes: SIZE }));
  const result = await cache.withFiles(objects, async (paths) => {
    await cache.localFile('d', SIZE);
    const bodies = await Promise.all(paths.map((path) => readFile(path)));
    assert.deepEqual(bodies, [content('a'), content('b'), content('c')]);
    return 'done';
  });
  assert.equal(result, 'done');
  assert.equal((await readdir(folder)).length, 1);
});

it('D4 requests for one object at one time share a download', async (t) => {
  const { store, open } = await world(t);
  const cache = await open();
  const paths = await Promise.all(Array.from({ length: 20 }, () => cache.localFile('a', SIZE)));
  assert.equal(new Set(paths).size, 1);
  assert.deepEqual(downloads(store), ['a']);
});

it('a failed download is thrown, leaves nothing, and is tried again', async (t) => {
  const { folder, script, open } = await world(t);
  const cache = await open();
  script.next('get', { kind: 'unavailable' }, { times: 2 });
  const unavailable = { kind: 'unavailable' };
  await assert.rejects(cache.localFile('a', SIZE), unavailable);
  const objects = ['a', 'b'].map((key) => ({ key, sizeBytes: SIZE }));
  const use = async (): Promise<never> => assert.fail('used without its files');
  await assert.rejects(cache.withFiles(objects, use), unavailable);
  assert.equal((await readdir(folder)).length, 1);
  await cache.withFiles(objects, async (paths) => assert.equal(paths.length, 2));
});

it('D2 an object that is gone or has another size than the log says is corrupt', async (t) => {
  const { folder, open } = await world(t);
  const cache = await open();
  await assert.rejects(cache.localFile('none', 5), { kind: 'corrupt', code: 'TM_OBJECT_MISSING' });
  await assert.rejects(cache.localFile('a', 5), { kind: 'corrupt', code: 'TM_LOG_CORRUPT' });
  assert.deepEqual(await readdir(folder), []);
});

it('D2 damaged and abandoned files are removed when the cache opens, foreign ones are left', async (t) => {
  const { folder, open } = await world(t);
  const path = await (await open()).localFile('a', SIZE);
  await truncate(path, 10);
  await writeFile(join(folder, '.tmp-old'), 'x');
  const longAgo = Date.now() / 1000 - 7200;
  await utimes(join(folder, '.tmp-old'), longAgo, longAgo);
  await writeFile(join(folder, '.tmp-young'), 'x');
  await writeFile(join(folder, 'notes.txt'), 'x');
  const cache = await open(0);
  assert.deepEqual((await readdir(folder)).sort(), ['.tmp-young', 'notes.txt']);
  assert.deepEqual(await readFile(await cache.localFile('a', SIZE)), content('a'));
});

it('a store with local files is not copied', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'tidemark-lake-'));
  t.after(() => rm(root, { recursive: true }));
  const store = await openFsObjectStore({
    path: join(root, 'lake'),
    ambient: systemAmbient,
    logger: silentLogger,
  });
  const path = join(root, 'cache');
  const cache = await openDiskCache({ store, path, bytesMax: SIZE, ambient: systemAmbient });
  await store.put('k', content('k'));
  assert.equal(await cache.localFile('k', SIZE), store.localPath('k'));
  assert.deepEqual(await readdir(path), []);
  await store.close();
});
