/**
 * Bounds how often something may be done: a token bucket per key, with a bounded number of keys.
 */
import type { Clock } from '../../ambient.ts';

export interface RequestBudgetOptions {
  readonly clock: Clock;
  /** Requests at once. */
  readonly burst: number;
  readonly perSecond: number;
}

/** Keys beyond this many push out the one that was refilled first. */
const KEYS_MAX = 1_000;

export class RequestBudget {
  readonly #options: RequestBudgetOptions;
  readonly #buckets = new Map<string, { left: number; readonly atMs: number }>();

  constructor(options: RequestBudgetOptions) {
    this.#options = options;
  }

  /** Whether `key` has something left, without taking it. */
  hasLeft(key: string): boolean {
    return this.#leftOf(key) >= 1;
  }

  /** Takes one. @returns false when nothing was left */
  take(key: string): boolean {
    const left = this.#leftOf(key);
    if (left < 1) return false;
    this.#buckets.delete(key);
    this.#buckets.set(key, { left: left - 1, atMs: this.#options.clock.monotonicMs() });
    if (this.#buckets.size > KEYS_MAX) this.#buckets.delete(this.#buckets.keys().next().value!);
    return true;
  }

  #leftOf(key: string): number {
    const { clock, burst, perSecond } = this.#options;
    const bucket = this.#buckets.get(key);
    if (!bucket) return burst;
    const seconds = (clock.monotonicMs() - bucket.atMs) / 1000;
    return Math.min(burst, bucket.left + seconds * perSecond);
  }
}
