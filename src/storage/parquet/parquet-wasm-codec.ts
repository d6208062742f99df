/**
 * Adapter of ParquetCodec on parquet-wasm (the Rust crate `parquet` as WebAssembly).
 *
 * Invariants:
 * - W1 Nothing stays allocated in WebAssembly memory after a call, whatever its outcome.
 * - W2 An instance that trapped is never used again: a trap skips destructors and leaves locks held.
 * - W3 WebAssembly memory never shrinks, so an instance that has grown beyond a bound is dropped.
 *
 * Each thread has its own instance; loading takes some 30 ms and happens on first use.
 */
import { createRequire } from 'node:module';
import { assert, PipelineError } from '../../errors.ts';
import { nullVector } from '../../pipeline/column-builder.ts';
import type { ColumnBatch } from '../../pipeline/columns.ts';
import type { StructType } from '../../pipeline/types.ts';
import { writeArrowStream } from './arrow-ipc-writer.ts';
import { readArrowMemory } from './arrow-memory-reader.ts';
import type { EncodeOptions, ParquetCodec } from './parquet-codec.ts';
import { projectParquet } from './parquet-projection.ts';

type ParquetWasm = typeof import('parquet-wasm/node');

const require = createRequire(import.meta.url);
const MODULE = 'parquet-wasm/node';

/** Written to the footer; readers parse this form to work around known bugs of writers. */
const CREATED_BY = 'tidemark version 0.1.0 (build parquet-wasm)';
const ROW_GROUP_ROWS_MAX = 131_072;
/** Keeps pages near their target size where rows are wide: the size is checked once per write batch. */
const WRITE_BATCH_ROWS = 1024;

export interface ParquetCodecOptions {
  /** An instance whose memory has grown beyond this is dropped after the call (W3). */
  readonly memoryBytesMax?: number;
}

/** Creates a codec; cheap until it is used. Not to be shared between threads. */
export function createParquetCodec(options: ParquetCodecOptions = {}): ParquetCodec {
  const memoryBytesMax = options.memoryBytesMax ?? 1024 ** 3;
  let instance: ParquetWasm | undefined;

  const load = (): ParquetWasm => {
    if (instance === undefined) {
      // The package instantiates while it loads, so a new instance takes a new load.
      delete require.cache[require.resolve(MODULE)];
      instance = require(MODULE) as ParquetWasm;
    }
    return instance;
  };

  /** Runs `work`, dropping the instance when it trapped (W2) or is too large (W3). */
  const withWasm = <T>(work: (wasm: ParquetWasm) => T): T => {
    const wasm = load();
    try {
      const result = work(wasm);
      if (wasm.wasmMemory().buffer.byteLength > memoryBytesMax) instance = undefined;
      return result;
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) instance = undefined;
      throw error;
    }
  };

  return {
    encode(batch: ColumnBatch, encodeOptions: EncodeOptions): Uint8Array {
      const stream = writeArrowStream(batch);
      try {
        return withWasm((wasm) => {
          // writeParquet consumes both, also when it fails.
          const table = wasm.Table.fromIPCStream(stream);
          return wasm.writeParquet(table, writerProperties(wasm, encodeOptions));
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
            assert(batch.length === rows, 'the footer counts the rows', { rows });
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

function writerProperties(wasm: ParquetWasm, options: EncodeOptions) {
  const { Compression, EnabledStatistics, WriterPropertiesBuilder, WriterVersion } = wasm;
  const compression = {
    zstd: Compression.ZSTD,
    snappy: Compression.SNAPPY,
    none: Compression.UNCOMPRESSED,
  };
  // Each setter consumes the builder it is called on.
  let builder = new WriterPropertiesBuilder()
    .setCreatedBy(CREATED_BY)
    .setWriterVersion(WriterVersion.V1)
    .setCompression(compression[options.compression])
    .setStatisticsEnabled(EnabledStatistics.Chunk)
    .setWriteBatchSize(WRITE_BATCH_ROWS)
    .setMaxRowGroupSize(ROW_GROUP_ROWS_MAX);
  for (const column of options.plainColumns ?? []) {
    builder = builder
      .setColumnDictionaryEnabled(column, false)
      .setColumnStatisticsEnabled(column, EnabledStatistics.None);
  }
  return builder.build();
}
