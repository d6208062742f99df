/**
 * A limit on bytes in flight (P10): who wants to bring in more waits until others have left.
 *
 * Invariants:
 * - BB1 Granted bytes exceed the bound only by one request larger than what is free when nothing
 *   else is in flight, so that an oversized record cannot block its partition for ever.
 * - BB2 Requests are granted in the order in which they came.
 */

/** Bytes granted to one holder. */
export interface Grant {
  /** Changes the granted amount to what it turned out to be. */
  resize(bytes: number): void;
  /** Gives the bytes back; idempotent. */
  release(): void;
}

export class ByteBudget {
  readonly #bytesMax: number;
  #granted = 0;
  readonly #waiting: { readonly bytes: number; readonly grant: () => void }[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get grantedBytes(): number {
    return this.#granted;
  }

  /** Waits for `bytes`. @returns undefined when the signal aborted first */
  acquire(bytes: number, signal: AbortSignal): Promise<Grant | undefined> {
    if (signal.aborted) return Promise.resolve(undefined);
    if (this.#waiting.length === 0 && this.#fits(bytes)) return Promise.resolve(this.#grant(bytes));
    return new Promise((resolve) => {
      const entry = {
        bytes,
        grant: () => {
          signal.removeEventListener('abort', abort);
          resolve(this.#grant(bytes));
        },
      };
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1);
        resolve(undefined);
        this.#admit();
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#waiting.push(entry);
    });
  }

  #fits(bytes: number): boolean {
    return this.#granted === 0 || this.#granted + bytes <= this.#bytesMax;
  }

  #grant(bytes: number): Grant {
    let held = bytes;
    let released = false;
    this.#granted += bytes;
    return {
      resize: (actual) => {
        if (released) return;
        this.#granted += actual - held;
        held = actual;
        this.#admit();
      },
      release: () => {
        if (released) return;
        released = true;
        this.#granted -= held;
        this.#admit();
      },
    };
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.#fits(this.#waiting[0]!.bytes)) {
      this.#waiting.shift()!.grant();
    }
  }
}
