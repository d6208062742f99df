/**
 * The inner loop of the decoder: records of a batch appended to columns in Arrow's layout.
 * Values stay where one bulk copy put the batch and are moved together in place, since a value's
 * place in the column never lies behind its place in the batch. Numbers are split into 32-bit halves
 * rather than made BigInt. Pure. Record layout: Kafka documentation, "Message format: Record".
 */
import type { Vector } from '../../pipeline/columns.ts';
import type { RecordChunk } from '../../pipeline/records.ts';
import { type DataType, field, primitive, struct } from '../../pipeline/types.ts';
import type { GapList } from './gap-list.ts';
import { BATCH_ATTRIBUTE, type BatchHeader, corruptBatch } from './record-batch-header.ts';

const BINARY = primitive('binary');
const HEADER = struct([field('key', 'string', false), field('value', 'binary')]);
const HEADERS: DataType = { kind: 'array', element: HEADER, containsNull: false };

/** A record takes at least this many bytes: length, attributes, 2 deltas, 2 lengths, header count. */
const RECORD_BYTES_MIN = 7;
const TWO_32 = 2 ** 32;
/** Up to here milliseconds times 1000 are exact as a number (the year 2255). */
const EXACT_MS_MAX = Math.floor(Number.MAX_SAFE_INTEGER / 1000);
/** Largest int64 that is a multiple of 1000: what timestamps beyond it become. */
const MICROS_MAX = 9_223_372_036_854_775_000n;

/** Which rows are not null; a bitmap is kept only once there is a null. */
class Validity {
  nullCount = 0;
  #bits: Uint8Array | undefined;
  readonly #rowsMax: number;

  constructor(rowsMax: number) {
    this.#rowsMax = rowsMax;
  }

  setNull(row: number): void {
    this.#bits ??= new Uint8Array((this.#rowsMax + 7) >> 3).fill(0xff);
    this.#bits[row >> 3]! &= ~(1 << (row & 7));
    this.nullCount += 1;
  }

  bitsOf(rows: number): Uint8Array | undefined {
    return this.#bits?.subarray(0, (rows + 7) >> 3);
  }
}

/** A growing column of byte strings. */
class BytesColumn {
  #data: Uint8Array;
  #offsets: Int32Array;
  #size = 0;
  #length = 0;
  readonly #nulls: number[] = [];

  constructor(rows: number, bytes: number) {
    this.#data = new Uint8Array(bytes);
    this.#offsets = new Int32Array(rows + 1);
  }

  get length(): number {
    return this.#length;
  }

