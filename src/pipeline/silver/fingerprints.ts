/**
 * Fingerprints of silver rows: 128 bits of the event id and 64 bits of the payload. Pure, the same on
 * every machine, and the same whether taken while deriving or from a silver file read back.
 *
 * H1 The id hash covers the id's value and its class of types: an id that widens from integer to long
 *    keeps its hash, a string never shares one with a number but by chance.
 * H2 The payload hash covers the declared fields and `_rescued`, each by name and class: null and absent
 *    are the same, and neither the order of fields nor a new field that is null changes it. So hashes that
 *    were stored before an additive schema change still hold.
 * H3 Entries of a map count in any order; elements of an array in theirs.
 * Source: MurmurHash3_x86_128 and _32 (Austin Appleby, public domain).
 */
import { assert, PipelineError } from '../../errors.ts';
import { bitAt } from '../bitmaps.ts';
import { type ColumnBatch, columnOf, isNullAt, type Vector } from '../columns.ts';
import type { EventConfig } from '../pipeline-config.ts';
import type { DataType } from '../types.ts';
import { wordsOf } from './growable-columns.ts';
import { RESCUED } from './tables.ts';

/** 32-bit words of a fingerprint: four of the id, two of the payload. */
export const FINGERPRINT_WORDS = 6;
/** Bytes of a fingerprint as stored, little-endian. */
export const FINGERPRINT_BYTES = 4 * FINGERPRINT_WORDS;

const encoder = new TextEncoder();

/**
 * The fingerprints of silver rows, in row order.
 * @param batch columns of a silver file; those that a file lacks count as null
 * @throws PipelineError corrupt when a row has no id
 */
export function fingerprintsOf(batch: ColumnBatch, event: EventConfig): Uint8Array {
  const ids = columnOf(batch, event.id);
  if (ids === undefined || ids.nullCount > 0) {
    throw new PipelineError('corrupt', 'TM_SCHEMA_MISMATCH', 'a silver row has no event id', {
      context: { field: event.id, rows: batch.length },
    });
  }
  const words = new Uint32Array(batch.length * FINGERPRINT_WORDS);
  const hasher = new IdHasher(ids.type);
  const fixed = ids.data === undefined ? wordsOf(ids) : undefined;
  for (let row = 0; row < batch.length; row++) {
    const at = row * FINGERPRINT_WORDS;
    if (fixed !== undefined) hasher.hashFixed(fixed, row, words, at);
    else hasher.hashBytes(ids.data!, ids.offsets![row]!, ids.offsets![row + 1]!, words, at);
  }
  const payload = hashRows(batch, payloadFields(event));
  for (let row = 0; row < batch.length; row++) {
    words[row * FINGERPRINT_WORDS + 4] = payload[2 * row]!;
    words[row * FINGERPRINT_WORDS + 5] = payload[2 * row + 1]!;
  }
  return bytesOfWords(words);
}

/** Names of the columns that make up an event's payload. */
export function payloadFields(event: EventConfig): readonly string[] {
  return [...event.schema.fields.map((f) => f.name), RESCUED];
}

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Words as little-endian bytes; shares memory. */
export function bytesOfWords(words: Uint32Array): Uint8Array {
  assert(HOST_IS_LITTLE_ENDIAN, 'a little-endian machine');
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** Little-endian bytes as words; copies only when they are not aligned. */
export function wordsOfBytes(bytes: Uint8Array): Uint32Array {
  assert(HOST_IS_LITTLE_ENDIAN, 'a little-endian machine');
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >> 2);
}

/** Which of `count` dedup buckets an id hash falls into; uses its first word only. */
export function bucketOfHash(firstWord: number, count: number): number {
  return (firstWord >>> 0) % count;
}

