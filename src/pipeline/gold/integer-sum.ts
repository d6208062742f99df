/**
 * Exact sums of integers and of decimals' unscaled values, per group.
 *
 * - G6 The sum is exact whatever the values, their order and their number: it is `low + wide`,
 *   where `low` is a double that only ever holds integers up to 2^53, and `wide` a 192-bit integer
 *   (six words, two's complement) that takes what does not fit. 192 bits hold 2^64 decimals of 38
 *   digits. Overflow is judged on the final sum alone, so it too is independent of order (P9).
 */
import { type ErrorContext, PipelineError } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import type { DataType } from '../types.ts';
import { grown, NullBits } from './buffers.ts';
import { roundedRatio } from './exact-ratio.ts';
import type { Accumulator, ColumnRequest, FieldRows } from './field-rows.ts';
import { wordsOf, wordView } from './fixed-values.ts';

const TWO_32 = 4_294_967_296;
const EXACT_MAX = Number.MAX_SAFE_INTEGER;
const WIDE_WORDS = 6;
const NO_WORDS = new Int32Array(0);
const TEN_POW_38 = 10n ** 38n;
/** Top word of 10^38 as 128 bits: a smaller magnitude there proves that a decimal(38) fits. */
const TEN_POW_38_TOP = 0x4b3b4ca8;

/** Tells which sum, of which window, for an error message. */
export type DescribeGroup = (group: number) => ErrorContext;

/** Sums of one field. */
export class IntegerSum implements Accumulator {
  /** Words of a value in its column; 1 when every value of the type is a safe integer. */
  readonly #valueWords: number;
  #low = new Float64Array(0);
  /** `WIDE_WORDS` per group; allocated when the first value needs it. */
  #wide: Int32Array | undefined;

  /** @param type an integer type or a decimal */
  constructor(type: DataType) {
    this.#valueWords = wordsOf(type);
  }

  get residentBytes(): number {
    return this.#low.byteLength + (this.#wide?.byteLength ?? 0);
  }

  grow(capacity: number): void {
    this.#low = grown(this.#low, capacity);
    if (this.#wide) this.#wide = grown(this.#wide, capacity * WIDE_WORDS);
  }

  add({ vector, rows, groups, numbers }: FieldRows): void {
    const low = this.#low;
    const width = this.#valueWords;
    const words = width > 1 ? wordView(vector.values!) : NO_WORDS;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const value = numbers[i]!;
      const sum = low[group]! + value;
      if (sum <= EXACT_MAX && sum >= -EXACT_MAX) {
        low[group] = sum;
      } else if (value === value) {
        this.#carry(group);
        low[group] = value;
      } else {
        const at = rows[i]! * width;
        const w2 = width === 4 ? words[at + 2]! : words[at + 1]! >> 31;
        const w3 = width === 4 ? words[at + 3]! : w2;
        this.#addToWide(group, words[at]!, words[at + 1]!, w2, w3);
      }
    }
  }

