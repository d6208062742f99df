/**
 * The dedup index of a thread, and the calls by which its owner fills and rearranges it.
 */
import type { MessagePort } from 'node:worker_threads';
import { type AttachedPart, LayeredDedupIndex } from '../../pipeline/silver/dedup-layers.ts';
import {
  bytesOfWords,
  FINGERPRINT_BYTES,
  wordsOfBytes,
} from '../../pipeline/silver/fingerprints.ts';
import { PartFiles, type PartPlace } from './part-reads.ts';
import { ofShard, type Shard } from './shard.ts';

/**
 * Makes an empty index.
 * @param headBytesMax bound on the heads of parts that are kept in memory, bytes
 */
export function createDedupCalls(shard: Shard, headBytesMax: number) {
  const partFiles = new PartFiles();
  const index = new LayeredDedupIndex(partFiles.read, headBytesMax);

  const calls = {
    /** Empties the index. */
    reset(): void {
      index.clear();
      partFiles.clear();
    },

    /** Gives the thread its end of `servePartReads`, before a part is attached that needs it. */
    connectReads(call: { readonly port: MessagePort }): void {
      partFiles.connect(call.port);
    },

    /**
     * Adds the rows of a committed silver file.
     * @param call.isMixed the file may have rows of other shards, which are left out
     */
    load(call: { readonly fingerprints: Uint8Array; readonly isMixed: boolean }): {
      readonly rows: number;
    } {
      const { fingerprints, isMixed } = call;
      const own = isMixed ? bytesOfWords(ofShard(wordsOfBytes(fingerprints), shard)) : fingerprints;
      index.insertFingerprints(own);
      return { rows: own.byteLength / FINGERPRINT_BYTES };
    },

    /** See LayeredDedupIndex. */
    attach(call: AttachedPart & { readonly place: PartPlace; readonly head: Uint8Array }): void {
      partFiles.add(call.part, call.place);
      index.attach(call, call.head);
    },

    detach(call: { readonly run: number; readonly part: number; readonly prefix: number }): void {
      index.detach(call.run, call.prefix);
      partFiles.remove(call.part);
    },

    freeze(): void {
      index.freeze();
    },

    forgetFrozen(): void {
      index.forgetFrozen();
    },
  };

  return { index, calls };
}

/** Type of the calls. */
export type DedupCalls = ReturnType<typeof createDedupCalls>['calls'];
