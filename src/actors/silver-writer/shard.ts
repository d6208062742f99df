/**
 * The part of the dedup buckets that one silver writer owns. Pure.
 *
 * SH1 Every bucket belongs to exactly one of the `count` writers: bucket b to writer b modulo count.
 * SH2 A silver file written by one writer says so in its tag; a file without a tag of the same count
 *    may hold ids of any bucket.
 */
import { assert } from '../../errors.ts';
import { bucketOfHash, FINGERPRINT_WORDS } from '../../pipeline/silver/fingerprints.ts';
import type { NewFile } from '../../storage/delta/transaction.ts';

/** Which buckets; structured-cloneable. */
export interface Shard {
  /** Number of this writer among `count`. */
  readonly number: number;
  readonly count: number;
  /** Dedup buckets of the table. */
  readonly bucketCount: number;
}

/** Name of the tag of silver files that says whose buckets they hold. */
export const SHARD_TAG = 'tidemark.shard';

/** @throws PipelineError internal when there is no such shard */
export function shardOf(number: number, count: number, bucketCount: number): Shard {
  assert(number < count && count <= bucketCount, 'a shard has buckets', { number, count });
  return { number, count, bucketCount };
}

/** Buckets of a shard, ascending. */
export function bucketsOf({ number, count, bucketCount }: Shard): number[] {
  return Array.from({ length: bucketCount }, (_, bucket) => bucket).filter(
    (bucket) => bucket % count === number,
  );
}

/** Value of SHARD_TAG for files of a shard. */
export function shardTag({ number, count }: Shard): string {
  return `${number}/${count}`;
}

/** Whether a file may hold ids of the shard: all of its rows, some, or none. */
export function rowsOfShard(file: Pick<NewFile, 'tags'>, shard: Shard): 'all' | 'some' | 'none' {
  if (shard.count === 1) return 'all';
  // SH2
  const tag = file.tags?.[SHARD_TAG];
  if (tag === shardTag(shard)) return 'all';
  return tag?.endsWith(`/${shard.count}`) ? 'none' : 'some';
}

/** The fingerprints of ids in the shard's buckets. */
export function ofShard(words: Uint32Array, shard: Shard): Uint32Array {
  const kept = new Uint32Array(words.length);
  let to = 0;
  for (let at = 0; at < words.length; at += FINGERPRINT_WORDS) {
    if (bucketOfHash(words[at]!, shard.bucketCount) % shard.count !== shard.number) continue;
    for (let i = 0; i < FINGERPRINT_WORDS; i++) kept[to++] = words[at + i]!;
  }
  return kept.subarray(0, to);
}
