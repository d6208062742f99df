/**
 * Adapter of ParquetCodec on parquet-wasm (the Rust crate `parquet` as WebAssembly).
 *
 * Invariants:
 * - W1 Nothing stays allocated in WebAssembly memory after a call, whatever its outcome.
 * - W2 An instance that failed is never used again: a trap skips destructors and leaves locks held.
 * - W3 WebAssembly memory never shrinks, so an instance that has grown beyond a bound is dropped.
 *
 * Each thread has its own instance; loading takes some 30 ms and happens on first use.
 */
import { createRequire } from 'node:module';
import { PipelineError } from '../../errors.ts';
import { isTextual, nullVector } from '../../pipeline/column-builder.ts';
import type { ColumnBatch } from '../../pipeline/columns.ts';
import type { DataType, StructType } from '../../pipeline/types.ts';
import { writeArrowStream } from './arrow-ipc-writer.ts';
import { readArrowMemory } from './arrow-memory-reader.ts';
import type { EncodeOptions, ParquetCodec } from './parquet-codec.ts';
import { projectParquet, withoutKeyValues } from './parquet-projection.ts';

type ParquetWasm = typeof import('parquet-wasm/node');

const require = createRequire(import.meta.url);
const MODULE = 'parquet-wasm/node';

/** Written to the footer; readers parse this form to work around known bugs of writers. */
const CREATED_BY = 'tidemark version 0.1.0 (build parquet-wasm)';
const ROW_GROUP_ROWS_MAX = 131_072;
/** Small enough to be compressed within the processor's cache. */
const DATA_PAGE_BYTES = 256 * 1024;
/** The most memory that is kept from one encoding to the next, beside WebAssembly's own. */
const SCRATCH_BYTES_MAX = 128 * 1024 ** 2;

/** Bounds of a codec. */
export interface ParquetCodecOptions {
  /** An instance whose memory has grown beyond this is dropped after the call (W3). */
  readonly memoryBytesMax?: number;
}

/** Creates a codec; cheap until it is used. Not to be shared between threads. */
export function createParquetCodec(options: ParquetCodecOptions = {}): ParquetCodec {
  const memoryBytesMax = options.memoryBytesMax ?? 1024 ** 3;
  let instance: ParquetWasm | undefined;
  let scratch = new Uint8Array(0);

  /** Fresh memory would cost more in page faults than all the copying into it. */
  const allocate = (bytes: number): Uint8Array => {
    if (bytes > SCRATCH_BYTES_MAX) return new Uint8Array(bytes);
    if (bytes > scratch.length) scratch = new Uint8Array(Math.min(bytes * 1.25, SCRATCH_BYTES_MAX));
    return scratch.subarray(0, bytes);
  };

  const load = (): ParquetWasm => {
    if (instance === undefined) {
      // The package instantiates while it loads, so a new instance takes a new load.
      delete require.cache[require.resolve(MODULE)];
      instance = require(MODULE) as ParquetWasm;
    }
    return instance;
  };

  /** Runs `work`, dropping the instance when it failed (W2) or is too large (W3). */
  const withWasm = <T>(work: (wasm: ParquetWasm) => T): T => {
    const wasm = load();
    try {
      const result = work(wasm);
      if (wasm.wasmMemory().buffer.byteLength > memoryBytesMax) instance = undefined;
      return result;
    } catch (error) {
      if (!(error instanceof PipelineError)) instance = undefined;
      throw error;
    }
  };

  return {
    encode(batch: ColumnBatch, encodeOptions: EncodeOptions): Uint8Array {
      const stream = writeArrowStream(batch, allocate);
      try {
        return withWasm((wasm) => {
          // writeParquet consumes both, also when it fails.
          const table = wasm.Table.fromIPCStream(stream);
          const properties = writerProperties(wasm, batch.schema, encodeOptions);
          return withoutKeyValues(wasm.writeParquet(table, properties));
        });
      } catch (error) {
        throw new PipelineError(
          'internal',
          'TM_INTERNAL',
          `Parquet encoding: ${messageOf(error)}`,
          {
            context: { rows: batch.length },
            cause: error,
          },
        );
      }
    },

    decode(bytes: Uint8Array, schema: StructType): ColumnBatch {
      const wanted = new Set(schema.fields.map((column) => column.name));
      const { rows, bytes: projected } = projectParquet(bytes, wanted);
      if (projected === undefined || rows === 0) {
        const columns = schema.fields.map((column) => nullVector(column.type, rows));
        return { schema, length: rows, columns };
      }
      try {
        return withWasm((wasm) => {
          const stream = wasm.readParquet(projected, { batchSize: rows }).intoFFI();
          try {
            const batch = readArrowMemory(schema, {
              buffer: wasm.wasmMemory().buffer,
              schemaAddress: stream.schemaAddr(),
              arrayAddresses: stream.arrayAddrs(),
            });
            if (batch.length !== rows) throw new Error(`${batch.length} rows instead of ${rows}`);
            return batch;
          } finally {
            stream.free();
          }
        });
      } catch (error) {
        if (error instanceof PipelineError) throw error;
        throw new PipelineError(
          'corrupt',
          'TM_PARQUET_CORRUPT',
          `not a readable Parquet file: ${messageOf(error)}`,
          { context: { bytes: bytes.length }, cause: error },
        );
      }
    },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Dictionaries are for text that repeats. On numbers and times they cost several times the plain
 * encoding and mostly end in a fallback to it; compression finds what repeats there.
 */
function writerProperties(wasm: ParquetWasm, schema: StructType, options: EncodeOptions) {
  const { Compression, EnabledStatistics, WriterPropertiesBuilder, WriterVersion } = wasm;
  const compression = {
    zstd: Compression.ZSTD,
    snappy: Compression.SNAPPY,
    none: Compression.UNCOMPRESSED,
  };
  const plain = new Set(options.plainColumns);
  // Each setter consumes the builder it is called on.
  let builder = new WriterPropertiesBuilder()
    .setCreatedBy(CREATED_BY)
    .setWriterVersion(WriterVersion.V1)
    .setCompression(compression[options.compression])
    .setStatisticsEnabled(EnabledStatistics.Chunk)
    .setMaxRowGroupSize(ROW_GROUP_ROWS_MAX)
    .setDataPageSizeLimit(DATA_PAGE_BYTES);
  for (const { name, type } of schema.fields) {
    if (isNested(type) || (isTextual(type) && !plain.has(name))) continue;
    builder = builder.setColumnDictionaryEnabled(name, false);
    if (isTextual(type)) {
      builder = builder.setColumnStatisticsEnabled(name, EnabledStatistics.None);
    }
  }
  return builder.build();
}

function isNested(type: DataType): boolean {
  return type.kind === 'array' || type.kind === 'map' || type.kind === 'struct';
}
