/**
 * Exact numbers of distinct values per group: a set of (group, code) pairs, the codes being the
 * slot's dictionary codes, so that a value's bytes are stored once however many groups have it.
 */
import type { Vector } from '../columns.ts';
import { grown } from './buffers.ts';
import type { Dictionary } from './dictionary.ts';
import type { Accumulator, FieldRows } from './field-rows.ts';
import { vectorFromCounts } from './fixed-values.ts';
import { finishHash, mixWord } from './hash.ts';

const INITIAL_PAIRS = 64;

/** Distinct values of one field. */
export class DistinctCount implements Accumulator {
  readonly #dictionary: Dictionary;
  /** Open addressing over (group, code), at most half full; code 0 is a free place. */
  #pairs: Int32Array = new Int32Array(4 * INITIAL_PAIRS);
  #size = 0;
  #counts = new Float64Array(0);

  /** @param dictionary the slot's dictionary of the field, whose memory the slot accounts for */
  constructor(dictionary: Dictionary) {
    this.#dictionary = dictionary;
  }

  get residentBytes(): number {
    return this.#pairs.byteLength + this.#counts.byteLength;
  }

  grow(capacity: number): void {
    this.#counts = grown(this.#counts, capacity);
  }

  add({ vector, rows, groups, scratch }: FieldRows): void {
    const { codes } = scratch;
    this.#dictionary.encode(vector, rows, codes, 1, 0, scratch.words);
    let pairs: Int32Array = this.#pairs;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const at = placeOf(pairs, group, codes[i]!);
      if (pairs[at + 1] !== 0) continue;
      pairs[at] = group;
      pairs[at + 1] = codes[i]!;
      this.#counts[group]!++;
      if (++this.#size * 4 >= pairs.length) pairs = this.#grow();
    }
  }

  #grow(): Int32Array {
    const old = this.#pairs;
    const pairs = new Int32Array(old.length * 2);
    for (let from = 0; from < old.length; from += 2) {
      if (old[from + 1] === 0) continue;
      const at = placeOf(pairs, old[from]!, old[from + 1]!);
      pairs[at] = old[from]!;
      pairs[at + 1] = old[from + 1]!;
    }
    this.#pairs = pairs;
    return pairs;
  }

  /** The counts as a long column; 0, not null, for a group without values. */
  column(order: Int32Array): Vector {
    const counts = new Float64Array(order.length);
    for (let i = 0; i < order.length; i++) counts[i] = this.#counts[order[i]!]!;
    return vectorFromCounts(counts);
  }
}

/** Index of the pair, or of the free place where it belongs. */
function placeOf(pairs: Int32Array, group: number, code: number): number {
  const mask = pairs.length - 2;
  let at = (finishHash(mixWord(mixWord(0, group), code)) << 1) & mask;
  while (pairs[at + 1] !== 0 && (pairs[at] !== group || pairs[at + 1] !== code)) {
    at = (at + 2) & mask;
  }
  return at;
}
