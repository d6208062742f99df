/**
 * Kafka's default partitioner for keyed records, so that a key lands in the embedded log where the
 * Java client would put it in Kafka. Pure. Source: Utils.murmur2 and BuiltInPartitioner.java.
 */

const MULTIPLIER = 0x5bd1e995;
const SEED = 0x9747b28c;

/** Hash of `bytes[start, end)` as a signed 32-bit integer. */
export function murmur2(bytes: Uint8Array, start = 0, end = bytes.length): number {
  let hash = SEED ^ (end - start);
  let at = start;
  for (; at + 4 <= end; at += 4) {
    let word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    word = Math.imul(word, MULTIPLIER);
    word ^= word >>> 24;
    hash = Math.imul(hash, MULTIPLIER) ^ Math.imul(word, MULTIPLIER);
  }
  if (at < end) {
    let tail = 0;
    for (let i = end - 1; i >= at; i--) tail = (tail << 8) | bytes[i]!;
    hash = Math.imul(hash ^ tail, MULTIPLIER);
  }
  hash = Math.imul(hash ^ (hash >>> 13), MULTIPLIER);
  return hash ^ (hash >>> 15);
}

/** The partition of a record with the key `bytes[start, end)`. */
export function partitionOfKey(
  bytes: Uint8Array,
  partitionCount: number,
  start = 0,
  end = bytes.length,
): number {
  return (murmur2(bytes, start, end) & 0x7fffffff) % partitionCount;
}
