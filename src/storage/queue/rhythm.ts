/** When a repeated job is due next. Pure; all in UTC. */
import type { Rhythm } from './work-queue.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** What a timer can wait for; a longer rhythm comes early rather than at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** The rhythm alone, whatever else the object holds. */
export function rhythmOf(rhythm: Rhythm): Rhythm {
  return 'everyMs' in rhythm
    ? { everyMs: rhythm.everyMs }
    : { dailyAtMinute: rhythm.dailyAtMinute };
}

/**
 * Milliseconds until the next time, more than none.
 * @param nowMs wall clock, milliseconds since the epoch
 */
export function msUntilDue(rhythm: Rhythm, nowMs: number): number {
  if ('everyMs' in rhythm) return Math.min(rhythm.everyMs, TIMER_MS_MAX);
  const dueMs = Math.floor(nowMs / DAY_MS) * DAY_MS + rhythm.dailyAtMinute * MINUTE_MS;
  return dueMs > nowMs ? dueMs - nowMs : dueMs + DAY_MS - nowMs;
}