  /** Moves `low` into `wide`. */
  #carry(group: number): void {
    const low = this.#low[group]!;
    const high = Math.floor(low / TWO_32);
    this.#addToWide(group, low - high * TWO_32, high, high < 0 ? -1 : 0, high < 0 ? -1 : 0);
    this.#low[group] = 0;
  }

  /** Adds a 128-bit integer given by its words, the lowest first. */
  #addToWide(group: number, w0: number, w1: number, w2: number, w3: number): void {
    this.#wide ??= new Int32Array(this.#low.length * WIDE_WORDS);
    const wide = this.#wide;
    const at = group * WIDE_WORDS;
    const sign = w3 >> 31;
    let sum = (wide[at]! >>> 0) + (w0 >>> 0);
    wide[at] = sum;
    sum = (wide[at + 1]! >>> 0) + (w1 >>> 0) + (sum >= TWO_32 ? 1 : 0);
    wide[at + 1] = sum;
    sum = (wide[at + 2]! >>> 0) + (w2 >>> 0) + (sum >= TWO_32 ? 1 : 0);
    wide[at + 2] = sum;
    sum = (wide[at + 3]! >>> 0) + (w3 >>> 0) + (sum >= TWO_32 ? 1 : 0);
    wide[at + 3] = sum;
    sum = (wide[at + 4]! >>> 0) + (sign >>> 0) + (sum >= TWO_32 ? 1 : 0);
    wide[at + 4] = sum;
    wide[at + 5] = (wide[at + 5]! >>> 0) + (sign >>> 0) + (sum >= TWO_32 ? 1 : 0);
  }

  /** Whether a group's sum is just `low`. */
  #isLow(group: number): boolean {
    if (this.#wide === undefined) return true;
    const at = group * WIDE_WORDS;
    for (let k = 0; k < WIDE_WORDS; k++) if (this.#wide[at + k] !== 0) return false;
    return true;
  }

  /** A group's exact sum. */
  total(group: number): bigint {
    let sum = 0n;
    if (this.#wide !== undefined) {
      const at = group * WIDE_WORDS;
      for (let k = 0; k < WIDE_WORDS; k++) {
        sum |= BigInt(this.#wide[at + k]! >>> 0) << BigInt(32 * k);
      }
    }
    return BigInt.asIntN(32 * WIDE_WORDS, sum) + BigInt(this.#low[group]!);
  }

  /**
   * The sums as a long or decimal(38) column.
   * @throws PipelineError invalid when a sum does not fit, naming its window
   */
  sums(type: DataType, request: ColumnRequest, describe: DescribeGroup): Vector {
    const { order, counts } = request;
    const width = wordsOf(type);
    const nulls = new NullBits(order.length);
    const words = new Int32Array(order.length * width);
    for (let i = 0; i < order.length; i++) {
      const group = order[i]!;
      if (counts[group] === 0) nulls.mark(i);
      else if (this.#isLow(group)) {
        const low = this.#low[group]!;
        const high = Math.floor(low / TWO_32);
        words[i * width] = low - high * TWO_32;
        words[i * width + 1] = high;
        if (width === 4 && high < 0) words.fill(-1, i * width + 2, i * width + 4);
      } else {
        this.#carry(group);
        this.#assertFits(type, group, describe);
        const at = group * WIDE_WORDS;
        words.set(this.#wide!.subarray(at, at + width), i * width);
      }
    }
    return nulls.vector(type, { values: new BigInt64Array(words.buffer) });
  }

  /** @param group one whose sum is all in `wide` */
  #assertFits(type: DataType, group: number, describe: DescribeGroup): void {
    const wide = this.#wide!;
    const at = group * WIDE_WORDS;
    const decimal = type.kind === 'decimal';
    const top = wide[at + (decimal ? 3 : 1)]!;
    let fits = !decimal || (top > -TEN_POW_38_TOP && top < TEN_POW_38_TOP);
    for (let k = decimal ? 4 : 2; k < WIDE_WORDS; k++) fits &&= wide[at + k] === top >> 31;
    if (!fits && decimal) {
      const total = this.total(group);
      fits = total > -TEN_POW_38 && total < TEN_POW_38;
    }
    if (fits) return;
    throw new PipelineError(
      'invalid',
      'TM_MEASURE_OVERFLOW',
      'a sum exceeds its column; sum a decimal or a double field, or shorten the window',
      { context: describe(group) },
    );
  }

  /** The averages as doubles, each the exact quotient rounded once. */
  averages(type: DataType, scale: number, { order, counts }: ColumnRequest): Vector {
    const nulls = new NullBits(order.length);
    const values = new Float64Array(order.length);
    const unit = 10 ** scale;
    for (let i = 0; i < order.length; i++) {
      const group = order[i]!;
      const count = counts[group]!;
      if (count === 0) nulls.mark(i);
      else if (count * unit <= EXACT_MAX && this.#isLow(group)) {
        values[i] = this.#low[group]! / (count * unit) + 0; // + 0: never minus zero
      } else {
        values[i] = roundedRatio(this.total(group), BigInt(count) * 10n ** BigInt(scale));
      }
    }
    return nulls.vector(type, { values });
  }
}
