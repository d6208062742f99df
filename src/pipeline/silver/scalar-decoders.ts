/** Decoders of the types without children (F1). Pure. */
import type { DataType } from '../types.ts';
import type { UNITS_PER_SECOND } from './civil-time.ts';
import { BooleanBuilder, BytesBuilder, FixedBuilder } from './growable-scalars.ts';
import {
  type DecodeContext,
  FieldDecoder,
  NO_VALUE,
  OUT_OF_RANGE,
  TAKEN,
  TYPE_MISMATCH,
} from './decoder.ts';
import { asciiText, exactDecimal, isDigit } from './exact-decimal.ts';
import {
  TOKEN_ESCAPED,
  TOKEN_FALSE,
  TOKEN_FRACTION,
  TOKEN_INTEGER,
  TOKEN_NULL,
  TOKEN_NUMBER,
  TOKEN_STRING,
  TOKEN_TRUE,
  type TokenTable,
} from './json-scanner.ts';
import { base64Into, ByteScratch, unescapeInto } from './string-text.ts';

const TWO_TO_16 = 65_536;
const TWO_TO_32 = 2 ** 32;
const BILLION = 1e9;

function isNumber(kind: number): boolean {
  return kind >= TOKEN_INTEGER && kind <= TOKEN_NUMBER;
}

function allDigits(data: Uint8Array, start: number, end: number): boolean {
  for (let p = start; p < end; p++) if (!isDigit(data[p]!)) return false;
  return true;
}

export class StringDecoder extends FieldDecoder {
  readonly builder: BytesBuilder;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new BytesBuilder(type);
  }

  override append(kind: number, start: number, end: number): number {
    const { scanner, scratch } = this.context;
    if (kind === TOKEN_STRING) {
      this.builder.appendText(scanner.view, start, end);
      return TAKEN;
    }
    if (kind !== TOKEN_ESCAPED) return TYPE_MISMATCH;
    unescapeInto(scratch, scanner.data, start, end);
    this.builder.append(scratch.bytes, 0, scratch.length);
    return TAKEN;
  }

  /** The same loop for what most fields of most events are: strings without escapes. */
  override appendRun(tokens: TokenTable, index: number, stride: number, count: number): number {
    const { kinds, starts, ends } = tokens;
    const { builder } = this;
    const { view } = this.context.scanner;
    let at = index;
    for (let done = 0; done < count; done++, at += stride) {
      const kind = kinds[at]!;
      if (kind === TOKEN_STRING) builder.appendText(view, starts[at]!, ends[at]!);
      else if (kind === TOKEN_ESCAPED) this.append(kind, starts[at]!, ends[at]!);
      else {
        this.verdict = kind <= TOKEN_NULL ? NO_VALUE : TYPE_MISMATCH;
        return done;
      }
    }
    return count;
  }
}

export class BinaryDecoder extends FieldDecoder {
  readonly builder: BytesBuilder;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new BytesBuilder(type);
  }

  override append(kind: number, start: number, end: number): number {
    const { scanner, scratch } = this.context;
    if (kind === TOKEN_STRING) {
      if (!base64Into(scratch, scanner.data, start, end)) return TYPE_MISMATCH;
    } else if (kind === TOKEN_ESCAPED) {
      const text = new ByteScratch();
      unescapeInto(text, scanner.data, start, end);
      if (!base64Into(scratch, text.bytes, 0, text.length)) return TYPE_MISMATCH;
    } else {
      return TYPE_MISMATCH;
    }
    this.builder.append(scratch.bytes, 0, scratch.length);
    return TAKEN;
  }
}

export class BooleanDecoder extends FieldDecoder {
  readonly builder: BooleanBuilder;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new BooleanBuilder(type);
  }

  override append(kind: number): number {
    if (kind !== TOKEN_TRUE && kind !== TOKEN_FALSE) return TYPE_MISMATCH;
    this.builder.append(kind === TOKEN_TRUE);
    return TAKEN;
  }
}

/** byte, short and integer. */
export class SmallIntegerDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;
  readonly #limit: number;

  constructor(type: DataType, bits: number, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
    this.#limit = 2 ** (bits - 1);
  }

  override append(kind: number, start: number, end: number, number: number): number {
    let value = number;
    if (kind !== TOKEN_INTEGER) {
      if (!isNumber(kind)) return TYPE_MISMATCH;
      const whole = exactDecimal(this.context.scanner.data, start, end).wholeTimesPowerOfTen(0, 10);
      if (typeof whole === 'string') return whole === 'range' ? OUT_OF_RANGE : TYPE_MISMATCH;
      value = Number(whole);
    }
    if (value < -this.#limit || value >= this.#limit) return OUT_OF_RANGE;
    this.builder.append32(value);
    return TAKEN;
  }
}

