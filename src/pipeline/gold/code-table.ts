/**
 * The hash table behind dictionaries and groups: it numbers entries whose content its user stores.
 * The user probes `pairs` itself, so that the comparison of content is inlined in its own loop.
 */

/** Entries that a new table, and the store beside it, has room for. */
export const INITIAL_ENTRIES = 32;

/** Open addressing with linear probing over (hash, code) pairs, at most half full. */
export class CodeTable {
  /** Code 0 is a free place. The place of a hash is `(hash << 1) & mask`, the next 2 further. */
  pairs = new Int32Array(4 * INITIAL_ENTRIES);
  /** Codes given out: 1 to `size`. */
  size = 0;

  /** Keeps an index of `pairs` even and in range. */
  get mask(): number {
    return this.pairs.length - 2;
  }

  get residentBytes(): number {
    return this.pairs.byteLength;
  }

  /**
   * Gives the next code to an entry; may replace `pairs`.
   * @param at the free place where probing for the entry ended
   * @returns the code
   */
  take(at: number, hash: number): number {
    const code = ++this.size;
    this.pairs[at] = hash;
    this.pairs[at + 1] = code;
    if (this.size * 4 >= this.pairs.length) this.#grow();
    return code;
  }

  #grow(): void {
    const old = this.pairs;
    const pairs = new Int32Array(old.length * 2);
    const mask = pairs.length - 2;
    for (let from = 0; from < old.length; from += 2) {
      if (old[from + 1] === 0) continue;
      let at = (old[from]! << 1) & mask;
      while (pairs[at + 1] !== 0) at = (at + 2) & mask;
      pairs[at] = old[from]!;
      pairs[at + 1] = old[from + 1]!;
    }
    this.pairs = pairs;
  }
}
