/**
 * Growable typed arrays, null bitmaps and text columns, shared by the parts of gold state. Pure.
 */
import { assert } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import type { DataType } from '../types.ts';

/** A copy of `array` with room for `length` elements; the new ones are zero. */
export function grown<T extends Uint8Array | Int32Array | Float64Array>(
  array: T,
  length: number,
): T {
  const copy = new (array.constructor as new (length: number) => T)(length);
  copy.set(array);
  return copy;
}

/** Collects the nulls of a column that is being built; allocates nothing while there are none. */
export class NullBits {
  readonly #length: number;
  #validity: Uint8Array | undefined;
  #count = 0;

  /** @param length rows of the column */
  constructor(length: number) {
    this.#length = length;
  }

  /** Marks a row as null; call at most once per row. */
  mark(row: number): void {
    if (this.#validity === undefined) {
      this.#validity = new Uint8Array((this.#length + 7) >> 3).fill(0xff);
      const tail = this.#length & 7;
      if (tail !== 0) this.#validity[this.#validity.length - 1] = (1 << tail) - 1;
    }
    this.#validity[row >> 3]! &= ~(1 << (row & 7));
    this.#count++;
  }

  /** The column with these nulls. */
  vector(type: DataType, parts: Pick<Vector, 'values' | 'offsets' | 'data'>): Vector {
    return {
      type,
      length: this.#length,
      nullCount: this.#count,
      ...(this.#validity ? { validity: this.#validity } : {}),
      ...parts,
    };
  }
}

/** The validity bitmap to look at, or undefined when no row is null. */
export function validityOf(vector: Vector): Uint8Array | undefined {
  return vector.nullCount === 0 ? undefined : vector.validity;
}

/** Below this, a loop copies bytes faster than TypedArray's `set`. */
const LOOP_COPY_MAX = 48;

/**
 * A text or binary column of pieces of `data`.
 * @param lengths bytes of each value; -1 for null
 * @throws PipelineError internal when the column would exceed 2 GiB, the limit of its offsets
 */
export function gatherBytes(
  type: DataType,
  data: Uint8Array,
  starts: Int32Array,
  lengths: Int32Array,
): Vector {
  const count = lengths.length;
  const nulls = new NullBits(count);
  const offsets = new Int32Array(count + 1);
  let total = 0;
  for (let i = 0; i < count; i++) {
    if (lengths[i]! < 0) nulls.mark(i);
    else total += lengths[i]!;
    assert(total <= 0x7fffffff, 'a column holds at most 2 GiB of text');
    offsets[i + 1] = total;
  }
  const out = new Uint8Array(total);
  for (let i = 0; i < count; i++) {
    const to = offsets[i]!;
    const start = starts[i]!;
    const length = offsets[i + 1]! - to;
    if (length > LOOP_COPY_MAX) out.set(data.subarray(start, start + length), to);
    else for (let k = 0; k < length; k++) out[to + k] = data[start + k]!;
  }
  return nulls.vector(type, { offsets, data: out });
}
