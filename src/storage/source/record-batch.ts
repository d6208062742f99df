/**
 * Decodes raw Kafka record batches into columns, without an object per record. Pure.
 * - R1 Every offset of [fromOffset, nextOffset) is a row or lies in a gap; never both (P4).
 * - R2 A batch's checksum is verified before a byte of it is believed; what does not fit is `corrupt`.
 * - R3 Records of aborted transactions never become rows. The rule is the Java client's: the fetch
 *      response lists (producer, first offset); reaching first offset marks the producer aborted, its
 *      ABORT marker clears it, and every transactional batch between is skipped. Markers are known by
 *      the control bit alone, never by their bytes.
 * - R4 The result depends on bytes, `aborted` and `fromOffset` only, so decoding the same bytes again
 *      from a later offset continues exactly.
 * Sources: Kafka documentation "Message format"; KIP-98; CompletedFetch.java of the Java client.
 */
import { isUtf8 } from 'node:buffer';
import { crc32c } from '@node-rs/crc32';
import { PipelineError } from '../../errors.ts';
import type { Gap, RecordChunk } from '../../pipeline/records.ts';
import type { AbortedTransaction } from './event-source.ts';
import { GapList } from './gap-list.ts';
import { COMPRESSIONS, inflate } from './record-batch-codec.ts';
import {
  BATCH_ATTRIBUTE,
  BATCH_FIELD,
  BATCH_HEADER_BYTES,
  type BatchHeader,
  batchSizeAt,
  corruptBatch,
  readBatchHeader,
} from './record-batch-header.ts';
import { RecordColumns } from './record-columns.ts';

/** What to decode, and within which limits. */
export interface DecodeOptions {
  readonly partition: number;
  /** Inclusive; records below it are dropped. */
  readonly fromOffset: bigint;
  /** Of the same fetch, in any order. */
  readonly aborted: readonly AbortedTransaction[];
  /** A larger value becomes null; `valueSizes` keeps its size. */
  readonly maxRecordBytes: number;
  /** Limit of one batch's inflated size, at most 2 GiB; beyond it decoding throws. */
  readonly maxInflatedBytes: number;
  /**
   * Stops in front of the batch with which the inflated bytes would exceed this; the first batch is
   * always taken. `nextOffset` then lies inside the given bytes: decode them again from there.
   */
  readonly maxBytes?: number;
}

/** Offsets in Int32Array address at most this many bytes of values. */
const VALUE_BYTES_MAX = 2 ** 31 - 1;

/** A stretch of the log, in order: records to parse, or offsets without rows. */
type Stretch =
  | { readonly kind: 'rows'; readonly header: BatchHeader; readonly records: Uint8Array }
  | Gap;

/**
 * Decodes the batches of one fetch of one partition.
 * @param bytes batches one after another; the first may begin before `fromOffset`, a last one that is
 *   cut off is ignored; stays unchanged
 * @throws PipelineError corrupt TM_RECORD_BATCH_CORRUPT | invalid TM_RECORD_BATCH_UNSUPPORTED
 */
export function decodeRecordBatches(bytes: Uint8Array, options: DecodeOptions): RecordChunk {
  const { stretches, nextOffset, rowsMax, bytesMax } = readStretches(bytes, options);
  const columns = new RecordColumns(rowsMax, bytesMax, options.maxRecordBytes);
  const gaps = new GapList(options.fromOffset);
  for (const stretch of stretches) {
    if (stretch.kind === 'rows') {
      columns.append(stretch.header, stretch.records, options.fromOffset, gaps);
    } else gaps.add(stretch.from, stretch.to, stretch.kind);
  }
  return {
    partition: options.partition,
    fromOffset: options.fromOffset,
    nextOffset,
    ...columns.finish(isUtf8),
    gaps: gaps.gaps,
  };
}

