/**
 * Bitmaps in Arrow's order (least significant bit first): validity and booleans. Pure.
 */

/** Bytes that hold `bits` bits. */
export function bitmapBytes(bits: number): number {
  return (bits + 7) >>> 3;
}

/** Whether bit `index` is set. */
export function bitAt(bitmap: Uint8Array, index: number): boolean {
  return (bitmap[index >> 3]! & (1 << (index & 7))) !== 0;
}

/** Sets bits [from, from + count). */
export function setBits(target: Uint8Array, from: number, count: number): void {
  const end = from + count;
  let bit = from;
  while (bit < end && (bit & 7) !== 0) {
    target[bit >> 3]! |= 1 << (bit & 7);
    bit++;
  }
  const wholeBytesEnd = end & ~7;
  if (bit < wholeBytesEnd) {
    target.fill(0xff, bit >> 3, wholeBytesEnd >> 3);
    bit = wholeBytesEnd;
  }
  for (; bit < end; bit++) target[bit >> 3]! |= 1 << (bit & 7);
}

/**
 * Copies `count` bits between any two bit positions.
 * @param target its bits [targetBit, targetBit + count) must be clear
 */
export function copyBits(
  source: Uint8Array,
  sourceBit: number,
  target: Uint8Array,
  targetBit: number,
  count: number,
): void {
  let from = sourceBit;
  let to = targetBit;
  const end = sourceBit + count;
  for (; from < end && (to & 7) !== 0; from++, to++) {
    if (bitAt(source, from)) target[to >> 3]! |= 1 << (to & 7);
  }
  const shift = from & 7;
  const wholeBytes = (end - from) >> 3;
  const fromByte = from >> 3;
  const toByte = to >> 3;
  if (shift === 0) {
    target.set(source.subarray(fromByte, fromByte + wholeBytes), toByte);
  } else {
    for (let i = 0; i < wholeBytes; i++) {
      target[toByte + i] =
        (source[fromByte + i]! >> shift) | (source[fromByte + i + 1]! << (8 - shift));
    }
  }
  from += wholeBytes * 8;
  to += wholeBytes * 8;
  for (; from < end; from++, to++) {
    if (bitAt(source, from)) target[to >> 3]! |= 1 << (to & 7);
  }
}

/** How many of the first `length` bits are set. */
export function countSetBits(bitmap: Uint8Array, length: number): number {
  let count = 0;
  const wholeBytes = length >> 3;
  for (let i = 0; i < wholeBytes; i++) {
    let byte = bitmap[i]!;
    byte -= (byte >> 1) & 0x55;
    byte = (byte & 0x33) + ((byte >> 2) & 0x33);
    count += (byte + (byte >> 4)) & 0x0f;
  }
  for (let bit = wholeBytes * 8; bit < length; bit++) if (bitAt(bitmap, bit)) count++;
  return count;
}
