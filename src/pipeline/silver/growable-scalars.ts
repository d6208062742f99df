/** Growable columns of the types without children (C1, C2). Pure. */
import { assert } from '../../errors.ts';
import { bitAt, bitmapBytes } from '../bitmaps.ts';
import type { FixedValues, Vector } from '../columns.ts';
import type { DataType } from '../types.ts';
import { ColumnBuilder } from './growable-column.ts';
import { viewOf } from './murmur.ts';

/** Below this many bytes a loop beats TypedArray.set. */
const LOOP_BYTES = 64;
const DATA_MIN = 256;
/** Most bytes that are set aside for rows that have not come yet. */
const FORESEEN_BYTES_MAX = 16 * 1024 * 1024;
const OFFSET_MAX = 2 ** 31 - 1;

const FIXED_WORDS = {
  byte: 1,
  short: 1,
  integer: 1,
  float: 1,
  date: 1,
  long: 2,
  timestamp: 2,
  double: 2,
} as const;

const CAST_WORDS = new Int32Array(2);
const CAST_DOUBLE = new Float64Array(CAST_WORDS.buffer);
const CAST_FLOAT = new Float32Array(CAST_WORDS.buffer);

/**
 * Fixed-width values as 32-bit words, low word first; bytes and shorts are narrowed in the view.
 */
export class FixedBuilder extends ColumnBuilder {
  /** 32-bit words of a row: 1, 2 or 4. */
  readonly width: number;
  #words = new Int32Array(0);

  constructor(type: DataType) {
    super(type);
    this.width = wordsPerRow(type);
  }

  append32(value: number): void {
    this.claimRow();
    this.#words[this.length++] = value;
  }

  append64(low: number, high: number): void {
    this.claimRow();
    const at = 2 * this.length++;
    this.#words[at] = low;
    this.#words[at + 1] = high;
  }

  appendDouble(value: number): void {
    CAST_DOUBLE[0] = value;
    this.append64(CAST_WORDS[0]!, CAST_WORDS[1]!);
  }

  appendFloat(value: number): void {
    CAST_FLOAT[0] = value;
    this.append32(CAST_WORDS[0]!);
  }

  append128(unscaled: bigint): void {
    this.claimRow();
    const at = 4 * this.length++;
    for (let i = 0; i < 4; i++) {
      this.#words[at + i] = Number(BigInt.asIntN(32, unscaled >> BigInt(32 * i)));
    }
  }

  /** A decimal whose unscaled value fits a double exactly. */
  append128FromNumber(unscaled: number): void {
    this.claimRow();
    const at = 4 * this.length++;
    const high = Math.floor(unscaled / 2 ** 32);
    this.#words[at] = unscaled - high * 2 ** 32;
    this.#words[at + 1] = high;
    this.#words[at + 2] = high >> 31;
    this.#words[at + 3] = high >> 31;
  }

  /** The words so far; the builder's own memory. */
  words(): Int32Array {
    return this.#words;
  }

