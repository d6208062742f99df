/**
 * A lock between processes as numbered files, so that a crash leaves nothing to clean up by hand.
 * `<path>.<n>` says who holds the lock; the highest number counts. Whoever finds the highest one dead or
 * released creates the next.
 * - DL1 Exactly one process creates a number: by link(), complete, and looks afterwards whether a
 *   higher one exists. Numbers never go down, for a holder deletes lower files only and a released one
 *   stays; so two processes never both hold the lock, however slowly one of them acts on what it saw.
 * - DL2 A holder on this host is dead when its process is gone or is a younger one of the same number.
 * - DL3 A holder on another host is dead when its heartbeat stands still for FOREIGN_STALE_MS. Should it
 *   only have slept, `isHeld` tells it.
 */
import { link, readdir, readFile, rename, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname } from 'node:path';
import type { Ambient, Timer } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';

interface Holder {
  readonly pid: number;
  /** Start of the process in kernel ticks, where the system tells. */
  readonly started: string;
  readonly host: string;
  readonly note: string;
  readonly released: boolean;
}

/** The highest number, and who created it; number 0 when the lock was never taken. */
interface Generation {
  readonly number: number;
  readonly holder: Holder | undefined;
}

const HEARTBEAT_MS = 5000;
const FOREIGN_STALE_MS = 20_000;
const RETRY_MS = 100;

/** A lock that is held. */
export interface DirectoryLock {
  /** Leaves a word for those who find the lock held. */
  setNote(note: string): Promise<void>;
  /** Whether nobody took over, having thought this process dead. */
  isHeld(): Promise<boolean>;
  /** Idempotent. */
  release(): Promise<void>;
}

/**
 * Takes the lock at `path`.
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
    note: '',
    released: false,
  };
  const draft = `${path}.draft-${ids.id()}`;
  const heart = new HeartbeatWatch(path, ambient);
  const deadlineMs = clock.monotonicMs() + waitMs;
  await writeFile(draft, JSON.stringify(me));
  try {
    for (;;) {
      const { number, holder } = await readGeneration(path);
      if (!holder || holder.released || (await heart.isDead(number, holder, me))) {
        const taken = await createNumber(path, draft, number + 1);
        if (taken) return new HeldLock(path, number + 1, me, ambient);
      } else if (clock.monotonicMs() >= deadlineMs) return undefined;
      await clock.sleep(RETRY_MS);
    }
  } finally {
    await unlink(draft).catch(() => {});
  }
}

/** What the holder noted; undefined when nobody holds the lock. */
export async function readLockNote(path: string): Promise<string | undefined> {
  const { holder } = await readGeneration(path);
  return holder?.released === false ? holder.note : undefined;
}

/** Who holds the lock, for messages. */
export async function describeHolder(path: string): Promise<string> {
  const { holder } = await readGeneration(path);
  return holder ? `process ${holder.pid} on ${holder.host}` : 'another process';
}

class HeldLock implements DirectoryLock {
  readonly #path: string;
  readonly #number: number;
  readonly #ambient: Ambient;
  #holder: Holder;
  #heartbeat: Timer | undefined;

  constructor(path: string, number: number, holder: Holder, ambient: Ambient) {
    this.#path = path;
    this.#number = number;
    this.#holder = holder;
    this.#ambient = ambient;
    this.#beat();
  }

  async setNote(note: string): Promise<void> {
    await this.#write({ ...this.#holder, note });
  }

  async isHeld(): Promise<boolean> {
    return (await highestNumber(this.#path)) === this.#number;
  }

  async release(): Promise<void> {
    if (this.#holder.released) return;
    this.#heartbeat?.cancel();
    if (await this.isHeld()) await this.#write({ ...this.#holder, released: true });
  }

  async #write(holder: Holder): Promise<void> {
    this.#holder = holder;
    const draft = `${this.#path}.draft-${this.#ambient.ids.id()}`;
    await writeFile(draft, JSON.stringify(holder));
    await rename(draft, `${this.#path}.${this.#number}`);
  }

  #beat(): void {
    const { clock } = this.#ambient;
    const again = (): void => {
      if (!this.#holder.released) this.#beat();
    };
    this.#heartbeat = clock.after(
      HEARTBEAT_MS,
      () => {
        const now = clock.nowMs() / 1000;
        utimes(`${this.#path}.${this.#number}`, now, now).then(again, again);
      },
      { unref: true },
    );
  }
}

/** Judges whether a holder is alive (DL2, DL3). */
class HeartbeatWatch {
  readonly #path: string;
  readonly #ambient: Ambient;
  #seen: { readonly beat: string; readonly sinceMs: number } | undefined;

  constructor(path: string, ambient: Ambient) {
    this.#path = path;
    this.#ambient = ambient;
  }

  async isDead(number: number, holder: Holder, me: Holder): Promise<boolean> {
    if (holder.host === me.host) return (await startOf(holder.pid)) !== holder.started;
    const info = await stat(`${this.#path}.${number}`).catch(() => undefined);
    const beat = `${number} ${info?.mtimeMs}`;
    const nowMs = this.#ambient.clock.monotonicMs();
    if (this.#seen?.beat !== beat) this.#seen = { beat, sinceMs: nowMs };
    return nowMs - this.#seen.sinceMs >= FOREIGN_STALE_MS;
  }
}

/** DL1. @returns whether the number is ours and the highest */
async function createNumber(path: string, draft: string, number: number): Promise<boolean> {
  try {
    await link(draft, `${path}.${number}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  const numbers = await listNumbers(path);
  const isHighest = numbers.every((one) => one <= number);
  const superseded = isHighest ? numbers.filter((one) => one < number) : [number];
  await Promise.all(superseded.map((one) => unlink(`${path}.${one}`).catch(() => {})));
  return isHighest;
}

async function listNumbers(path: string): Promise<readonly number[]> {
  const prefix = `${basename(path)}.`;
  // Without the folder there is no lock either.
  const names = await readdir(dirname(path)).catch(() => []);
  return names.flatMap((name) => {
    const digits = name.startsWith(prefix) ? name.slice(prefix.length) : '';
    return /^[1-9]\d*$/.test(digits) ? [Number(digits)] : [];
  });
}

async function highestNumber(path: string): Promise<number> {
  return Math.max(0, ...(await listNumbers(path)));
}

async function readGeneration(path: string): Promise<Generation> {
  for (;;) {
    const number = await highestNumber(path);
    if (number === 0) return { number, holder: undefined };
    try {
      const holder = JSON.parse(await readFile(`${path}.${number}`, 'utf8')) as Holder;
      return { number, holder };
    } catch (cause) {
      // Superseded between the two looks: a higher one is there now.
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') continue;
      const message = 'the lock file cannot be read; remove it when no process uses the log';
      throw new PipelineError('invalid', 'TM_CONFIG_INVALID', message, {
        context: { path: `${path}.${number}` },
        cause,
      });
    }
  }
}

/** When a process began, in the kernel's own count; `alive` or `gone` where that is not told. */
async function startOf(pid: number): Promise<string> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold spaces; what follows is field 3 on, the start being field 22.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? 'alive';
  } catch {
    if (process.platform === 'linux') return 'gone';
  }
  try {
    process.kill(pid, 0);
    return 'alive';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? 'alive' : 'gone';
  }
}
