/**
 * The thread that builds parts of the dedup index, so that neither the event loop nor the silver
 * thread waits for it. Stateless. Runs as a worker thread.
 */
import { crc32 } from 'node:zlib';
import type { EventConfig } from '../../pipeline/pipeline-config.ts';
import { buildPart, headBytesOf, prefixBitsFor } from '../../pipeline/silver/dedup-part.ts';
import {
  bytesOfWords,
  FINGERPRINT_WORDS,
  fingerprintsOf,
  wordsOfBytes,
} from '../../pipeline/silver/fingerprints.ts';
import { silverFileSchema } from '../../pipeline/silver/tables.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import { serveThread, Transferring } from '../runtime/compute-thread.ts';
import { ofShard, type Shard } from './shard.ts';

export interface DedupThreadData {
  readonly event: EventConfig;
  readonly shard: Shard;
}

/** A part to be stored. */
export interface BuiltPart {
  readonly prefix: number;
  readonly rows: number;
  readonly headCrc: number;
  readonly object: Uint8Array;
}

/** One dedup thread's calls. @param codec of data files; not shared with another thread */
export function createDedupThreadApi(
  { event, shard }: DedupThreadData,
  codec: ParquetCodec = createParquetCodec(),
) {
  return {
    /** Parts of a run of all rows of some files that are the shard's. */
    build(call: {
      readonly files: readonly { readonly fingerprints: Uint8Array; readonly isMixed: boolean }[];
      readonly partRows: number;
    }): Transferring<{ readonly prefixBits: number; readonly parts: readonly BuiltPart[] }> {
      const inputs = call.files.map(({ fingerprints, isMixed }) => {
        const words = wordsOfBytes(fingerprints);
        return isMixed ? ofShard(words, shard) : words;
      });
      const rows = inputs.reduce((sum, { length }) => sum + length / FINGERPRINT_WORDS, 0);
      const prefixBits = prefixBitsFor(rows, call.partRows);
      const parts = Array.from({ length: 2 ** prefixBits }, (_, prefix) =>
        build(inputs, prefixBits, prefix),
      );
      return new Transferring(
        { prefixBits, parts },
        parts.map(({ object }) => object.buffer as ArrayBuffer),
      );
    },

    /** One part from rows of parts. */
    merge(call: {
      readonly rows: readonly Uint8Array[];
      readonly prefixBits: number;
      readonly prefix: number;
    }): Transferring<BuiltPart> {
      const part = build(call.rows.map(wordsOfBytes), call.prefixBits, call.prefix);
      return new Transferring(part, [part.object.buffer as ArrayBuffer]);
    },

    /** Fingerprints of a silver file's rows. */
    fingerprints(call: { readonly parquet: Uint8Array }): Uint8Array {
      return fingerprintsOf(codec.decode(call.parquet, silverFileSchema(event)), event);
    },
  };
}

function build(inputs: readonly Uint32Array[], prefixBits: number, prefix: number): BuiltPart {
  const { words, rows } = buildPart(inputs, { prefixBits, prefix });
  const object = bytesOfWords(words);
  return { prefix, rows, headCrc: crc32(object.subarray(0, headBytesOf(rows))), object };
}

/** Type of the calls this thread answers. */
export type DedupThreadApi = ReturnType<typeof createDedupThreadApi>;

serveThread(createDedupThreadApi);
