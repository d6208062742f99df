/**
 * Arithmetic on microseconds since the epoch that are kept as two 32-bit words: dates and arrival
 * delays without a BigInt per row. Pure.
 */
const TWO_TO_32 = 2 ** 32;
/** Below this high word a double holds the microseconds exactly: years 1684 to 2255. */
const EXACT_HIGH = 2 ** 21;
const MICROS_PER_DAY = 86_400_000_000;

function isExact(high: number): boolean {
  return high >= -EXACT_HIGH && high < EXACT_HIGH;
}

function toBigInt(low: number, high: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low >>> 0);
}

/** The UTC date, days since the epoch, of an instant. */
export function dateOf(low: number, high: number): number {
  if (!isExact(high)) {
    const micros = toBigInt(low, high);
    const days = micros / BigInt(MICROS_PER_DAY);
    return Number(days) - (micros < 0n && days * BigInt(MICROS_PER_DAY) !== micros ? 1 : 0);
  }
  // Exact microseconds are fewer than 2^17 days, where the steps between doubles are too fine for
  // the quotient of a day's last microsecond to be rounded up to the next day.
  return Math.floor((high * TWO_TO_32 + (low >>> 0)) / MICROS_PER_DAY);
}

/** Microseconds from one instant to a later one; exact up to 285 years, else the nearest double. */
export function microsBetween(
  fromLow: number,
  fromHigh: number,
  toLow: number,
  toHigh: number,
): number {
  if (isExact(fromHigh) && isExact(toHigh)) {
    return (toHigh - fromHigh) * TWO_TO_32 + ((toLow >>> 0) - (fromLow >>> 0));
  }
  return Number(toBigInt(toLow, toHigh) - toBigInt(fromLow, fromHigh));
}

/** Whether the first instant is after the second. */
export function isAfter(low: number, high: number, otherLow: number, otherHigh: number): boolean {
  return high > otherHigh || (high === otherHigh && low >>> 0 > otherLow >>> 0);
}
