/**
 * The dedup index of a shard through spans, restarts, merges and losses: its verdicts stay those of
 * an index that holds everything in memory.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import {
  answerCall,
  type Call,
  ComputeThread,
  type ThreadApi,
} from '../../../src/actors/runtime/compute-thread.ts';
import { DedupArchive } from '../../../src/actors/silver-writer/dedup-archive.ts';
import {
  createDedupCalls,
  type DedupCalls,
} from '../../../src/actors/silver-writer/dedup-calls.ts';
import {
  decodeManifest,
  encodeManifest,
} from '../../../src/actors/silver-writer/dedup-manifest.ts';
import {
  createDedupThreadApi,
  type DedupThreadApi,
} from '../../../src/actors/silver-writer/dedup-thread.ts';
import { PartFiles } from '../../../src/actors/silver-writer/part-reads.ts';
import { SHARD_TAG, shardOf, shardTag } from '../../../src/actors/silver-writer/shard.ts';
import { systemAmbient, type ThreadHost } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import type { LayeredDedupIndex } from '../../../src/pipeline/silver/dedup-layers.ts';
import {
  bucketOfHash,
  bytesOfWords,
  FINGERPRINT_WORDS,
  fingerprintKey,
} from '../../../src/pipeline/silver/fingerprints.ts';
import { murmur128, viewOf } from '../../../src/pipeline/silver/murmur.ts';
import { primitive, struct } from '../../../src/pipeline/types.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import type { NewFile } from '../../../src/storage/delta/transaction.ts';
import { openFsObjectStore } from '../../../src/storage/object-store/fs-object-store.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import type { ObjectStore } from '../../../src/storage/object-store/object-store.ts';

const ROOT = 'silver/events';
const BUCKETS = 16;
/** 1024 ids a generation. */
const MEMORY_BYTES = 2 ** 19;

const event = {
  id: 'id',
  time: { field: 'at', unit: 'rfc3339' as const },
  schemaVersion: 1,
  schema: struct([
    { name: 'id', type: primitive('string'), nullable: false },
    { name: 'at', type: primitive('timestamp'), nullable: false },
  ]),
};

/** Answers the calls of a thread here, one after another. */
function hostOf(api: ThreadApi): ThreadHost {
  return {
    start(_module, _data, onMessage) {
      let tail = Promise.resolve();
      return {
        post(message) {
          tail = tail.then(async () => onMessage((await answerCall(api, message as Call)).reply));
        },
        terminate: () => Promise.resolve(),
      };
    },
  };
}

function fingerprints(ids: readonly number[], payload = 1): Uint32Array {
  const words = new Uint32Array(ids.length * FINGERPRINT_WORDS);
  const bytes = new Uint8Array(8);
  const view = viewOf(bytes);
  for (const [row, id] of ids.entries()) {
    view.setUint32(0, id, true);
    murmur128(1, view, 0, 8, words, row * FINGERPRINT_WORDS);
    words[row * FINGERPRINT_WORDS + 4] = payload;
  }
  return words;
}

function wordsOfBucket(words: Uint32Array, isWanted: (bucket: number) => boolean): Uint32Array {
  const kept: number[] = [];
  for (let at = 0; at < words.length; at += FINGERPRINT_WORDS) {
    if (!isWanted(bucketOfHash(words[at]!, BUCKETS))) continue;
    kept.push(...words.subarray(at, at + FINGERPRINT_WORDS));
  }
  return Uint32Array.from(kept);
}

/** A silver table without Parquet: the index reads only the log and the fingerprints. */
class World {
  readonly store: ObjectStore;
  readonly silver: DeltaTable;

  private constructor(store: ObjectStore, silver: DeltaTable) {
    this.store = store;
    this.silver = silver;
  }

  static async open(store: ObjectStore): Promise<World> {
    const env = {
      store,
      codec: { encode: () => new Uint8Array(0), decode: () => assert.fail('no checkpoint') },
      ambient: systemAmbient,
      logger: silentLogger,
      checkpointInterval: 1e9,
    };
    const silver = await DeltaTable.create(env, {
      root: ROOT,
      schema: event.schema,
      partitionColumns: [],
      configuration: {},
      description: 'test',
    });
    return new World(store, silver);
  }

