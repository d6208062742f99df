/** Collects the offsets of one fetch that hold no row (P4). Pure. */
import type { Gap } from '../../pipeline/records.ts';

/** Explained gaps in ascending order; neighbours of one kind are one gap. */
export class GapList {
  readonly gaps: Gap[] = [];
  readonly #fromOffset: bigint;

  constructor(fromOffset: bigint) {
    this.#fromOffset = fromOffset;
  }

  /** @param to exclusive; an empty range, and what lies below the offset asked for, is left out */
  add(from: bigint, to: bigint, kind: Gap['kind']): void {
    const first = from > this.#fromOffset ? from : this.#fromOffset;
    if (first >= to) return;
    const last = this.gaps.at(-1);
    if (last && last.kind === kind && last.to === first) {
      this.gaps[this.gaps.length - 1] = { from: last.from, to, kind };
    } else this.gaps.push({ from: first, to, kind });
  }
}
