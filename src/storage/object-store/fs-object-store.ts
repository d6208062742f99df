/**
 * Object store on a POSIX file system with hard links: one file per object below a root folder.
 *
 * W1 An object appears whole or not at all: bytes go to `.tmp-<nonce>` in the same folder, are
 *    fsynced, and only then get their name.
 * W2 A create names the file with link(), which never replaces (EEXIST); rename(), which silently
 *    does, is for `put` alone.
 * W3 A write is acknowledged after the folder was fsynced too, and every new folder above it. `exists`
 *    is also told only after such an fsync: what the caller concludes from it survives a power cut.
 * W4 The outcome of a failed link() is asked of the file itself: a link count of 2 is ours (NFS may
 *    carry out a request and report failure). What stays open is `unknown`.
 * W5 A failed fsync fails the write; it is never repeated on the same file (the kernel may have
 *    dropped the dirty pages and report success the second time).
 * W6 Symbolic links are neither opened as objects nor followed by listings. The root is resolved once.
 *
 * Files left by killed processes are removed by age when a store opens; a live writer whose file is
 * taken away by that (its clock stood far off) fails cleanly at W2.
 * Source: delta-rules.md "Local filesystem recipe"; open(2) on O_EXCL and NFS; Rebello et al., "Can
 * Applications Recover from fsync Failures?" (USENIX ATC 2020).
 */
import { constants, type Dirent, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, realpath, rename, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Ambient } from '../../ambient.ts';
import { errorFields, type Logger } from '../../logger.ts';
import {
  DirectorySyncs,
  linkOnce,
  makeDurableDirectory,
  readWhole,
  writeWhole,
} from './durable-files.ts';
import { codeOf, fsError, isAbsence } from './file-errors.ts';
import {
  type ByteRange,
  checkKey,
  checkPrefix,
  checkRange,
  compareKeys,
  TEMPORARY_PREFIX,
} from './object-key.ts';
import type { CreateOutcome, ObjectInfo, ObjectStore } from './object-store.ts';

/** Temporary files older than this belong to nobody that still lives. */
const TEMPORARY_AGE_MS_MAX = 3_600_000;
/** Files whose size and time are asked for at once while listing. */
const STAT_BATCH = 64;

const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW;
const NEW_FILE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

/** Where the store is, and what it needs. */
export interface FsObjectStoreOptions {
  /** Root folder; made when it does not exist. */
  readonly path: string;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/**
 * Opens the store and starts removing abandoned temporary files in the background.
 * @throws PipelineError unavailable | invalid (not a folder, no permission)
 */
export async function openFsObjectStore(options: FsObjectStoreOptions): Promise<FsObjectStore> {
  const path = resolve(options.path);
  try {
    await makeDurableDirectory(path, new DirectorySyncs());
    return new FsObjectStore(await realpath(path), options);
  } catch (error) {
    throw fsError(error, path);
  }
}

/** See `openFsObjectStore`. */
export class FsObjectStore implements ObjectStore {
  readonly description: string;
  readonly #root: string;
  readonly #ambient: Ambient;
  readonly #logger: Logger;
  readonly #syncs = new DirectorySyncs();
  /** Folders whose own names, up to the root, are known to be durable (W3). */
  readonly #durable = new Set<string>();
  readonly #sweep: Promise<void>;
  #closed = false;

  constructor(root: string, options: Omit<FsObjectStoreOptions, 'path'>) {
    this.description = root;
    this.#root = root;
    this.#ambient = options.ambient;
    this.#logger = options.logger;
    this.#sweep = this.#removeAbandoned(root);
  }

  async get(
    key: string,
    options?: { readonly range?: ByteRange },
  ): Promise<Uint8Array | undefined> {
    const path = this.#path(key);
    const range = options?.range;
    if (range) checkRange(range);
    try {
      await using file = await open(path, READ_FLAGS);
      const info = await file.stat();
      if (!info.isFile()) return undefined;
      const start = Math.min(range?.start ?? 0, info.size);
      const end = Math.min(range?.end ?? info.size, info.size);
      return await readWhole(file, start, end);
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw fsError(error, key);
    }
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const info = await this.#fileStats(this.#path(key), key);
    return info && objectInfo(key, info);
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    const path = this.#path(key);
    try {
      await using temporary = await this.#writeTemporary(path, body);
      await rename(temporary.path, path);
      await this.#syncs.sync(dirname(path));
    } catch (error) {
      throw fsError(error, key);
    }
  }

  async createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    const path = this.#path(key);
    if (await this.#fileStats(path, key)) return this.#acknowledge(path, 'exists');
    let outcome: CreateOutcome;
    try {
      await using temporary = await this.#writeTemporary(path, body);
      outcome = await linkOnce(temporary.path, path);
    } catch (error) {
      throw fsError(error, key);
    }
    return this.#acknowledge(path, outcome);
  }

  async *list(
    prefix: string,
    options?: { readonly startAfter?: string },
  ): AsyncIterable<ObjectInfo> {
    const folderEnd = checkPrefix(prefix).lastIndexOf('/') + 1;
    yield* this.#listFolder(prefix.slice(0, folderEnd), prefix, options?.startAfter ?? '');
  }

