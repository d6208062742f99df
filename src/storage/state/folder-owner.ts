/**
 * Marks a folder as belonging to one process, so that a second one is told off instead of
 * overwriting the first one's files.
 *
 * FO1 The mark is created atomically with its content (temporary file, then link).
 * FO2 A mark whose process is gone is taken over. A process is known by host, pid and start time, so a
 *     pid that was given out again (in a container it is often 1) does not pass for the old owner.
 *
 * A mark of another host cannot be checked: a folder shared between hosts is not protected, which is
 * one more reason why several hosts need Redis.
 */
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { PipelineError } from '../../errors.ts';

const MARK = 'owner.json';

interface Owner {
  readonly host: string;
  readonly pid: number;
  /** Clock ticks since boot; undefined where there is no /proc. */
  readonly startedAt: string | undefined;
}

/** Folders marked by this process. */
const ours = new Set<string>();

/**
 * Takes the folder, creating it where needed.
 * @param folder absolute
 * @returns gives it back; idempotent
 * @throws PipelineError invalid (TM_STATE_UNSAFE) while a living process has it; unavailable when the
 *   folder cannot be written
 */
export function takeFolder(folder: string): () => void {
  const mark = join(folder, MARK);
  const own = `${mark}.${process.pid}`;
  if (ours.has(folder)) throw taken(folder, process.pid);
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(own, JSON.stringify(describeProcess(process.pid)));
    while (!tryLink(own, mark)) {
      const owner = readOwner(mark);
      if (owner !== undefined && isAlive(owner)) throw taken(folder, owner.pid);
      rmSync(mark, { force: true });
    }
  } catch (thrown) {
    if (thrown instanceof PipelineError) throw thrown;
    throw new PipelineError(
      'unavailable',
      'TM_STATE_UNAVAILABLE',
      `the state folder cannot be written: ${(thrown as Error).message}`,
      { context: { folder }, cause: thrown },
    );
  } finally {
    rmSync(own, { force: true });
  }
  ours.add(folder);
  return () => {
    if (ours.delete(folder)) rmSync(mark, { force: true });
  };
}

function taken(folder: string, pid: number): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_STATE_UNSAFE',
    `process ${pid} already runs on this state folder; embedded state serves one process, ` +
      'set state.kind: redis for several',
    { context: { folder, pid } },
  );
}

/** FO1. @returns false when there is a mark already */
function tryLink(own: string, mark: string): boolean {
  try {
    linkSync(own, mark);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function readOwner(mark: string): Owner | undefined {
  try {
    const value = JSON.parse(readFileSync(mark, 'utf8')) as Partial<Owner>;
    if (typeof value.pid !== 'number' || typeof value.host !== 'string') return undefined;
    return { host: value.host, pid: value.pid, startedAt: value.startedAt };
  } catch {
    return undefined; // Gone meanwhile, or cut off by a power failure: nobody's.
  }
}

/** FO2. */
function isAlive(owner: Owner): boolean {
  if (owner.host !== hostname()) return false;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return owner.startedAt === describeProcess(owner.pid).startedAt;
}

function describeProcess(pid: number): Owner {
  let startedAt: string | undefined;
  try {
    // Field 22 of proc_pid_stat(5), counted behind the command name, which may hold blanks.
    startedAt = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[19];
  } catch {
    // No /proc here: the pid alone has to do.
  }
  return { host: hostname(), pid, startedAt };
}
