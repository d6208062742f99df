/**
 * The ids of the bronze rows that an edit looks at, and which of them silver has. Its memory grows
 * with the edit, not with the table: ids are collected first, then the fingerprints of silver's files
 * stream past, then the rows are decided. Pure.
 *
 * Invariants:
 * - CI1 `collect` remembers of each id the row that came first, and lets none through.
 * - CI2 `decide` says what the stream's index would: the row that came first is new if silver has not
 *   its id; any other one is a duplicate or a conflict by its payload.
 * - CI3 Which row came first does not depend on the order in which rows are read: compaction and
 *   retention change which rows share a file. Within a partition it is the lowest offset, across
 *   partitions the one that was ingested first, and of one commit the lowest partition.
 */
import { assert } from '../../errors.ts';
import { type ColumnBatch, columnOf } from '../../pipeline/columns.ts';
import {
  type DedupIndex,
  ID_CONFLICT,
  ID_DUPLICATE,
  ID_NEW,
} from '../../pipeline/silver/dedup-index.ts';
import { FINGERPRINT_WORDS, wordsOfBytes } from '../../pipeline/silver/fingerprints.ts';

/** What is known of a slot's id. */
const FREE = 0;
const MISSING = 1;
const IN_SILVER = 2;
const TAKEN = 3;

const SLOTS_MIN = 1024;
const FILL_MAX = 0.6;

/** Where rows stand among all others; one entry per row. */
interface RowOrder {
  readonly partitions: Int32Array;
  readonly offsets: BigInt64Array;
  /** Microseconds since the epoch. */
  readonly times: BigInt64Array;
}

/** Open addressing; 45 bytes per slot. */
export class CandidateIds implements DedupIndex {
  phase: 'collect' | 'decide' = 'collect';
  #words = new Uint32Array(SLOTS_MIN * FINGERPRINT_WORDS);
  #states = new Uint8Array(SLOTS_MIN);
  /** By slot: the row that came first. */
  #first = newOrder(SLOTS_MIN);
  #size = 0;
  #inSilver = 0;
  #rows: RowOrder = newOrder(0);

  /** Distinct ids collected. */
  get size(): number {
    return this.#size;
  }

  /** Ids that silver was not seen to have. */
  get missing(): number {
    return this.#size - this.#inSilver;
  }

