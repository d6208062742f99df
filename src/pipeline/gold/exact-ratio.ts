/**
 * Exact integers to doubles, rounded once: the slow but certain path behind sums and averages.
 */

/** Binary places of the smallest double, 2^-1074. */
const DOUBLE_SCALE = 1074;

const scratch = new DataView(new ArrayBuffer(8));

/**
 * A finite double as an exact integer, in units of 2^-1074.
 */
export function unitsOfDouble(value: number): bigint {
  scratch.setFloat64(0, value);
  const bits = scratch.getBigUint64(0);
  const exponent = Number((bits >> 52n) & 0x7ffn);
  const fraction = bits & 0xfffffffffffffn;
  const magnitude = exponent === 0 ? fraction : (fraction | (1n << 52n)) << BigInt(exponent - 1);
  return value < 0 ? -magnitude : magnitude;
}

/** The double nearest to an integer number of units of 2^-1074, ties to even. */
export function doubleOfUnits(units: bigint): number {
  return roundedRatio(units, 1n << BigInt(DOUBLE_SCALE));
}

/**
 * The double nearest to numerator / denominator, ties to even; infinite when out of range. Exact
 * results may be subnormal; a result that must be rounded may not.
 * @param denominator positive
 */
export function roundedRatio(numerator: bigint, denominator: bigint): number {
  if (numerator === 0n) return 0;
  if (numerator < 0n) return -roundedRatio(-numerator, denominator);
  // A quotient of 64 bits or more, with its last bit set when something was cut off, rounds to 53
  // bits as the exact quotient does.
  const shift = 68 - (bitLength(numerator) - bitLength(denominator));
  const scaled = shift > 0 ? numerator << BigInt(shift) : numerator;
  const divisor = shift < 0 ? denominator << BigInt(-shift) : denominator;
  const quotient = scaled / divisor;
  const inexact = quotient * divisor === scaled ? 0n : 1n;
  const half = Math.trunc(-shift / 2); // 2^-shift itself may be out of a double's range
  return Number(quotient | inexact) * 2 ** half * 2 ** (-shift - half);
}

/** Bits of a positive integer, up to 3 too many. */
function bitLength(value: bigint): number {
  return value.toString(16).length * 4;
}
