/**
 * Strict JSON over bytes: validates a value and notes where it lies and what it is, without making
 * objects or strings. Pure. Source: RFC 8259.
 *
 * J1 Accepts exactly the grammar of RFC 8259 in valid UTF-8 (the caller vouches for the encoding).
 * J2 Never recurses, and stops at DEPTH_MAX open brackets, so no input can exhaust the stack.
 * J3 Never reads a byte at or after `end`.
 */

import { viewOf } from './murmur.ts';

/** What a token is. Order matters: up to TOKEN_NULL there is no value. */
export const TOKEN_ABSENT = 0;
export const TOKEN_NULL = 1;
export const TOKEN_FALSE = 2;
export const TOKEN_TRUE = 3;
/** Whole number of at most 15 digits without fraction or exponent; its value is in `numbers`. */
export const TOKEN_INTEGER = 4;
/** Number of at most 15 digits with a fraction, no exponent; `numbers` has it correctly rounded. */
export const TOKEN_FRACTION = 5;
/** Any other number; `numbers` says nothing. */
export const TOKEN_NUMBER = 6;
/** String without escapes; start and end are those of the text between the quotes. */
export const TOKEN_STRING = 7;
/** String with escapes; start and end are those of the raw text between the quotes. */
export const TOKEN_ESCAPED = 8;
/** Like TOKEN_ESCAPED, but a surrogate escape lacks its partner: the text is not Unicode. */
export const TOKEN_LONE_SURROGATE = 9;
export const TOKEN_OBJECT = 10;
export const TOKEN_ARRAY = 11;

/** Brackets that may be open at once. */
export const DEPTH_MAX = 64;

/** Why a text is not accepted. */
export type JsonFault =
  | 'end'
  | 'value'
  | 'member'
  | 'colon'
  | 'comma'
  | 'trailing'
  | 'control'
  | 'escape'
  | 'number'
  | 'depth'
  | 'bom';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_OBJECT = 0x7b;
const OPEN_ARRAY = 0x5b;
const CLOSE_OBJECT = 0x7d;
/** A closing bracket is its opening one plus two in ASCII, for both kinds. */
const TO_CLOSE = 2;

/** Significant digits that a double always holds exactly. */
const EXACT_DIGITS = 15;
const POWERS_OF_TEN = Float64Array.from({ length: EXACT_DIGITS + 1 }, (_, n) => Number(`1e${n}`));

/** Where the values of one or many objects lie, one entry per declared member. */
export class TokenTable {
  readonly kinds: Uint8Array;
  /** Byte positions in the scanner's data: inclusive. */
  readonly starts: Int32Array;
  /** Exclusive. */
  readonly ends: Int32Array;
  readonly numbers: Float64Array;

  constructor(size: number) {
    this.kinds = new Uint8Array(size);
    this.starts = new Int32Array(size);
    this.ends = new Int32Array(size);
    this.numbers = new Float64Array(size);
  }
}

/** Where the raw text of a token begins, quotes included. */
export function rawStart(kind: number, start: number): number {
  return kind >= TOKEN_STRING && kind <= TOKEN_LONE_SURROGATE ? start - 1 : start;
}

/** Where the raw text of a token ends, quotes included; exclusive. */
export function rawEnd(kind: number, end: number): number {
  return kind >= TOKEN_STRING && kind <= TOKEN_LONE_SURROGATE ? end + 1 : end;
}

/** Scans values in `data`. Methods return the position after what they read, or -1 with a fault. */
export class JsonScanner {
  data: Uint8Array = new Uint8Array(0);
  /** The same bytes, four at a time. */
  view: DataView = viewOf(this.data);
  /** Exclusive limit of the text. */
  end = 0;
  fault: JsonFault = 'value';
  faultAt = 0;
  /** Kind of the string that scanString read last. */
  stringKind = TOKEN_STRING;
  readonly #closers = new Uint8Array(DEPTH_MAX + 1);
  readonly #unused = new TokenTable(1);

  /** Takes the bytes that positions point into. */
  setData(data: Uint8Array): void {
    this.data = data;
    this.view = viewOf(data);
  }

  /** Notes a fault; a text that stops short is always `end`. */
  fail(fault: JsonFault, at: number): -1 {
    this.fault = at >= this.end ? 'end' : fault;
    this.faultAt = at;
    return -1;
  }

  /** The first position at or after `at` that is no white space. */
  skipSpace(at: number): number {
    const { data, end } = this;
    let p = at;
    while (p < end) {
      const c = data[p]!;
      if (c > 0x20 || (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09)) break;
      p++;
    }
    return p;
  }

