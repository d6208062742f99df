/**
 * Local copies of immutable objects, for readers that need files (DuckDB) and to read a remote object
 * only once. Where the store has local files itself, those are used and nothing is copied.
 *
 * D1 The folder is the only state: a file's name says object and size, its modification time the last
 *    use. So the cache survives restarts, and processes may share it.
 * D2 A file appears whole (fsync, then rename) or not at all; a size other than the log's is never kept.
 * D3 Above `bytesMax` the files used longest ago go first, but never the one used last nor those in use
 *    by `withFiles` here: what is in use at one time may exceed the bound.
 * D4 Of several requests for one object one downloads; downloads at once are bounded (P10).
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, stat, unlink, utimes } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import { writeWhole } from './durable-files.ts';
import { fsError } from './fs-errors.ts';
import { TEMPORARY_PREFIX } from './object-key.ts';
import type { ObjectStore } from './object-store.ts';
import { Slots } from './slots.ts';

const DOWNLOADS_MAX = 4;
const TEMPORARY_AGE_MS_MAX = 3_600_000;
/** `<hash of the key>-<size>`; whatever else lies in the folder is left alone. */
const CACHED_NAME = /^[0-9a-f]{40}-\d+$/;

/** An object and the size that the table's log says it has. */
export interface CachedObject {
  readonly key: string;
  readonly sizeBytes: number;
}

/** What is cached where. */
export interface DiskCacheOptions {
  readonly store: ObjectStore;
  /** Folder for the copies; made when it does not exist. */
  readonly path: string;
  readonly bytesMax: number;
  readonly ambient: Pick<Ambient, 'clock' | 'ids'>;
}

/** Opens the cache, removing what a killed process left half written. @throws PipelineError unavailable */
export async function openDiskCache(options: DiskCacheOptions): Promise<DiskCache> {
  const cache = new DiskCache(options);
  await cache.evict();
  return cache;
}

/** See `openDiskCache`. */
export class DiskCache {
  readonly #store: ObjectStore;
  readonly #folder: string;
  readonly #bytesMax: number;
  readonly #ambient: Pick<Ambient, 'clock' | 'ids'>;
  readonly #downloads = new Map<string, Promise<void>>();
  readonly #slots = new Slots(DOWNLOADS_MAX);
  /** How many calls of `withFiles` use a file, by name. */
  readonly #pins = new Map<string, number>();
  /** Bytes in the folder at the last look, and what this process added since. */
  #bytes = 0;
  #eviction: Promise<void> | undefined;

  constructor(options: DiskCacheOptions) {
    this.#store = options.store;
    this.#folder = resolve(options.path);
    this.#bytesMax = options.bytesMax;
    this.#ambient = options.ambient;
  }

