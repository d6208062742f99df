/**
 * A slot's dictionary of one column: every distinct value gets a code, counted from 1; null is 0.
 * Groups and sets of distinct values are then tuples of small integers, and a text is stored once
 * per slot, however many groups it is part of.
 *
 * - G4 Values are told apart by all their bytes, never by hash alone.
 * - G5 Codes depend on the order of arrival and so never leave the slot; ranks depend on content
 *   only (P9): nulls first, text and binary by bytes, numbers by value with NaN last.
 */
import { assert } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import type { DataType } from '../types.ts';
import { gatherBytes, grown, NullBits, validityOf, viewOf } from './buffers.ts';
import { rankEntries } from './code-ranks.ts';
import { CodeTable, INITIAL_ENTRIES } from './code-table.ts';
import { loadWords, sortableWord, vectorFromWords, wordsOf } from './fixed-values.ts';
import { equalBytes, finishHash, hashBytes, mixWord } from './hash.ts';

/** What both kinds of dictionary do. */
export interface Dictionary {
  /** Codes given out; the highest code. */
  readonly size: number;
  /** Bytes of memory. */
  readonly residentBytes: number;
  /**
   * Codes of the values of a column; a value not met before gets the next one.
   * @param rows which rows, nulls allowed
   * @param out receives the code of `rows[i]` at `i * stride + offset`
   * @param words scratch space for 4 words per row
   */
  encode(
    vector: Vector,
    rows: Int32Array,
    out: Int32Array,
    stride: number,
    offset: number,
    words: Int32Array,
  ): void;
  /** By code: place in the order of content; 0 for null. */
  ranks(): Int32Array;
  /** The column of the values of `codes`. */
  vector(codes: Int32Array): Vector;
}

/** The dictionary for a column's type. */
export function createDictionary(type: DataType): Dictionary {
  return type.kind === 'primitive' && (type.name === 'string' || type.name === 'binary')
    ? new BytesDictionary(type)
    : new WordsDictionary(type);
}

class BytesDictionary implements Dictionary {
  readonly #type: DataType;
  readonly #table = new CodeTable();
  /** Value of code c: `#data[#ends[c - 1], #ends[c])`. */
  #ends = new Int32Array(INITIAL_ENTRIES);
  #data = new Uint8Array(INITIAL_ENTRIES * 16);
  #view = viewOf(this.#data);
  #ranks: Int32Array = new Int32Array(1);

  constructor(type: DataType) {
    this.#type = type;
  }

  get size(): number {
    return this.#table.size;
  }

  get residentBytes(): number {
    const { residentBytes } = this.#table;
    return residentBytes + this.#ends.byteLength + this.#data.length + this.#ranks.byteLength;
  }

  encode(
    vector: Vector,
    rows: Int32Array,
    out: Int32Array,
    stride: number,
    offset: number,
    _words: Int32Array,
  ): void {
    const offsets = vector.offsets!;
    const data = viewOf(vector.data!);
    const validity = validityOf(vector);
    const table = this.#table;
    let { pairs, mask } = table;
    for (let i = 0, outAt = offset; i < rows.length; i++, outAt += stride) {
      const row = rows[i]!;
      if (validity !== undefined && (validity[row >> 3]! & (1 << (row & 7))) === 0) {
        out[outAt] = 0;
        continue;
      }
      const from = offsets[row]!;
      const to = offsets[row + 1]!;
      const hash = hashBytes(data, from, to);
      for (let at = (hash << 1) & mask; ; at = (at + 2) & mask) {
        const code = pairs[at + 1]!;
        if (code === 0) {
          out[outAt] = table.take(at, hash);
          this.#append(vector.data!.subarray(from, to));
          ({ pairs, mask } = table);
          break;
        }
        if (pairs[at] === hash && this.#equals(code, data, from, to - from)) {
          out[outAt] = code;
          break;
        }
      }
    }
  }

