/**
 * Records decoded from raw record batches into columns, and the explained gaps between them (P4).
 * Pure types shared by the source decoder and the bronze stage.
 */
import type { Vector } from './columns.ts';

/** Offsets that hold no row, and why: `from` inclusive, `to` exclusive. */
export interface Gap {
  readonly from: bigint;
  readonly to: bigint;
  /** `marker`: transaction marker; `aborted`: record of an aborted transaction; `compacted`: absent from the log. */
  readonly kind: 'marker' | 'aborted' | 'compacted';
}

/**
 * One fetch of one partition. Every offset of [fromOffset, nextOffset) is a row or lies in a gap.
 */
export interface RecordChunk {
  readonly partition: number;
  /** Inclusive: the offset asked for. */
  readonly fromOffset: bigint;
  /** Exclusive: where the next fetch continues. */
  readonly nextOffset: bigint;
  /** Rows. */
  readonly length: number;
  /** Ascending. */
  readonly offsets: BigInt64Array;
  /** Kafka timestamps, microseconds since the epoch (a multiple of 1000). */
  readonly timestamps: BigInt64Array;
  /** type binary, nullable. */
  readonly keys: Vector;
  /** type binary; null for tombstones and for values above maxRecordBytes. */
  readonly values: Vector;
  /** Bytes of the value in the log; -1 for a tombstone. */
  readonly valueSizes: Int32Array;
  /** Bit set = the value is valid UTF-8. Absent: all are. */
  readonly utf8?: Uint8Array | undefined;
  /** array<struct<key string, value binary>>, nullable; null when a record has none. */
  readonly headers: Vector;
  readonly gaps: readonly Gap[];
}
