/**
 * Encodes Kafka record batches (magic 2) for the embedded log, and for tests that need batches no
 * client would produce. Pure. Source: Kafka documentation, "Message format: Record Batch".
 */
import { crc32c } from '@node-rs/crc32';
import { assert } from '../../errors.ts';
import { COMPRESSIONS, type Compression, deflate } from './record-batch-codec.ts';
import {
  BATCH_ATTRIBUTE,
  BATCH_FIELD,
  BATCH_HEADER_BYTES,
  BATCH_OVERHEAD_BYTES,
} from './record-batch-header.ts';

/** One record as an object, for callers that are not in a hurry. */
export interface RecordInput {
  /** Milliseconds since the epoch. */
  readonly timestampMs: number;
  readonly key?: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers?: readonly (readonly [key: string, value: Uint8Array | null])[];
  /** Distance from the batch's base offset; the record's position by default. Ascending. */
  readonly offsetDelta?: number;
}

/** What a batch says of itself. */
export interface BatchOptions {
  readonly baseOffset: bigint;
  readonly compression?: Compression;
  readonly leaderEpoch?: number;
  /** -1: not an idempotent or transactional producer. */
  readonly producerId?: bigint;
  readonly producerEpoch?: number;
  readonly baseSequence?: number;
  readonly transactional?: boolean;
  /** The batch holds one transaction marker; see `controlRecord`. */
  readonly control?: boolean;
  /** Larger than the last record's when compaction removed records at the end. */
  readonly lastOffsetDelta?: number;
  /** Turns the timestamp type to LogAppendTime with this as every record's time. */
  readonly logAppendTimeMs?: number;
}

/** A run of bytes inside a larger buffer; `source` null stands for a null key or value. */
type Bytes = Uint8Array | null;

const VARINT_BYTES_MAX = 10;
/** What a record needs besides key, value and headers, at most. */
const RECORD_OVERHEAD_BYTES_MAX = 1 + 6 * VARINT_BYTES_MAX;

/**
 * Collects records into one batch after another, without an object per record. `finish` starts the
 * next batch with the same memory.
 */
export class RecordBatchBuilder {
  #buffer: Buffer;
  #view: DataView;
  #end = BATCH_HEADER_BYTES;
  #count = 0;
  #offsetDeltaLast = -1;
  #baseMs = 0;
  #maxMs = 0;

