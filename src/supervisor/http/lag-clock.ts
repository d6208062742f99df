/**
 * How long a reader has been behind, from ends that were seen growing. Pure but for what it keeps.
 *
 * LC1 The age is that of the first observation whose end lay beyond what is covered: off by at most
 *     one interval of observation, and for a backlog older than the clock, by the time before it.
 */

interface Mark {
  readonly end: bigint;
  readonly atMs: number;
}

/** Marks kept at most; with more, every second one goes, which costs precision only. */
const MARKS_MAX = 128;

export class LagClock {
  #marks: Mark[] = [];

  /**
   * Takes in an observation.
   * @param end exclusive end of what there is
   * @param covered exclusive end of what the reader has
   * @param nowMs on any clock that does not run backwards
   * @returns seconds for which the oldest thing not covered has been there; 0 when all is
   */
  observe(end: bigint, covered: bigint, nowMs: number): number {
    const last = this.#marks.at(-1);
    // An end that shrank belongs to another log.
    if (last && end < last.end) this.#marks = [];
    if (this.#marks.length === 0 || end > this.#marks.at(-1)!.end) {
      this.#marks.push({ end, atMs: nowMs });
    }
    while (this.#marks.length > 1 && this.#marks[0]!.end <= covered) this.#marks.shift();
    if (this.#marks.length > MARKS_MAX) {
      this.#marks = this.#marks.filter((_, index) => index % 2 === 0 || index === MARKS_MAX);
    }
    return end <= covered ? 0 : Math.max(0, nowMs - this.#marks[0]!.atMs) / 1000;
  }
}
