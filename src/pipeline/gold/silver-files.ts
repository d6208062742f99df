/** Which event times a silver file may hold, by what the log says of it. Pure. */
import { daysOfDate } from '../progress.ts';

/** Tag of a silver file: `<min>,<max>` event time, microseconds since the epoch, rounded outwards. */
export const EVENT_TIME_TAG = 'tidemark.eventTime';
const DAY_MICROS = 86_400_000_000;

/** A silver file as gold's planning sees it. */
export interface SilverFile {
  readonly path: string;
  /** `YYYY-MM-DD`: all its rows have event times of this UTC date. */
  readonly date: string;
  /** Microseconds since the epoch; no row is outside, both inclusive. */
  readonly minMicros: number;
  readonly maxMicros: number;
}

/** A file of a silver snapshot or commit, described; without a tag it may hold the whole date. */
export function silverFileOf(file: {
  readonly path: string;
  readonly partitionValues: Readonly<Record<string, string | null>>;
  readonly tags?: Readonly<Record<string, string>> | undefined;
}): SilverFile {
  const { path } = file;
  const date = file.partitionValues['_event_date'] ?? '';
  const [min, max] = (file.tags?.[EVENT_TIME_TAG] ?? '').split(',').map(Number);
  if (min !== undefined && max !== undefined && min <= max) {
    return { path, date, minMicros: min, maxMicros: max };
  }
  const startMicros = dateDaysOf(date) * DAY_MICROS;
  return { path, date, minMicros: startMicros, maxMicros: startMicros + DAY_MICROS - 1 };
}

/** Days since the epoch of `YYYY-MM-DD`; NaN for anything else. */
export function dateDaysOf(date: string): number {
  return daysOfDate(date) ?? Number.NaN;
}
