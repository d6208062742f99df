/**
 * Fingerprints of silver rows: 128 bits of the event id and 64 bits of the payload. Pure, the same
 * on every machine, and the same whether taken while deriving or from a silver file read back.
 *
 * H1 The id hash covers the id's value and its class of types: an id that widens from integer to
 *    long keeps its hash, and a string does not share one with a number. Payload: H2, H3 of
 *    payload-hash.
 */
import { assert, PipelineError } from '../../errors.ts';
import { isTextual } from '../column-builder.ts';
import { type ColumnBatch, columnOf, type Vector } from '../columns.ts';
import type { EventConfig } from '../pipeline-config.ts';
import type { DataType } from '../types.ts';
import { wordsOf, wordsPerRow } from './growable-scalars.ts';
import { mix, murmur128, viewOf } from './murmur.ts';
import { hashRows } from './payload-hash.ts';
import { RESCUED } from './tables.ts';
import { canIdentify, typeClass } from './type-class.ts';

/** 32-bit words of a fingerprint: four of the id, two of the payload. */
export const FINGERPRINT_WORDS = 6;
/** Bytes of a fingerprint as stored, little-endian. */
export const FINGERPRINT_BYTES = 4 * FINGERPRINT_WORDS;

/**
 * Key of the object with the fingerprints of a silver file.
 * @param root of silver
 * @param path of the file in it
 */
export function fingerprintKey(root: string, path: string): string {
  return `${root}/_dedup/${path.replace(/\.parquet$/, '')}.fp`;
}

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
  new IdHasher(ids.type).hashColumn(ids, words);
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

/** Hashes ids of one type. */
export class IdHasher {
  readonly #class: number;
  /** 32-bit words of a fixed-width id as columns keep it. */
  readonly #width: number;
  readonly #isFloat: boolean;
  readonly #scratch = new DataView(new ArrayBuffer(16));
  #data: Uint8Array = new Uint8Array(0);
  #view = viewOf(this.#data);

  /** @throws PipelineError invalid when values of this type cannot identify an event */
  constructor(type: DataType) {
    if (!canIdentify(type)) {
      throw new PipelineError(
        'invalid',
        'TM_CONFIG_INVALID',
        'event.id: this type cannot identify an event; name a field that is a string or a number',
      );
    }
    this.#class = typeClass(type);
    this.#width = isTextual(type) ? 0 : wordsPerRow(type);
    this.#isFloat = type.kind === 'primitive' && type.name === 'float';
  }

  /** Writes the four words of each id to `out`, FINGERPRINT_WORDS apart. */
  hashColumn(ids: Vector, out: Uint32Array): void {
    const { data, offsets, length } = ids;
    const words = data === undefined ? wordsOf(ids) : NO_WORDS;
    for (let row = 0, at = 0; row < length; row++, at += FINGERPRINT_WORDS) {
      if (data === undefined) this.hashFixed(words, row, out, at);
      else this.hashBytes(data, offsets![row]!, offsets![row + 1]!, out, at);
    }
  }

  /** Writes the four words of a string or binary to `out` at `at`. */
  hashBytes(data: Uint8Array, start: number, end: number, out: Uint32Array, at: number): void {
    if (data !== this.#data) {
      this.#data = data;
      this.#view = viewOf(data);
    }
    murmur128(this.#class, this.#view, start, end, out, at);
  }

  /** The same for row `row` of a fixed-width column's words: its widest form, 16 bytes. */
  hashFixed(words: Int32Array, row: number, out: Uint32Array, at: number): void {
    const scratch = this.#scratch;
    const width = this.#width;
    if (this.#isFloat) {
      scratch.setInt32(0, words[row]!, true);
      scratch.setFloat64(0, scratch.getFloat32(0, true), true);
    } else if (width === 1) {
      scratch.setInt32(0, words[row]!, true);
      scratch.setInt32(4, words[row]! >> 31, true);
    } else {
      for (let i = 0; i < width; i++) scratch.setInt32(4 * i, words[row * width + i]!, true);
    }
    murmur128(this.#class, scratch, 0, 16, out, at);
  }
}

const NO_WORDS = new Int32Array(0);
