/** Splits a byte stream into lines without copying those that lie within one chunk. Pure. */

const LINE_FEED = 0x0a;

/** Takes the line `bytes[start, end)`, without its line feed; valid during the call only. */
export type LineSink = (bytes: Buffer, start: number, end: number) => void;

/** Collects chunks and hands on lines. */
export class LineSplitter {
  readonly #onLine: LineSink;
  readonly #maxBytes: number;
  /** The beginning of a line whose end is still to come. */
  #held = Buffer.allocUnsafeSlow(4096);
  #heldBytes = 0;
  #isHolding = false;

  /** @param maxBytes of a longer line only these first bytes are handed on: memory stays bounded */
  constructor(onLine: LineSink, maxBytes: number) {
    this.#onLine = onLine;
    this.#maxBytes = maxBytes;
  }

  push(chunk: Buffer): void {
    let start = 0;
    if (this.#isHolding) {
      const end = chunk.indexOf(LINE_FEED);
      this.#hold(chunk, 0, end < 0 ? chunk.length : end);
      if (end < 0) return;
      this.#release();
      start = end + 1;
    }
    for (;;) {
      const end = chunk.indexOf(LINE_FEED, start);
      if (end < 0) break;
      this.#onLine(chunk, start, Math.min(end, start + this.#maxBytes));
      start = end + 1;
    }
    if (start < chunk.length) this.#hold(chunk, start, chunk.length);
  }

  /** The stream ended: a last line need not end with a line feed. */
  finish(): void {
    if (this.#isHolding) this.#release();
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const bytes = Math.min(end - start, this.#maxBytes - this.#heldBytes);
    const total = this.#heldBytes + bytes;
    if (total > this.#held.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(total, this.#held.length * 2));
      grown.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = grown;
    }
    this.#held.set(chunk.subarray(start, start + bytes), this.#heldBytes);
    this.#heldBytes = total;
    this.#isHolding = true;
  }

  #release(): void {
    const bytes = this.#heldBytes;
    this.#heldBytes = 0;
    this.#isHolding = false;
    this.#onLine(this.#held, 0, bytes);
  }
}
