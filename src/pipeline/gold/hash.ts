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

/**
 * Hash of the bytes `[from, to)`. Words are read through a view, one bounds check for four bytes;
 * the last word may overlap the one before.
 */
export function hashBytes(data: DataView, from: number, to: number): number {
  let hash = 0;
  let at = from;
  for (; at + 4 <= to; at += 4) hash = mixWord(hash, data.getInt32(at, true));
  let tail = 0;
  if (to - from >= 4) tail = data.getInt32(to - 4, true);
  else for (; at < to; at++) tail = (tail << 8) | data.getUint8(at);
  return finishHash(mixWord(hash, tail) ^ (to - from));
}

/** Whether `a[atA, atA + length)` and `b[atB, atB + length)` hold the same bytes. */
export function equalBytes(
  a: DataView,
  atA: number,
  b: DataView,
  atB: number,
  length: number,
): boolean {
  let k = 0;
  for (; k + 4 <= length; k += 4) {
    if (a.getInt32(atA + k, true) !== b.getInt32(atB + k, true)) return false;
  }
  if (length >= 4) {
    return a.getInt32(atA + length - 4, true) === b.getInt32(atB + length - 4, true);
  }
  for (; k < length; k++) if (a.getUint8(atA + k) !== b.getUint8(atB + k)) return false;
  return true;
}
