/**
 * Port: which event ids silver holds, with the payload each came with; and its memory adapter.
 * Pure.
 *
 * D1 The first fingerprint of an id stays; a later one is a duplicate when its payload is equal,
 *    else a conflict. Rows of one call are decided in order, so cutting a call in two changes
 *    nothing.
 * D2 What was looked up is in the index at once. Who abandons rows that it looked up must throw the
 *    index away and build it again from the fingerprints of committed silver files (P1).
 */
import { assert } from '../../errors.ts';
import { FINGERPRINT_BYTES, FINGERPRINT_WORDS, wordsOfBytes } from './fingerprints.ts';

/** What the index says of a row. */
export const ID_NEW = 0;
export const ID_DUPLICATE = 1;
export const ID_CONFLICT = 2;

/** Every id of the buckets that a silver writer serves. One caller at a time. */
export interface DedupIndex {
  /**
   * Decides rows in order and remembers the new ones.
   * @param fingerprints FINGERPRINT_WORDS words per row
   * @param rows how many rows
   * @param verdicts receives ID_NEW, ID_DUPLICATE or ID_CONFLICT per row
   * @param batchRows where each row lies in the bronze batch, for an index that goes by coordinates;
   *   absent when rows are looked up once more, which inserts nothing
   * @throws PipelineError unavailable when the index cannot be read; the caller then abandons the
   *   rows
   */
  lookupOrInsert(
    fingerprints: Uint32Array,
    rows: number,
    verdicts: Uint8Array,
    batchRows?: Int32Array,
  ): Promise<void>;
}

/** Shards grow one at a time, so that no single insert moves more than one of them. */
const SHARDS = 256;
const SLOTS_MIN = 16;
/** A shard grows at a fill between these two, each at its own, so that they take turns. */
const FILL_LOW = 0.5;
const FILL_HIGH = 0.8;

/**
 * The index in memory: open addressing in typed arrays, 24 bytes per slot, about 50 bytes per id. A
 * slot whose first word is 0 is free.
 */
export class MemoryDedupIndex implements DedupIndex {
  #size = 0;
  readonly #shards: Uint32Array[] = Array.from(
    { length: SHARDS },
    () => new Uint32Array(SLOTS_MIN * FINGERPRINT_WORDS),
  );
  readonly #used = new Int32Array(SHARDS);

  /** Ids held. */
  get size(): number {
    return this.#size;
  }

  /** Bytes of memory held. */
  get memoryBytes(): number {
    return this.#shards.reduce((bytes, shard) => bytes + shard.byteLength, 0);
  }

  lookupOrInsert(fingerprints: Uint32Array, rows: number, verdicts: Uint8Array): Promise<void> {
    for (let row = 0; row < rows; row++) {
      verdicts[row] = this.decide(fingerprints, row * FINGERPRINT_WORDS);
    }
    return Promise.resolve();
  }

  /**
   * Adds rows of committed silver files, for a rebuild; an id that is there already keeps its
   * payload.
   * @param bytes FINGERPRINT_BYTES per row, as the deriver returns them
   */
  insertFingerprints(bytes: Uint8Array): void {
    assert(bytes.length % FINGERPRINT_BYTES === 0, 'whole fingerprints', { bytes: bytes.length });
    const words = wordsOfBytes(bytes);
    for (let at = 0; at < words.length; at += FINGERPRINT_WORDS) this.decide(words, at);
  }

  /**
   * Decides one row without remembering it.
   * @param at index of the row's first word
   */
  find(words: Uint32Array, at: number): number {
    const base = this.#locate(words, at);
    return base < 0 ? ID_NEW : this.#verdict(words, at, base);
  }

  /**
   * Decides one row and remembers it when it is new.
   * @param at index of the row's first word
   */
  decide(words: Uint32Array, at: number): number {
    const located = this.#locate(words, at);
    if (located >= 0) return this.#verdict(words, at, located);
    const number = words[at + 3]! & (SHARDS - 1);
    const shard = this.#shards[number]!;
    const base = ~located;
    shard[base] = words[at]! || 1;
    for (let i = 1; i < FINGERPRINT_WORDS; i++) shard[base + i] = words[at + i]!;
    this.#size++;
    const fill = ++this.#used[number]! / (shard.length / FINGERPRINT_WORDS);
    if (fill > FILL_LOW + ((FILL_HIGH - FILL_LOW) * number) / SHARDS) this.#growShard(number);
    return ID_NEW;
  }

  /** First word of the id's slot, or `~` of that of the free slot where it would go. */
  #locate(words: Uint32Array, at: number): number {
    const w0 = words[at]! || 1;
    const w1 = words[at + 1]!;
    const w2 = words[at + 2]!;
    const w3 = words[at + 3]!;
    const shard = this.#shards[w3 & (SHARDS - 1)]!;
    const slots = shard.length / FINGERPRINT_WORDS;
    let slot = w1 & (slots - 1);
    for (;;) {
      const base = slot * FINGERPRINT_WORDS;
      const found = shard[base]!;
      if (found === 0) return ~base;
      if (found === w0 && shard[base + 1] === w1 && shard[base + 2] === w2) {
        if (shard[base + 3] === w3) return base;
      }
      slot = (slot + 1) & (slots - 1);
    }
  }

  #verdict(words: Uint32Array, at: number, base: number): number {
    const shard = this.#shards[words[at + 3]! & (SHARDS - 1)]!;
    const equal = shard[base + 4] === words[at + 4] && shard[base + 5] === words[at + 5];
    return equal ? ID_DUPLICATE : ID_CONFLICT;
  }

  #growShard(number: number): void {
    const shard = this.#shards[number]!;
    const grown = new Uint32Array(shard.length * 2);
    const mask = grown.length / FINGERPRINT_WORDS - 1;
    for (let base = 0; base < shard.length; base += FINGERPRINT_WORDS) {
      if (shard[base] === 0) continue;
      let slot = shard[base + 1]! & mask;
      while (grown[slot * FINGERPRINT_WORDS] !== 0) slot = (slot + 1) & mask;
      const to = slot * FINGERPRINT_WORDS;
      for (let i = 0; i < FINGERPRINT_WORDS; i++) grown[to + i] = shard[base + i]!;
    }
    this.#shards[number] = grown;
  }
}