  /**
   * Reads the value at `at` into entry `index` of `tokens`.
   * @param depth brackets open around the value
   */
  scanValue(at: number, tokens: TokenTable, index: number, depth: number): number {
    const c = at < this.end ? this.data[at]! : 0;
    if (c === QUOTE) {
      const close = this.scanString(at + 1);
      if (close < 0) return -1;
      tokens.kinds[index] = this.stringKind;
      tokens.starts[index] = at + 1;
      tokens.ends[index] = close;
      return close + 1;
    }
    if (c !== OPEN_OBJECT && c !== OPEN_ARRAY) return this.#scanScalar(at, tokens, index);
    const next = this.#skipContainer(at, depth);
    tokens.kinds[index] = c === OPEN_OBJECT ? TOKEN_OBJECT : TOKEN_ARRAY;
    tokens.starts[index] = at;
    tokens.ends[index] = next;
    return next;
  }

  /** Reads the value at `at` for its end only. */
  skipValue(at: number, depth: number): number {
    return this.scanValue(at, this.#unused, 0, depth);
  }

  /**
   * Reads a string whose opening quote is before `at`; its kind is left in `stringKind`.
   * @returns the position of the closing quote
   */
  scanString(at: number): number {
    const { data, view, end } = this;
    let kind = TOKEN_STRING;
    let p = at;
    for (;;) {
      let special = 0;
      while (p + 4 <= end) {
        special = specialBytes(view.getInt32(p, true));
        if (special !== 0) break;
        p += 4;
      }
      let c = 0;
      if (special !== 0) {
        p += (31 - Math.clz32(special & -special)) >> 3;
        c = data[p]!;
      } else {
        while (p < end) {
          c = data[p]!;
          if (c === QUOTE || c === BACKSLASH || c < 0x20) break;
          p++;
        }
      }
      if (p >= end) return this.fail('end', end);
      if (c === QUOTE) break;
      if (c !== BACKSLASH) return this.fail('control', p);
      const length = escapeLength(data, p, end);
      if (length === 0) return this.fail('escape', p);
      if (kind === TOKEN_STRING) kind = TOKEN_ESCAPED;
      if (length === LONE_SURROGATE) {
        kind = TOKEN_LONE_SURROGATE;
        p += 6;
      } else {
        p += length;
      }
    }
    this.stringKind = kind;
    return p;
  }

  /** Reads `:` and the space around it. */
  scanColon(at: number): number {
    const p = this.skipSpace(at);
    if (p >= this.end || this.data[p] !== 0x3a) return this.fail('colon', p);
    return this.skipSpace(p + 1);
  }

  #scanScalar(at: number, tokens: TokenTable, index: number): number {
    const { data, end } = this;
    if (at >= end) return this.fail('end', at);
    const c = data[at]!;
    if (c === QUOTE) {
      const close = this.scanString(at + 1);
      if (close < 0) return -1;
      tokens.kinds[index] = this.stringKind;
      tokens.starts[index] = at + 1;
      tokens.ends[index] = close;
      return close + 1;
    }
    if (c === 0x2d || (c >= 0x30 && c <= 0x39)) return this.#scanNumber(at, tokens, index);
    let kind = TOKEN_ABSENT;
    let next = at + 4;
    if (c === 0x6e) {
      if (follows(data, at, end, NULL_BYTES)) kind = TOKEN_NULL;
    } else if (c === 0x74) {
      if (follows(data, at, end, TRUE_BYTES)) kind = TOKEN_TRUE;
    } else if (c === 0x66 && follows(data, at, end, FALSE_BYTES)) {
      kind = TOKEN_FALSE;
      next = at + 5;
    }
    if (kind === TOKEN_ABSENT) return this.fail('value', at);
    tokens.kinds[index] = kind;
    tokens.starts[index] = at;
    tokens.ends[index] = next;
    return next;
  }