  /** Stores fingerprints as those of a new file. */
  async file(words: Uint32Array, tag = '0/1'): Promise<NewFile> {
    const path = `d/part-${systemAmbient.ids.id()}.parquet`;
    await this.store.put(fingerprintKey(ROOT, path), bytesOfWords(words).slice());
    return {
      path,
      partitionValues: {},
      sizeBytes: 1,
      modifiedMs: 0,
      stats: JSON.stringify({ numRecords: words.length / FINGERPRINT_WORDS }),
      tags: { [SHARD_TAG]: tag },
    };
  }

  async commit(
    adds: readonly NewFile[],
    removes: readonly string[] = [],
    dataChange = true,
  ): Promise<number> {
    const request = { operation: 'WRITE', adds, removes, progress: [], dataChange };
    const outcome = await this.silver.commit(request);
    assert.equal(outcome.kind, 'committed');
    return outcome.kind === 'committed' ? outcome.version : -1;
  }

  async keys(ending: string): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key } of this.store.list(`${ROOT}/_dedup/`)) {
      if (key.endsWith(ending)) keys.push(key);
    }
    return keys;
  }
}

type LookCalls = DedupCalls & {
  look(call: { readonly words: Uint32Array }): Promise<Uint8Array>;
};

interface Derived {
  readonly file: NewFile;
  readonly verdicts: Uint8Array;
}

/** One life of a silver writer, as far as its dedup index is concerned. */
class Writer {
  readonly index: LayeredDedupIndex;
  readonly archive: DedupArchive;
  dedupThreads = 0;
  readonly #thread: ComputeThread<LookCalls>;
  readonly #world: World;
  readonly #tag: string;
  #span = 0;

  private constructor(world: World, number: number, count: number) {
    const shard = shardOf(number, count, BUCKETS);
    const { index, calls } = createDedupCalls(shard, MEMORY_BYTES / 2);
    const module = new URL('file:///thread');
    const look = async (call: { readonly words: Uint32Array }): Promise<Uint8Array> => {
      const verdicts = new Uint8Array(call.words.length / FINGERPRINT_WORDS);
      await index.lookupOrInsert(call.words, verdicts.length, verdicts);
      return verdicts;
    };
    this.#thread = new ComputeThread<LookCalls>(module, undefined, hostOf({ ...calls, look }));
    const api = createDedupThreadApi({ event, shard });
    this.index = index;
    this.#world = world;
    this.#tag = shardTag(shard);
    this.archive = new DedupArchive({
      silver: world.silver,
      store: world.store,
      shard,
      memoryBytesMax: MEMORY_BYTES,
      silverThread: this.#thread,
      startDedupThread: () => {
        this.dedupThreads++;
        return new ComputeThread<DedupThreadApi>(module, undefined, hostOf(api));
      },
      ambient: systemAmbient,
      logger: silentLogger,
    });
  }

  static async start(world: World, number = 0, count = 1): Promise<Writer> {
    const writer = new Writer(world, number, count);
    await writer.archive.load(await world.silver.refresh());
    return writer;
  }

  look(words: Uint32Array): Promise<Uint8Array> {
    return this.#thread.call('look', { words });
  }

  /** Derives and commits a span; returns its verdicts. */
  async span(words: Uint32Array): Promise<Uint8Array> {
    const upTo = ++this.#span;
    const { file, verdicts } = await this.derive(words, upTo);
    await this.commit(file, upTo);
    return verdicts;
  }

  /** Derives a span: stores what is new as a file. */
  async derive(words: Uint32Array, upTo: number): Promise<Derived> {
    const verdicts = await this.look(words);
    const rows = [...verdicts.keys()].filter((row) => verdicts[row] === 0);
    const news = Uint32Array.from(
      rows.flatMap((row) => [
        ...words.subarray(row * FINGERPRINT_WORDS, (row + 1) * FINGERPRINT_WORDS),
      ]),
    );
    const file = await this.#world.file(news, this.#tag);
    await this.archive.derived(this.index.hotIds, upTo, new AbortController().signal);
    return { file, verdicts };
  }

