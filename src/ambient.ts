/**
 * Time, randomness and identifiers as ports, with the system versions. The only file that may touch
 * Date, timers, Math.random and nanoid, so that a simulation can replace all of them (style 2).
 */
import { randomUUID } from 'node:crypto';
import type { Transferable } from 'node:worker_threads';
import { customAlphabet } from 'nanoid';

/** A pending timer; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/** Wall clock, monotonic clock and timers. */
export interface Clock {
  /** Wall clock in milliseconds since the epoch, UTC. May jump. */
  nowMs(): number;
  /** Monotonic milliseconds with a fraction; only differences mean anything. */
  monotonicMs(): number;
  /** Calls `callback` once after `delayMs`. Does not keep the process alive when `unref` is set. */
  after(delayMs: number, callback: () => void, options?: { readonly unref?: boolean }): Timer;
  /** Resolves after `delayMs`, or earlier when the signal aborts; never rejects. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
  /** Resolves in a later turn of the event loop, so that a long loop lets others run. */
  yieldTurn(): Promise<void>;
}

/** Uniform random numbers. */
export interface Random {
  /** In [0, 1). */
  next(): number;
}

/** Unique identifiers. */
export interface IdGenerator {
  /** RFC 4122 version 4, lower case; for Delta's table ids. */
  uuid(): string;
  /** 21 characters of [0-9a-z]: file names, nonces, worker ids; never starts with `_`, `-` or `.`. */
  id(): string;
}

/** Where heavy work runs beside the event loop. */
export interface ThreadHost {
  /**
   * Starts a thread on a module that serves calls.
   * @param data handed to the module, structured-cloneable
   * @param onMessage takes what the thread posts
   * @param onEnd is told once that the thread has ended, and why if it crashed
   */
  start(
    module: URL,
    data: unknown,
    onMessage: (message: unknown) => void,
    onEnd: (cause: unknown) => void,
  ): RunningThread;
}

/** A thread that was started. */
export interface RunningThread {
  /** @param transfer buffers and ports that are moved instead of copied */
  post(message: unknown, transfer: readonly Transferable[]): void;
  terminate(): Promise<void>;
}

/** The ambient ports together, as most components take them. */
export interface Ambient {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: IdGenerator;
  /** Default: worker threads of this process. */
  readonly threads?: ThreadHost;
}

const lowerCaseId = customAlphabet('0123456789abcdefghijklmnopqrstuvwxyz', 21);

class SystemClock implements Clock {
  nowMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }

  after(delayMs: number, callback: () => void, options?: { readonly unref?: boolean }): Timer {
    const handle = setTimeout(callback, delayMs);
    if (options?.unref) handle.unref();
    return { cancel: () => clearTimeout(handle) };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = (): void => {
        clearTimeout(handle);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const handle = setTimeout(done, delayMs);
      signal?.addEventListener('abort', done, { once: true });
    });
  }

  yieldTurn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
}

/** Resolves when the signal aborts, at once if it has. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** The real clock, Math.random, crypto UUIDs and nanoid. */
export const systemAmbient: Ambient = {
  clock: new SystemClock(),
  random: { next: () => Math.random() },
  ids: { uuid: () => randomUUID(), id: () => lowerCaseId() },
};
