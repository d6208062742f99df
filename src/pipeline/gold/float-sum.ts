/**
 * Exact sums of doubles, per group, rounded once when they are read.
 *
 * - G7 The sum of a group's finite values is exact until it is read: it is `high + low + rest`, the
 *   first two kept by TwoSum, `rest` (an integer of 2^-1074 units, in a map) taking what 106 bits
 *   cannot hold, which ordinary data never needs. Reading rounds to nearest even. So the result is
 *   the correctly rounded sum, bit for bit the same for every order and cut (P9); the plain sum of
 *   doubles, and with it Spark's, differs in its last digits from run to run.
 * - G8 NaN, or infinities of both signs, sum to NaN; infinities of one sign to that infinity; a
 *   finite sum beyond the largest double to an infinity; no sum is -0.
 *
 * Source of TwoSum: Knuth, TAOCP volume 2, 4.2.2, theorem B.
 */
import type { Vector } from '../columns.ts';
import { primitive } from '../types.ts';
import { grown, NullBits } from './buffers.ts';
import { doubleOfUnits, unitsOfDouble } from './exact-ratio.ts';
import type { Accumulator, ColumnRequest, FieldRows } from './field-rows.ts';

/** Below this magnitude no step of TwoSum can overflow. */
const TWO_SUM_MAX = 2 ** 1022;
/** About what a map entry with its integer takes. */
const REST_ENTRY_BYTES = 160;

const SAW_NAN = 1;
const SAW_INFINITY = 2;
const SAW_MINUS_INFINITY = 4;

/** Sums of one float or double field. */
export class FloatSum implements Accumulator {
  #high = new Float64Array(0);
  #low = new Float64Array(0);
  readonly #rest = new Map<number, bigint>();
  /** By group, only for groups that met them: which values that are not finite. */
  readonly #special = new Map<number, number>();

  get residentBytes(): number {
    const extra = (this.#rest.size + this.#special.size) * REST_ENTRY_BYTES;
    return this.#high.byteLength + this.#low.byteLength + extra;
  }

  grow(capacity: number): void {
    this.#high = grown(this.#high, capacity);
    this.#low = grown(this.#low, capacity);
  }

  add({ groups, numbers }: FieldRows): void {
    const highs = this.#high;
    const lows = this.#low;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const value = numbers[i]!;
      const high = highs[group]!;
      const sum = high + value;
      if (!(sum < TWO_SUM_MAX && sum > -TWO_SUM_MAX)) {
        this.#addExtreme(group, value);
        continue;
      }
      const added = sum - high;
      const error = high - (sum - added) + (value - added);
      const low = lows[group]!;
      const lowSum = low + error;
      const lowAdded = lowSum - low;
      const lowError = low - (lowSum - lowAdded) + (error - lowAdded);
      highs[group] = sum;
      lows[group] = lowSum;
      if (lowError !== 0) this.#addRest(group, lowError);
    }
  }

  #addExtreme(group: number, value: number): void {
    if (Number.isFinite(value)) {
      this.#addRest(group, value);
      return;
    }
    const saw = value !== value ? SAW_NAN : value > 0 ? SAW_INFINITY : SAW_MINUS_INFINITY;
    this.#special.set(group, (this.#special.get(group) ?? 0) | saw);
  }

  #addRest(group: number, value: number): void {
    this.#rest.set(group, (this.#rest.get(group) ?? 0n) + unitsOfDouble(value));
  }

  /** A group's sum, correctly rounded. */
  #sum(group: number): number {
    const saw = this.#special.size === 0 ? 0 : (this.#special.get(group) ?? 0);
    if (saw === SAW_INFINITY) return Number.POSITIVE_INFINITY;
    if (saw === SAW_MINUS_INFINITY) return Number.NEGATIVE_INFINITY;
    if (saw !== 0) return Number.NaN;
    const high = this.#high[group]!;
    const low = this.#low[group]!;
    const rest = this.#rest.size === 0 ? 0n : (this.#rest.get(group) ?? 0n);
    if (rest === 0n) return high + low;
    return doubleOfUnits(unitsOfDouble(high) + unitsOfDouble(low) + rest);
  }

  /** The sums as a double column. */
  sums({ order, counts }: ColumnRequest): Vector {
    const nulls = new NullBits(order.length);
    const values = new Float64Array(order.length);
    for (let i = 0; i < order.length; i++) {
      if (counts[order[i]!] === 0) nulls.mark(i);
      else values[i] = this.#sum(order[i]!);
    }
    return nulls.vector(primitive('double'), { values });
  }

  /** The averages as a double column: the correctly rounded sum, divided by the count. */
  averages({ order, counts }: ColumnRequest): Vector {
    const nulls = new NullBits(order.length);
    const values = new Float64Array(order.length);
    for (let i = 0; i < order.length; i++) {
      const count = counts[order[i]!]!;
      if (count === 0) nulls.mark(i);
      else values[i] = this.#sum(order[i]!) / count;
    }
    return nulls.vector(primitive('double'), { values });
  }
}