  #scanNumber(at: number, tokens: TokenTable, index: number): number {
    const { data, end } = this;
    const negative = data[at] === 0x2d;
    let p = negative ? at + 1 : at;
    let c = p < end ? data[p]! : 0;
    if (c < 0x30 || c > 0x39) return this.fail('number', p);
    const firstDigit = p;
    let value = c - 0x30;
    p++;
    if (c !== 0x30) {
      while (p < end && (c = data[p]!) >= 0x30 && c <= 0x39) {
        value = value * 10 + (c - 0x30);
        p++;
      }
    }
    let digits = p - firstDigit;
    let kind = TOKEN_INTEGER;
    c = p < end ? data[p]! : 0;
    if (c === 0x2e) {
      const fraction = ++p;
      while (p < end && (c = data[p]!) >= 0x30 && c <= 0x39) {
        value = value * 10 + (c - 0x30);
        p++;
      }
      const places = p - fraction;
      if (places === 0) return this.fail('number', p);
      digits += places;
      if (digits <= EXACT_DIGITS) value /= POWERS_OF_TEN[places]!;
      kind = TOKEN_FRACTION;
      c = p < end ? data[p]! : 0;
    }
    if (c === 0x65 || c === 0x45) {
      p++;
      if (p < end && (data[p] === 0x2b || data[p] === 0x2d)) p++;
      const exponent = p;
      while (p < end && (c = data[p]!) >= 0x30 && c <= 0x39) p++;
      if (p === exponent) return this.fail('number', p);
      kind = TOKEN_NUMBER;
    }
    if (digits > EXACT_DIGITS) kind = TOKEN_NUMBER;
    tokens.kinds[index] = kind;
    tokens.starts[index] = at;
    tokens.ends[index] = p;
    tokens.numbers[index] = negative ? -value : value;
    return p;
  }

  /** Validates the object or array at `at`. */
  #skipContainer(at: number, depth: number): number {
    const { data, end } = this;
    const closers = this.#closers;
    let open = depth;
    let p = at;
    for (;;) {
      const c = p < end ? data[p]! : 0;
      let complete = true;
      if (c === OPEN_OBJECT || c === OPEN_ARRAY) {
        if (open >= DEPTH_MAX) return this.fail('depth', p);
        p = this.skipSpace(p + 1);
        if (p < end && data[p] === c + TO_CLOSE) {
          p++;
        } else {
          closers[open++] = c + TO_CLOSE;
          complete = false;
        }
      } else {
        p = this.#scanScalar(p, this.#unused, 0);
        if (p < 0) return -1;
      }
      while (complete) {
        if (open === depth) return p;
        p = this.skipSpace(p);
        const separator = p < end ? data[p]! : 0;
        if (separator === closers[open - 1]) {
          p++;
          open--;
        } else if (separator === COMMA) {
          p = this.skipSpace(p + 1);
          complete = false;
        } else {
          return this.fail('comma', p);
        }
      }
      if (closers[open - 1] === CLOSE_OBJECT) {
        p = this.#skipName(p);
        if (p < 0) return -1;
      }
    }
  }

  #skipName(at: number): number {
    if (at >= this.end || this.data[at] !== QUOTE) return this.fail('member', at);
    const close = this.scanString(at + 1);
    return close < 0 ? -1 : this.scanColon(close + 1);
  }
}

const NULL_BYTES = Uint8Array.of(0x6e, 0x75, 0x6c, 0x6c);
const TRUE_BYTES = Uint8Array.of(0x74, 0x72, 0x75, 0x65);
const FALSE_BYTES = Uint8Array.of(0x66, 0x61, 0x6c, 0x73, 0x65);

function follows(data: Uint8Array, at: number, end: number, word: Uint8Array): boolean {
  if (at + word.length > end) return false;
  for (let i = 1; i < word.length; i++) if (data[at + i] !== word[i]) return false;
  return true;
}

/**
 * Marks the lowest of four bytes that is a quote, a backslash or a control character, by the top
 * bit of that byte; bytes above it may be marked wrongly. 0: there is none.
 */
function specialBytes(word: number): number {
  const quote = word ^ 0x22222222;
  const backslash = word ^ 0x5c5c5c5c;
  return (
    (((quote - 0x01010101) & ~quote) |
      ((backslash - 0x01010101) & ~backslash) |
      ((word - 0x20202020) & ~word)) &
    0x80808080
  );
}

const LONE_SURROGATE = -1;
const SHORT_ESCAPES = '"\\/bfnrt';

/** Bytes of the escape at `at`, a surrogate pair as one; 0 when wrong; or LONE_SURROGATE. */
function escapeLength(data: Uint8Array, at: number, end: number): number {
  if (at + 1 >= end) return 0;
  const letter = data[at + 1]!;
  if (letter !== 0x75) return SHORT_ESCAPES.includes(String.fromCharCode(letter)) ? 2 : 0;
  const unit = hexUnit(data, at + 2, end);
  if (unit < 0) return 0;
  if (unit < 0xd800 || unit > 0xdfff) return 6;
  if (unit > 0xdbff || at + 7 >= end) return LONE_SURROGATE;
  if (data[at + 6] !== BACKSLASH || data[at + 7] !== 0x75) return LONE_SURROGATE;
  const low = hexUnit(data, at + 8, end);
  return low >= 0xdc00 && low <= 0xdfff ? 12 : LONE_SURROGATE;
}

/** The four hexadecimal digits at `at` as a number, or -1. */
export function hexUnit(data: Uint8Array, at: number, end: number): number {
  if (at + 4 > end) return -1;
  let unit = 0;
  for (let i = at; i < at + 4; i++) {
    const c = data[i]!;
    const lower = c | 0x20;
    if (c >= 0x30 && c <= 0x39) unit = unit * 16 + c - 0x30;
    else if (lower >= 0x61 && lower <= 0x66) unit = unit * 16 + lower - 0x57;
    else return -1;
  }
  return unit;
}
