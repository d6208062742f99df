/** Walks the batches of a segment file from front to back, through a window rather than read by read. */
import type { FileHandle } from 'node:fs/promises';
import { crc32c } from '@node-rs/crc32';
import {
  BATCH_FIELD,
  BATCH_HEADER_BYTES,
  BATCH_OVERHEAD_BYTES,
  type BatchHeader,
  readBatchHeader,
} from './record-batch-header.ts';

const WINDOW_BYTES = 256 << 10;
/** For headers of batches that are larger than the window. */
const JUMP_WINDOW_BYTES = 4096;

/** A position between two batches of one file. */
export class SegmentWalker {
  /** Where the current batch begins. */
  position: number;
  readonly #file: FileHandle;
  readonly #end: number;
  #window = Buffer.alloc(0);
  #windowStart = 0;

  /**
   * @param position where a batch begins
   * @param end exclusive; nothing behind it is looked at
   */
  constructor(file: FileHandle, position: number, end: number) {
    this.#file = file;
    this.position = position;
    this.#end = end;
  }

  /** The batch at `position`; undefined when no whole one of a possible size is there. */
  async header(): Promise<BatchHeader | undefined> {
    if (this.position + BATCH_HEADER_BYTES > this.#end) return undefined;
    const bytes = await this.#bytes(BATCH_HEADER_BYTES);
    const size = BATCH_OVERHEAD_BYTES + bytes.readInt32BE(BATCH_FIELD.length);
    if (size < BATCH_HEADER_BYTES || this.position + size > this.#end) return undefined;
    return readBatchHeader(new DataView(bytes.buffer, bytes.byteOffset), 0);
  }

  /** Whether the batch that `header` described is undamaged. */
  async isIntact(header: BatchHeader): Promise<boolean> {
    const batch = await this.#bytes(header.end);
    return header.magic === 2 && crc32c(batch.subarray(BATCH_FIELD.attributes)) === header.crc;
  }

  async #bytes(count: number): Promise<Buffer> {
    const at = this.position - this.#windowStart;
    if (at < 0 || at + count > this.#window.length) {
      const jumped = at > this.#window.length;
      const window = jumped ? JUMP_WINDOW_BYTES : WINDOW_BYTES;
      const size = Math.max(count, Math.min(window, this.#end - this.position));
      this.#window = Buffer.allocUnsafeSlow(size);
      this.#windowStart = this.position;
      await readExactly(this.#file, this.#window, this.position);
      return this.#window.subarray(0, count);
    }
    return this.#window.subarray(at, at + count);
  }
}

/**
 * Reads until `buffer` is full; the caller knows that the bytes are there.
 * @throws Error when the file is shorter all the same
 */
export async function readExactly(
  file: FileHandle,
  buffer: Uint8Array,
  position: number,
): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) throw new Error('a segment of the embedded log ends too early');
    done += bytesRead;
  }
}
