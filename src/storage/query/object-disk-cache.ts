/**
 * Objects of a remote store as local files, for engines that read files. Bounded in bytes and in files:
 * what was used longest ago goes first.
 *
 * Invariants:
 * K1 only immutable objects are cached (Delta data files are uniquely named, never overwritten), so
 *    that a file found here is the object;
 * K2 a file under its final name is complete: it was renamed there after all its bytes were written;
 * K3 files that a query holds are not evicted; a query that needs more than the bound exceeds it while
 *    it runs;
 * K4 looking through the folder costs with the files in it, so it is done only after objects were brought:
 *    the first time, and then whenever they came to a share of a bound.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { ObjectStore } from '../object-store/object-store.ts';

export interface CachedObject {
  readonly key: string;
  readonly sizeBytes: number;
}

/** What is kept when no query holds it. */
export interface CacheBounds {
  readonly bytes: number;
  readonly files: number;
}

/** Downloads side by side. */
const CONCURRENCY = 8;
/** Files looked at side by side. */
const LOOKS = 64;
/** The folder is looked through whenever this share of a bound was brought (K4). */
const SHARE = 1 / 16;
/** What a process that ended left half written goes after this time. */
const PARTIAL_MS = 3_600_000;

export class ObjectDiskCache {
  readonly folder: string;
  readonly #store: ObjectStore;
  readonly #ambient: Ambient;
  readonly #bounds: CacheBounds;
  /** Since the folder was looked through. */
  #brought = { bytes: 0, files: 0 };
  #wasLooked = false;
  readonly #held = new Map<string, number>();

  constructor(options: {
    readonly store: ObjectStore;
    readonly ambient: Ambient;
    readonly folder: string;
    readonly bounds: CacheBounds;
  }) {
    this.#store = options.store;
    this.#ambient = options.ambient;
    this.folder = options.folder;
    this.#bounds = options.bounds;
  }

  /** Where the object is, or will be once `hold` returned. */
  pathOf(key: string): string {
    const name = createHash('sha256').update(`${this.#store.description}\n${key}`).digest('hex');
    return join(this.folder, `${name}.object`);
  }

  /**
   * Brings objects here and keeps them until the returned function is called.
   * @throws PipelineError corrupt when an object is gone or has another size | unavailable
   */
  async hold(objects: readonly CachedObject[]): Promise<() => Promise<void>> {
    await mkdir(this.folder, { recursive: true });
    const paths = objects.map(({ key }) => this.pathOf(key));
    for (const path of paths) this.#held.set(path, (this.#held.get(path) ?? 0) + 1);
    const release = async (): Promise<void> => {
      for (const path of paths) {
        const holders = this.#held.get(path)! - 1;
        if (holders === 0) this.#held.delete(path);
        else this.#held.set(path, holders);
      }
      await this.#evict();
    };
    try {
      const waiting = objects.values();
      const worker = async (): Promise<void> => {
        for (const object of waiting) await this.#bring(object);
      };
      await Promise.all(Array.from({ length: CONCURRENCY }, worker));
      return release;
    } catch (thrown) {
      await release();
      throw thrown;
    }
  }

  async #bring({ key, sizeBytes }: CachedObject): Promise<void> {
    const path = this.pathOf(key);
    const known = await stat(path).catch(() => undefined);
    if (known?.size === sizeBytes) {
      const nowSeconds = this.#ambient.clock.nowMs() / 1000;
      await utimes(path, nowSeconds, nowSeconds);
      return;
    }
    const bytes = await this.#store.get(key);
    if (bytes?.byteLength !== sizeBytes) {
      const found = bytes === undefined ? 'is gone' : `has ${bytes.byteLength} bytes`;
      const message = `${key} ${found}, but the table says that it has ${sizeBytes} bytes`;
      throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', message, { context: { key } });
    }
    const partial = join(this.folder, `${this.#ambient.ids.id()}.partial`);
    try {
      await writeFile(partial, bytes);
      await rename(partial, path);
      this.#brought.bytes += sizeBytes;
      this.#brought.files++;
    } catch (cause) {
      await rm(partial, { force: true });
      const full = (cause as NodeJS.ErrnoException).code === 'ENOSPC';
      throw new PipelineError(
        'unavailable',
        full ? 'TM_DISK_FULL' : 'TM_STORE_UNAVAILABLE',
        `The cache folder ${this.folder} cannot be written.`,
        { cause },
      );
    }
  }

  /** K4 */
  #isLookDue(): boolean {
    const { bytes, files } = this.#brought;
    if (!this.#wasLooked) return files > 0;
    return bytes >= SHARE * this.#bounds.bytes || files >= SHARE * this.#bounds.files;
  }

  async #evict(): Promise<void> {
    if (!this.#isLookDue()) return;
    this.#wasLooked = true;
    this.#brought = { bytes: 0, files: 0 };
    const files = await this.#files();
    let count = files.length;
    let bytes = files.reduce((sum, { size }) => sum + size, 0);
    for (const { path, size } of files.sort((a, b) => a.usedMs - b.usedMs)) {
      if (bytes <= this.#bounds.bytes && count <= this.#bounds.files) return;
      // K3
      if (this.#held.has(path)) continue;
      await rm(path, { force: true });
      bytes -= size;
      count--;
    }
  }

  /** The objects here; half-written ones that nobody finishes go on the way. */
  async #files(): Promise<CachedFile[]> {
    const files: CachedFile[] = [];
    const names = (await readdir(this.folder)).values();
    const look = async (): Promise<void> => {
      for (const name of names) {
        const path = join(this.folder, name);
        const info = await stat(path).catch(() => undefined);
        if (!info) continue;
        if (name.endsWith('.object')) files.push({ path, size: info.size, usedMs: info.mtimeMs });
        else if (
          name.endsWith('.partial') &&
          info.mtimeMs < this.#ambient.clock.nowMs() - PARTIAL_MS
        ) {
          await rm(path, { force: true });
        }
      }
    };
    await Promise.all(Array.from({ length: LOOKS }, look));
    return files;
  }
}

interface CachedFile {
  readonly path: string;
  readonly size: number;
  readonly usedMs: number;
}