  /** @param bytes expected size of a batch; grows as needed */
  constructor(bytes = 64 << 10) {
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(bytes, BATCH_HEADER_BYTES));
    this.#view = new DataView(this.#buffer.buffer);
  }

  get recordCount(): number {
    return this.#count;
  }

  /** Uncompressed size of the batch so far. */
  get byteLength(): number {
    return this.#end;
  }

  /**
   * Appends the record whose key is `key[keyStart, keyEnd)` and whose value is `value[valueStart, valueEnd)`.
   * @param timestampMs milliseconds since the epoch, a safe integer
   */
  append(
    timestampMs: number,
    key: Bytes,
    keyStart: number,
    keyEnd: number,
    value: Bytes,
    valueStart: number,
    valueEnd: number,
    headers: RecordInput['headers'] = [],
    offsetDelta: number = this.#offsetDeltaLast + 1,
  ): void {
    assert(offsetDelta > this.#offsetDeltaLast, 'record offsets ascend');
    if (this.#count === 0) {
      this.#baseMs = timestampMs;
      this.#maxMs = timestampMs;
    } else if (timestampMs > this.#maxMs) this.#maxMs = timestampMs;
    const msDelta = timestampMs - this.#baseMs;
    const keySize = key === null ? -1 : keyEnd - keyStart;
    const valueSize = value === null ? -1 : valueEnd - valueStart;
    const packedHeaders = headers.length > 0 ? packHeaders(headers) : undefined;
    const headerBytes = packedHeaders?.length ?? 1;
    const length =
      1 +
      varlongSize(msDelta) +
      varintSize(offsetDelta) +
      varintSize(keySize) +
      Math.max(keySize, 0) +
      varintSize(valueSize) +
      Math.max(valueSize, 0) +
      headerBytes;
    this.#reserve(length + RECORD_OVERHEAD_BYTES_MAX);

    this.#putVarint(length);
    this.#buffer[this.#end++] = 0;
    this.#putVarlong(msDelta);
    this.#putVarint(offsetDelta);
    this.#putVarint(keySize);
    if (key !== null) this.#putBytes(key, keyStart, keyEnd);
    this.#putVarint(valueSize);
    if (value !== null) this.#putBytes(value, valueStart, valueEnd);
    if (packedHeaders) this.#putBytes(packedHeaders, 0, packedHeaders.length);
    else this.#buffer[this.#end++] = 0;
    this.#count += 1;
    this.#offsetDeltaLast = offsetDelta;
  }

  /**
   * Closes the batch and empties the builder.
   * @returns a copy that the caller owns
   */
  finish(options: BatchOptions): Buffer {
    const codec = options.compression ?? 'none';
    const records = this.#buffer.subarray(BATCH_HEADER_BYTES, this.#end);
    const body = deflate(codec, records);
    const batch = Buffer.allocUnsafeSlow(BATCH_HEADER_BYTES + body.length);
    batch.set(body, BATCH_HEADER_BYTES);
    const logAppendTime = options.logAppendTimeMs !== undefined;
    const view = new DataView(batch.buffer);
    view.setBigInt64(BATCH_FIELD.baseOffset, options.baseOffset);
    view.setInt32(BATCH_FIELD.length, batch.length - BATCH_OVERHEAD_BYTES);
    view.setInt32(BATCH_FIELD.leaderEpoch, options.leaderEpoch ?? 0);
    view.setInt8(BATCH_FIELD.magic, 2);
    view.setInt16(
      BATCH_FIELD.attributes,
      COMPRESSIONS.indexOf(codec) |
        (logAppendTime ? BATCH_ATTRIBUTE.logAppendTime : 0) |
        (options.transactional ? BATCH_ATTRIBUTE.transactional : 0) |
        (options.control ? BATCH_ATTRIBUTE.control : 0),
    );
    view.setInt32(
      BATCH_FIELD.lastOffsetDelta,
      Math.max(options.lastOffsetDelta ?? this.#offsetDeltaLast, 0),
    );
    view.setBigInt64(BATCH_FIELD.baseTimestamp, BigInt(this.#baseMs));
    view.setBigInt64(BATCH_FIELD.maxTimestamp, BigInt(options.logAppendTimeMs ?? this.#maxMs));
    view.setBigInt64(BATCH_FIELD.producerId, options.producerId ?? -1n);
    view.setInt16(BATCH_FIELD.producerEpoch, options.producerEpoch ?? -1);
    view.setInt32(BATCH_FIELD.baseSequence, options.baseSequence ?? -1);
    view.setInt32(BATCH_FIELD.recordCount, this.#count);
    view.setUint32(BATCH_FIELD.crc, crc32c(batch.subarray(BATCH_FIELD.attributes)));
    this.#end = BATCH_HEADER_BYTES;
    this.#count = 0;
    this.#offsetDeltaLast = -1;
    return batch;
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#end + bytes, this.#buffer.length * 2));
    grown.set(this.#buffer.subarray(0, this.#end));
    this.#buffer = grown;
    this.#view = new DataView(grown.buffer);
  }

  #putBytes(source: Uint8Array, start: number, end: number): void {
    const buffer = this.#buffer;
    if (end - start <= 32) {
      for (let at = start, to = this.#end; at < end; ) buffer[to++] = source[at++]!;
    } else buffer.set(source.subarray(start, end), this.#end);
    this.#end += end - start;
  }

  #putVarint(value: number): void {
    let rest = ((value << 1) ^ (value >> 31)) >>> 0;
    while (rest > 0x7f) {
      this.#view.setUint8(this.#end++, (rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.#view.setUint8(this.#end++, rest);
  }

  #putVarlong(value: number): void {
    let rest = zigzag(value);
    while (rest > 0x7f) {
      this.#view.setUint8(this.#end++, (rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.#view.setUint8(this.#end++, rest);
  }
}

/** Encodes one batch from objects. */
export function encodeRecordBatch(
  records: readonly RecordInput[],
  options: BatchOptions,
): Uint8Array {
  const builder = new RecordBatchBuilder();
  for (const { timestampMs, key = null, value, headers, offsetDelta } of records) {
    builder.append(
      timestampMs,
      key,
      0,
      key?.length ?? 0,
      value,
      0,
      value?.length ?? 0,
      headers,
      offsetDelta,
    );
  }
  return builder.finish(options);
}

/** The one record of a transaction marker's batch. Source: KIP-98, "Control messages". */
export function controlRecord(type: 'commit' | 'abort', timestampMs: number): RecordInput {
  return {
    timestampMs,
    key: Uint8Array.of(0, 0, 0, type === 'commit' ? 1 : 0),
    value: Uint8Array.of(0, 0, 0, 0, 0, 0),
  };
}

function packHeaders(headers: NonNullable<RecordInput['headers']>): Uint8Array {
  const parts: Uint8Array[] = [varint(headers.length)];
  for (const [key, value] of headers) {
    const name = Buffer.from(key);
    parts.push(varint(name.length), name, varint(value?.length ?? -1), value ?? new Uint8Array(0));
  }
  return Buffer.concat(parts);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = zigzag(value);
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

/** Exact for magnitudes up to 2^52. */
function zigzag(value: number): number {
  return value >= 0 ? value * 2 : -value * 2 - 1;
}

function varintSize(value: number): number {
  const rest = ((value << 1) ^ (value >> 31)) >>> 0;
  return rest < 1 << 7 ? 1 : rest < 1 << 14 ? 2 : rest < 1 << 21 ? 3 : rest < 1 << 28 ? 4 : 5;
}

function varlongSize(value: number): number {
  let size = 1;
  for (let rest = zigzag(value); rest > 0x7f; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}
