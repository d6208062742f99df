/** Reads batches out of one segment, by offset, with a sparse index that grows as it is used. */
import { type FileHandle, open } from 'node:fs/promises';
import { PipelineError } from '../../errors.ts';
import { BATCH_OVERHEAD_BYTES, BATCH_FIELD, batchSizeAt } from './record-batch-header.ts';
import { readExactly, SegmentWalker } from './segment-walker.ts';

/** Distance between two entries of the index. */
const INDEX_BYTES = 256 << 10;

/** Where a batch begins. */
interface IndexEntry {
  readonly offset: bigint;
  readonly position: number;
}

/** One open segment file. */
export class SegmentReader {
  readonly baseOffset: bigint;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #index: IndexEntry[];
  /** Behind the last whole batch read: where reading usually continues. */
  #cursor: IndexEntry;

  private constructor(path: string, file: FileHandle, baseOffset: bigint) {
    this.#path = path;
    this.#file = file;
    this.baseOffset = baseOffset;
    this.#cursor = { offset: baseOffset, position: 0 };
    this.#index = [this.#cursor];
  }

  /** @throws the error of open */
  static async open(path: string, baseOffset: bigint): Promise<SegmentReader> {
    return new SegmentReader(path, await open(path, 'r'), baseOffset);
  }

  /**
   * Batches from the one that holds `offset` on, at least that one, else about `maxBytes`.
   * @param end exclusive position of what may be read; the file's size when not given
   * @returns bytes that the caller owns; the last batch may be cut off
   * @throws PipelineError corrupt | the error of read
   */
  async read(offset: bigint, maxBytes: number, end: number | undefined): Promise<Uint8Array> {
    const limit = end ?? (await this.#file.stat()).size;
    const position = await this.#locate(offset, limit);
    let bytes = new Uint8Array(
      Math.min(Math.max(maxBytes, BATCH_OVERHEAD_BYTES), limit - position),
    );
    await readExactly(this.#file, bytes, position);
    const first = batchSizeAt(new DataView(bytes.buffer), 0);
    if (first !== undefined && first > bytes.length && position + first <= limit) {
      const whole = new Uint8Array(first);
      whole.set(bytes);
      await readExactly(this.#file, whole.subarray(bytes.length), position + bytes.length);
      bytes = whole;
    }
    this.#advance(bytes, position);
    return bytes;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** The position of the batch that holds `offset`. */
  async #locate(offset: bigint, limit: number): Promise<number> {
    if (this.#cursor.offset === offset) return this.#cursor.position;
    const near = this.#index.findLast((entry) => entry.offset <= offset) ?? this.#index[0]!;
    const walker = new SegmentWalker(this.#file, near.position, limit);
    for (let header = await walker.header(); header; header = await walker.header()) {
      if (header.offsetLast >= offset) return walker.position;
      walker.position += header.end;
      this.#remember({ offset: header.offsetLast + 1n, position: walker.position });
    }
    throw new PipelineError(
      'corrupt',
      'TM_LOG_CORRUPT',
      'a segment of the embedded log lacks an offset',
      {
        context: { path: this.#path, offset, position: walker.position },
      },
    );
  }

  /** Moves the cursor behind the last whole batch. */
  #advance(bytes: Uint8Array, position: number): void {
    const view = new DataView(bytes.buffer);
    let at = 0;
    let nextOffset = this.#cursor.offset;
    for (;;) {
      const size = batchSizeAt(view, at);
      if (size === undefined || size <= BATCH_OVERHEAD_BYTES || at + size > bytes.length) break;
      const lastDelta = view.getInt32(at + BATCH_FIELD.lastOffsetDelta);
      nextOffset = view.getBigInt64(at) + BigInt(lastDelta) + 1n;
      at += size;
    }
    if (at === 0) return;
    this.#cursor = { offset: nextOffset, position: position + at };
    this.#remember(this.#cursor);
  }

  #remember(entry: IndexEntry): void {
    if (entry.position >= this.#index.at(-1)!.position + INDEX_BYTES) this.#index.push(entry);
  }
}
