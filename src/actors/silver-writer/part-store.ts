/**
 * The parts of a shard's dedup index as objects, and their heads in the silver thread.
 *
 * PS1 An object has a name of its own and is never written twice.
 * PS2 A part answers lookups only after its object is stored, so that a read of its rows finds them.
 */
import { MessageChannel } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import type { Ambient } from '../../ambient.ts';
import { corruptPart, headBytesOf, partBytesOf } from '../../pipeline/silver/dedup-part.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import { Slots } from '../../storage/object-store/slots.ts';
import type { ComputeThread } from '../runtime/compute-thread.ts';
import type { DedupCalls } from './dedup-calls.ts';
import type { PartEntry, RunEntry } from './dedup-manifest.ts';
import type { BuiltPart } from './dedup-thread.ts';
import { type PartPlace, servePartReads } from './part-reads.ts';
import type { Shard } from './shard.ts';

/** A run whose parts answer lookups. */
export interface LoadedRun {
  readonly entry: RunEntry;
  /** Number by which the index knows it. */
  readonly run: number;
  readonly parts: readonly LoadedPart[];
}

export interface LoadedPart extends PartEntry {
  /** Number by which the reader knows it. */
  readonly part: number;
  readonly key: string;
}

/** A run that is being made. */
export interface OpenRun {
  readonly run: number;
  readonly prefixBits: number;
  readonly parts: LoadedPart[];
  finish(): LoadedRun;
}

/** A zombie that still reads an object begins again without it, so this only saves work. */
const RETIRED_MS = 600_000;
/** An unnamed object this old belongs to no index that is being made. */
const UNNAMED_MS = 86_400_000;
const CONCURRENCY = 16;

export class PartStore {
  readonly #folder: string;
  readonly #store: ObjectStore;
  readonly #thread: ComputeThread<DedupCalls>;
  readonly #ambient: Ambient;
  readonly #slots = new Slots(CONCURRENCY);
  #retired: { readonly keys: readonly string[]; readonly atMs: number }[] = [];
  #connected: Promise<void> | undefined;
  #runNext = 0;
  #partNext = 0;

  constructor(options: {
    readonly folder: string;
    readonly store: ObjectStore;
    readonly silverThread: ComputeThread<DedupCalls>;
    readonly ambient: Ambient;
  }) {
    this.#folder = options.folder;
    this.#store = options.store;
    this.#thread = options.silverThread;
    this.#ambient = options.ambient;
  }

