/** A clock that a test moves; timers fire while it is moved. */
import type { Clock, Timer } from '../../src/ambient.ts';

interface Due {
  readonly atMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  readonly #startMs: number;
  #elapsedMs = 0;
  #due: Due[] = [];

  /** @param startMs milliseconds since the epoch at which the wall clock starts */
  constructor(startMs = 1_700_000_000_000) {
    this.#startMs = startMs;
  }

  nowMs(): number {
    return this.#startMs + this.#elapsedMs;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const due = { atMs: this.#elapsedMs + delayMs, callback };
    this.#due.push(due);
    return {
      cancel: () => {
        this.#due = this.#due.filter((one) => one !== due);
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const timer = this.after(delayMs, resolve);
      signal?.addEventListener(
        'abort',
        () => {
          timer.cancel();
          resolve();
        },
        { once: true },
      );
    });
  }

  yieldTurn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Moves on and fires what is due, in order. */
  advance(byMs: number): void {
    const untilMs = this.#elapsedMs + byMs;
    for (;;) {
      const next = this.#due.filter(({ atMs }) => atMs <= untilMs).toSorted(byTime)[0];
      if (!next) break;
      this.#elapsedMs = next.atMs;
      this.#due = this.#due.filter((one) => one !== next);
      next.callback();
    }
    this.#elapsedMs = untilMs;
  }
}

function byTime(a: Due, b: Due): number {
  return a.atMs - b.atMs;
}
