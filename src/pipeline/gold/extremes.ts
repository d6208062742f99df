/**
 * Smallest and largest values per group.
 *
 * - G9 Text and binary compare by bytes, false comes before true, and NaN is the largest number (as
 *   in Spark); -0 is 0. A group without values holds the identity of its function, which the column
 *   replaces by null.
 */
import { assert } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import type { DataType } from '../types.ts';
import { gatherBytes, grown, NullBits } from './buffers.ts';
import type { Accumulator, ColumnRequest, FieldRows } from './field-rows.ts';
import { vectorFromNumbers, vectorFromWords, wordsOf, wordView } from './fixed-values.ts';

/** Which end of the order is kept. */
export type Extreme = 'min' | 'max';

/** An accumulator that keeps one end of the order. */
export interface ExtremeAccumulator extends Accumulator {
  /** The extremes as a column of the field's type. */
  column(request: ColumnRequest): Vector;
}

/** The accumulator for a field's type. */
export function createExtreme(type: DataType, extreme: Extreme): ExtremeAccumulator {
  if (type.kind === 'primitive' && (type.name === 'string' || type.name === 'binary')) {
    return new BytesExtreme(type, extreme);
  }
  const floating = type.kind === 'primitive' && type.name === 'double';
  return wordsOf(type) === 1 || floating
    ? new NumberExtreme(type, extreme)
    : new WordsExtreme(type, extreme);
}

/** Types whose values are exact as doubles. */
class NumberExtreme implements ExtremeAccumulator {
  readonly #type: DataType;
  readonly #extreme: Extreme;
  #values = new Float64Array(0);

  constructor(type: DataType, extreme: Extreme) {
    this.#type = type;
    this.#extreme = extreme;
  }

  get residentBytes(): number {
    return this.#values.byteLength;
  }

  grow(capacity: number): void {
    const used = this.#values.length;
    this.#values = grown(this.#values, capacity);
    this.#values.fill(this.#extreme === 'min' ? Number.NaN : Number.NEGATIVE_INFINITY, used);
  }

  add({ groups, numbers }: FieldRows): void {
    if (this.#extreme === 'min') this.#addMin(groups, numbers);
    else this.#addMax(groups, numbers);
  }

  #addMin(groups: Int32Array, numbers: Float64Array): void {
    const values = this.#values;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const held = values[group]!;
      if (numbers[i]! < held || held !== held) values[group] = numbers[i]!;
    }
  }

  #addMax(groups: Int32Array, numbers: Float64Array): void {
    const values = this.#values;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const value = numbers[i]!;
      if (value > values[group]! || value !== value) values[group] = value;
    }
  }

  column({ order, counts }: ColumnRequest): Vector {
    const nulls = new NullBits(order.length);
    const numbers = new Float64Array(order.length);
    for (let i = 0; i < order.length; i++) {
      if (counts[order[i]!] === 0) nulls.mark(i);
      else numbers[i] = this.#values[order[i]!]!;
    }
    return vectorFromNumbers(this.#type, numbers, nulls);
  }
}

/** 64-bit integers, timestamps and decimals, compared word by word. */
class WordsExtreme implements ExtremeAccumulator {
  readonly #type: DataType;
  readonly #extreme: Extreme;
  readonly #width: number;
  #words = new Int32Array(0);

  constructor(type: DataType, extreme: Extreme) {
    this.#type = type;
    this.#extreme = extreme;
    this.#width = wordsOf(type);
  }

  get residentBytes(): number {
    return this.#words.byteLength;
  }

