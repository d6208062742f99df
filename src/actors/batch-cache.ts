/**
 * Batches that one stage wrote and the next will read soon, kept in memory so that it need not fetch
 * and decode the file again. A hint: a batch that is not here is read from the lake (P1, P10).
 *
 * Invariants:
 * - BC1 Bytes held never exceed the bound; the oldest batch goes first.
 * - BC2 A batch is handed out once: its buffers move to the thread of the reader.
 */
import { type ColumnBatch, transferablesOf } from '../pipeline/columns.ts';

export class BatchCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, { readonly batch: ColumnBatch; readonly bytes: number }>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps the batch of a data file. @param key the file's key in the object store */
  put(key: string, batch: ColumnBatch): void {
    const bytes = transferablesOf(batch).reduce((sum, buffer) => sum + buffer.byteLength, 0);
    if (bytes > this.#bytesMax) return;
    this.#remove(key);
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes + bytes <= this.#bytesMax) break;
      this.#remove(oldest);
    }
    this.#entries.set(key, { batch, bytes });
    this.#bytes += bytes;
  }

  /** Takes the batch out. @returns undefined when it must be read from the lake */
  take(key: string): ColumnBatch | undefined {
    const entry = this.#entries.get(key);
    if (entry) this.#remove(key);
    return entry?.batch;
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}
