/**
 * A lock file that says who holds it, so that a crash leaves nothing to clean up by hand.
 * - DL1 It is created whole, by link(): two processes never both believe they created it.
 * - DL2 A holder on this host is dead when its process is gone or is a younger one of the same number.
 * - DL3 A holder on another host is dead when its heartbeat stands still for FOREIGN_STALE_MS.
 * - DL4 A dead holder's file is renamed and read again before it counts as removed, in case another
 *   process was faster.
 */
import { link, readFile, rename, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { Ambient, Timer } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';

interface Holder {
  readonly pid: number;
  /** Start of the process in kernel ticks; empty where /proc is missing. */
  readonly started: string;
  readonly host: string;
  readonly token: string;
  readonly note: string;
}

const HEARTBEAT_MS = 5000;
const FOREIGN_STALE_MS = 20_000;
const RETRY_MS = 100;

/** A lock that is held. */
export interface DirectoryLock {
  /** Leaves a word for those who find the lock held. */
  setNote(note: string): Promise<void>;
  /** Idempotent. */
  release(): Promise<void>;
}

/**
 * Takes the lock file at `path`.
 * @param waitMs how long to wait for a living holder; 0 tries once
 * @returns undefined when it is held
 */
export async function acquireDirectoryLock(
  path: string,
  ambient: Ambient,
  waitMs: number,
): Promise<DirectoryLock | undefined> {
  const { clock, ids } = ambient;
  const me: Holder = {
    pid: process.pid,
    started: await startOf(process.pid),
    host: hostname(),
    token: ids.id(),
    note: '',
  };
  const draft = `${path}.${me.token}`;
  const watch = new HeartbeatWatch(path, ambient);
  const deadlineMs = clock.monotonicMs() + waitMs;
  await writeFile(draft, JSON.stringify(me));
  try {
    for (;;) {
      if (await created(draft, path)) return hold(path, me, ambient);
      const holder = await readHolder(path);
      const dead = holder && (await watch.isDead(holder, me));
      if (dead) await remove(path, holder, `${draft}.stale`);
      else if (clock.monotonicMs() >= deadlineMs) return undefined;
      else await clock.sleep(RETRY_MS);
    }
  } finally {
    await unlink(draft).catch(() => {});
  }
}

/** What the holder noted; undefined when nobody holds the lock. */
export async function readLockNote(path: string): Promise<string | undefined> {
  return (await readHolder(path))?.note;
}

/** Who holds the lock, for messages. */
export async function describeHolder(path: string): Promise<string> {
  const holder = await readHolder(path);
  return holder ? `process ${holder.pid} on ${holder.host}` : 'another process';
}

function hold(path: string, me: Holder, { clock }: Ambient): DirectoryLock {
  let timer: Timer;
  const beat = (): void => {
    timer = clock.after(
      HEARTBEAT_MS,
      () => {
        const now = clock.nowMs() / 1000;
        utimes(path, now, now).then(beat, beat);
      },
      { unref: true },
    );
  };
  let released = false;
  beat();
  return {
    async setNote(note) {
      const draft = `${path}.${me.token}`;
      await writeFile(draft, JSON.stringify({ ...me, note }));
      await rename(draft, path);
    },
    async release() {
      if (released) return;
      released = true;
      timer.cancel();
      if ((await readHolder(path))?.token === me.token) await unlink(path).catch(() => {});
    },
  };
}

class HeartbeatWatch {
  readonly #path: string;
  readonly #ambient: Ambient;
  #seen: { readonly beat: string; readonly sinceMs: number } | undefined;

  constructor(path: string, ambient: Ambient) {
    this.#path = path;
    this.#ambient = ambient;
  }

  async isDead(holder: Holder, me: Holder): Promise<boolean> {
    if (holder.host === me.host) return (await startOf(holder.pid)) !== holder.started;
    const info = await stat(this.#path).catch(() => undefined);
    const beat = `${holder.token} ${info?.mtimeMs}`;
    const nowMs = this.#ambient.clock.monotonicMs();
    if (this.#seen?.beat !== beat) this.#seen = { beat, sinceMs: nowMs };
    return nowMs - this.#seen.sinceMs >= FOREIGN_STALE_MS;
  }
}

async function created(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** DL4. */
async function remove(path: string, judged: Holder, aside: string): Promise<void> {
  await rename(path, aside).catch(() => {});
  const removed = await readHolder(aside);
  if (removed && removed.token !== judged.token) await link(aside, path).catch(() => {});
  await unlink(aside).catch(() => {});
}

/** @returns undefined when there is no file */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      'the lock file cannot be read; remove it',
      {
        context: { path },
        cause,
      },
    );
  }
}

/**
 * When a process began, in the kernel's own count; `alive` or `gone` where there is no /proc.
 */
async function startOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold spaces; what follows is fields 3 on, the start being 22.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 'alive';
  } catch {
    try {
      process.kill(pid, 0);
      return process.platform === 'linux' ? 'gone' : 'alive';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM' ? 'alive' : 'gone';
    }
  }
}