export class LongDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
  }

  override append(kind: number, start: number, end: number, number: number): number {
    if (kind === TOKEN_INTEGER) {
      const high = Math.floor(number / TWO_TO_32);
      this.builder.append64((number - high * TWO_TO_32) | 0, high);
      return TAKEN;
    }
    if (!isNumber(kind)) return TYPE_MISMATCH;
    const data = this.context.scanner.data;
    const negative = data[start] === 0x2d;
    const first = negative ? start + 1 : start;
    if (end - first > 15 && end - first <= 19 && allDigits(data, first, end)) {
      return this.#appendDigits(data, first, end, negative);
    }
    const whole = exactDecimal(data, start, end).wholeTimesPowerOfTen(0, 19);
    if (typeof whole === 'string') return whole === 'range' ? OUT_OF_RANGE : TYPE_MISMATCH;
    if (BigInt.asIntN(64, whole) !== whole) return OUT_OF_RANGE;
    this.builder.append64(Number(BigInt.asIntN(32, whole)), Number(whole >> 32n));
    return TAKEN;
  }

  /** 16 to 19 digits: two exact doubles, head × 10^9 + tail, joined in 32-bit halves. */
  #appendDigits(data: Uint8Array, first: number, end: number, negative: boolean): number {
    let head = 0;
    let tail = 0;
    let p = first;
    for (; p < end - 9; p++) head = head * 10 + data[p]! - 0x30;
    for (; p < end; p++) tail = tail * 10 + data[p]! - 0x30;
    const headUpper = Math.floor(head / TWO_TO_16);
    const upper = headUpper * BILLION;
    const upperHigh = Math.floor(upper / TWO_TO_16);
    const lower = (head - headUpper * TWO_TO_16) * BILLION + tail;
    const sum = (upper - upperHigh * TWO_TO_16) * TWO_TO_16 + lower;
    const carry = Math.floor(sum / TWO_TO_32);
    let low = sum - carry * TWO_TO_32;
    let high = upperHigh + carry;
    if (negative) {
      low = low === 0 ? 0 : TWO_TO_32 - low;
      high = low === 0 ? -high : -high - 1;
    }
    if (high < -(2 ** 31) || high >= 2 ** 31) return OUT_OF_RANGE;
    this.builder.append64(low | 0, high);
    return TAKEN;
  }
}

/** float and double: the nearest value; one too large for the type is out of range. */
export class FloatingDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;
  readonly #single: boolean;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
    this.#single = type.kind === 'primitive' && type.name === 'float';
  }

  override append(kind: number, start: number, end: number, number: number): number {
    let value = number;
    if (kind !== TOKEN_INTEGER && kind !== TOKEN_FRACTION) {
      if (kind !== TOKEN_NUMBER) return TYPE_MISMATCH;
      value = Number(asciiText(this.context.scanner.data, start, end));
    }
    if (this.#single) value = Math.fround(value);
    if (!Number.isFinite(value)) return OUT_OF_RANGE;
    if (this.#single) this.builder.appendFloat(value);
    else this.builder.appendDouble(value);
    return TAKEN;
  }
}

export class DecimalDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;
  readonly #precision: number;
  readonly #scale: number;

  constructor(type: DataType & { kind: 'decimal' }, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
    this.#precision = type.precision;
    this.#scale = type.scale;
  }

  override append(kind: number, start: number, end: number): number {
    if (!isNumber(kind)) return TYPE_MISMATCH;
    const data = this.context.scanner.data;
    if (kind !== TOKEN_NUMBER && this.#appendShort(data, start, end)) return TAKEN;
    const exact = exactDecimal(data, start, end);
    const unscaled = exact.wholeTimesPowerOfTen(this.#scale, this.#precision);
    if (typeof unscaled === 'string') return OUT_OF_RANGE;
    this.builder.append128(unscaled);
    return TAKEN;
  }

  /** Plain digits whose unscaled value is exact in a double; false leaves it to the exact path. */
  #appendShort(data: Uint8Array, start: number, end: number): boolean {
    const negative = data[start] === 0x2d;
    let unscaled = 0;
    let places = -1;
    for (let p = negative ? start + 1 : start; p < end; p++) {
      const c = data[p]!;
      if (c === 0x2e) places = 0;
      else {
        unscaled = unscaled * 10 + c - 0x30;
        if (places >= 0) places++;
      }
    }
    const zeros = this.#scale - Math.max(0, places);
    if (zeros < 0 || zeros > 15) return false;
    for (let i = 0; i < zeros; i++) unscaled *= 10;
    const limit = 10 ** Math.min(15, this.#precision);
    if (unscaled >= limit) return false;
    this.builder.append128FromNumber(negative ? -unscaled : unscaled);
    return true;
  }
}

export class DateDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
  }

  override append(kind: number, start: number, end: number): number {
    const { scanner, scratch, instants } = this.context;
    let days: number | undefined;
    if (kind === TOKEN_STRING) days = instants.parseDate(scanner.data, start, end);
    else if (kind === TOKEN_ESCAPED) {
      unescapeInto(scratch, scanner.data, start, end);
      days = instants.parseDate(scratch.bytes, 0, scratch.length);
    }
    if (days === undefined) return TYPE_MISMATCH;
    this.builder.append32(days);
    return TAKEN;
  }
}

export class TimestampDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;

  constructor(type: DataType, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
  }

  override append(kind: number, start: number, end: number): number {
    const { scanner, scratch, instants } = this.context;
    let taken = false;
    if (kind === TOKEN_STRING) taken = instants.parseRfc3339(scanner.data, start, end);
    else if (kind === TOKEN_ESCAPED) {
      unescapeInto(scratch, scanner.data, start, end);
      taken = instants.parseRfc3339(scratch.bytes, 0, scratch.length);
    }
    if (!taken) return TYPE_MISMATCH;
    this.builder.append64(instants.low, instants.high);
    return TAKEN;
  }
}

/** The event's time when it is written as a number. */
export class EpochDecoder extends FieldDecoder {
  readonly builder: FixedBuilder;
  readonly #unit: keyof typeof UNITS_PER_SECOND;

  constructor(type: DataType, unit: keyof typeof UNITS_PER_SECOND, context: DecodeContext) {
    super(context);
    this.builder = new FixedBuilder(type);
    this.#unit = unit;
  }

  override append(kind: number, start: number, end: number, number: number): number {
    const { scanner, instants } = this.context;
    if (!instants.parseEpoch(this.#unit, kind, scanner.data, start, end, number)) {
      return TYPE_MISMATCH;
    }
    this.builder.append64(instants.low, instants.high);
    return TAKEN;
  }
}
