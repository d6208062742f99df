/**
 * Objects of a remote store as local files, for engines that read files. Bounded: what was used
 * longest ago goes first.
 *
 * Invariants:
 * K1 only immutable objects are cached (Delta data files are uniquely named, never overwritten), so
 *    that a file found here is the object;
 * K2 a file under its final name is complete: it was renamed there after all its bytes were written;
 * K3 files that a query holds are not evicted; a query that needs more than the bound exceeds it while
 *    it runs.
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

/** Downloads side by side. */
const CONCURRENCY = 8;

export class ObjectDiskCache {
  readonly folder: string;
  readonly #store: ObjectStore;
  readonly #ambient: Ambient;
  readonly #bytesMax: number;
  readonly #held = new Map<string, number>();

  constructor(options: {
    readonly store: ObjectStore;
    readonly ambient: Ambient;
    readonly folder: string;
    readonly bytesMax: number;
  }) {
    this.#store = options.store;
    this.#ambient = options.ambient;
    this.folder = options.folder;
    this.#bytesMax = options.bytesMax;
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

  /** K3 */
  async #evict(): Promise<void> {
    const files: { readonly path: string; readonly size: number; readonly usedMs: number }[] = [];
    for (const name of await readdir(this.folder)) {
      if (!name.endsWith('.object')) continue;
      const path = join(this.folder, name);
      const info = await stat(path).catch(() => undefined);
      if (info) files.push({ path, size: info.size, usedMs: info.mtimeMs });
    }
    let total = files.reduce((sum, file) => sum + file.size, 0);
    for (const { path, size } of files.sort((a, b) => a.usedMs - b.usedMs)) {
      if (total <= this.#bytesMax) return;
      if (this.#held.has(path)) continue;
      await rm(path, { force: true });
      total -= size;
    }
  }
}
