/** When a job whose handler failed is tried again: doubling from `baseMs` up to `maxMs`. Pure. */
import type { Random } from '../../ambient.ts';

/** Bounds of the wait between two tries of one job. */
export interface RetryDelays {
  readonly baseMs: number;
  readonly maxMs: number;
}

export const DEFAULT_RETRY_DELAYS: RetryDelays = { baseMs: 500, maxMs: 30_000 };

/**
 * @param failures how often the job has failed, from 1
 * @returns milliseconds between half of the step and all of it, so that jobs that failed together
 *   do not come back together
 */
export function retryDelayMs(failures: number, delays: RetryDelays, random: Random): number {
  const stepMs = Math.min(delays.baseMs * 2 ** Math.min(failures - 1, 30), delays.maxMs);
  return Math.ceil(stepMs * (0.5 + random.next() / 2));
}
