/**
 * Finds declared member names in JSON bytes: first by a hint (events of a topic keep their order of
 * members), else by hash. Pure.
 */
import { TOKEN_LONE_SURROGATE, TOKEN_STRING } from './json-scanner.ts';

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
  readonly #byText: ReadonlyMap<string, number>;
  /** Open addressing: index + 1 of the name whose hash leads there; 0 is free. */
  readonly #slots: Int32Array;
  readonly #lengthMax: number;

  constructor(names: readonly string[]) {
    this.#encoded = names.map((name) => encoder.encode(name));
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
  matchAt(index: number, data: Uint8Array, at: number, end: number): number {
    const name = this.#encoded[index]!;
    const close = at + name.length;
    if (close >= end || data[close] !== QUOTE) return -1;
    for (let i = 0; i < name.length; i++) if (data[at + i] !== name[i]) return -1;
    return close;
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