  async commit(file: NewFile, upTo: number): Promise<void> {
    const version = await this.#world.commit([file]);
    this.archive.committed(upTo, version, [file]);
  }

  async stop(): Promise<void> {
    await this.archive.idle();
    await this.archive.close();
  }
}

async function stores(t: TestContext): Promise<Record<string, ObjectStore>> {
  const path = await mkdtemp(join(tmpdir(), 'tidemark-archive-'));
  const fs = await openFsObjectStore({ path, ambient: systemAmbient, logger: silentLogger });
  t.after(async () => {
    await fs.close();
    await rm(path, { recursive: true });
  });
  return { fs, remote: new MemoryObjectStore(systemAmbient) };
}

/** `count` numbers below `below`, the same for the same seed. */
function numbers(count: number, below: number, seed: number): number[] {
  let state = seed >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  });
}

test('DA2 verdicts stay exact through archives, merges, restarts and every loss', async (t) => {
  for (const [name, store] of Object.entries(await stores(t))) {
    const world = await World.open(store);
    const everything = new MemoryDedupIndex();
    let writer = await Writer.start(world);
    for (let span = 0; span < 60; span++) {
      const words = fingerprints(numbers(400, 40_000, span), span % 5 === 0 ? 2 : 1);
      const expected = new Uint8Array(400);
      await everything.lookupOrInsert(words, 400, expected);
      assert.deepEqual(await writer.span(words), expected, `${name}, span ${span}`);
      if (span % 10 !== 9) continue;
      await writer.stop();
      const [manifest] = await world.keys('manifest.json');
      const [part] = await world.keys('.part');
      if (span === 29) await store.delete(manifest!);
      if (span === 39) await store.put(part!, new Uint8Array(100));
      if (span === 49) await store.put(manifest!, new Uint8Array([1, 2, 3]));
      writer = await Writer.start(world);
    }
    await writer.stop();
    const stored = decodeManifest((await store.get((await world.keys('manifest.json'))[0]!))!)!;
    const levels = Map.groupBy(stored.runs, ({ level }) => level);
    assert.ok(levels.size > 1, 'runs were merged');
    assert.ok([...levels.values()].every((runs) => runs.length < 4));
    assert.ok(writer.index.hotIds < 3 * 1024);
  }
});

test('DA2 rows that were taken out of silver may come again', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const words = fingerprints(numbers(3_000, 1e9, 1));
  for (let from = 0; from < words.length; from += 500 * FINGERPRINT_WORDS) {
    await writer.span(words.subarray(from, from + 500 * FINGERPRINT_WORDS));
  }
  await writer.stop();
  const [gone] = world.silver.snapshot.files();
  const bytes = await world.store.get(fingerprintKey(ROOT, gone!.path));
  await world.commit([], [gone!.path]);
  const next = await Writer.start(world);
  assert.equal(
    (await next.look(words)).filter((verdict) => verdict === 0).length,
    bytes!.length / 24,
  );
});

test('DA2 a manifest from before rows were taken out is not believed, even where totals cannot tell', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const all = fingerprints(numbers(6_000, 1e9, 1));
  const words = wordsOfBucket(all, (bucket) => bucket % 2 === 0);
  const writer = await Writer.start(world, 0, 2);
  await writer.span(words);
  await writer.stop();
  const [gone] = world.silver.snapshot.files();
  // A file without a shard's tag: nobody knows how many rows a shard has.
  const { tags: _, ...untagged } = await world.file(fingerprints(numbers(10, 1e9, 2)));
  await world.commit([untagged], [gone!.path]);
  const next = await Writer.start(world, 0, 2);
  assert.ok((await next.look(words)).every((verdict) => verdict === 0));
});

