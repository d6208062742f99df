/**
 * Fixed-width values of every type, read from columns in two uniform forms and written back: as
 * doubles, and as little-endian 32-bit words. Uniform forms keep the loops that follow monomorphic.
 *
 * - G3 One value has one form: -0 reads as 0 and every NaN as the same NaN, so that group keys,
 *   distinct values and extremes do not depend on which of the equal values came first (P9).
 */
import { assert } from '../../errors.ts';
import type { FixedValues, Vector } from '../columns.ts';
import { type DataType, primitive } from '../types.ts';
import type { NullBits } from './buffers.ts';

const TWO_32 = 4_294_967_296;
/** A signed 64-bit integer with its upper word in [-LIMIT, LIMIT) is exact as a double. */
const EXACT_HIGH_LIMIT = 1 << 21;
/** The quiet NaN without payload. */
const NAN_DOUBLE_HIGH = 0x7ff80000;
const NAN_FLOAT = 0x7fc00000;

/** 32-bit words of one value of a fixed-width type: 1, 2 (64 bit) or 4 (decimal). */
export function wordsOf(type: DataType): 1 | 2 | 4 {
  if (type.kind === 'decimal') return 4;
  assert(type.kind === 'primitive' && type.name !== 'string' && type.name !== 'binary', 'fixed');
  return type.name === 'long' || type.name === 'timestamp' || type.name === 'double' ? 2 : 1;
}

/** The values of a column as 32-bit words; the buffer is shared. */
export function wordView(values: FixedValues): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2);
}

/**
 * Reads `rows` of a column as doubles. Integers beyond 2^53 and decimals beyond it (unscaled) come
 * out as NaN, which no integer is: the caller reads their words. No row may be null.
 */
export function loadNumbers(vector: Vector, rows: Int32Array, out: Float64Array): void {
  const { type } = vector;
  const count = rows.length;
  if (type.kind === 'decimal') {
    const words = wordView(vector.values!);
    for (let i = 0; i < count; i++) {
      const at = rows[i]! * 4;
      const high = words[at + 1]!;
      const sign = high >> 31;
      const small = words[at + 2] === sign && words[at + 3] === sign;
      out[i] = small ? exactDouble(high, words[at]!) : Number.NaN;
    }
    return;
  }
  assert(type.kind === 'primitive', 'a number');
  switch (type.name) {
    case 'long':
    case 'timestamp': {
      const words = wordView(vector.values!);
      for (let i = 0; i < count; i++) {
        const at = rows[i]! * 2;
        out[i] = exactDouble(words[at + 1]!, words[at]!);
      }
      return;
    }
    case 'double': {
      const values = vector.values as Float64Array;
      for (let i = 0; i < count; i++) out[i] = values[rows[i]!]! + 0;
      return;
    }
    case 'float': {
      const values = vector.values as Float32Array;
      for (let i = 0; i < count; i++) out[i] = values[rows[i]!]! + 0;
      return;
    }
    case 'boolean': {
      const bits = vector.values as Uint8Array;
      for (let i = 0; i < count; i++) out[i] = (bits[rows[i]! >> 3]! >> (rows[i]! & 7)) & 1;
      return;
    }
    default: {
      const values = vector.values as Int8Array | Int16Array | Int32Array;
      for (let i = 0; i < count; i++) out[i] = values[rows[i]!]!;
    }
  }
}

function exactDouble(high: number, low: number): number {
  return high >= -EXACT_HIGH_LIMIT && high < EXACT_HIGH_LIMIT
    ? high * TWO_32 + (low >>> 0)
    : Number.NaN;
}

const bitsOfDouble = new Float64Array(1);
const doubleWords = wordView(bitsOfDouble);
const bitsOfFloat = new Float32Array(1);
const floatWords = wordView(bitsOfFloat);

/**
 * Reads `rows` of a column as words, `wordsOf(type)` per row, each value in its one form (G3). What
 * it writes for null rows means nothing.
 */
