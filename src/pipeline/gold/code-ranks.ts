/**
 * Orders the entries of a dictionary by content: multikey quicksort on 32-bit words, one word of
 * every entry at a time, so that shared prefixes are compared once. Source: Bentley and Sedgewick,
 * "Fast Algorithms for Sorting and Searching Strings" (1997).
 */

/** Dictionary entries as sequences of words; distinct entries differ in some word. */
export interface SortableEntries {
  /** Entries are numbered 1 to `size`. */
  readonly size: number;
  /** Unsigned word `depth` of an entry; 0 is a valid answer beyond its last word. */
  sortWord(code: number, depth: number): number;
}

const INSERTION_MAX = 12;

/**
 * @returns by code: its place in ascending order, 1 to `size`; index 0 (null) holds 0
 */
export function rankEntries(entries: SortableEntries): Int32Array {
  const { size } = entries;
  const codes = new Int32Array(size);
  for (let i = 0; i < size; i++) codes[i] = i + 1;
  sortCodes(entries, codes);
  const ranks = new Int32Array(size + 1);
  for (let i = 0; i < size; i++) ranks[codes[i]!] = i + 1;
  return ranks;
}

function sortCodes(entries: SortableEntries, codes: Int32Array): void {
  const words = new Uint32Array(codes.length);
  /**
   * Ranges still to sort: from (inclusive), to (exclusive), words known equal before this depth.
   */
  const pending: number[] = [0, codes.length, 0];
  const swap = (a: number, b: number): void => {
    const code = codes[a]!;
    const word = words[a]!;
    codes[a] = codes[b]!;
    words[a] = words[b]!;
    codes[b] = code;
    words[b] = word;
  };
  while (pending.length > 0) {
    const depth = pending.pop()!;
    const to = pending.pop()!;
    const from = pending.pop()!;
    if (to - from <= INSERTION_MAX) {
      insertionSort(entries, codes, from, to, depth);
      continue;
    }
    for (let i = from; i < to; i++) words[i] = entries.sortWord(codes[i]!, depth);
    const pivot = medianOfThree(words[from]!, words[(from + to) >> 1]!, words[to - 1]!);
    let less = from;
    let more = to;
    for (let i = from; i < more; ) {
      const word = words[i]!;
      if (word < pivot) swap(i++, less++);
      else if (word > pivot) swap(i, --more);
      else i++;
    }
    pending.push(from, less, depth, less, more, depth + 1, more, to, depth);
  }
}

function medianOfThree(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

function insertionSort(
  entries: SortableEntries,
  codes: Int32Array,
  from: number,
  to: number,
  depth: number,
): void {
  for (let i = from + 1; i < to; i++) {
    const code = codes[i]!;
    let at = i;
    for (; at > from && comesAfter(entries, codes[at - 1]!, code, depth); at--) {
      codes[at] = codes[at - 1]!;
    }
    codes[at] = code;
  }
}

function comesAfter(entries: SortableEntries, a: number, b: number, fromDepth: number): boolean {
  for (let depth = fromDepth; ; depth++) {
    const left = entries.sortWord(a, depth);
    const right = entries.sortWord(b, depth);
    if (left !== right) return left > right;
  }
}