  append(source: Uint8Array, start: number, end: number): void {
    const size = this.#size + end - start;
    if (size > this.#data.length) {
      const grown = new Uint8Array(Math.max(size, this.#data.length * 2));
      grown.set(this.#data);
      this.#data = grown;
    }
    const data = this.#data;
    // Keys are short: a plain loop beats the set-up of a bulk copy.
    if (end - start <= 32) {
      for (let at = start, to = this.#size; at < end; ) data[to++] = source[at++]!;
    } else data.set(source.subarray(start, end), this.#size);
    this.#size = size;
    this.#endRow();
  }

  appendNull(): void {
    this.#nulls.push(this.#length);
    this.#endRow();
  }

  #endRow(): void {
    this.#length += 1;
    if (this.#length === this.#offsets.length) {
      const grown = new Int32Array(this.#length * 2);
      grown.set(this.#offsets);
      this.#offsets = grown;
    }
    this.#offsets[this.#length] = this.#size;
  }

  finish(type: DataType): Vector {
    const validity = new Validity(this.#length);
    for (const row of this.#nulls) validity.setNull(row);
    return {
      type,
      length: this.#length,
      nullCount: validity.nullCount,
      validity: validity.bitsOf(this.#length),
      offsets: this.#offsets.subarray(0, this.#length + 1),
      data: this.#data.subarray(0, this.#size),
    };
  }
}

/** The header lists; nothing is kept while no record has any. */
class HeadersColumn {
  readonly #rowsMax: number;
  #some:
    | { offsets: Int32Array; validity: Uint8Array; keys: BytesColumn; values: BytesColumn }
    | undefined;
  #nullCount = 0;

  constructor(rowsMax: number) {
    this.#rowsMax = rowsMax;
  }

  /** Where the headers of `row`, which has some, are appended to. */
  openRow(row: number): { readonly keys: BytesColumn; readonly values: BytesColumn } {
    this.#some ??= {
      offsets: new Int32Array(this.#rowsMax + 1),
      validity: new Uint8Array((this.#rowsMax + 7) >> 3),
      keys: new BytesColumn(16, 256),
      values: new BytesColumn(16, 256),
    };
    this.#some.validity[row >> 3]! |= 1 << (row & 7);
    return this.#some;
  }

  closeRow(row: number): void {
    if (this.#some) this.#some.offsets[row + 1] = this.#some.keys.length;
  }

  noteNone(row: number): void {
    this.#nullCount += 1;
    this.closeRow(row);
  }

  finish(rows: number, isUtf8: (bytes: Uint8Array) => boolean): Vector {
    const keys = this.#some?.keys ?? new BytesColumn(0, 0);
    const values = this.#some?.values ?? new BytesColumn(0, 0);
    const children = [
      withValidText(keys.finish(primitive('string')), isUtf8),
      values.finish(BINARY),
    ];
    return {
      type: HEADERS,
      length: rows,
      nullCount: this.#nullCount,
      validity:
        this.#some?.validity.subarray(0, (rows + 7) >> 3) ?? new Uint8Array((rows + 7) >> 3),
      offsets: this.#some?.offsets.subarray(0, rows + 1) ?? new Int32Array(rows + 1),
      children: [{ type: HEADER, length: keys.length, nullCount: 0, children }],
    };
  }
}

/** Header keys are text by Kafka's contract; a producer that broke it gets U+FFFD, not a broken file. */
function withValidText(text: Vector, isUtf8: (bytes: Uint8Array) => boolean): Vector {
  const data = text.data!;
  if (isUtf8(data) && firstSplit(text) === undefined) return text;
  const repaired = new BytesColumn(text.length, data.length);
  for (let row = 0; row < text.length; row++) {
    const bytes = data.subarray(text.offsets![row], text.offsets![row + 1]);
    const valid = isUtf8(bytes) ? bytes : Buffer.from(Buffer.from(bytes).toString());
    repaired.append(valid, 0, valid.length);
  }
  return repaired.finish(text.type);
}

/** The first row that begins inside a UTF-8 sequence of the concatenation. */
function firstSplit(text: Pick<Vector, 'length' | 'offsets' | 'data'>): number | undefined {
  const data = text.data!;
  for (let row = 0; row < text.length; row++) {
    const at = text.offsets![row]!;
    if (at < data.length && (data[at]! & 0xc0) === 0x80) return row;
  }
  return undefined;
}

/** The columns of one chunk while they grow. */
export class RecordColumns {
  readonly #offsets: BigInt64Array;
  readonly #offsetWords: Int32Array;
  readonly #timestamps: BigInt64Array;
  readonly #timestampWords: Int32Array;
  readonly #keys: BytesColumn;
  readonly #valueOffsets: Int32Array;
  readonly #valueSizes: Int32Array;
  readonly #valueValidity: Validity;
  readonly #headers: HeadersColumn;
  readonly #maxRecordBytes: number;
  /** Values from 0 to `#valueEnd`; behind it the batch being read. */
  readonly #data: Uint8Array;
  #valueEnd = 0;
  #length = 0;
  /** Read position in `#data`. */
  #at = 0;

  /**
   * @param rowsMax the sum of the batches' record counts
   * @param bytesMax the sum of their inflated sizes
   */
  constructor(rowsMax: number, bytesMax: number, maxRecordBytes: number) {
    // A count that the bytes cannot hold is refused in `append`; do not allocate by it before.
    const rows = Math.min(rowsMax, Math.floor(bytesMax / RECORD_BYTES_MIN));
    this.#offsets = new BigInt64Array(rows);
    this.#offsetWords = new Int32Array(this.#offsets.buffer);
    this.#timestamps = new BigInt64Array(rows);
    this.#timestampWords = new Int32Array(this.#timestamps.buffer);
    this.#keys = new BytesColumn(rows, rows * 16);
    this.#valueOffsets = new Int32Array(rows + 1);
    this.#valueSizes = new Int32Array(rows);
    this.#valueValidity = new Validity(rows);
    this.#headers = new HeadersColumn(rows);
    this.#maxRecordBytes = maxRecordBytes;
    this.#data = new Uint8Array(bytesMax);
  }

  /**
   * Appends the records of a batch from `fromOffset` on; offsets it lacks go to `gaps`.
   * @throws PipelineError corrupt
   */
  append(header: BatchHeader, records: Uint8Array, fromOffset: bigint, gaps: GapList): void {
    if (header.recordCount * RECORD_BYTES_MIN > records.length) {
      throw corruptBatch('impossible record count', header);
    }
    const data = this.#data;
    const end = this.#valueEnd + records.length;
    data.set(records, this.#valueEnd);
    this.#at = this.#valueEnd;

    const { baseOffset, lastOffsetDelta } = header;
    const skipBelow = fromOffset > baseOffset ? Number(fromOffset - baseOffset) : 0;
    const baseLow = Number(BigInt.asUintN(32, baseOffset));
    const baseHigh = Number(baseOffset >> 32n);
    const logAppendTime = (header.attributes & BATCH_ATTRIBUTE.logAppendTime) !== 0;
    const baseMs = logAppendTime ? header.maxTimestampMs : header.baseTimestampMs;
    const baseMsNumber = Number(baseMs);
    let nextDelta = 0;

    for (let i = 0; i < header.recordCount; i++) {
      const length = this.#varint();
      const recordEnd = this.#at + length;
      // Catches negative and absurd lengths alike, so that no read below leaves the batch.
      if (!(length >= RECORD_BYTES_MIN - 1 && recordEnd <= end))
        throw corruptBatch('bad record length', header);
      this.#at += 1;
      const msDelta = this.#varlong();
      const delta = this.#varint();
      if (delta < nextDelta || delta > lastOffsetDelta)
        throw corruptBatch('offsets not ascending', header);
      if (delta > nextDelta) {
        gaps.add(baseOffset + BigInt(nextDelta), baseOffset + BigInt(delta), 'compacted');
      }
      nextDelta = delta + 1;
      if (delta < skipBelow) {
        this.#at = recordEnd;
        continue;
      }

      const row = this.#length;
      const low = baseLow + delta;
      this.#offsetWords[row * 2] = low | 0;
      this.#offsetWords[row * 2 + 1] = low < TWO_32 ? baseHigh : baseHigh + 1;
      this.#putTimestamp(row, baseMs, baseMsNumber, logAppendTime ? 0 : msDelta);

      const keySize = this.#varint();
      if (keySize < 0) this.#keys.appendNull();
      else {
        const keyStart = this.#at;
        this.#at += keySize;
        if (this.#at > recordEnd) throw corruptBatch('key is cut off', header);
        this.#keys.append(data, keyStart, this.#at);
      }

      const valueSize = this.#varint();
      this.#valueSizes[row] = valueSize < 0 ? -1 : valueSize;
      if (valueSize < 0) this.#valueValidity.setNull(row);
      else {
        const valueStart = this.#at;
        this.#at += valueSize;
        if (this.#at > recordEnd) throw corruptBatch('value is cut off', header);
        if (valueSize > this.#maxRecordBytes) this.#valueValidity.setNull(row);
        else {
          data.copyWithin(this.#valueEnd, valueStart, this.#at);
          this.#valueEnd += valueSize;
        }
      }
      this.#valueOffsets[row + 1] = this.#valueEnd;

      const headerCount = this.#varint();
      if (headerCount > 0) this.#appendHeaders(row, headerCount, recordEnd, header);
      else if (headerCount === 0) this.#headers.noteNone(row);
      else throw corruptBatch('negative header count', header);
      if (this.#at !== recordEnd) throw corruptBatch('record length does not match', header);
      this.#length = row + 1;
    }
    if (this.#at !== end) throw corruptBatch('bytes behind the last record', header);
    if (nextDelta <= lastOffsetDelta) {
      gaps.add(baseOffset + BigInt(nextDelta), header.offsetLast + 1n, 'compacted');
    }
  }

  /** @param isUtf8 whether a run of bytes is valid UTF-8 */
  finish(
    isUtf8: (bytes: Uint8Array) => boolean,
  ): Omit<RecordChunk, 'partition' | 'fromOffset' | 'nextOffset' | 'gaps'> {
    const length = this.#length;
    const held = this.#data.subarray(0, this.#valueEnd);
    // Dropped giants must not stay in memory below a few small values.
    const data = held.length < this.#data.length / 2 ? held.slice() : held;
    const offsets = this.#valueOffsets.subarray(0, length + 1);
    return {
      length,
      offsets: this.#offsets.subarray(0, length),
      timestamps: this.#timestamps.subarray(0, length),
      keys: this.#keys.finish(BINARY),
      values: {
        type: BINARY,
        length,
        nullCount: this.#valueValidity.nullCount,
        validity: this.#valueValidity.bitsOf(length),
        offsets,
        data,
      },
      valueSizes: this.#valueSizes.subarray(0, length),
      utf8: utf8Bitmap({ length, offsets, data }, isUtf8),
      headers: this.#headers.finish(length, isUtf8),
    };
  }

  #appendHeaders(row: number, count: number, recordEnd: number, header: BatchHeader): void {
    const { keys, values } = this.#headers.openRow(row);
    for (let i = 0; i < count; i++) {
      const keySize = this.#varint();
      const keyStart = this.#at;
      this.#at += keySize;
      if (keySize < 0 || this.#at > recordEnd) throw corruptBatch('header key is cut off', header);
      keys.append(this.#data, keyStart, this.#at);
      const valueSize = this.#varint();
      if (valueSize < 0) values.appendNull();
      else {
        const valueStart = this.#at;
        this.#at += valueSize;
        if (this.#at > recordEnd) throw corruptBatch('header value is cut off', header);
        values.append(this.#data, valueStart, this.#at);
      }
    }
    this.#headers.closeRow(row);
  }

  #putTimestamp(row: number, baseMs: bigint, baseMsNumber: number, msDelta: number | bigint): void {
    if (typeof msDelta === 'number') {
      const ms = baseMsNumber + msDelta;
      if (ms <= EXACT_MS_MAX && ms >= -EXACT_MS_MAX) {
        const micros = ms * 1000;
        const high = Math.floor(micros / TWO_32);
        this.#timestampWords[row * 2] = (micros - high * TWO_32) | 0;
        this.#timestampWords[row * 2 + 1] = high;
        return;
      }
    }
    const micros = (baseMs + BigInt(msDelta)) * 1000n;
    this.#timestamps[row] =
      micros > MICROS_MAX ? MICROS_MAX : micros < -MICROS_MAX ? -MICROS_MAX : micros;
  }

  /** A zigzag varint of 32 bits. */
  #varint(): number {
    const data = this.#data;
    let byte = data[this.#at++]!;
    let value = byte & 0x7f;
    for (let shift = 7; byte > 0x7f && shift < 35; shift += 7) {
      byte = data[this.#at++]!;
      value |= (byte & 0x7f) << shift;
    }
    return (value >>> 1) ^ -(value & 1);
  }

  /** A zigzag varint of 64 bits; a bigint only where a number would not be exact. */
  #varlong(): number | bigint {
    const data = this.#data;
    const start = this.#at;
    let byte = data[this.#at++]!;
    let value = byte & 0x7f;
    let scale = 0x80;
    while (byte > 0x7f && this.#at - start < 7) {
      byte = data[this.#at++]!;
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
    }
    if (byte <= 0x7f) return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    let wide = BigInt(value);
    for (let shift = 49n; byte > 0x7f && shift < 70n; shift += 7n) {
      byte = data[this.#at++]!;
      wide |= BigInt(byte & 0x7f) << shift;
    }
    wide = BigInt.asUintN(64, wide);
    return wide & 1n ? -(wide >> 1n) - 1n : wide >> 1n;
  }
}

/**
 * Which values are valid UTF-8: one check over all of them joined, which with a character boundary at
 * each start proves every one; one by one only when that fails.
 * @returns undefined when all are
 */
function utf8Bitmap(
  values: Pick<Vector, 'length' | 'offsets' | 'data'>,
  isUtf8: (bytes: Uint8Array) => boolean,
): Uint8Array | undefined {
  const data = values.data!;
  if (isUtf8(data) && firstSplit(values) === undefined) return undefined;
  const bitmap = new Uint8Array((values.length + 7) >> 3);
  for (let row = 0; row < values.length; row++) {
    if (isUtf8(data.subarray(values.offsets![row], values.offsets![row + 1]))) {
      bitmap[row >> 3]! |= 1 << (row & 7);
    }
  }
  return bitmap;
}