  /**
   * Path of a file with the object's bytes. The file is the last to be evicted, but not kept: open it
   * soon, or use `withFiles`.
   * @throws PipelineError unavailable; corrupt when the object is gone or has another size
   */
  async localFile(key: string, sizeBytes: number): Promise<string> {
    const here = this.#store.localPath(key);
    if (here !== undefined) return here;
    const name = this.#nameOf(key, sizeBytes);
    const path = join(this.#folder, name);
    if (await this.#touch(path)) return path;
    let download = this.#downloads.get(name);
    if (!download) {
      download = this.#slots
        .run(() => this.#download(key, sizeBytes, path))
        .finally(() => this.#downloads.delete(name));
      this.#downloads.set(name, download);
    }
    await download;
    return path;
  }

  /**
   * Runs `use` with local files for `objects`, in the same order, and keeps them until it ends.
   * @throws as `localFile`, and what `use` throws
   */
  async withFiles<T>(
    objects: readonly CachedObject[],
    use: (paths: readonly string[]) => Promise<T>,
  ): Promise<T> {
    const names = objects.map(({ key, sizeBytes }) => this.#nameOf(key, sizeBytes));
    for (const name of names) this.#pins.set(name, (this.#pins.get(name) ?? 0) + 1);
    try {
      const files = objects.map(({ key, sizeBytes }) => this.localFile(key, sizeBytes));
      await Promise.allSettled(files);
      return await use(await Promise.all(files));
    } finally {
      for (const name of names) {
        const left = this.#pins.get(name)! - 1;
        if (left === 0) this.#pins.delete(name);
        else this.#pins.set(name, left);
      }
      if (this.#bytes > this.#bytesMax) await this.evict();
    }
  }

  /** Looks at the folder and brings it below the bound (D3). */
  evict(): Promise<void> {
    this.#eviction ??= this.#evict().finally(() => {
      this.#eviction = undefined;
    });
    return this.#eviction;
  }

  #nameOf(key: string, sizeBytes: number): string {
    const hash = createHash('sha256').update(`${this.#store.description}\n${key}`).digest('hex');
    return `${hash.slice(0, 40)}-${sizeBytes}`;
  }

  /** Notes a use. @returns false when there is no such file, also because another process evicted it */
  async #touch(path: string): Promise<boolean> {
    const now = this.#ambient.clock.nowMs() / 1000;
    return utimes(path, now, now).then(
      () => true,
      () => false,
    );
  }

  async #download(key: string, sizeBytes: number, path: string): Promise<void> {
    const body = await this.#store.get(key);
    if (body?.length !== sizeBytes) {
      const found = body ? `has ${body.length} bytes` : 'is gone';
      throw new PipelineError(
        'corrupt',
        body ? 'TM_LOG_CORRUPT' : 'TM_OBJECT_MISSING',
        `${key} in ${this.#store.description} ${found}; the log says it has ${sizeBytes}`,
        { context: { key, sizeBytes } },
      );
    }
    const temporary = join(this.#folder, TEMPORARY_PREFIX + this.#ambient.ids.id());
    try {
      await this.#write(temporary, body);
      await this.#touch(temporary);
      await rename(temporary, path);
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw fsError(error, this.#folder);
    }
    this.#bytes += sizeBytes;
    if (this.#bytes > this.#bytesMax) await this.evict();
  }

  async #write(path: string, body: Uint8Array): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    await using file = await open(path, 'wx');
    await writeWhole(file, body);
    // Without it a power cut could leave a name of the right size over bytes that never came.
    await file.datasync();
  }

  async #evict(): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true });
      const files = await this.#files();
      files.sort((a, b) => a.usedMs - b.usedMs);
      this.#bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
      const newest = files.at(-1);
      for (const file of files) {
        if (this.#bytes <= this.#bytesMax) break;
        // The newest was handed out a moment ago and is about to be opened.
        if (file === newest || this.#pins.has(file.name)) continue;
        await unlink(join(this.#folder, file.name)).catch(() => undefined);
        this.#bytes -= file.sizeBytes;
      }
    } catch (error) {
      throw fsError(error, this.#folder);
    }
  }

  /** The cached files, after removing damaged and abandoned ones. */
  async #files(): Promise<{ name: string; sizeBytes: number; usedMs: number }[]> {
    const found: { name: string; sizeBytes: number; usedMs: number }[] = [];
    for (const name of await readdir(this.#folder)) {
      const isTemporary = name.startsWith(TEMPORARY_PREFIX);
      if (!isTemporary && !CACHED_NAME.test(name)) continue;
      const path = join(this.#folder, name);
      const info = await stat(path).catch(() => undefined);
      if (!info) continue;
      const isAbandoned = this.#ambient.clock.nowMs() - info.mtimeMs > TEMPORARY_AGE_MS_MAX;
      const isDamaged = !name.endsWith(`-${info.size}`);
      if (isTemporary ? isAbandoned : isDamaged) await unlink(path).catch(() => undefined);
      else if (!isTemporary) found.push({ name, sizeBytes: info.size, usedMs: info.mtimeMs });
    }
    return found;
  }
}
