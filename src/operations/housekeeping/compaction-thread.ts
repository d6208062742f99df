/**
 * The compaction thread: the rows of several data files as one file. Runs as a worker thread, so that
 * housekeeping never holds up heartbeats, fetches or commits.
 *
 * CT1 Rows keep their order: of the files as they are given, and within each file.
 * CT2 Fingerprints are those that were stored with the files, row by row; only those of a file that
 *     has none are computed again.
 */
import { concatSlices } from '../../pipeline/column-concat.ts';
import { type ColumnBatch, transferablesOf } from '../../pipeline/columns.ts';
import type { EventConfig } from '../../pipeline/pipeline-config.ts';
import { FINGERPRINT_BYTES, fingerprintsOf } from '../../pipeline/silver/fingerprints.ts';
import type { StructType } from '../../pipeline/types.ts';
import { computeStats } from '../../storage/delta/stats.ts';
import type { EncodeOptions, ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import { serveThread, Transferring } from '../../actors/runtime/compute-thread.ts';

/** What the thread is started with. */
export interface CompactionThreadData {
  /** Columns of the table's data files. */
  readonly schema: StructType;
  readonly encoding: EncodeOptions;
  /** Columns with bounds in the statistics; all that can when absent. */
  readonly boundedColumns: readonly string[] | undefined;
  /** Of silver: its files have fingerprints. */
  readonly fingerprinted: EventConfig | undefined;
}

/** A file made of all that were added. */
export interface CompactedFile {
  readonly rows: number;
  readonly parquet: Uint8Array;
  readonly stats: string;
  readonly fingerprints: Uint8Array | undefined;
}

/** One compaction thread's calls and the rows it holds between them. */
export function createCompactionThreadApi(
  { schema, encoding, boundedColumns, fingerprinted }: CompactionThreadData,
  codec: ParquetCodec = createParquetCodec(),
) {
  let batches: ColumnBatch[] = [];
  let fingerprints: Uint8Array[] = [];

  return {
    /**
     * Takes the next file.
     * @returns bytes of the rows held
     */
    add(call: {
      readonly parquet: Uint8Array;
      readonly fingerprints: Uint8Array | undefined;
    }): number {
      const batch = codec.decode(call.parquet, schema);
      batches.push(batch);
      if (fingerprinted) {
        // CT2
        const stored = call.fingerprints;
        const fits = stored?.byteLength === batch.length * FINGERPRINT_BYTES;
        fingerprints.push(fits ? stored : fingerprintsOf(batch, fingerprinted));
      }
      return batches.flatMap(transferablesOf).reduce((sum, { byteLength }) => sum + byteLength, 0);
    },

    /** Encodes what was added, and forgets it. */
    finish(): Transferring<CompactedFile> {
      const columns = schema.fields.map(({ type }, i) =>
        // CT1
        concatSlices(
          type,
          batches.map(({ columns, length }) => ({ vector: columns[i], from: 0, to: length })),
        ),
      );
      const length = batches.reduce((sum, batch) => sum + batch.length, 0);
      batches = [];
      const batch: ColumnBatch = { schema, length, columns };
      const parquet = codec.encode(batch, encoding);
      const stats = computeStats(
        batch,
        boundedColumns === undefined ? {} : { minMaxColumns: boundedColumns },
      );
      const joined = fingerprinted && new Uint8Array(Buffer.concat(fingerprints));
      fingerprints = [];
      const buffers = [parquet, joined].flatMap((bytes) => bytes?.buffer ?? []) as ArrayBuffer[];
      return new Transferring({ rows: length, parquet, stats, fingerprints: joined }, buffers);
    },
  };
}

/** Type of the calls this thread answers. */
export type CompactionThreadApi = ReturnType<typeof createCompactionThreadApi>;

serveThread(createCompactionThreadApi);
