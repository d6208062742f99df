/**
 * The 61 bytes in front of every Kafka record batch of magic 2. Shared by decoder, encoder and
 * segment scans. Pure. Source: Kafka documentation, "Message format: Record Batch"; KIP-98, KIP-101.
 */
import { PipelineError } from '../../errors.ts';

/** Byte positions within a batch. All integers are big-endian. */
export const BATCH_FIELD = {
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  recordCount: 57,
} as const;

/** Bytes in front of the first record. */
export const BATCH_HEADER_BYTES = 61;

/** `length` counts the bytes after itself: offset and length come on top. */
export const BATCH_OVERHEAD_BYTES = 12;

/** Attributes: what the bits mean. */
export const BATCH_ATTRIBUTE = {
  codecMask: 0b111,
  logAppendTime: 1 << 3,
  transactional: 1 << 4,
  control: 1 << 5,
} as const;

/** A header, and where its batch lies. */
export interface BatchHeader {
  /** Where the batch begins in the bytes it was read from. */
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly baseOffset: bigint;
  /** Inclusive; kept by compaction even when the last record is gone. */
  readonly offsetLast: bigint;
  readonly lastOffsetDelta: number;
  readonly leaderEpoch: number;
  readonly magic: number;
  readonly crc: number;
  readonly attributes: number;
  readonly baseTimestampMs: bigint;
  readonly maxTimestampMs: bigint;
  readonly producerId: bigint;
  readonly recordCount: number;
}

/**
 * Size of the batch that begins at `at`, all of it.
 * @returns undefined when fewer than 12 bytes are there
 */
export function batchSizeAt(view: DataView, at: number): number | undefined {
  if (at + BATCH_OVERHEAD_BYTES > view.byteLength) return undefined;
  return BATCH_OVERHEAD_BYTES + view.getInt32(at + BATCH_FIELD.length);
}

/** Reads the header at `at`; the caller made sure that 61 bytes are there. */
export function readBatchHeader(view: DataView, at: number): BatchHeader {
  const baseOffset = view.getBigInt64(at + BATCH_FIELD.baseOffset);
  const lastOffsetDelta = view.getInt32(at + BATCH_FIELD.lastOffsetDelta);
  return {
    start: at,
    end: at + BATCH_OVERHEAD_BYTES + view.getInt32(at + BATCH_FIELD.length),
    baseOffset,
    offsetLast: baseOffset + BigInt(lastOffsetDelta),
    lastOffsetDelta,
    leaderEpoch: view.getInt32(at + BATCH_FIELD.leaderEpoch),
    magic: view.getInt8(at + BATCH_FIELD.magic),
    crc: view.getUint32(at + BATCH_FIELD.crc),
    attributes: view.getInt16(at + BATCH_FIELD.attributes),
    baseTimestampMs: view.getBigInt64(at + BATCH_FIELD.baseTimestamp),
    maxTimestampMs: view.getBigInt64(at + BATCH_FIELD.maxTimestamp),
    producerId: view.getBigInt64(at + BATCH_FIELD.producerId),
    recordCount: view.getInt32(at + BATCH_FIELD.recordCount),
  };
}

/** The failure of a batch that contradicts itself. */
export function corruptBatch(why: string, header: BatchHeader): PipelineError {
  return new PipelineError('corrupt', 'TM_RECORD_BATCH_CORRUPT', `record batch: ${why}`, {
    context: { baseOffset: header.baseOffset, position: header.start },
  });
}
