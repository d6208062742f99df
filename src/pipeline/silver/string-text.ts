/** The contents of JSON strings as bytes: escapes resolved to UTF-8, base64 to binary. Pure. */
import { hexUnit } from './json-scanner.ts';

const BACKSLASH = 0x5c;

/** A reusable target for decoded bytes. */
export class ByteScratch {
  bytes = new Uint8Array(256);
  length = 0;

  /** Empties it and makes room for `size` bytes. */
  begin(size: number): Uint8Array {
    if (this.bytes.length < size) this.bytes = new Uint8Array(size * 2);
    this.length = 0;
    return this.bytes;
  }

  /** Appends the bytes [start, end) of `source`. */
  append(source: Uint8Array, start: number, end: number): void {
    const length = this.length + end - start;
    if (length > this.bytes.length) {
      const grown = new Uint8Array(length * 2);
      grown.set(this.bytes.subarray(0, this.length));
      this.bytes = grown;
    }
    if (end - start > 64) this.bytes.set(source.subarray(start, end), this.length);
    else for (let i = start, to = this.length; i < end; i++) this.bytes[to++] = source[i]!;
    this.length = length;
  }
}

/** Resolves the escapes of valid string text without lone surrogates; never grows the text. */
export function unescapeInto(
  target: ByteScratch,
  data: Uint8Array,
  start: number,
  end: number,
): void {
  const out = target.begin(end - start);
  let to = 0;
  for (let p = start; p < end; ) {
    const c = data[p]!;
    if (c !== BACKSLASH) {
      out[to++] = c;
      p++;
      continue;
    }
    const letter = data[p + 1]!;
    if (letter !== 0x75) {
      out[to++] = controlOf(letter);
      p += 2;
      continue;
    }
    let code = hexUnit(data, p + 2, end);
    p += 6;
    if (code >= 0xd800 && code <= 0xdbff) {
      code = 0x10000 + ((code - 0xd800) << 10) + hexUnit(data, p + 2, end) - 0xdc00;
      p += 6;
    }
    to = writeUtf8(out, to, code);
  }
  target.length = to;
}

/** What `\` and `letter` stand for. */
function controlOf(letter: number): number {
  switch (letter) {
    case 0x62:
      return 0x08;
    case 0x66:
      return 0x0c;
    case 0x6e:
      return 0x0a;
    case 0x72:
      return 0x0d;
    case 0x74:
      return 0x09;
    default:
      return letter;
  }
}

function writeUtf8(out: Uint8Array, at: number, code: number): number {
  let to = at;
  if (code < 0x80) {
    out[to++] = code;
    return to;
  }
  if (code < 0x800) {
    out[to++] = 0xc0 | (code >> 6);
  } else {
    if (code < 0x10000) {
      out[to++] = 0xe0 | (code >> 12);
    } else {
      out[to++] = 0xf0 | (code >> 18);
      out[to++] = 0x80 | ((code >> 12) & 0x3f);
    }
    out[to++] = 0x80 | ((code >> 6) & 0x3f);
  }
  out[to++] = 0x80 | (code & 0x3f);
  return to;
}

const BASE64_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const BASE64 = new Int8Array(256).fill(-1);
for (let i = 0; i < BASE64_LETTERS.length; i++) BASE64[BASE64_LETTERS.charCodeAt(i)] = i;

/**
 * Decodes base64 (RFC 4648 section 4) with padding and without spare bits, so that each binary
 * value has one spelling.
 * @returns false when the text is none
 */
export function base64Into(
  target: ByteScratch,
  data: Uint8Array,
  start: number,
  end: number,
): boolean {
  const length = end - start;
  if (length % 4 !== 0) return false;
  const out = target.begin((length / 4) * 3);
  if (length === 0) return true;
  const padding = data[end - 1] !== 0x3d ? 0 : data[end - 2] !== 0x3d ? 1 : 2;
  let bits = 0;
  let pending = 0;
  let to = 0;
  for (let p = start; p < end - padding; p++) {
    const value = BASE64[data[p]!]!;
    if (value < 0) return false;
    bits = ((bits << 6) | value) & 0xffff;
    pending += 6;
    if (pending >= 8) {
      pending -= 8;
      out[to++] = bits >> pending;
      bits &= (1 << pending) - 1;
    }
  }
  target.length = to;
  return bits === 0;
}