/** First pass: which batches hold rows, which offsets never will, and how much memory it takes. */
function readStretches(bytes: Uint8Array, options: DecodeOptions) {
  const { fromOffset } = options;
  const maxInflatedBytes = Math.min(options.maxInflatedBytes, VALUE_BYTES_MAX);
  const maxBytes = Math.min(options.maxBytes ?? VALUE_BYTES_MAX, VALUE_BYTES_MAX);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const transactions = new AbortedProducers(options.aborted);
  const stretches: Stretch[] = [];
  let nextOffset = fromOffset;
  let previousLast = -1n;
  let rowsMax = 0;
  let bytesMax = 0;
  for (let at = 0; ; ) {
    const size = batchSizeAt(view, at);
    if (size === undefined || at + size > bytes.length) break;
    const header = checkedHeader(bytes, view, at, size);
    if (header.baseOffset <= previousLast) throw corruptBatch('batches overlap', header);
    previousLast = header.offsetLast;
    at = header.end;
    const fate = transactions.fateOf(header, bytes);
    if (header.offsetLast < fromOffset) continue;

    const from = header.baseOffset > nextOffset ? header.baseOffset : nextOffset;
    const to = header.offsetLast + 1n;
    const before: Gap = { from: nextOffset, to: from, kind: 'compacted' };
    if (fate === 'rows') {
      const codec = COMPRESSIONS[header.attributes & BATCH_ATTRIBUTE.codecMask];
      if (codec === undefined) throw unsupported('unknown compression codec', header);
      const packed = bytes.subarray(header.start + BATCH_HEADER_BYTES, header.end);
      const records = inflate(codec, packed, maxInflatedBytes);
      const full = bytesMax + records.length > maxBytes;
      if (full && bytesMax > 0) break;
      rowsMax += header.recordCount;
      bytesMax += records.length;
      stretches.push(before, { kind: 'rows', header, records });
    } else {
      stretches.push(before, { from, to, kind: fate });
    }
    nextOffset = to;
  }
  return { stretches, nextOffset, rowsMax, bytesMax };
}

function checkedHeader(bytes: Uint8Array, view: DataView, at: number, size: number): BatchHeader {
  if (size < BATCH_HEADER_BYTES) {
    // Older formats share the first 17 bytes, and may be shorter.
    const magic = size > BATCH_FIELD.magic ? view.getInt8(at + BATCH_FIELD.magic) : 2;
    if (magic < 2) throw oldFormat(magic);
    throw new PipelineError('corrupt', 'TM_RECORD_BATCH_CORRUPT', 'record batch has a bad length', {
      context: { position: at, size },
    });
  }
  const header = readBatchHeader(view, at);
  if (header.magic < 2) throw oldFormat(header.magic);
  if (header.magic > 2) throw unsupported(`record batch format ${header.magic} is newer`, header);
  const checked = Buffer.from(
    bytes.buffer,
    bytes.byteOffset + at + BATCH_FIELD.attributes,
    size - BATCH_FIELD.attributes,
  );
  if (crc32c(checked) !== header.crc) throw corruptBatch('checksum does not match', header);
  const { recordCount, lastOffsetDelta } = header;
  if (recordCount < 0 || lastOffsetDelta < 0 || recordCount > lastOffsetDelta + 1) {
    throw corruptBatch('impossible record count', header);
  }
  return header;
}

/** The transactions being aborted at the current position of the log (R3). */
class AbortedProducers {
  readonly #pending: AbortedTransaction[];
  readonly #aborted = new Set<bigint>();

  constructor(aborted: readonly AbortedTransaction[]) {
    // Descending, so that the next one to begin is popped from the end.
    this.#pending = aborted.toSorted((a, b) => (a.firstOffset < b.firstOffset ? 1 : -1));
  }

  /** What a batch's offsets are; to be asked once per batch, in log order. */
  fateOf(header: BatchHeader, bytes: Uint8Array): 'rows' | Gap['kind'] {
    for (let next = this.#pending.at(-1); next; next = this.#pending.at(-1)) {
      if (next.firstOffset > header.offsetLast) break;
      this.#aborted.add(next.producerId);
      this.#pending.pop();
    }
    if (header.attributes & BATCH_ATTRIBUTE.control) {
      if (header.recordCount === 0) return 'compacted';
      if (isAbortMarker(header, bytes)) this.#aborted.delete(header.producerId);
      return 'marker';
    }
    const transactional = (header.attributes & BATCH_ATTRIBUTE.transactional) !== 0;
    if (transactional && this.#aborted.has(header.producerId)) return 'aborted';
    return header.recordCount === 0 ? 'compacted' : 'rows';
  }
}

/** Reads the type out of a control record's key: int16 version, int16 type, 0 being ABORT. */
function isAbortMarker(header: BatchHeader, bytes: Uint8Array): boolean {
  // Length, attributes, timestamp delta, offset delta and key length precede the key.
  let at = header.start + BATCH_HEADER_BYTES;
  const skipVarint = (): void => {
    while (bytes[at++]! > 0x7f);
  };
  skipVarint();
  at += 1;
  skipVarint();
  skipVarint();
  skipVarint();
  if (at + 4 > header.end) throw corruptBatch('control record is cut off', header);
  return bytes[at + 2] === 0 && bytes[at + 3] === 0;
}

function unsupported(why: string, header: BatchHeader): PipelineError {
  return new PipelineError('invalid', 'TM_RECORD_BATCH_UNSUPPORTED', why, {
    context: { baseOffset: header.baseOffset, attributes: header.attributes },
  });
}

function oldFormat(magic: number): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_RECORD_BATCH_UNSUPPORTED',
    'the topic holds records of a message format older than Kafka 0.11; copy it to a new topic first',
    { context: { magic } },
  );
}
