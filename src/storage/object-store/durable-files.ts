/**
 * Steps from which the file system adapter builds its writes; W2 to W5 are the invariants listed in
 * fs-object-store.ts. They throw the system's own errors (file-errors.ts translates them).
 */
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from './file-errors.ts';
import type { CreateOutcome } from './object-store.ts';

/**
 * Fsyncs folders. Calls that come while an fsync of the same folder runs share the next one; when the
 * first fails the next fails with it, because the kernel tells of a lost page only once (W5).
 */
export class DirectorySyncs {
  readonly #running = new Map<string, { readonly current: Promise<void>; next?: Promise<void> }>();

  sync(folder: string): Promise<void> {
    const running = this.#running.get(folder);
    if (!running) return this.#start(folder);
    running.next ??= running.current.then(() => this.#start(folder));
    return running.next;
  }

  #start(folder: string): Promise<void> {
    const current = syncDirectory(folder).finally(() => {
      if (this.#running.get(folder) === entry) this.#running.delete(folder);
    });
    const entry = { current };
    this.#running.set(folder, entry);
    return current;
  }
}

async function syncDirectory(folder: string): Promise<void> {
  await using handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  await handle.sync();
}

/**
 * Makes `folder` and fsyncs the folders that hold the new names (W3); with `root`, every folder from
 * there on, because another process may have made them and died before its fsync.
 */
export async function makeDurableDirectory(
  folder: string,
  syncs: DirectorySyncs,
  root?: string,
): Promise<void> {
  const firstMade = await mkdir(folder, { recursive: true });
  let top = root ?? folder;
  if (firstMade !== undefined && firstMade.length <= top.length) top = dirname(firstMade);
  for (let path = folder; path.length > top.length; ) {
    path = dirname(path);
    await syncs.sync(path);
  }
}

/**
 * Gives a complete temporary file its name unless that is taken (W2, W4).
 * @throws the system's error when certainly nothing was linked
 */
export async function linkOnce(temporary: string, path: string): Promise<CreateOutcome> {
  try {
    await link(temporary, path);
    return 'created';
  } catch (error) {
    const code = codeOf(error);
    if (code !== 'EEXIST' && LINK_LEFT_NOTHING.has(code)) throw error;
    const links = await stat(temporary).then(
      (info) => info.nlink,
      () => undefined,
    );
    if (links === 2) return 'created';
    return code === 'EEXIST' ? 'exists' : 'unknown';
  }
}

/** Errors by which the kernel refuses a link() before it changes anything. */
const LINK_LEFT_NOTHING: ReadonlySet<string> = new Set([
  'EACCES',
  'EDQUOT',
  'EMLINK',
  'ENOENT',
  'ENOSPC',
  'ENOTDIR',
  'ENOTSUP',
  'EOPNOTSUPP',
  'EPERM',
  'EROFS',
  'EXDEV',
]);

/** One write(2) for all but gigantic bodies; FileHandle.writeFile would cut it into 512 KiB pieces. */
export async function writeWhole(file: FileHandle, body: Uint8Array): Promise<void> {
  for (let written = 0; written < body.length; ) {
    written += (await file.write(body, written, body.length - written, written)).bytesWritten;
  }
}

/** Bytes from `start` to `end` (exclusive), which the file has, in memory of their own. */
export async function readWhole(file: FileHandle, start: number, end: number): Promise<Uint8Array> {
  const body = new Uint8Array(Buffer.allocUnsafeSlow(end - start).buffer);
  for (let read = 0; read < body.length; ) {
    const { bytesRead } = await file.read(body, read, body.length - read, start + read);
    if (bytesRead === 0) throw new Error('the file became shorter while it was read');
    read += bytesRead;
  }
  return body;
}
