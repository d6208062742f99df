/**
 * The dedup benchmark's thread: an index as the silver thread has it, and lookups of seeded ids.
 */
import { serveThread, Transferring } from '../../src/actors/runtime/compute-thread.ts';
import { createDedupCalls } from '../../src/actors/silver-writer/dedup-calls.ts';
import type { Shard } from '../../src/actors/silver-writer/shard.ts';
import { bytesOfWords, FINGERPRINT_WORDS } from '../../src/pipeline/silver/fingerprints.ts';
import { murmur128, viewOf } from '../../src/pipeline/silver/murmur.ts';

export interface DedupIndexThreadData {
  readonly shard: Shard;
  readonly headBytesMax: number;
}

/** Rows that the deriver looks up at once. */
const SUB_BATCH_ROWS = 2_048;

const idBytes = new Uint8Array(8);
const idView = viewOf(idBytes);

/** Fingerprints of event number `id`, spread as those of real ids are. */
export function writeFingerprint(words: Uint32Array, row: number, id: number): void {
  idView.setUint32(0, id, true);
  murmur128(1, idView, 0, 8, words, row * FINGERPRINT_WORDS);
  words[row * FINGERPRINT_WORDS + 4] = id;
  words[row * FINGERPRINT_WORDS + 5] = 1;
}

/** One thread's calls. */
export function createDedupIndexApi({ shard, headBytesMax }: DedupIndexThreadData) {
  const { index, calls } = createDedupCalls(shard, headBytesMax);
  return {
    ...calls,

    memoryBytes(): number {
      return index.memoryBytes;
    },

    /** Looks a batch of event numbers up, as many at once as the deriver does. */
    async lookup(call: { readonly ids: Uint32Array }): Promise<
      Transferring<{
        readonly news: Uint8Array;
        readonly duplicates: number;
        readonly conflicts: number;
        readonly hotIds: number;
        readonly elapsedMs: number;
      }>
    > {
      const { ids } = call;
      const words = new Uint32Array(ids.length * FINGERPRINT_WORDS);
      for (const [row, id] of ids.entries()) writeFingerprint(words, row, id);
      const verdicts = new Uint8Array(ids.length);
      const startedMs = performance.now();
      for (let from = 0; from < ids.length; from += SUB_BATCH_ROWS) {
        const to = Math.min(ids.length, from + SUB_BATCH_ROWS);
        const some = words.subarray(from * FINGERPRINT_WORDS, to * FINGERPRINT_WORDS);
        await index.lookupOrInsert(some, to - from, verdicts.subarray(from, to));
      }
      const elapsedMs = performance.now() - startedMs;
      const newRows = [...verdicts.keys()].filter((row) => verdicts[row] === 0);
      const news = new Uint32Array(newRows.length * FINGERPRINT_WORDS);
      for (const [to, row] of newRows.entries()) {
        const at = row * FINGERPRINT_WORDS;
        news.set(words.subarray(at, at + FINGERPRINT_WORDS), to * FINGERPRINT_WORDS);
      }
      const count = (verdict: number): number => verdicts.filter((v) => v === verdict).length;
      const { hotIds } = index;
      return new Transferring(
        { news: bytesOfWords(news), duplicates: count(1), conflicts: count(2), hotIds, elapsedMs },
        [news.buffer],
      );
    },
  };
}

/** Type of the calls. */
export type DedupIndexApi = ReturnType<typeof createDedupIndexApi>;

serveThread(createDedupIndexApi);