  /** The name is gone at once; after a power cut it may be back, which vacuum and log clean-up repair. */
  async delete(key: string): Promise<void> {
    const path = this.#path(key);
    try {
      await unlink(path);
    } catch (error) {
      if (isAbsence(error)) return;
      // unlink() of a folder is EPERM by POSIX; a folder is not an object, so nothing is there.
      if (codeOf(error) === 'EPERM' && !(await this.#fileStats(path, key))) return;
      throw fsError(error, key);
    }
  }

  localPath(key: string): string {
    return this.#path(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#sweep;
  }

  #path(key: string): string {
    return join(this.#root, checkKey(key));
  }

  async #fileStats(path: string, key: string): Promise<Stats | undefined> {
    try {
      const info = await lstat(path);
      return info.isFile() ? info : undefined;
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw fsError(error, key);
    }
  }

  /** W3. Once the name may be there, a failing device leaves the outcome open. */
  async #acknowledge(path: string, outcome: CreateOutcome): Promise<CreateOutcome> {
    try {
      await this.#syncs.sync(dirname(path));
      return outcome;
    } catch (error) {
      this.#logger.error('fsync of a folder failed', errorFields(fsError(error, path)));
      return 'unknown';
    }
  }

  /** Writes `body` durably beside `path` (W1). Disposal removes the file, if it still has that name. */
  async #writeTemporary(
    path: string,
    body: Uint8Array,
  ): Promise<AsyncDisposable & { readonly path: string }> {
    const folder = dirname(path);
    const temporary = join(folder, `${TEMPORARY_PREFIX}${this.#ambient.ids.id()}`);
    if (!this.#durable.has(folder)) await this.#makeFolder(folder);
    let file: FileHandle;
    try {
      file = await open(temporary, NEW_FILE_FLAGS);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      await this.#makeFolder(folder);
      file = await open(temporary, NEW_FILE_FLAGS);
    }
    const remove = (): Promise<void> => unlink(temporary).catch(() => undefined);
    try {
      try {
        await writeWhole(file, body);
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await remove();
      throw error;
    }
    return { path: temporary, [Symbol.asyncDispose]: remove };
  }

  async #makeFolder(folder: string): Promise<void> {
    await makeDurableDirectory(folder, this.#syncs, this.#root);
    this.#durable.add(folder);
  }

  /**
   * Lists the keys of one folder and those below it.
   * @param folder key of the folder with its slash; empty for the root
   */
  async *#listFolder(
    folder: string,
    prefix: string,
    startAfter: string,
  ): AsyncGenerator<ObjectInfo> {
    const files: string[] = [];
    for (const entry of await this.#entries(folder, prefix, startAfter)) {
      if (!entry.endsWith('/')) {
        if (files.push(entry) === STAT_BATCH) yield* await this.#stats(files.splice(0));
        continue;
      }
      yield* await this.#stats(files.splice(0));
      yield* this.#listFolder(entry, prefix, startAfter);
    }
    yield* await this.#stats(files);
  }

  /**
   * Keys of the files and, ending in `/`, of the folders in `folder` that may hold what is asked for.
   * The slash takes part in the order, so that walking them in turn yields keys in order.
   */
  async #entries(folder: string, prefix: string, startAfter: string): Promise<string[]> {
    let entries: Dirent[];
    try {
      entries = await readdir(join(this.#root, folder), { withFileTypes: true });
    } catch (error) {
      if (isAbsence(error)) return [];
      throw fsError(error, folder);
    }
    const keys: string[] = [];
    for (const entry of entries) {
      const { name } = entry;
      if (name.startsWith(TEMPORARY_PREFIX) || name.includes('\\')) continue;
      if (entry.isFile()) {
        const key = folder + name;
        if (key.startsWith(prefix) && compareKeys(key, startAfter) > 0) keys.push(key);
      } else if (entry.isDirectory()) {
        const key = `${folder}${name}/`;
        const behind = compareKeys(key, startAfter) > 0 || startAfter.startsWith(key);
        if (behind && (key.startsWith(prefix) || prefix.startsWith(key))) keys.push(key);
      }
    }
    return keys.sort(compareKeys);
  }

  async #stats(keys: readonly string[]): Promise<ObjectInfo[]> {
    const found = await Promise.all(
      keys.map(async (key) => {
        const info = await this.#fileStats(join(this.#root, key), key);
        return info && objectInfo(key, info);
      }),
    );
    return found.filter((info) => info !== undefined);
  }

  /** Never fails: it is housekeeping, and what it cannot read is not its own. */
  async #removeAbandoned(folder: string): Promise<void> {
    if (this.#closed) return;
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (this.#closed) return;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) await this.#removeAbandoned(path);
      else if (entry.name.startsWith(TEMPORARY_PREFIX) && entry.isFile()) {
        const info = await lstat(path).catch(() => undefined);
        const ageMs = info ? this.#ambient.clock.nowMs() - info.mtimeMs : 0;
        if (ageMs <= TEMPORARY_AGE_MS_MAX) continue;
        await unlink(path).catch(() => undefined);
        this.#logger.info('removed an abandoned temporary file', { path, ageMs });
      }
    }
  }
}

function objectInfo(key: string, info: Stats): ObjectInfo {
  return { key, sizeBytes: info.size, modifiedMs: Math.floor(info.mtimeMs) };
}
