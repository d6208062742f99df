/**
 * Finds declared member names in JSON bytes: first by a hint (events of a topic keep their order of
 * members), else by hash. Pure.
 */
import { TOKEN_LONE_SURROGATE, TOKEN_STRING } from './json-scanner.ts';
import { partWord, viewOf } from './murmur.ts';

const HASH_START = 0x811c9dc5;
const HASH_STEP = 0x01000193;
const QUOTE = 0x22;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** The text of valid UTF-8 bytes. */
export function textOf(data: Uint8Array, start: number, end: number): string {
  return decoder.decode(data.subarray(start, end));
}

/** A name as it stands between the quotes of a JSON string. */
export function escapedNameBytes(name: string): Uint8Array {
  return encoder.encode(JSON.stringify(name).slice(1, -1));
}

/** Whether two ranges hold the same bytes. */
export function bytesEqual(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): boolean {
  if (aEnd - aStart !== bEnd - bStart) return false;
  for (let i = aStart, k = bStart; i < aEnd; i++, k++) if (a[i] !== b[k]) return false;
  return true;
}

/** A set of names, each known by its index in the list it was made from. */
export class MemberNames {
  readonly #encoded: readonly Uint8Array[];
  /**
   * Of each name: its bytes, and where its bytes as words begin, the last word padded with zeros.
   */
  readonly #lengths: Int32Array;
  readonly #wordStarts: Int32Array;
  readonly #words: Int32Array;
  readonly #byText: ReadonlyMap<string, number>;
  /** Open addressing: index + 1 of the name whose hash leads there; 0 is free. */
  readonly #slots: Int32Array;
  readonly #lengthMax: number;

  constructor(names: readonly string[]) {
    this.#encoded = names.map((name) => encoder.encode(name));
    this.#lengths = Int32Array.from(this.#encoded, (bytes) => bytes.length);
    this.#wordStarts = new Int32Array(names.length);
    const words: number[] = [];
    for (const [index, bytes] of this.#encoded.entries()) {
      this.#wordStarts[index] = words.length;
      const view = viewOf(bytes);
      for (let p = 0; p < bytes.length; p += 4) words.push(partWord(view, p, bytes.length));
    }
    this.#words = Int32Array.from(words);
    this.#byText = new Map(names.map((name, index) => [name, index]));
    let capacity = 4;
    while (capacity < names.length * 2) capacity *= 2;
    this.#slots = new Int32Array(capacity);
    this.#lengthMax = Math.max(0, ...this.#encoded.map((bytes) => bytes.length));
    for (const [index, bytes] of this.#encoded.entries()) {
      let slot = hashBytes(bytes, 0, bytes.length) & (capacity - 1);
      while (this.#slots[slot] !== 0) slot = (slot + 1) & (capacity - 1);
      this.#slots[slot] = index + 1;
    }
  }

  /**
   * Whether name `index`, then a quote, stands at `at`.
   * @returns the position of that quote, or -1
   */
  matchAt(index: number, data: DataView, at: number, end: number): number {
    const length = this.#lengths[index]!;
    const close = at + length;
    if (close >= end || data.getUint8(close) !== QUOTE) return -1;
    const words = this.#words;
    let word = this.#wordStarts[index]!;
    let p = at;
    for (; p + 4 <= close; p += 4) if (data.getInt32(p, true) !== words[word++]) return -1;
    return p === close || partWord(data, p, close) === words[word] ? close : -1;
  }

  /**
   * The index of the name that the bytes [start, end) spell without escapes.
   * @returns -1 when it is not declared
   */
  find(data: Uint8Array, start: number, end: number): number {
    const length = end - start;
    if (length > this.#lengthMax) return -1;
    const mask = this.#slots.length - 1;
    let slot = hashBytes(data, start, end) & mask;
    for (;;) {
      const index = this.#slots[slot]! - 1;
      if (index < 0) return -1;
      const name = this.#encoded[index]!;
      if (bytesEqual(name, 0, name.length, data, start, end)) return index;
      slot = (slot + 1) & mask;
    }
  }

  /** Like find, for valid string text of any kind (a token kind). */
  findString(data: Uint8Array, start: number, end: number, stringKind: number): number {
    if (stringKind === TOKEN_STRING) return this.find(data, start, end);
    if (stringKind === TOKEN_LONE_SURROGATE) return -1;
    const name: unknown = JSON.parse(textOf(data, start - 1, end + 1));
    return this.#byText.get(String(name)) ?? -1;
  }
}

function hashBytes(data: Uint8Array, start: number, end: number): number {
  let hash = HASH_START;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ data[i]!, HASH_STEP);
  return hash ^ (hash >>> 15);
}
