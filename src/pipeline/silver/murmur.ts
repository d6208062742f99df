/**
 * MurmurHash3_x86_128 over bytes, in 32-bit arithmetic. Pure, the same on every machine.
 * Source: Austin Appleby's MurmurHash3, public domain.
 */
const M1 = 0x239b961b;
const M2 = 0xab0e9789 | 0;
const M3 = 0x38b34ae5;
const M4 = 0xa1e38b93 | 0;

/** A view for reading words out of bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Hashes the bytes [start, end), seeded with `seed`, to four words of `out` at `at`. */
export function murmur128(
  seed: number,
  data: DataView,
  start: number,
  end: number,
  out: Uint32Array,
  at: number,
): void {
  let h1 = seed;
  let h2 = seed;
  let h3 = seed;
  let h4 = seed;
  const length = end - start;
  let p = start;
  for (; p + 16 <= end; p += 16) {
    h1 ^= Math.imul(rotate(Math.imul(data.getInt32(p, true), M1), 15), M2);
    h1 = (Math.imul(rotate(h1, 19) + h2, 5) + 0x561ccd1b) | 0;
    h2 ^= Math.imul(rotate(Math.imul(data.getInt32(p + 4, true), M2), 16), M3);
    h2 = (Math.imul(rotate(h2, 17) + h3, 5) + 0x0bcaa747) | 0;
    h3 ^= Math.imul(rotate(Math.imul(data.getInt32(p + 8, true), M3), 17), M4);
    h3 = (Math.imul(rotate(h3, 15) + h4, 5) + 0x96cd1c35) | 0;
    h4 ^= Math.imul(rotate(Math.imul(data.getInt32(p + 12, true), M4), 18), M1);
    h4 = (Math.imul(rotate(h4, 13) + h1, 5) + 0x32ac3b17) | 0;
  }
  const rest = end - p;
  if (rest > 12) h4 ^= Math.imul(rotate(Math.imul(partWord(data, p + 12, end), M4), 18), M1);
  if (rest > 8) h3 ^= Math.imul(rotate(Math.imul(partWord(data, p + 8, end), M3), 17), M4);
  if (rest > 4) h2 ^= Math.imul(rotate(Math.imul(partWord(data, p + 4, end), M2), 16), M3);
  if (rest > 0) h1 ^= Math.imul(rotate(Math.imul(partWord(data, p, end), M1), 15), M2);
  h1 ^= length;
  h2 ^= length;
  h3 ^= length;
  h4 ^= length;
  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = (h2 + h1) | 0;
  h3 = (h3 + h1) | 0;
  h4 = (h4 + h1) | 0;
  h1 = mix(h1);
  h2 = mix(h2);
  h3 = mix(h3);
  h4 = mix(h4);
  h1 = (h1 + h2 + h3 + h4) | 0;
  out[at] = h1;
  out[at + 1] = h2 + h1;
  out[at + 2] = h3 + h1;
  out[at + 3] = h4 + h1;
}

/** Up to four bytes at `at`, none of them from `end` on, little-endian. */
export function partWord(data: DataView, at: number, end: number): number {
  if (at + 4 <= end) return data.getInt32(at, true);
  let value = 0;
  for (let p = end - 1; p >= at; p--) value = (value << 8) | data.getUint8(p);
  return value;
}

/** The 32-bit finaliser: every bit of the input moves every bit of the output. */
export function mix(value: number): number {
  let h = value ^ (value >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Bits rotated to the left. */
export function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
