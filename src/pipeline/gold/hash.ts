/**
 * 32-bit MurmurHash3 over bytes and over words, for the open-addressing tables of gold state. Not
 * keyed: it spreads honest data and is never visible in a table (P9). Source: Appleby, MurmurHash3.
 */

/** Folds one 32-bit word into a running hash. */
export function mixWord(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, 0x1b873593);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

/** Spreads the bits of a running hash over the whole word; call once, last. */
export function finishHash(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Hash of `data[from, to)`. */
export function hashBytes(data: Uint8Array, from: number, to: number): number {
  let hash = 0;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    hash = mixWord(
      hash,
      data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24),
    );
  }
  let tail = 0;
  for (let shift = 0; at < to; at++, shift += 8) tail |= data[at]! << shift;
  return finishHash(mixWord(hash, tail) ^ (to - from));
}