  #equals(code: number, data: DataView, from: number, length: number): boolean {
    const at = this.#ends[code - 1]!;
    return this.#ends[code]! - at === length && equalBytes(this.#view, at, data, from, length);
  }

  #append(value: Uint8Array): void {
    const code = this.#table.size;
    const start = this.#ends[code - 1]!;
    const end = start + value.length;
    assert(end <= 0x7fffffff, 'a dictionary holds at most 2 GiB of text');
    if (code >= this.#ends.length) this.#ends = grown(this.#ends, code * 2);
    if (end > this.#data.length) {
      this.#data = grown(this.#data, Math.max(end, Math.min(this.#data.length * 2, 0x7fffffff)));
      this.#view = viewOf(this.#data);
    }
    this.#ends[code] = end;
    this.#data.set(value, start);
  }

  ranks(): Int32Array {
    if (this.#ranks.length <= this.size) this.#ranks = rankEntries(this);
    return this.#ranks;
  }

  /** Three bytes and how many of them exist, so that a prefix comes before what extends it. */
  sortWord(code: number, depth: number): number {
    const data = this.#data;
    const at = this.#ends[code - 1]! + 3 * depth;
    const left = this.#ends[code]! - at;
    if (left >= 3)
      return ((data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | 3) >>> 0;
    if (left === 2) return ((data[at]! << 24) | (data[at + 1]! << 16) | 2) >>> 0;
    return left === 1 ? ((data[at]! << 24) | 1) >>> 0 : 0;
  }

  vector(codes: Int32Array): Vector {
    const starts = new Int32Array(codes.length);
    const lengths = new Int32Array(codes.length);
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i]!;
      if (code === 0) {
        lengths[i] = -1;
        continue;
      }
      starts[i] = this.#ends[code - 1]!;
      lengths[i] = this.#ends[code]! - starts[i]!;
    }
    return gatherBytes(this.#type, this.#data, starts, lengths);
  }
}

class WordsDictionary implements Dictionary {
  readonly #type: DataType;
  readonly #width: number;
  readonly #table = new CodeTable();
  /** Value of code c: the words from `c * width`. */
  #values: Int32Array;
  #ranks: Int32Array = new Int32Array(1);

  constructor(type: DataType) {
    this.#type = type;
    this.#width = wordsOf(type);
    this.#values = new Int32Array(INITIAL_ENTRIES * this.#width);
  }

  get size(): number {
    return this.#table.size;
  }

  get residentBytes(): number {
    return this.#table.residentBytes + this.#values.byteLength + this.#ranks.byteLength;
  }

  encode(
    vector: Vector,
    rows: Int32Array,
    out: Int32Array,
    stride: number,
    offset: number,
    words: Int32Array,
  ): void {
    loadWords(vector, rows, words);
    const validity = validityOf(vector);
    const width = this.#width;
    const table = this.#table;
    let { pairs, mask } = table;
    for (let i = 0, outAt = offset; i < rows.length; i++, outAt += stride) {
      const row = rows[i]!;
      if (validity !== undefined && (validity[row >> 3]! & (1 << (row & 7))) === 0) {
        out[outAt] = 0;
        continue;
      }
      const from = i * width;
      let hash = 0;
      for (let k = 0; k < width; k++) hash = mixWord(hash, words[from + k]!);
      hash = finishHash(hash);
      for (let at = (hash << 1) & mask; ; at = (at + 2) & mask) {
        const code = pairs[at + 1]!;
        if (code === 0) {
          out[outAt] = table.take(at, hash);
          this.#append(words, from);
          ({ pairs, mask } = table);
          break;
        }
        if (pairs[at] === hash && this.#equals(code, words, from)) {
          out[outAt] = code;
          break;
        }
      }
    }
  }

  #equals(code: number, words: Int32Array, from: number): boolean {
    const at = code * this.#width;
    for (let k = 0; k < this.#width; k++) {
      if (this.#values[at + k] !== words[from + k]) return false;
    }
    return true;
  }

  #append(words: Int32Array, from: number): void {
    const at = this.size * this.#width;
    if (at >= this.#values.length) this.#values = grown(this.#values, at * 2);
    for (let k = 0; k < this.#width; k++) this.#values[at + k] = words[from + k]!;
  }

  ranks(): Int32Array {
    if (this.#ranks.length <= this.size) this.#ranks = rankEntries(this);
    return this.#ranks;
  }

  sortWord(code: number, depth: number): number {
    const width = this.#width;
    return sortableWord(this.#type, this.#values, code * width, width, depth);
  }

  vector(codes: Int32Array): Vector {
    const nulls = new NullBits(codes.length);
    for (let i = 0; i < codes.length; i++) if (codes[i] === 0) nulls.mark(i);
    return vectorFromWords(this.#type, this.#values, codes, nulls); // the words of code 0 are zero
  }
}
