/**
 * Dates and times from bytes: RFC 3339 timestamps, calendar dates and epoch numbers, to
 * microseconds since the epoch. Pure; never touches the host's calendar or time zone (P9).
 *
 * T1 An instant lies in the years 0001 to 9999, UTC; anything else does not parse.
 * T2 What is finer than a microsecond is dropped towards the past.
 * T3 A leap second, 23:59:60 UTC, is the second after it.
 * Source: RFC 3339; the day count is Howard Hinnant's days_from_civil.
 */
import { exactDecimal, isDigit } from './exact-decimal.ts';
import { TOKEN_FRACTION, TOKEN_INTEGER, TOKEN_NUMBER } from './json-scanner.ts';

export const MICROS_PER_SECOND = 1_000_000;
export const SECONDS_PER_DAY = 86_400;
const SECONDS_MIN = -62_135_596_800;
const SECONDS_MAX = 253_402_300_799;
const DATE_LENGTH = 10;
const TWO_TO_16 = 65_536;
const TWO_TO_32 = 2 ** 32;

/** Units of an epoch number and how many make a second. */
export const UNITS_PER_SECOND = { s: 1, ms: 1000, us: MICROS_PER_SECOND } as const;

/** Parses instants; the result of the last success is in `low` and `high`. */
export class InstantParser {
  /** Low and high 32 bits of the microseconds since the epoch. */
  low = 0;
  high = 0;
  #dateKey = -1;
  #dateDays = 0;

  /** `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`; T and Z in either case, or a space for the T. */
  parseRfc3339(data: Uint8Array, start: number, end: number): boolean {
    if (end - start < 20) return false;
    const days = this.parseDate(data, start, start + DATE_LENGTH);
    if (days === undefined) return false;
    const separator = data[start + 10]!;
    if (separator !== 0x54 && separator !== 0x74 && separator !== 0x20) return false;
    const hour = twoDigits(data, start + 11);
    const minute = twoDigits(data, start + 14);
    const second = twoDigits(data, start + 17);
    if (data[start + 13] !== 0x3a || data[start + 16] !== 0x3a) return false;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) {
      return false;
    }
    let p = start + 19;
    let micros = 0;
    if (data[p] === 0x2e) {
      const first = ++p;
      let scale = MICROS_PER_SECOND / 10;
      while (p < end && isDigit(data[p]!)) {
        micros += (data[p]! - 0x30) * scale;
        scale = scale === 1 ? 0 : scale / 10;
        p++;
      }
      if (p === first) return false;
    }
    const offset = zoneOffset(data, p, end);
    if (offset === undefined) return false;
    const minuteOfDay = hour * 60 + minute - offset;
    if (second === 60 && (minuteOfDay + 1440) % 1440 !== 1439) return false;
    return this.#set(days * SECONDS_PER_DAY + minuteOfDay * 60 + second, micros);
  }

  /**
   * A number token in `unit` since the epoch.
   * @param value the token's number, exact for TOKEN_INTEGER
   */
  parseEpoch(
    unit: keyof typeof UNITS_PER_SECOND,
    kind: number,
    data: Uint8Array,
    start: number,
    end: number,
    value: number,
  ): boolean {
    const perSecond = UNITS_PER_SECOND[unit];
    const microsPerUnit = MICROS_PER_SECOND / perSecond;
    if (kind === TOKEN_INTEGER) {
      const seconds = Math.floor(value / perSecond);
      return this.#set(seconds, (value - seconds * perSecond) * microsPerUnit);
    }
    if (kind !== TOKEN_FRACTION && kind !== TOKEN_NUMBER) return false;
    const micros = exactDecimal(data, start, end).floorTimes(BigInt(microsPerUnit));
    if (micros === undefined) return false;
    const seconds = micros / 1_000_000n - (micros % 1_000_000n < 0n ? 1n : 0n);
    return this.#set(Number(seconds), Number(micros - seconds * 1_000_000n));
  }

  /**
   * `YYYY-MM-DD` of a real day.
   * @returns days since the epoch, or undefined
   */
  parseDate(data: Uint8Array, start: number, end: number): number | undefined {
    if (end - start !== DATE_LENGTH) return undefined;
    if (data[start + 4] !== 0x2d || data[start + 7] !== 0x2d) return undefined;
    const century = twoDigits(data, start);
    const yearOfCentury = twoDigits(data, start + 2);
    const month = twoDigits(data, start + 5);
    const day = twoDigits(data, start + 8);
    if (century < 0 || yearOfCentury < 0 || month < 1 || month > 12 || day < 1) return undefined;
    const year = century * 100 + yearOfCentury;
    const key = year * 512 + month * 32 + day;
    if (key === this.#dateKey) return this.#dateDays;
    if (year === 0 || day > daysInMonth(year, month)) return undefined;
    this.#dateKey = key;
    this.#dateDays = daysFromCivil(year, month, day);
    return this.#dateDays;
  }

  /** Stores seconds × 10^6 + micros; the product may exceed what a double holds exactly. */
  #set(seconds: number, micros: number): boolean {
    if (seconds < SECONDS_MIN || seconds > SECONDS_MAX) return false;
    const upper = Math.floor(seconds / TWO_TO_16);
    const lowPart = (seconds - upper * TWO_TO_16) * MICROS_PER_SECOND + micros;
    const highPart = upper * MICROS_PER_SECOND;
    const highUpper = Math.floor(highPart / TWO_TO_16);
    const sum = (highPart - highUpper * TWO_TO_16) * TWO_TO_16 + lowPart;
    const carry = Math.floor(sum / TWO_TO_32);
    this.low = (sum - carry * TWO_TO_32) | 0;
    this.high = highUpper + carry;
    return true;
  }
}

/** Minutes east of UTC that `Z` or `±HH:MM` at the end of the text states. */
function zoneOffset(data: Uint8Array, at: number, end: number): number | undefined {
  if (at >= end) return undefined;
  const sign = data[at]!;
  if (sign === 0x5a || sign === 0x7a) return at + 1 === end ? 0 : undefined;
  if ((sign !== 0x2b && sign !== 0x2d) || at + 6 !== end || data[at + 3] !== 0x3a) return undefined;
  const hours = twoDigits(data, at + 1);
  const minutes = twoDigits(data, at + 4);
  if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return undefined;
  return (sign === 0x2b ? 1 : -1) * (hours * 60 + minutes);
}

/** -1 when one of the two bytes at `at` is no digit. */
function twoDigits(data: Uint8Array, at: number): number {
  const tens = data[at]! - 0x30;
  const ones = data[at + 1]! - 0x30;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : -1;
}

function daysInMonth(year: number, month: number): number {
  if (month === 2) {
    const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
    return leap ? 29 : 28;
  }
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

function daysFromCivil(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  return era * 146_097 + dayOfEra + dayOfYear - 719_468;
}