test('DA2 a manifest that leaves rows out is not believed', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const words = fingerprints(numbers(6_000, 1e9, 1));
  for (let from = 0; from < words.length; from += 1_000 * FINGERPRINT_WORDS) {
    await writer.span(words.subarray(from, from + 1_000 * FINGERPRINT_WORDS));
  }
  await writer.stop();
  const [key] = await world.keys('manifest.json');
  const manifest = decodeManifest((await world.store.get(key!))!)!;
  await world.store.put(key!, encodeManifest({ ...manifest, runs: manifest.runs.slice(1) }));
  const next = await Writer.start(world);
  assert.ok((await next.look(words)).every((verdict) => verdict === 1));
});

test('SW2 ids of a span that was not committed are in no stored run', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const lost = fingerprints(numbers(1_500, 1e9, 7));
  await writer.span(fingerprints(numbers(1_500, 1e9, 1)));
  await writer.look(lost);
  await writer.archive.derived(writer.index.hotIds, 2, new AbortController().signal);
  await writer.archive.close();
  const next = await Writer.start(world);
  assert.ok((await next.look(lost)).every((verdict) => verdict === 0));
});

/** Makes the store answer reads of some keys only once `release` is called; `asked` when one waits. */
function holdReads(store: ObjectStore, ending: string) {
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const get = store.get.bind(store);
  store.get = async (key, options) => {
    if (key.endsWith(ending)) {
      asked.resolve();
      await gate.promise;
    }
    return get(key, options);
  };
  const release = (): void => {
    store.get = get;
    gate.resolve();
  };
  return { asked: asked.promise, release };
}

test('a start reads the fingerprints of the last commits only, however small commits are', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const spans = numbers(300, 1e9, 3).map((id) => fingerprints([id]));
  for (const words of spans) await writer.span(words);
  await writer.stop();
  let reads = 0;
  const get = world.store.get.bind(world.store);
  world.store.get = async (key, options) => {
    if (key.endsWith('.fp')) reads++;
    return get(key, options);
  };
  const next = await Writer.start(world);
  assert.ok(reads < 50, `${reads} objects`);
  for (const words of spans) assert.deepEqual([...(await next.look(words))], [1]);
});

test('DA3 bucket sets that end at one version archive a generation once', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const sets = [fingerprints(numbers(1_500, 1e9, 1)), fingerprints(numbers(500, 1e9, 2))];
  const level = 7;
  const reads = holdReads(world.store, '.fp');
  for (const words of sets) {
    const { file } = await writer.derive(words, level);
    await writer.commit(file, level);
    await reads.asked;
  }
  reads.release();
  await writer.archive.idle();
  for (const words of sets) {
    assert.ok((await writer.look(words)).every((verdict) => verdict === 1));
  }
  await writer.stop();
  const next = await Writer.start(world);
  for (const words of sets) {
    assert.ok((await next.look(words)).every((verdict) => verdict === 1));
  }
});

test('DA3 a generation is archived at its own commit, not at an earlier one', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const earlier = fingerprints(numbers(100, 1e9, 1));
  const later = fingerprints(numbers(1_100, 1e9, 2));
  const first = await writer.derive(earlier, 1);
  // As in the stream, the next span is derived while the one before it is committed.
  const second = await writer.derive(later, 2);
  await writer.commit(first.file, 1);
  await systemAmbient.clock.sleep(20);
  assert.ok((await writer.look(later)).every((verdict) => verdict === 1));
  await writer.commit(second.file, 2);
  await writer.stop();
  const next = await Writer.start(world);
  for (const words of [earlier, later]) {
    assert.ok((await next.look(words)).every((verdict) => verdict === 1));
  }
});

test('a part that is damaged under a running writer makes it forget the manifest and begin again', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const words = fingerprints(numbers(1_100, 1e9, 1));
  await writer.span(words);
  await writer.archive.idle();
  const [part] = await world.keys('.part');
  await world.store.put(part!, new Uint8Array(8));
  const thrown: unknown = await writer.look(words).catch((error: unknown) => error);
  const { kind, code } = await writer.archive.recovery(thrown);
  assert.deepEqual({ kind, code }, { kind: 'unavailable', code: 'TM_DEDUP_INDEX_CORRUPT' });
  assert.deepEqual(await world.keys('manifest.json'), []);
  const next = await Writer.start(world);
  assert.ok((await next.look(words)).every((verdict) => verdict === 1));
});

