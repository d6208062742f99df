/**
 * A part: the fingerprints of one range of id hashes as one immutable object. Its head is small
 * enough to stay in memory and says for an id "not here", or at which row it may be. Pure.
 *
 *   directory  u32 × (2^bits + 1)   first row of each bucket; the last entry is the number of rows
 *   tags       u16 × rows, padded   16 bits of each id hash
 *   rows       6 × u32 × rows       fingerprints, bucket by bucket
 *
 * DP1 The layout follows from the number of rows, which the manifest states. All little-endian.
 * DP2 The range is the ids whose second hash word begins with the bits of `prefix`; the bits after
 *    those choose the bucket, so parts of one run side by side are one large table. The first word,
 *    which chooses the dedup bucket, is not used: it is not even within a shard.
 * DP3 A first word of 0 is stored as 1, as in memory, where 0 marks a free slot.
 */
import { assert, PipelineError } from '../../errors.ts';
import { FINGERPRINT_BYTES, FINGERPRINT_WORDS } from './fingerprints.ts';

/** A range of id hashes: those whose second word begins with the `prefixBits` bits `prefix`. */
export interface HashRange {
  readonly prefixBits: number;
  readonly prefix: number;
}

/** A bucket has half to all of this many rows on average: a cache line of tags. */
const BUCKET_ROWS = 32;

/** Bits that choose a bucket in a part of `rows` rows. */
function bucketBitsOf(rows: number): number {
  let bits = 1;
  while (rows > BUCKET_ROWS * 2 ** bits) bits++;
  return bits;
}

/** Bytes of directory and tags of a part. */
export function headBytesOf(rows: number): number {
  return 4 * (2 ** bucketBitsOf(rows) + 1) + 4 * Math.ceil(rows / 2);
}

/** Bytes of a whole part. */
export function partBytesOf(rows: number): number {
  return headBytesOf(rows) + rows * FINGERPRINT_BYTES;
}

/** Bits of prefix with which parts of a run of `rows` rows have at most about `partRows` each. */
export function prefixBitsFor(rows: number, partRows: number): number {
  return Math.max(0, Math.ceil(Math.log2(rows / partRows)));
}

/** Whether ids with this second hash word lie in the range. */
function inRange(word1: number, { prefixBits, prefix }: HashRange): boolean {
  return prefixBits === 0 || word1 >>> (32 - prefixBits) === prefix;
}

/** Bucket of a second hash word (DP2). */
function bucketOf(word1: number, prefixBits: number, bucketBits: number): number {
  return (word1 << prefixBits) >>> (32 - bucketBits);
}

/**
 * Builds the part of a range.
 * @param inputs fingerprints in any order; those outside the range are left out
 * @returns the object's words
 */
export function buildPart(
  inputs: readonly Uint32Array[],
  range: HashRange,
): { readonly words: Uint32Array<ArrayBuffer>; readonly rows: number } {
  let rows = 0;
  for (const input of inputs) {
    for (let at = 1; at < input.length; at += FINGERPRINT_WORDS) {
      if (inRange(input[at]!, range)) rows++;
    }
  }
  const { prefixBits } = range;
  const bucketBits = bucketBitsOf(rows);
  const words = new Uint32Array(partBytesOf(rows) / 4);
  const buckets = 2 ** bucketBits;
  const directory = words.subarray(0, buckets + 1);
  for (const input of inputs) {
    for (let at = 1; at < input.length; at += FINGERPRINT_WORDS) {
      if (inRange(input[at]!, range)) directory[bucketOf(input[at]!, prefixBits, bucketBits)]!++;
    }
  }
  // From counts to the end of each bucket; filling backwards turns the ends into the starts.
  for (let bucket = 1; bucket <= buckets; bucket++) directory[bucket]! += directory[bucket - 1]!;
  const tags = new Uint16Array(words.buffer, 4 * (buckets + 1), rows);
  const firstRow = headBytesOf(rows) / 4;
  for (const input of inputs.toReversed()) {
    for (let at = input.length - FINGERPRINT_WORDS; at >= 0; at -= FINGERPRINT_WORDS) {
      const word1 = input[at + 1]!;
      if (!inRange(word1, range)) continue;
      const row = --directory[bucketOf(word1, prefixBits, bucketBits)]!;
      tags[row] = input[at + 2]!;
      const to = firstRow + row * FINGERPRINT_WORDS;
      // DP3
      words[to] = input[at]! || 1;
      for (let i = 1; i < FINGERPRINT_WORDS; i++) words[to + i] = input[at + i]!;
    }
  }
  return { words, rows };
}