  protected override growTo(capacity: number): void {
    const words = new Int32Array(capacity * this.width);
    words.set(this.#words);
    this.#words = words;
  }

  protected override appendNullValue(): void {
    this.#words.fill(0, this.length * this.width, (this.length + 1) * this.width);
  }

  protected override appendValues(source: Vector, rows: Int32Array, count: number): void {
    const from = wordsOf(source);
    const to = this.#words;
    let at = this.length * this.width;
    if (this.width === 1) {
      for (let i = 0; i < count; i++) to[at++] = from[rows[i]!]!;
    } else if (this.width === 2) {
      for (let i = 0; i < count; i++) {
        const row = 2 * rows[i]!;
        to[at] = from[row]!;
        to[at + 1] = from[row + 1]!;
        at += 2;
      }
    } else {
      for (let i = 0; i < count; i++) {
        const row = 4 * rows[i]!;
        for (let k = 0; k < 4; k++) to[at++] = from[row + k]!;
      }
    }
  }

  protected override truncateValues(): void {}

  protected override viewValues(): { values: FixedValues } {
    return { values: valuesOver(this.type, this.#words, this.length) };
  }
}

/** 32-bit words of a row of a fixed-width column in a FixedBuilder: 1, 2 or 4. */
export function wordsPerRow(type: DataType): number {
  if (type.kind === 'decimal') return 4;
  assert(type.kind === 'primitive' && type.name in FIXED_WORDS, 'a fixed-width type');
  return FIXED_WORDS[type.name as keyof typeof FIXED_WORDS];
}

function valuesOver(type: DataType, words: Int32Array, length: number): FixedValues {
  const buffer = words.buffer;
  if (type.kind === 'decimal') return new BigInt64Array(buffer, 0, 2 * length);
  assert(type.kind === 'primitive', 'a fixed-width type');
  switch (type.name) {
    case 'byte':
      return Int8Array.from(words.subarray(0, length));
    case 'short':
      return Int16Array.from(words.subarray(0, length));
    case 'float':
      return new Float32Array(buffer, 0, length);
    case 'double':
      return new Float64Array(buffer, 0, length);
    case 'long':
    case 'timestamp':
      return new BigInt64Array(buffer, 0, length);
    default:
      return words.subarray(0, length);
  }
}

/** The values of a fixed-width column as 32-bit words, sharing memory where the layout allows. */
export function wordsOf(vector: Vector): Int32Array {
  const values = vector.values;
  assert(values !== undefined, 'a fixed-width column');
  if (values instanceof Int32Array) return values;
  if (values instanceof Int8Array || values instanceof Int16Array) return Int32Array.from(values);
  return new Int32Array(values.buffer, values.byteOffset, values.byteLength >> 2);
}

/** Booleans as a bitmap. */
export class BooleanBuilder extends ColumnBuilder {
  #bits = new Uint8Array(0);

  append(value: boolean): void {
    this.claimRow();
    this.#write(this.length++, value);
  }

  protected override growTo(capacity: number): void {
    const bits = new Uint8Array(capacity >> 3);
    bits.set(this.#bits);
    this.#bits = bits;
  }

  protected override appendNullValue(): void {
    this.#write(this.length, false);
  }

  protected override appendValues(source: Vector, rows: Int32Array, count: number): void {
    const bits = source.values as Uint8Array;
    for (let i = 0; i < count; i++) {
      this.#write(this.length + i, bitAt(bits, rows[i]!));
    }
  }

  protected override truncateValues(): void {}

  protected override viewValues(): { values: Uint8Array } {
    return { values: this.#bits.subarray(0, bitmapBytes(this.length)) };
  }

  #write(row: number, value: boolean): void {
    if (value) this.#bits[row >> 3]! |= 1 << (row & 7);
    else this.#bits[row >> 3]! &= ~(1 << (row & 7));
  }
}

/** Strings and binaries. */
export class BytesBuilder extends ColumnBuilder {
  #offsets = new Int32Array(1);
  #data: Uint8Array = new Uint8Array(0);
  #view = viewOf(this.#data);

  /** Bytes of all rows so far. */
  get dataLength(): number {
    return this.#offsets[this.length]!;
  }

  append(source: Uint8Array, start: number, end: number): void {
    this.claimRow();
    const at = this.#offsets[this.length]!;
    this.#reserve(at + end - start, this.length + 1);
    copyBytes(source, start, end, this.#data, at);
    this.#offsets[++this.length] = at + end - start;
  }

  /** The same from a view, which is faster for short texts. */
  appendText(source: DataView, start: number, end: number): void {
    this.claimRow();
    const from = this.#offsets[this.length]!;
    this.#reserve(from + end - start, this.length + 1);
    const view = this.#view;
    let at = from;
    let p = start;
    for (; p + 4 <= end; p += 4, at += 4) view.setInt32(at, source.getInt32(p, true), true);
    for (; p < end; p++, at++) view.setUint8(at, source.getUint8(p));
    this.#offsets[++this.length] = at;
  }

  /** The bytes of all rows; the builder's own memory. */
  data(): Uint8Array {
    return this.#data;
  }

  /** Where row `row` begins in `data`. */
  offset(row: number): number {
    return this.#offsets[row]!;
  }

  protected override growTo(capacity: number): void {
    const offsets = new Int32Array(capacity + 1);
    offsets.set(this.#offsets);
    this.#offsets = offsets;
  }

  protected override appendNullValue(): void {
    this.#offsets[this.length + 1] = this.#offsets[this.length]!;
  }

  protected override appendValues(source: Vector, rows: Int32Array, count: number): void {
    const from = source.offsets!;
    const bytes = source.data!;
    const to = this.#offsets;
    const first = to[this.length]!;
    let at = first;
    for (let i = 0; i < count; i++) {
      const row = rows[i]!;
      at += from[row + 1]! - from[row]!;
      assert(at <= OFFSET_MAX, 'a column holds less than 2 GiB');
      to[this.length + i + 1] = at;
    }
    this.#reserve(at, this.length + count);
    at = first;
    for (let i = 0; i < count; ) {
      const start = rows[i]!;
      let next = start + 1;
      for (i++; i < count && rows[i] === next; i++) next++;
      copyBytes(bytes, from[start]!, from[next]!, this.#data, at);
      at += from[next]! - from[start]!;
    }
  }

  protected override truncateValues(): void {}

  protected override viewValues(): Pick<Vector, 'offsets' | 'data'> {
    return {
      offsets: this.#offsets.subarray(0, this.length + 1),
      data: this.#data.subarray(0, this.dataLength),
    };
  }

  /** Makes room for `size` bytes in the first `rows` rows, and for as much in each row to come. */
  #reserve(size: number, rows: number): void {
    if (size <= this.#data.length) return;
    assert(size <= OFFSET_MAX, 'a column holds less than 2 GiB');
    const expected = Math.min(FORESEEN_BYTES_MAX, Math.ceil((size / rows) * this.capacity * 1.05));
    const room = Math.max(size, DATA_MIN, this.#data.length * 2, expected);
    const grown = new Uint8Array(Math.min(OFFSET_MAX, room));
    grown.set(this.#data);
    this.#data = grown;
    this.#view = viewOf(grown);
  }
}

function copyBytes(
  from: Uint8Array,
  start: number,
  end: number,
  to: Uint8Array,
  toStart: number,
): void {
  if (end - start > LOOP_BYTES) {
    to.set(from.subarray(start, end), toStart);
    return;
  }
  for (let i = start, at = toStart; i < end; i++, at++) to[at] = from[i]!;
}