  /**
   * Says which batch the rows that are looked up next are of.
   * @param timeColumn that tells rows of different partitions apart (CI3)
   */
  readFrom(batch: ColumnBatch, timeColumn: '_ingested_at' | '_kafka_timestamp'): void {
    this.#rows = {
      partitions: columnOf(batch, '_kafka_partition')!.values as Int32Array,
      offsets: columnOf(batch, '_kafka_offset')!.values as BigInt64Array,
      times: columnOf(batch, timeColumn)!.values as BigInt64Array,
    };
  }

  lookupOrInsert(
    fingerprints: Uint32Array,
    rows: number,
    verdicts: Uint8Array,
    batchRows?: Int32Array,
  ): Promise<void> {
    for (let row = 0; row < rows; row++) {
      const at = row * FINGERPRINT_WORDS;
      const batchRow = batchRows?.[row];
      if (this.phase === 'decide') verdicts[row] = this.#decide(fingerprints, at, batchRow);
      else {
        assert(batchRow !== undefined, 'a row that is collected has coordinates');
        this.#collect(fingerprints, at, batchRow);
        verdicts[row] = ID_DUPLICATE;
      }
    }
    return Promise.resolve();
  }

  /** Marks the ids of a silver file's fingerprints as there. */
  probe(fingerprints: Uint8Array): void {
    const words = wordsOfBytes(fingerprints);
    for (let at = 0; at < words.length; at += FINGERPRINT_WORDS) {
      const slot = this.#slotOf(words, at);
      if (this.#states[slot] === FREE || this.#states[slot] === IN_SILVER) continue;
      this.#states[slot] = IN_SILVER;
      this.#inSilver++;
      this.#setPayload(slot, words, at);
    }
  }

  /** Forgets what was decided, to decide again after silver got further rows. */
  undecide(): void {
    for (let slot = 0; slot < this.#states.length; slot++) {
      if (this.#states[slot] === TAKEN) this.#states[slot] = MISSING;
    }
  }

  /** CI1 */
  #collect(words: Uint32Array, at: number, row: number): void {
    const slot = this.#slotOf(words, at);
    if (this.#states[slot] !== FREE) {
      if (compareOrder(this.#rows, row, this.#first, slot) >= 0) return;
      copyOrder(this.#rows, row, this.#first, slot);
      this.#setPayload(slot, words, at);
      return;
    }
    this.#states[slot] = MISSING;
    this.#words.set(words.subarray(at, at + FINGERPRINT_WORDS), slot * FINGERPRINT_WORDS);
    copyOrder(this.#rows, row, this.#first, slot);
    this.#size++;
    if (this.#size > FILL_MAX * this.#states.length) this.#grow();
  }

  /** CI2 */
  #decide(words: Uint32Array, at: number, row: number | undefined): number {
    const slot = this.#slotOf(words, at);
    const state = this.#states[slot]!;
    assert(state !== FREE, 'the id was collected');
    if (
      state === MISSING &&
      row !== undefined &&
      compareOrder(this.#rows, row, this.#first, slot) === 0
    ) {
      this.#states[slot] = TAKEN;
      return ID_NEW;
    }
    const base = slot * FINGERPRINT_WORDS;
    const equal =
      this.#words[base + 4] === words[at + 4] && this.#words[base + 5] === words[at + 5];
    return equal ? ID_DUPLICATE : ID_CONFLICT;
  }

  #setPayload(slot: number, words: Uint32Array, at: number): void {
    const base = slot * FINGERPRINT_WORDS;
    this.#words[base + 4] = words[at + 4]!;
    this.#words[base + 5] = words[at + 5]!;
  }

  /** The slot of the id at `at`, or the free one where it belongs. */
  #slotOf(words: Uint32Array, at: number): number {
    const mask = this.#states.length - 1;
    for (let slot = words[at + 1]! & mask; ; slot = (slot + 1) & mask) {
      if (this.#states[slot] === FREE) return slot;
      const base = slot * FINGERPRINT_WORDS;
      if (
        this.#words[base] === words[at] &&
        this.#words[base + 1] === words[at + 1] &&
        this.#words[base + 2] === words[at + 2] &&
        this.#words[base + 3] === words[at + 3]
      ) {
        return slot;
      }
    }
  }

  #grow(): void {
    const words = this.#words;
    const states = this.#states;
    const first = this.#first;
    this.#words = new Uint32Array(words.length * 2);
    this.#states = new Uint8Array(states.length * 2);
    this.#first = newOrder(states.length * 2);
    for (let slot = 0; slot < states.length; slot++) {
      if (states[slot] === FREE) continue;
      const at = slot * FINGERPRINT_WORDS;
      const to = this.#slotOf(words, at);
      this.#states[to] = states[slot]!;
      this.#words.set(words.subarray(at, at + FINGERPRINT_WORDS), to * FINGERPRINT_WORDS);
      copyOrder(first, slot, this.#first, to);
    }
  }
}

function newOrder(length: number): RowOrder {
  return {
    partitions: new Int32Array(length),
    offsets: new BigInt64Array(length),
    times: new BigInt64Array(length),
  };
}

function copyOrder(from: RowOrder, at: number, to: RowOrder, index: number): void {
  to.partitions[index] = from.partitions[at]!;
  to.offsets[index] = from.offsets[at]!;
  to.times[index] = from.times[at]!;
}

/** CI3; 0 for one and the same record. */
function compareOrder(a: RowOrder, i: number, b: RowOrder, j: number): number {
  const partitions = a.partitions[i]! - b.partitions[j]!;
  if (partitions === 0) return compare(a.offsets[i]!, b.offsets[j]!);
  return compare(a.times[i]!, b.times[j]!) || partitions;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
