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
  const from = viewOf(data);
  const to = viewOf(out);
  for (let i = 0; i < count; i++) {
    copyBytes(from, starts[i]!, to, offsets[i]!, offsets[i + 1]! - offsets[i]!);
  }
  return nulls.vector(type, { offsets, data: out });
}

/** The same bytes, to be read and written as words. */
export function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Copies a short piece faster than TypedArray's `set`; its last word may overlap the one before.
 */
function copyBytes(
  from: DataView,
  atFrom: number,
  to: DataView,
  atTo: number,
  length: number,
): void {
  let k = 0;
  for (; k + 4 <= length; k += 4) to.setInt32(atTo + k, from.getInt32(atFrom + k, true), true);
  if (length >= 4) {
    to.setInt32(atTo + length - 4, from.getInt32(atFrom + length - 4, true), true);
    return;
  }
  for (; k < length; k++) to.setUint8(atTo + k, from.getUint8(atFrom + k));
}
