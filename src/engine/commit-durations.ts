/** How long Delta commits of this process took, by stage, as counts that add up over processes. */

/** Upper bounds in seconds. */
const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class CommitDurations {
  readonly #counts = new Map<string, number>();

  /** @param root of the table; its first folder names the stage */
  readonly add = (root: string, seconds: number): void => {
    const stage = root.endsWith('_dlq') ? 'dead_letter' : root.split('/')[0]!;
    for (const bound of BOUNDS) this.#grow(`commit:${stage}:${bound}`, seconds <= bound ? 1 : 0);
    this.#grow(`commit:${stage}:count`, 1);
    this.#grow(`commit:${stage}:sum`, seconds);
  };

  /**
   * By name: `commit:<stage>:<bound>` is how many took at most `bound` seconds,
   * `commit:<stage>:count` how many there were, `commit:<stage>:sum` the seconds of all.
   */
  toRecord(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts);
  }

  #grow(name: string, by: number): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + by);
  }
}