  grow(capacity: number): void {
    const width = this.#width;
    const used = this.#words.length;
    const words = grown(this.#words, capacity * width);
    const min = this.#extreme === 'min';
    words.fill(min ? -1 : 0, used); // identity: the largest, or the smallest, integer of that width
    for (let at = used + width - 1; at < words.length; at += width) {
      words[at] = min ? 0x7fffffff : -0x80000000;
    }
    this.#words = words;
  }

  add({ vector, rows, groups }: FieldRows): void {
    const source = wordView(vector.values!);
    const words = this.#words;
    const width = this.#width;
    const min = this.#extreme === 'min';
    for (let i = 0; i < groups.length; i++) {
      const from = rows[i]! * width;
      const to = groups[i]! * width;
      const order = compareWords(source, from, words, to, width);
      if (min ? order < 0 : order > 0) {
        for (let k = 0; k < width; k++) words[to + k] = source[from + k]!;
      }
    }
  }

  column({ order, counts }: ColumnRequest): Vector {
    const nulls = new NullBits(order.length);
    for (let i = 0; i < order.length; i++) if (counts[order[i]!] === 0) nulls.mark(i);
    return vectorFromWords(this.#type, this.#words, order, nulls);
  }
}

function compareWords(
  a: Int32Array,
  atA: number,
  b: Int32Array,
  atB: number,
  width: number,
): number {
  let k = width - 1;
  if (a[atA + k] !== b[atB + k]) return a[atA + k]! < b[atB + k]! ? -1 : 1;
  for (k--; k >= 0; k--) {
    const left = a[atA + k]! >>> 0;
    const right = b[atB + k]! >>> 0;
    if (left !== right) return left < right ? -1 : 1;
  }
  return 0;
}

/** Text and binary. Values lie in one buffer, which is rewritten when most of it is left over. */
class BytesExtreme implements ExtremeAccumulator {
  readonly #type: DataType;
  readonly #extreme: Extreme;
  #starts = new Int32Array(0);
  /** -1: no value yet. */
  #lengths = new Int32Array(0);
  #data = new Uint8Array(256);
  #used = 0;
  /** Bytes of `data[0, used)` that belong to a group. */
  #live = 0;

  constructor(type: DataType, extreme: Extreme) {
    this.#type = type;
    this.#extreme = extreme;
  }

  get residentBytes(): number {
    return this.#starts.byteLength + this.#lengths.byteLength + this.#data.byteLength;
  }

  grow(capacity: number): void {
    const used = this.#lengths.length;
    this.#starts = grown(this.#starts, capacity);
    this.#lengths = grown(this.#lengths, capacity);
    this.#lengths.fill(-1, used);
  }

  add({ vector, rows, groups }: FieldRows): void {
    const offsets = vector.offsets!;
    const data = vector.data!;
    const wanted = this.#extreme === 'min' ? -1 : 1;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const from = offsets[rows[i]!]!;
      const to = offsets[rows[i]! + 1]!;
      if (this.#lengths[group]! < 0 || this.#compare(data, from, to, group) === wanted) {
        this.#replace(group, data, from, to);
      }
    }
  }

  /** Sign of `data[from, to)` compared with the group's value. */
  #compare(data: Uint8Array, from: number, to: number, group: number): number {
    const own = this.#data;
    const start = this.#starts[group]!;
    const shared = Math.min(to - from, this.#lengths[group]!);
    for (let k = 0; k < shared; k++) {
      if (data[from + k] !== own[start + k]) return data[from + k]! < own[start + k]! ? -1 : 1;
    }
    return Math.sign(to - from - this.#lengths[group]!);
  }

  #replace(group: number, data: Uint8Array, from: number, to: number): void {
    const length = to - from;
    const held = this.#lengths[group]!;
    this.#live += length - Math.max(held, 0);
    if (length > held) {
      this.#lengths[group] = -1; // what it held is left over
      this.#reserve(length);
      this.#starts[group] = this.#used;
      this.#used += length;
    }
    this.#lengths[group] = length;
    this.#data.set(data.subarray(from, to), this.#starts[group]!);
  }

  /** Makes room for `length` bytes at `used`. */
  #reserve(length: number): void {
    if (this.#used + length <= this.#data.length) return;
    assert(this.#live <= 0x3fffffff, 'the extremes of a slot hold at most 1 GiB of text');
    // Room for a byte per group keeps the cost of looking at every group amortised.
    const compact = new Uint8Array(Math.max(256, this.#lengths.length, 2 * this.#live));
    let used = 0;
    for (let group = 0; group < this.#lengths.length; group++) {
      const held = this.#lengths[group]!;
      if (held < 0) continue;
      const start = this.#starts[group]!;
      compact.set(this.#data.subarray(start, start + held), used);
      this.#starts[group] = used;
      used += held;
    }
    this.#data = compact;
    this.#used = used;
  }

  column({ order, counts }: ColumnRequest): Vector {
    const starts = new Int32Array(order.length);
    const lengths = new Int32Array(order.length);
    for (let i = 0; i < order.length; i++) {
      starts[i] = this.#starts[order[i]!]!;
      lengths[i] = counts[order[i]!] === 0 ? -1 : this.#lengths[order[i]!]!;
    }
    return gatherBytes(this.#type, this.#data, starts, lengths);
  }
}
