/**
 * Port: columns to Parquet bytes and back. Synchronous and heavy: call it off the event loop.
 * Adapter: parquet-wasm-codec.ts.
 */
import type { ColumnBatch } from '../../pipeline/columns.ts';
import type { StructType } from '../../pipeline/types.ts';

/** How one file is encoded. */
export interface EncodeOptions {
  readonly compression: 'zstd' | 'snappy' | 'none';
  /** Columns of long unique text: no dictionary, no statistics. Numbers never have a dictionary. */
  readonly plainColumns?: readonly string[];
}

/** The port. Not to be shared between threads. */
export interface ParquetCodec {
  /** One file; V1 data pages, timestamps INT64 MICROS UTC-adjusted, row groups of bounded size. */
  encode(batch: ColumnBatch, options: EncodeOptions): Uint8Array;
  /**
   * Reads the columns of `schema` that the file has; those it lacks come back all null.
   * @throws PipelineError corrupt when it is not Parquet or a column has another type
   */
  decode(bytes: Uint8Array, schema: StructType): ColumnBatch;
}