  /**
   * Brings the heads of a stored run into the index; when it fails, nothing is attached afterwards.
   * @throws PipelineError corrupt when a part is gone or damaged
   */
  async load(entry: RunEntry): Promise<LoadedRun> {
    const run = this.#runNext++;
    const parts = await this.#slots.each(entry.parts, async (part) => {
      const key = `${this.#folder}/${part.name}`;
      const [info, head] = await Promise.all([
        this.#store.head(key),
        this.#store.get(key, { range: { start: 0, end: headBytesOf(part.rows) } }),
      ]);
      if (info?.sizeBytes !== partBytesOf(part.rows)) throw corruptPart();
      if (head === undefined || crc32(head) !== part.headCrc) throw corruptPart();
      return this.#attach(run, entry.prefixBits, part, head);
    });
    return { entry, run, parts };
  }

  /** Begins a run. */
  newRun(level: number, prefixBits: number): OpenRun {
    const run = this.#runNext++;
    const parts: LoadedPart[] = [];
    const finish = (): LoadedRun => {
      const rows = parts.reduce((sum, part) => sum + part.rows, 0);
      const entries = parts.map(
        ({ name, prefix, rows: partRows, headCrc }): PartEntry => ({
          name,
          prefix,
          rows: partRows,
          headCrc,
        }),
      );
      return { entry: { level, prefixBits, rows, parts: entries }, run, parts };
    };
    return { run, prefixBits, parts, finish };
  }

  /** Stores a part of a run and lets it answer lookups (PS2). */
  async add(run: OpenRun, { prefix, rows, headCrc, object }: BuiltPart): Promise<void> {
    // PS1
    const name = `${this.#ambient.ids.id()}.part`;
    await this.#store.put(`${this.#folder}/${name}`, object);
    const head = object.slice(0, headBytesOf(rows));
    const entry = { name, prefix, rows, headCrc };
    run.parts.push(await this.#attach(run.run, run.prefixBits, entry, head));
  }

  /** Takes a part out of the index; its object stays until `retire` or `sweep`. */
  async detach(run: LoadedRun, { part, prefix }: LoadedPart): Promise<void> {
    await this.#thread.call('detach', { run: run.run, part, prefix });
  }

  /** Reads bytes of a part. @throws PipelineError corrupt when they are not there */
  async read({ key }: LoadedPart, range: { start: number; end: number }): Promise<Uint8Array> {
    if (range.start === range.end) return new Uint8Array(0);
    const bytes = await this.#store.get(key, { range });
    if (bytes?.byteLength !== range.end - range.start) throw corruptPart();
    return bytes;
  }

  /** Notes runs that the manifest names no more, and deletes those noted long ago. */
  async retire(runs: readonly LoadedRun[]): Promise<void> {
    const nowMs = this.#ambient.clock.monotonicMs();
    const due = this.#retired.filter(({ atMs }) => nowMs - atMs >= RETIRED_MS);
    this.#retired = this.#retired.filter((retired) => !due.includes(retired));
    const keys = runs.flatMap(({ parts }) => parts.map(({ key }) => key));
    this.#retired.push({ keys, atMs: nowMs });
    await this.#deleteAll(due.flatMap((retired) => retired.keys));
  }

  /**
   * Deletes what killed or slow writers left: old objects that none of the runs names, and indexes
   * of another number of shards, which the first shard clears away.
   */
  async sweep(runs: readonly LoadedRun[], { number, count }: Shard): Promise<void> {
    const named = new Set(runs.flatMap(({ parts }) => parts.map(({ key }) => key)));
    const all = this.#folder.slice(0, this.#folder.lastIndexOf('/'));
    const old: string[] = [];
    for await (const { key, modifiedMs } of this.#store.list(
      `${number === 0 ? all : this.#folder}/`,
    )) {
      const isOld = this.#ambient.clock.nowMs() - modifiedMs >= UNNAMED_MS;
      const isOwn = key.startsWith(`${this.#folder}/`);
      const isOther = !key.slice(all.length).split('/')[1]?.endsWith(`-of-${count}`);
      const isUnnamed = isOwn && key.endsWith('.part') && !named.has(key);
      if (isOld && (isUnnamed || isOther)) old.push(key);
    }
    await this.#deleteAll(old);
  }

  async #deleteAll(keys: readonly string[]): Promise<void> {
    await this.#slots.each(keys, (key) => this.#store.delete(key));
  }

  #connectReads(): Promise<void> {
    if (!this.#connected) {
      const { port1, port2 } = new MessageChannel();
      servePartReads(port1, this.#store);
      this.#connected = this.#thread.call('connectReads', { port: port2 }, [port2]);
    }
    return this.#connected;
  }

  async #attach(
    run: number,
    prefixBits: number,
    entry: PartEntry,
    head: Uint8Array,
  ): Promise<LoadedPart> {
    const part = this.#partNext++;
    const key = `${this.#folder}/${entry.name}`;
    const path = this.#store.localPath(key);
    if (path === undefined) await this.#connectReads();
    const place: PartPlace = path === undefined ? { key } : { path };
    const { prefix, rows } = entry;
    await this.#thread.call('attach', { part, run, prefixBits, prefix, rows, place, head }, [
      head.buffer as ArrayBuffer,
    ]);
    return { ...entry, part, key };
  }
}
