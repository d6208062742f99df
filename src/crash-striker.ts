/**
 * Carries out TIDEMARK_CRASH_AT: SIGKILL of this very process, or a freeze, at a named place.
 *
 *     name[:n][:before|after|hang]      at the n-th time; default: the first, before
 *     @FILE                             the order is in FILE, which may come and change at any time;
 *                                       whoever carries it out renames it to FILE.done first
 *
 * CS1 An order in a file is carried out once, by one process, however many pass the place.
 */
import { readFileSync, renameSync } from 'node:fs';
import process from 'node:process';
import type { Clock } from './ambient.ts';
import {
  CRASH_POINTS,
  CRASH_VARIABLE,
  type CrashPoint,
  listenToCrashPoints,
} from './crash-points.ts';
import { PipelineError } from './errors.ts';

/**
 * `before`: at once; `after`: one turn of the event loop later, when what follows has begun; `hang`: the
 * process stands still for longer than its leases last, and goes on as a zombie.
 */
type Mode = 'before' | 'after' | 'hang';

interface Order {
  readonly point: CrashPoint;
  /** Counted from one. */
  readonly times: number;
  readonly mode: Mode;
}

const HANG_MS = 8_000;

/**
 * Listens from now on.
 * @param text of TIDEMARK_CRASH_AT
 * @throws PipelineError invalid when it names no place
 */
export function armCrashPoints(text: string, clock: Clock): void {
  const file = text.startsWith('@') ? text.slice(1) : undefined;
  let current = file === undefined ? text : '';
  let order = file === undefined ? parseOrder(text) : undefined;
  let passed = 0;
  listenToCrashPoints((point) => {
    if (file !== undefined) {
      const now = readOrder(file);
      if (now !== current) {
        current = now;
        order = now === '' ? undefined : parseOrder(now);
        passed = 0;
      }
    }
    if (order?.point !== point || ++passed !== order.times) return;
    if (file === undefined || claim(file)) strike(order.mode, clock);
  });
}

function parseOrder(text: string): Order {
  const match = /^([a-z.]+)(?::(\d{1,9}))?(?::(before|after|hang))?$/.exec(text.trim());
  const point = CRASH_POINTS.find((name) => name === match?.[1]);
  if (!match || !point) {
    throw new PipelineError(
      'invalid',
      'TM_USAGE',
      `${CRASH_VARIABLE}: "${text.trim()}" is not name[:n][:before|after|hang] of a crash point`,
    );
  }
  const mode = (match[3] ?? 'before') as Mode;
  return { point, times: Number(match[2] ?? 1), mode };
}

/** @returns '' when there is no order now */
function readOrder(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** CS1 */
function claim(file: string): boolean {
  try {
    renameSync(file, `${file}.done`);
    return true;
  } catch {
    return false;
  }
}

function strike(mode: Mode, clock: Clock): void {
  const kill = (): void => {
    process.kill(process.pid, 'SIGKILL');
  };
  switch (mode) {
    case 'before':
      return kill();
    case 'after':
      void clock.yieldTurn().then(kill);
      return;
    case 'hang':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, HANG_MS);
  }
}
