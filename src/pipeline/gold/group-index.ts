/**
 * Numbers the groups of a slot: a group is a tuple of words (window within the slot, then the
 * dictionary code of each group column), and gets the next free number when first met.
 */
import { grown } from './buffers.ts';
import { CodeTable, INITIAL_ENTRIES } from './code-table.ts';
import { finishHash, mixWord } from './hash.ts';

/** Groups by key; numbers count from 0 in order of arrival. */
export class GroupIndex {
  readonly #keyWords: number;
  /** Entry with code c is group c - 1. */
  readonly #table = new CodeTable();
  #keys: Int32Array;

  /** @param keyWords words of a key, at least 1 */
  constructor(keyWords: number) {
    this.#keyWords = keyWords;
    this.#keys = new Int32Array(INITIAL_ENTRIES * keyWords);
  }

  /** Groups so far. */
  get size(): number {
    return this.#table.size;
  }

  get residentBytes(): number {
    return this.#keys.byteLength + this.#table.residentBytes;
  }

  /**
   * Numbers of the groups with these keys.
   * @param keys `keyWords` per key
   * @param groups receives one number per key; its length is the number of keys
   */
  find(keys: Int32Array, groups: Int32Array): void {
    const width = this.#keyWords;
    const table = this.#table;
    let { pairs, mask } = table;
    hashKeys(keys, width, groups);
    for (let i = 0, from = 0; i < groups.length; i++, from += width) {
      const hash = groups[i]!;
      for (let at = (hash << 1) & mask; ; at = (at + 2) & mask) {
        const code = pairs[at + 1]!;
        if (code === 0) {
          groups[i] = this.size;
          this.#append(keys, from);
          table.take(at, hash);
          ({ pairs, mask } = table);
          break;
        }
        if (pairs[at] === hash && this.#equals(code - 1, keys, from)) {
          groups[i] = code - 1;
          break;
        }
      }
    }
  }

  #equals(group: number, keys: Int32Array, from: number): boolean {
    const own = this.#keys;
    const width = this.#keyWords;
    for (let k = 0, at = group * width; k < width; k++, at++) {
      if (own[at] !== keys[from + k]) return false;
    }
    return true;
  }

  #append(keys: Int32Array, from: number): void {
    const width = this.#keyWords;
    const at = this.size * width;
    if (at === this.#keys.length) this.#keys = grown(this.#keys, at * 2);
    for (let k = 0; k < width; k++) this.#keys[at + k] = keys[from + k]!;
  }

  /** Word `word` of the key of each group in `order`. */
  wordsOf(order: Int32Array, word: number): Int32Array {
    const out = new Int32Array(order.length);
    const width = this.#keyWords;
    for (let i = 0; i < order.length; i++) out[i] = this.#keys[order[i]! * width + word]!;
    return out;
  }

  /**
   * The groups in the order of their keys, the first word weighing most: one counting sort per
   * word.
   * @param ranks by word: for every code its place in the order; undefined when the code is it
   * @param bounds by word: a number above every place
   */
  sorted(ranks: readonly (Int32Array | undefined)[], bounds: readonly number[]): Int32Array {
    let order = new Int32Array(this.size);
    for (let i = 0; i < order.length; i++) order[i] = i;
    for (let word = this.#keyWords - 1; word >= 0; word--) {
      if (bounds[word]! > 1) order = this.#sortByWord(order, word, ranks[word], bounds[word]!);
    }
    return order;
  }

  #sortByWord(
    order: Int32Array,
    word: number,
    ranks: Int32Array | undefined,
    bound: number,
  ): Int32Array<ArrayBuffer> {
    const places = this.wordsOf(order, word);
    if (ranks) for (let i = 0; i < places.length; i++) places[i] = ranks[places[i]!]!;
    const starts = new Int32Array(bound + 1);
    for (let i = 0; i < places.length; i++) starts[places[i]! + 1]!++;
    for (let place = 0; place < bound; place++) starts[place + 1]! += starts[place]!;
    const sorted = new Int32Array(order.length);
    for (let i = 0; i < order.length; i++) sorted[starts[places[i]!]!++] = order[i]!;
    return sorted;
  }
}

/** Hashes come in a pass of their own: the probing loop then has more cache misses in flight. */
function hashKeys(keys: Int32Array, width: number, hashes: Int32Array): void {
  for (let i = 0, at = 0; i < hashes.length; i++) {
    let hash = 0;
    for (let k = 0; k < width; k++) hash = mixWord(hash, keys[at++]!);
    hashes[i] = finishHash(hash);
  }
}