test('SH1 shards hold every id once, also when their number changes', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const words = fingerprints(numbers(6_000, 1e9, 3));
  const rowsOf = (number: number, count: number): Uint32Array =>
    wordsOfBucket(words, (bucket) => bucket % count === number);
  for (const number of [0, 1]) {
    const writer = await Writer.start(world, number, 2);
    const verdicts = await writer.span(rowsOf(number, 2));
    assert.ok(verdicts.every((verdict) => verdict === 0));
    await writer.stop();
  }
  for (const [number, count] of [
    [0, 3],
    [1, 3],
    [2, 3],
    [1, 2],
    [0, 1],
  ] as const) {
    const writer = await Writer.start(world, number, count);
    assert.ok((await writer.look(rowsOf(number, count))).every((verdict) => verdict === 1));
    const own = await Writer.start(world, number, count);
    const ids = await own.look(fingerprints(numbers(100, 1e9, 99)));
    assert.ok(ids.every((verdict) => verdict === 0));
  }
});

test('a store that refuses the archive makes the writer begin again, with nothing lost', async () => {
  const store = new MemoryObjectStore(systemAmbient);
  const world = await World.open(store);
  const writer = await Writer.start(world);
  const put = store.put.bind(store);
  store.put = (key, body) =>
    key.endsWith('.part') ? Promise.reject(new Error('no space')) : put(key, body);
  const words = fingerprints(numbers(4_000, 1e9, 5));
  const spans = async (from: number): Promise<void> => {
    for (let row = from; row < 4_000; row += 500) {
      const at = row * FINGERPRINT_WORDS;
      await writer.span(words.subarray(at, at + 500 * FINGERPRINT_WORDS));
    }
  };
  await assert.rejects(spans(0), /no space/);
  store.put = put;
  const next = await Writer.start(world);
  await next.span(words);
  assert.ok((await next.look(words)).every((verdict) => verdict === 1));
  const live = world.silver.snapshot.numRecords();
  assert.equal(live, 4_000);
  await next.stop();
});

test('DA4 old objects that no manifest names are deleted, younger ones and those of runs are kept', async () => {
  const dayMs = 86_400_000;
  let nowMs = 10 * dayMs;
  const store = new MemoryObjectStore({ clock: { nowMs: () => nowMs } });
  const world = await World.open(store);
  const writer = await Writer.start(world);
  await writer.span(fingerprints(numbers(1_100, 1e9, 1)));
  await writer.stop();
  const named = [...(await world.keys('.part')), ...(await world.keys('manifest.json'))];
  const folder = named[0]!.slice(0, named[0]!.lastIndexOf('/'));
  await store.put(`${folder}/left.part`, new Uint8Array(1));
  await store.put(`${ROOT}/_dedup/index/0-of-7/manifest.json`, new Uint8Array(1));
  nowMs = systemAmbient.clock.nowMs();
  await store.put(`${folder}/young.part`, new Uint8Array(1));
  await (await Writer.start(world)).stop();
  const kept = (await world.keys('')).filter((key) => key.includes('/index/'));
  assert.deepEqual(new Set(kept), new Set([...named, `${folder}/young.part`]));
});

test('a file that was compacted and vacuumed before its ids were archived only makes the writer begin again', async () => {
  for (const isWaiting of [false, true]) {
    const world = await World.open(new MemoryObjectStore(systemAmbient));
    const writer = await Writer.start(world);
    const early = fingerprints(numbers(600, 1e9, 1));
    await writer.span(early);
    const [small] = world.silver.snapshot.files();
    await world.commit([await world.file(early)], [small!.path], false);
    await world.store.delete(fingerprintKey(ROOT, small!.path));
    const reads = holdReads(world.store, '.fp');
    const late = fingerprints(numbers(600, 1e9, 2));
    await writer.span(late);
    await reads.asked;
    // The second generation is full as well, so that deriving waits for the first one's run.
    const many = fingerprints(numbers(2_100, 1e9, 3));
    const derived = isWaiting ? writer.derive(many, 3) : undefined;
    if (isWaiting) await systemAmbient.clock.sleep(20);
    reads.release();
    if (!isWaiting) await writer.archive.idle();
    await assert.rejects(derived ?? writer.derive(many, 3), {
      kind: 'unavailable',
      code: 'TM_DEDUP_INDEX_CORRUPT',
    });
    await writer.stop();
    const next = await Writer.start(world);
    for (const words of [early, late]) {
      assert.ok((await next.look(words)).every((verdict) => verdict === 1));
    }
    await next.stop();
  }
});

