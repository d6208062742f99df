/** Promises that wait for an upstream version to be covered, or for the end of waiting. */

export class VersionWaiters {
  #covered = -1;
  readonly #waiting = new Set<{ readonly version: number; readonly done: () => void }>();

  /** Upstream version that was last said to be covered; -1 before the first. */
  get covered(): number {
    return this.#covered;
  }

  /** Settles when `version` is covered or waiting was given up. */
  wait(version: number): Promise<void> {
    if (version <= this.#covered) return Promise.resolve();
    return new Promise((done) => this.#waiting.add({ version, done }));
  }

  /** Lets everybody go: what is not covered is found again in the log. */
  abandon(): void {
    this.reached(Number.POSITIVE_INFINITY);
  }

  reached(version: number): void {
    this.#covered = Math.max(this.#covered, version);
    for (const one of this.#waiting) {
      if (one.version > this.#covered) continue;
      this.#waiting.delete(one);
      one.done();
    }
  }
}