/** Rows [from, to) of a part that may hold ids of a range. */
export interface RowSpan {
  readonly from: number;
  readonly to: number;
}

/** Directory entries that tell which rows of a part may hold ids of `range`, as a byte range. */
export function directoryBytesFor(
  part: HashRange & { readonly rows: number },
  range: HashRange,
): { readonly start: number; readonly end: number } | undefined {
  const finer = range.prefixBits - part.prefixBits;
  const bits = bucketBitsOf(part.rows);
  if (finer <= 0) {
    const inside = part.prefix >>> -finer === range.prefix;
    return inside ? { start: 0, end: 4 * (2 ** bits + 1) } : undefined;
  }
  if (range.prefix >>> finer !== part.prefix) return undefined;
  const within = range.prefix - part.prefix * 2 ** finer;
  const first = Math.floor(within * 2 ** (bits - finer));
  const last = Math.max(first + 1, Math.ceil((within + 1) * 2 ** (bits - finer)));
  return { start: 4 * first, end: 4 * (last + 1) };
}

/** Byte range of rows within a part of `rows` rows. */
export function rowBytes(rows: number, { from, to }: RowSpan): { start: number; end: number } {
  const first = headBytesOf(rows);
  return { start: first + from * FINGERPRINT_BYTES, end: first + to * FINGERPRINT_BYTES };
}

/** The head of a part, in memory. */
export class PartHead {
  readonly prefixBits: number;
  readonly rows: number;
  readonly memoryBytes: number;
  readonly #bucketBits: number;
  readonly #directory: Uint32Array;
  readonly #tags: Uint16Array;

  /**
   * @param bytes the first `headBytesOf(rows)` bytes of the part, aligned to 4
   * @throws PipelineError corrupt when they are no such head
   */
  constructor(bytes: Uint8Array, rows: number, prefixBits: number) {
    assert(bytes.byteLength === headBytesOf(rows), 'a whole head', { rows });
    this.prefixBits = prefixBits;
    this.rows = rows;
    this.memoryBytes = bytes.byteLength;
    this.#bucketBits = bucketBitsOf(rows);
    const buckets = 2 ** this.#bucketBits;
    this.#directory = new Uint32Array(bytes.buffer, bytes.byteOffset, buckets + 1);
    this.#tags = new Uint16Array(bytes.buffer, bytes.byteOffset + 4 * (buckets + 1), rows);
    if (this.#directory[0] !== 0 || this.#directory[buckets] !== rows) throw corruptPart();
    // A search runs from one entry to the next: a wild one would be searched for minutes.
    for (let bucket = 0; bucket < buckets; bucket++) {
      if (this.#directory[bucket]! > this.#directory[bucket + 1]!) throw corruptPart();
    }
  }

  /**
   * The first row from `from` on that may hold an id, by its second and third hash word.
   * @param from -1 to begin with the id's bucket, else the row after the last one found
   * @returns -1 when there is none
   */
  find(word1: number, word2: number, from: number): number {
    const bucket = bucketOf(word1, this.prefixBits, this.#bucketBits);
    const tags = this.#tags;
    const tag = word2 & 0xffff;
    const end = this.#directory[bucket + 1]!;
    for (let row = from < 0 ? this.#directory[bucket]! : from; row < end; row++) {
      if (tags[row] === tag) return row;
    }
    return -1;
  }
}

/** Where a part on disk keeps the bounds of the bucket of a second hash word, as a byte range. */
export function bucketBoundsBytes(
  rows: number,
  prefixBits: number,
  word1: number,
): { readonly start: number; readonly end: number } {
  const bucket = bucketOf(word1, prefixBits, bucketBitsOf(rows));
  return { start: 4 * bucket, end: 4 * bucket + 8 };
}

/**
 * The index contradicts itself; whoever keeps it builds it again from the table.
 * @param cause where something else found out
 */
export function corruptPart(cause?: unknown): PipelineError {
  return new PipelineError(
    'corrupt',
    'TM_DEDUP_INDEX_CORRUPT',
    'a part of the dedup index is damaged or gone; it is built again from the silver table',
    { cause },
  );
}