/** The bucket of a row that has no id: by its place in the topic. */
export function bucketOfOffset(
  partition: number,
  offsetLow: number,
  offsetHigh: number,
  count: number,
): number {
  const mixed = mix(Math.imul(partition, 0x9e3779b1) ^ mix(offsetLow ^ mix(offsetHigh)));
  return bucketOfHash(mixed, count);
}

/** Classes of types whose values are hashed alike; stored hashes depend on these numbers. */
const CLASSES = {
  string: 1,
  binary: 2,
  byte: 3,
  short: 3,
  integer: 3,
  long: 3,
  float: 4,
  double: 4,
  decimal: 5,
  date: 6,
  timestamp: 7,
  boolean: 8,
  array: 9,
  map: 10,
  struct: 11,
} as const;

function classOf(type: DataType): number {
  return CLASSES[type.kind === 'primitive' ? type.name : type.kind];
}

/** Hashes ids of one type. */
export class IdHasher {
  readonly #type: DataType;
  readonly #class: number;
  readonly #scratch = new Uint8Array(16);
  readonly #scratchWords = new Int32Array(this.#scratch.buffer);

  /** @throws PipelineError invalid when values of this type cannot identify an event */
  constructor(type: DataType) {
    this.#type = type;
    this.#class = classOf(type);
    if (this.#class >= CLASSES.boolean) {
      throw new PipelineError(
        'invalid',
        'TM_CONFIG_INVALID',
        'event.id: this type cannot identify an event; name a field that is a string or a number',
      );
    }
  }

