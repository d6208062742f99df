/**
 * The slow, exact path for JSON numbers that a double may not hold: sign, significant digits and
 * exponent of the text. Pure.
 *
 * N1 Nothing is rounded: a question that the digits cannot answer exactly has no answer.
 * N2 Cost is linear in the text, whatever its exponent says.
 */

/** More digits than any type holds; keeps 10^exponent from being written out. */
const DIGITS_MAX = 400;

/**
 * A finite decimal number: ±digits × 10^exponent. Digits have no zero at either end; zero is ''.
 */
export class ExactDecimal {
  readonly negative: boolean;
  readonly digits: string;
  readonly exponent: number;

  constructor(negative: boolean, digits: string, exponent: number) {
    this.negative = negative;
    this.digits = digits;
    this.exponent = exponent;
  }

  /**
   * The number times 10^scale, if that is whole.
   * @returns `fraction` when it is not whole, `range` when it has more than `digitsMax` digits
   */
  wholeTimesPowerOfTen(scale: number, digitsMax: number): bigint | 'fraction' | 'range' {
    if (this.digits === '') return 0n;
    const zeros = this.exponent + scale;
    if (zeros < 0) return 'fraction';
    if (this.digits.length + zeros > digitsMax) return 'range';
    const magnitude = BigInt(this.digits + '0'.repeat(zeros));
    return this.negative ? -magnitude : magnitude;
  }

  /** The largest whole number not above the number times `factor`; undefined when it is absurd. */
  floorTimes(factor: bigint): bigint | undefined {
    const { digits, exponent } = this;
    if (digits === '') return 0n;
    if (digits.length + exponent > DIGITS_MAX) return undefined;
    if (exponent >= 0) {
      const whole = BigInt(digits + '0'.repeat(exponent)) * factor;
      return this.negative ? -whole : whole;
    }
    const wholeLength = digits.length + exponent;
    // Digits far below the point decide nothing but whether a rest is left.
    const places = Math.min(-exponent, DIGITS_MAX);
    const kept = wholeLength + places > 0 ? digits.slice(0, wholeLength + places) : '0';
    const scaled = BigInt(kept) * factor;
    const divisor = 10n ** BigInt(places);
    const whole = scaled / divisor;
    if (!this.negative) return whole;
    const exact = places === -exponent && scaled % divisor === 0n;
    return exact ? -whole : -whole - 1n;
  }
}

/** Reads the valid JSON number in the bytes [start, end). */
export function exactDecimal(data: Uint8Array, start: number, end: number): ExactDecimal {
  const negative = data[start] === 0x2d;
  let p = negative ? start + 1 : start;
  let exponent = 0;
  const parts: string[] = [];
  const digitsStart = p;
  while (p < end && isDigit(data[p]!)) p++;
  parts.push(asciiText(data, digitsStart, p));
  if (p < end && data[p] === 0x2e) {
    const fraction = p + 1;
    p = fraction;
    while (p < end && isDigit(data[p]!)) p++;
    parts.push(asciiText(data, fraction, p));
    exponent -= p - fraction;
  }
  if (p < end) exponent += exponentOf(data, p + 1, end);
  const all = parts.join('');
  let first = 0;
  while (first < all.length && all.charCodeAt(first) === 0x30) first++;
  let last = all.length;
  while (last > first && all.charCodeAt(last - 1) === 0x30) last--;
  if (first === last) return new ExactDecimal(negative, '', 0);
  return new ExactDecimal(negative, all.slice(first, last), exponent + all.length - last);
}

/** The exponent's digits as a number; beyond any use it stays at ±10^12. */
function exponentOf(data: Uint8Array, start: number, end: number): number {
  const negative = data[start] === 0x2d;
  let value = 0;
  for (let p = negative || data[start] === 0x2b ? start + 1 : start; p < end; p++) {
    value = Math.min(value * 10 + data[p]! - 0x30, 1e12);
  }
  return negative ? -value : value;
}

/** Whether the byte is an ASCII digit. */
export function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

const ascii = new TextDecoder('latin1');

/** Text of bytes that are all ASCII. */
export function asciiText(data: Uint8Array, start: number, end: number): string {
  return ascii.decode(data.subarray(start, end));
}
