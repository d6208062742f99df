/**
 * RFC 3339 texts without Date objects: the generator writes one per event. Pure.
 * Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
 */
import { dateText } from '../progress.ts';

const DAY_MS = 86_400_000;
const TWO_DIGITS = Array.from({ length: 60 }, (_, i) => String(i).padStart(2, '0'));
const THREE_DIGITS = Array.from({ length: 1000 }, (_, i) => String(i).padStart(3, '0'));

let cachedDay = Number.NaN;
let cachedDate = '';

/** `2026-11-22T00:00:00.000Z` of milliseconds since the epoch. */
export function instantText(ms: number): string {
  const day = Math.floor(ms / DAY_MS);
  if (day !== cachedDay) {
    cachedDay = day;
    cachedDate = dateText(day);
  }
  const rest = ms - day * DAY_MS;
  const seconds = Math.floor(rest / 1000);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  return `${cachedDate}T${TWO_DIGITS[hours]}:${TWO_DIGITS[minutes - hours * 60]}:${
    TWO_DIGITS[seconds - minutes * 60]
  }.${THREE_DIGITS[rest - seconds * 1000]}Z`;
}

const INSTANT =
  /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3})\d*)?)?)?(Z|[+-]\d{2}:\d{2})?$/;

/**
 * Milliseconds since the epoch of an RFC 3339 text, or of a date; without a zone it is UTC.
 * @returns undefined when it is none, also for days that do not exist
 */
export function parseInstantMs(text: string): number | undefined {
  const match = INSTANT.exec(text);
  if (!match) return undefined;
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((t) => Number(t ?? 0));
  const days = daysFromCivil(year!, month!, day!);
  if (dateText(days) !== text.slice(0, 10)) return undefined;
  if (hour! > 23 || minute! > 59 || second! > 59) return undefined;
  const zone = match[8] ?? 'Z';
  const zoneMinutes = zone === 'Z' ? 0 : Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4));
  const offset = zone.startsWith('-') ? -zoneMinutes : zoneMinutes;
  const clock = ((hour! * 60 + minute! - offset) * 60 + second!) * 1000;
  return days * DAY_MS + clock + Number((match[7] ?? '').padEnd(3, '0'));
}

/** Days since the epoch of a proleptic Gregorian date. */
function daysFromCivil(year: number, month: number, day: number): number {
  const shiftedYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(shiftedYear / 400);
  const yearOfEra = shiftedYear - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const leapDays = Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  return era * 146_097 + yearOfEra * 365 + leapDays + dayOfYear - 719_468;
}
