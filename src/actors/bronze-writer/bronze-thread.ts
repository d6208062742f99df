/**
 * The bronze thread: raw record batches to columns, columns to Parquet. Runs as a worker thread, so
 * that decoding and encoding never hold up heartbeats, queue locks or fetches.
 */
import {
  BRONZE_BOUNDED_COLUMNS,
  bronzeFileSchema,
  buildBronzeBatches,
  coverageOf,
  coverageText,
} from '../../pipeline/bronze.ts';
import { columnsFromRows } from '../../pipeline/column-builder.ts';
import { type ColumnBatch, transferablesOf } from '../../pipeline/columns.ts';
import type { RecordChunk } from '../../pipeline/records.ts';
import { computeStats } from '../../storage/delta/stats.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import type { AbortedTransaction } from '../../storage/source/event-source.ts';
import { decodeRecordBatches } from '../../storage/source/record-batch.ts';
import { serveThread, Transferring } from '../runtime/compute-thread.ts';
import { BRONZE_ENCODING, groupByRows } from '../file-settings.ts';

/** What the thread is started with. */
export interface BronzeThreadData {
  readonly topic: string;
  readonly maxRecordBytes: number;
  /** Bound on what one fetched batch may inflate to. */
  readonly maxInflatedBytes: number;
}

/** A Parquet file that is ready to be stored. */
export interface EncodedBronzeFile {
  readonly dateDays: number;
  readonly rows: number;
  readonly parquet: Uint8Array;
  readonly stats: string;
  /** The same rows as columns, for the silver stage's cache. */
  readonly batch: ColumnBatch;
}

/** A compressed fetch may inflate to this much; what is beyond is fetched again (P10). */
const CHUNK_BYTES_MAX = 64 * 1024 * 1024;

/**
 * One bronze thread's calls and what it holds between them.
 * @param codec of data files; not shared with another thread
 */
export function createBronzeThreadApi(
  { topic, maxRecordBytes, maxInflatedBytes }: BronzeThreadData,
  codec: ParquetCodec = createParquetCodec(),
) {
  const chunks = new Map<number, RecordChunk>();

  const api = {
    /** Decodes one fetch and keeps its records under `chunkId`. */
    decode(call: {
      readonly chunkId: number;
      readonly partition: number;
      readonly fromOffset: bigint;
      readonly bytes: Uint8Array;
      readonly aborted: readonly AbortedTransaction[];
    }): { readonly next: bigint; readonly rows: number; readonly bytes: number } {
      const chunk = decodeRecordBatches(call.bytes, {
        partition: call.partition,
        fromOffset: call.fromOffset,
        aborted: call.aborted,
        maxRecordBytes,
        maxInflatedBytes,
        maxBytes: CHUNK_BYTES_MAX,
      });
      if (chunk.nextOffset > call.fromOffset) chunks.set(call.chunkId, chunk);
      const valueBytes = chunk.values.data?.byteLength ?? 0;
      return {
        next: chunk.nextOffset,
        rows: chunk.length,
        bytes: valueBytes + (chunk.keys.data?.byteLength ?? 0) + 64 * chunk.length,
      };
    },

    /** Encodes kept chunks: one file per UTC date of the Kafka timestamp, and what they cover. */
    encode(call: {
      readonly chunkIds: readonly number[];
      readonly ingestedAtMicros: bigint;
    }): Transferring<{ readonly files: readonly EncodedBronzeFile[]; readonly coverage: string }> {
      const selected = call.chunkIds.map((id) => chunks.get(id)!);
      const ingested = { topic, ingestedAtMicros: call.ingestedAtMicros };
      const batches = chunkGroups(selected).flatMap((group) => buildBronzeBatches(group, ingested));
      // Offsets that are all markers or aborted still need a file that carries their coverage (P4).
      const nonEmpty =
        batches.length > 0
          ? batches
          : [
              {
                dateDays: Number(call.ingestedAtMicros / 86_400_000_000n),
                batch: columnsFromRows(bronzeFileSchema(), []),
              },
            ];
      const files = nonEmpty.map(({ dateDays, batch }) => ({
        dateDays,
        rows: batch.length,
        parquet: codec.encode(batch, BRONZE_ENCODING),
        stats: computeStats(batch, { minMaxColumns: BRONZE_BOUNDED_COLUMNS }),
        batch,
      }));
      const transfer = new Set<ArrayBuffer>();
      for (const { parquet, batch } of files) {
        transfer.add(parquet.buffer as ArrayBuffer);
        for (const buffer of transferablesOf(batch)) transfer.add(buffer);
      }
      return new Transferring({ files, coverage: coverageText(coverageOf(selected)) }, [
        ...transfer,
      ]);
    },

    /** Forgets chunks that are committed or dropped. */
    release(call: { readonly chunkIds: readonly number[] }): void {
      for (const id of call.chunkIds) chunks.delete(id);
    },
  };

  return api;
}

/** Chunks in the order of their rows, in groups of about a file each: memory is bounded by a group. */
function chunkGroups(selected: readonly RecordChunk[]): readonly RecordChunk[][] {
  const ordered = [...selected].sort(
    (a, b) => a.partition - b.partition || (a.fromOffset < b.fromOffset ? -1 : 1),
  );
  return groupByRows(ordered, ({ length }) => length);
}

/** Type of the calls this thread answers. */
export type BronzeThreadApi = ReturnType<typeof createBronzeThreadApi>;

serveThread(createBronzeThreadApi);