test('P10 a full generation waits for the one before it to leave memory', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const reads = holdReads(world.store, '.fp');
  await writer.span(fingerprints(numbers(1_100, 1e9, 1)));
  await reads.asked;
  await writer.span(fingerprints(numbers(1_000, 1e9, 2)));
  let isDerived = false;
  const derived = writer.derive(fingerprints(numbers(100, 1e9, 3)), 3).then(() => {
    isDerived = true;
  });
  await systemAmbient.clock.sleep(20);
  assert.equal(isDerived, false);
  reads.release();
  await derived;
  assert.equal(writer.index.hotIds, 0);
});

test('no dedup thread is started for an archive that was closed meanwhile', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const reads = holdReads(world.store, '.fp');
  await writer.span(fingerprints(numbers(1_100, 1e9, 1)));
  await reads.asked;
  await writer.archive.close();
  reads.release();
  await systemAmbient.clock.sleep(20);
  assert.equal(writer.dedupThreads, 0);
});

test('parts that are still being read when another proves damaged are not attached afterwards', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const words = fingerprints(numbers(6_000, 1e9, 1));
  for (let row = 0; row < 6_000; row += 1_000) {
    await writer.span(words.subarray(row * FINGERPRINT_WORDS, (row + 1_000) * FINGERPRINT_WORDS));
  }
  await writer.stop();
  const parts = await world.keys('.part');
  const stored = decodeManifest((await world.store.get((await world.keys('manifest.json'))[0]!))!)!;
  const damaged = stored.runs.find((run) => run.parts.length > 1)!.parts[0]!.name;
  await world.store.put(parts.find((key) => key.endsWith(damaged))!, new Uint8Array(1));
  const get = world.store.get.bind(world.store);
  world.store.get = async (key, options) => {
    if (parts.includes(key) && !key.endsWith(damaged)) await systemAmbient.clock.sleep(50);
    return get(key, options);
  };
  const next = await Writer.start(world);
  await systemAmbient.clock.sleep(100);
  // Whoever asked one of them would find it gone.
  for (const key of parts) await world.store.delete(key);
  assert.ok((await next.look(words)).every((verdict) => verdict === 1));
});

test('runs of a lower level before a large one, which a load made of a long tail, are merged with it', async () => {
  const world = await World.open(new MemoryObjectStore(systemAmbient));
  const writer = await Writer.start(world);
  const spans = [1, 2, 3].map((seed) => fingerprints(numbers(1_100, 1e9, seed)));
  for (const words of spans) {
    await writer.span(words);
    await writer.archive.idle();
  }
  await writer.stop();
  const tail = fingerprints(numbers(1_500, 1e9, 4));
  await world.commit([await world.file(tail)]);
  const next = await Writer.start(world);
  await next.stop();
  const [manifest] = await world.keys('manifest.json');
  assert.equal(decodeManifest((await world.store.get(manifest!))!)!.runs.length, 1);
  for (const words of [...spans, tail]) {
    assert.ok((await next.look(words)).every((verdict) => verdict === 1));
  }
});

test('only a part file that is gone is a damaged index; one that cannot be opened says why', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-parts-'));
  t.after(() => rm(folder, { recursive: true }));
  const files = new PartFiles();
  const path = join(folder, 'a.part');
  assert.throws(() => files.add(1, { path }), { kind: 'corrupt', code: 'TM_DEDUP_INDEX_CORRUPT' });
  await writeFile(path, '');
  const below = join(path, 'b.part');
  assert.throws(() => files.add(1, { path: below }), { kind: 'invalid', code: 'TM_STORE_DENIED' });
});