export function loadWords(vector: Vector, rows: Int32Array, out: Int32Array): void {
  const { type } = vector;
  const count = rows.length;
  const width = wordsOf(type);
  if (type.kind === 'primitive') {
    switch (type.name) {
      case 'double': {
        const values = vector.values as Float64Array;
        for (let i = 0; i < count; i++) {
          const value = values[rows[i]!]! + 0;
          bitsOfDouble[0] = value;
          out[2 * i] = value === value ? doubleWords[0]! : 0;
          out[2 * i + 1] = value === value ? doubleWords[1]! : NAN_DOUBLE_HIGH;
        }
        return;
      }
      case 'float': {
        const values = vector.values as Float32Array;
        for (let i = 0; i < count; i++) {
          const value = values[rows[i]!]! + 0;
          bitsOfFloat[0] = value;
          out[i] = value === value ? floatWords[0]! : NAN_FLOAT;
        }
        return;
      }
      case 'boolean': {
        const bits = vector.values as Uint8Array;
        for (let i = 0; i < count; i++) out[i] = (bits[rows[i]! >> 3]! >> (rows[i]! & 7)) & 1;
        return;
      }
      case 'byte':
      case 'short': {
        const values = vector.values as Int8Array | Int16Array;
        for (let i = 0; i < count; i++) out[i] = values[rows[i]!]!;
        return;
      }
      default:
    }
  }
  const words = wordView(vector.values!);
  for (let i = 0, at = 0; i < count; i++) {
    const from = rows[i]! * width;
    for (let k = 0; k < width; k++) out[at++] = words[from + k]!;
  }
}

/**
 * A word whose unsigned order is the order of the values, most significant word first. NaN is the
 * largest number, as in Spark.
 * @param at index of the value's first word
 * @param depth 0 for the most significant word
 */
export function sortableWord(
  type: DataType,
  words: Int32Array,
  at: number,
  width: number,
  depth: number,
): number {
  const word = words[at + width - 1 - depth]!;
  if (type.kind === 'primitive' && (type.name === 'double' || type.name === 'float')) {
    const negative = words[at + width - 1]! < 0;
    if (negative) return ~word >>> 0;
  }
  return (depth === 0 ? word ^ 0x80000000 : word) >>> 0;
}

/** A column from words: row `i` is the value that starts at `words[index[i] * width]`. */
export function vectorFromWords(
  type: DataType,
  words: Int32Array,
  index: Int32Array,
  nulls: NullBits,
): Vector {
  const count = index.length;
  const width = wordsOf(type);
  if (type.kind === 'primitive' && width === 1) {
    if (type.name === 'boolean') {
      const bits = new Uint8Array((count + 7) >> 3);
      for (let i = 0; i < count; i++) bits[i >> 3]! |= words[index[i]!]! << (i & 7);
      return nulls.vector(type, { values: bits });
    }
    if (type.name === 'byte' || type.name === 'short') {
      const values = type.name === 'byte' ? new Int8Array(count) : new Int16Array(count);
      for (let i = 0; i < count; i++) values[i] = words[index[i]!]!;
      return nulls.vector(type, { values });
    }
  }
  const out = new Int32Array(count * width);
  for (let i = 0, at = 0; i < count; i++) {
    const from = index[i]! * width;
    for (let k = 0; k < width; k++) out[at++] = words[from + k]!;
  }
  return nulls.vector(type, { values: typedValues(type, out.buffer) });
}

/** A column from doubles that are exact values of its type (G3 holds for NaN). */
export function vectorFromNumbers(type: DataType, numbers: Float64Array, nulls: NullBits): Vector {
  const count = numbers.length;
  assert(type.kind === 'primitive', 'a number');
  if (type.name === 'boolean') {
    const bits = new Uint8Array((count + 7) >> 3);
    for (let i = 0; i < count; i++) bits[i >> 3]! |= numbers[i]! << (i & 7);
    return nulls.vector(type, { values: bits });
  }
  const values =
    type.name === 'double'
      ? new Float64Array(count)
      : type.name === 'float'
        ? new Float32Array(count)
        : type.name === 'byte'
          ? new Int8Array(count)
          : type.name === 'short'
            ? new Int16Array(count)
            : new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const value = numbers[i]!;
    values[i] = value === value ? value : Number.NaN;
  }
  return nulls.vector(type, { values });
}

/** A long column of counts. */
export function vectorFromCounts(counts: Float64Array): Vector {
  const words = new Int32Array(counts.length * 2);
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    const high = Math.floor(count / TWO_32);
    words[2 * i] = count - high * TWO_32;
    words[2 * i + 1] = high;
  }
  const values = new BigInt64Array(words.buffer);
  return { type: primitive('long'), length: counts.length, nullCount: 0, values };
}

function typedValues(type: DataType, buffer: ArrayBuffer): FixedValues {
  if (type.kind === 'primitive') {
    if (type.name === 'float') return new Float32Array(buffer);
    if (type.name === 'double') return new Float64Array(buffer);
    if (type.name === 'integer' || type.name === 'date') return new Int32Array(buffer);
  }
  return new BigInt64Array(buffer);
}
