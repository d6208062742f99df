/**
 * Reads batches out of one segment, by offset, with a sparse index that grows as it is used.
 * - SR1 A segment has no holes: a read gives the batch asked for, and batches that continue each
 *   other, or it is corrupt. Their base offsets are in no checksum.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { PipelineError } from '../../errors.ts';
import {
  BATCH_FIELD,
  BATCH_HEADER_BYTES,
  BATCH_OVERHEAD_BYTES,
  batchSizeAt,
} from './record-batch-header.ts';
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
   * Batches from the one that holds `offset` on, at least that one, else about `maxBytes` (SR1).
   * @param end exclusive position of what may be read; the file's size when not given
   * @returns bytes that the caller owns; the last batch may be cut off
   * @throws PipelineError corrupt | the error of read
   */
  async read(offset: bigint, maxBytes: number, end: number | undefined): Promise<Uint8Array> {
    const limit = end ?? (await this.#file.stat()).size;
    const from = await this.#locate(offset, limit);
    const left = Math.max(0, limit - from.position);
    let bytes = new Uint8Array(Math.min(Math.max(maxBytes, BATCH_OVERHEAD_BYTES), left));
    await readExactly(this.#file, bytes, from.position);
    const first = batchSizeAt(new DataView(bytes.buffer), 0);
    if (first !== undefined && first > bytes.length && first <= left) {
      const whole = new Uint8Array(first);
      whole.set(bytes);
      await readExactly(this.#file, whole.subarray(bytes.length), from.position + bytes.length);
      bytes = whole;
    }
    this.#advance(bytes, from, offset);
    return bytes;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Where the batch that holds `offset` begins. */
  async #locate(offset: bigint, limit: number): Promise<IndexEntry> {
    if (this.#cursor.offset === offset) return this.#cursor;
    let at = this.#index.findLast((entry) => entry.offset <= offset) ?? this.#index[0]!;
    const walker = new SegmentWalker(this.#file, at.position, limit);
    for (let header = await walker.header(); header; header = await walker.header()) {
      if (header.baseOffset !== at.offset) break;
      if (header.offsetLast >= offset) return at;
      walker.position += header.end;
      at = { offset: header.offsetLast + 1n, position: walker.position };
      this.#remember(at);
    }
    throw this.#lacks(offset, walker.position);
  }

  /** Moves the cursor behind the last whole batch (SR1). */
  #advance(bytes: Uint8Array, from: IndexEntry, offset: bigint): void {
    const view = new DataView(bytes.buffer);
    let at = 0;
    let next = from.offset;
    for (;;) {
      const size = batchSizeAt(view, at);
      if (size === undefined || at + size > bytes.length) break;
      if (size < BATCH_HEADER_BYTES || view.getBigInt64(at) !== next) {
        throw this.#lacks(next, from.position + at);
      }
      next += BigInt(view.getInt32(at + BATCH_FIELD.lastOffsetDelta)) + 1n;
      at += size;
    }
    if (next <= offset) throw this.#lacks(next, from.position + at);
    this.#cursor = { offset: next, position: from.position + at };
    this.#remember(this.#cursor);
  }

  #lacks(offset: bigint, position: number): PipelineError {
    return new PipelineError(
      'corrupt',
      'TM_LOG_CORRUPT',
      `a segment of the embedded log lacks an offset: ${this.#path}`,
      { context: { path: this.#path, offset, position } },
    );
  }

  #remember(entry: IndexEntry): void {
    if (entry.position >= this.#index.at(-1)!.position + INDEX_BYTES) this.#index.push(entry);
  }
}