  /** Writes the four words of a string or binary to `out` at `at`. */
  hashBytes(data: Uint8Array, start: number, end: number, out: Uint32Array, at: number): void {
    murmur128(this.#class, data, start, end, out, at);
  }

  /** The same for row `row` of a fixed-width column's words. */
  hashFixed(words: Int32Array, row: number, out: Uint32Array, at: number): void {
    this.#scratchWords.fill(0);
    copyFixed(this.#type, words, row, this.#scratchWords);
    murmur128(this.#class, this.#scratch, 0, 16, out, at);
  }
}

const CAST_WORDS = new Int32Array(2);
const CAST_FLOAT = new Float32Array(CAST_WORDS.buffer);
const CAST_DOUBLE = new Float64Array(CAST_WORDS.buffer);

/** One fixed-width value in its widest form: 64-bit integer, double, or the decimal's 128 bits. */
function copyFixed(type: DataType, words: Int32Array, row: number, out: Int32Array): void {
  const name = type.kind === 'primitive' ? type.name : 'decimal';
  if (name === 'decimal') {
    for (let i = 0; i < 4; i++) out[i] = words[4 * row + i]!;
  } else if (name === 'long' || name === 'timestamp' || name === 'double') {
    out[0] = words[2 * row]!;
    out[1] = words[2 * row + 1]!;
  } else if (name === 'float') {
    CAST_WORDS[0] = words[row]!;
    CAST_DOUBLE[0] = CAST_FLOAT[0]!;
    out[0] = CAST_WORDS[0]!;
    out[1] = CAST_WORDS[1]!;
  } else {
    out[0] = words[row]!;
    out[1] = words[row]! >> 31;
  }
}

const M1 = 0x239b961b;
const M2 = 0xab0e9789 | 0;
const M3 = 0x38b34ae5;
const M4 = 0xa1e38b93 | 0;

/** MurmurHash3_x86_128 of the bytes [start, end), seeded with `seed`, to four words at `at`. */
export function murmur128(
  seed: number,
  data: Uint8Array,
  start: number,
  end: number,
  out: Uint32Array,
  at: number,
): void {
  let h1 = seed;
  let h2 = seed;
  let h3 = seed;
  let h4 = seed;
  const length = end - start;
  let p = start;
  for (; p + 16 <= end; p += 16) {
    h1 ^= Math.imul(rotate(Math.imul(word(data, p), M1), 15), M2);
    h1 = (Math.imul(rotate(h1, 19) + h2, 5) + 0x561ccd1b) | 0;
    h2 ^= Math.imul(rotate(Math.imul(word(data, p + 4), M2), 16), M3);
    h2 = (Math.imul(rotate(h2, 17) + h3, 5) + 0x0bcaa747) | 0;
    h3 ^= Math.imul(rotate(Math.imul(word(data, p + 8), M3), 17), M4);
    h3 = (Math.imul(rotate(h3, 15) + h4, 5) + 0x96cd1c35) | 0;
    h4 ^= Math.imul(rotate(Math.imul(word(data, p + 12), M4), 18), M1);
    h4 = (Math.imul(rotate(h4, 13) + h1, 5) + 0x32ac3b17) | 0;
  }
  const rest = end - p;
  if (rest > 12) h4 ^= Math.imul(rotate(Math.imul(partWord(data, p + 12, end), M4), 18), M1);
  if (rest > 8) h3 ^= Math.imul(rotate(Math.imul(partWord(data, p + 8, end), M3), 17), M4);
  if (rest > 4) h2 ^= Math.imul(rotate(Math.imul(partWord(data, p + 4, end), M2), 16), M3);
  if (rest > 0) h1 ^= Math.imul(rotate(Math.imul(partWord(data, p, end), M1), 15), M2);
  h1 ^= length;
  h2 ^= length;
  h3 ^= length;
  h4 ^= length;
  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = (h2 + h1) | 0;
  h3 = (h3 + h1) | 0;
  h4 = (h4 + h1) | 0;
  h1 = mix(h1);
  h2 = mix(h2);
  h3 = mix(h3);
  h4 = mix(h4);
  h1 = (h1 + h2 + h3 + h4) | 0;
  out[at] = h1;
  out[at + 1] = h2 + h1;
  out[at + 2] = h3 + h1;
  out[at + 3] = h4 + h1;
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function word(data: Uint8Array, at: number): number {
  return data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24);
}

/** Up to four bytes at `at`, none of them from `end` on. */
function partWord(data: Uint8Array, at: number, end: number): number {
  let value = 0;
  const last = Math.min(at + 4, end) - 1;
  for (let p = last; p >= at; p--) value = (value << 8) | data[p]!;
  return value;
}

/** Murmur3's finaliser: every bit of the input moves every bit of the output. */
function mix(value: number): number {
  let h = value ^ (value >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/**
 * The payload hash of each row over the columns called `names` (H2, H3), two words per row.
 * Columns that the batch lacks count as null.
 */
export function hashRows(batch: ColumnBatch, names: readonly string[]): Uint32Array {
  const sums = new Int32Array(2 * batch.length);
  for (const name of names) {
    const column = columnOf(batch, name);
    if (column !== undefined) addColumn(column, name, 0, batch.length, sums);
  }
  const hashes = new Uint32Array(2 * batch.length);
  for (let i = 0; i < sums.length; i += 2) {
    const a = mix(sums[i]!);
    const b = mix(sums[i + 1]! ^ a);
    hashes[i] = a + b;
    hashes[i + 1] = b;
  }
  return hashes;
}

/** Adds the hash of each value of rows [from, to) to its two sums; a null adds nothing. */
function addColumn(column: Vector, name: string, from: number, to: number, sums: Int32Array): void {
  const nameBytes = encoder.encode(name);
  const seed = new Uint32Array(4);
  murmur128(classOf(column.type), nameBytes, 0, nameBytes.length, seed, 0);
  const seedA = seed[0]! | 0;
  const seedB = seed[1]! | 0;
  if (column.data !== undefined) addBytes(column, seedA, seedB, from, to, sums);
  else if (column.children !== undefined) addNested(column, seedA, seedB, from, to, sums);
  else addFixed(column, seedA, seedB, from, to, sums);
}

function addBytes(
  column: Vector,
  seedA: number,
  seedB: number,
  from: number,
  to: number,
  sums: Int32Array,
): void {
  const data = column.data!;
  const offsets = column.offsets!;
  const nullable = column.nullCount > 0;
  for (let row = from, at = 0; row < to; row++, at += 2) {
    if (nullable && isNullAt(column, row)) continue;
    const end = offsets[row + 1]!;
    let p = offsets[row]!;
    let a = seedA ^ (end - p);
    let b = seedB;
    for (; p + 4 <= end; p += 4) {
      const w = word(data, p);
      a = stepA(a, w);
      b = stepB(b, w);
    }
    if (p < end) {
      const w = partWord(data, p, end);
      a = stepA(a, w);
      b = stepB(b, w);
    }
    a = mix(a);
    sums[at] = sums[at]! + a;
    sums[at + 1] = sums[at + 1]! + mix(b ^ a);
  }
}

function addFixed(
  column: Vector,
  seedA: number,
  seedB: number,
  from: number,
  to: number,
  sums: Int32Array,
): void {
  const isBoolean = column.type.kind === 'primitive' && column.type.name === 'boolean';
  const words = isBoolean ? new Int32Array(0) : wordsOf(column);
  const value = new Int32Array(4);
  const width = column.type.kind === 'decimal' ? 4 : 2;
  const nullable = column.nullCount > 0;
  for (let row = from, at = 0; row < to; row++, at += 2) {
    if (nullable && isNullAt(column, row)) continue;
    if (isBoolean) value[0] = bitAt(column.values as Uint8Array, row) ? 1 : 0;
    else copyFixed(column.type, words, row, value);
    let a = seedA;
    let b = seedB;
    for (let i = 0; i < width; i++) {
      a = stepA(a, value[i]!);
      b = stepB(b, value[i]!);
    }
    a = mix(a);
    sums[at] = sums[at]! + a;
    sums[at + 1] = sums[at + 1]! + mix(b ^ a);
  }
}

function addNested(
  column: Vector,
  seedA: number,
  seedB: number,
  from: number,
  to: number,
  sums: Int32Array,
): void {
  const { type, offsets } = column;
  const childFrom = offsets === undefined ? from : offsets[from]!;
  const childTo = offsets === undefined ? to : offsets[to]!;
  const parts = new Int32Array(2 * (childTo - childFrom));
  if (type.kind === 'struct') {
    for (const [index, member] of type.fields.entries()) {
      addColumn(column.children![index]!, member.name, childFrom, childTo, parts);
    }
  } else {
    addColumn(column.children![0]!, '', childFrom, childTo, parts);
  }
  for (let row = from, at = 0; row < to; row++, at += 2) {
    if (isNullAt(column, row)) continue;
    const start = (offsets === undefined ? row : offsets[row]!) - childFrom;
    const end = (offsets === undefined ? row + 1 : offsets[row + 1]!) - childFrom;
    let a = seedA ^ (end - start);
    let b = seedB;
    for (let i = 2 * start; i < 2 * end; i += 2) {
      if (type.kind === 'map') {
        a = (a + mix(parts[i]! ^ seedA)) | 0;
        b = (b + mix(parts[i + 1]! ^ seedB)) | 0;
      } else {
        a = stepA(a, parts[i]!);
        b = stepB(b, parts[i + 1]!);
      }
    }
    a = mix(a);
    sums[at] = sums[at]! + a;
    sums[at + 1] = sums[at + 1]! + mix(b ^ a);
  }
}

function stepA(hash: number, value: number): number {
  const k = Math.imul(rotate(Math.imul(value, 0xcc9e2d51), 15), 0x1b873593);
  return (Math.imul(rotate(hash ^ k, 13), 5) + 0xe6546b64) | 0;
}

function stepB(hash: number, value: number): number {
  const k = Math.imul(rotate(Math.imul(value, 0x85ebca77), 17), 0x27d4eb2f);
  return (Math.imul(rotate(hash ^ k, 14), 5) + 0x38495ab5) | 0;
}
