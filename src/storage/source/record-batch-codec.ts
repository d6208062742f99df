/**
 * Compression of record batches. Invariants:
 * C1 inflating never allocates more than the caller's limit: sizes are known or bounded before, or
 *    checked while inflating (a batch of some megabytes can claim to be terabytes).
 * C2 what a codec cannot read is `corrupt`, what exceeds the limit is `invalid` with the remedy.
 * Source: Kafka documentation "Message format"; xerial snappy framing; LZ4 frame format 1.6.
 */
import { constants, gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { compressFrameSync, decompressFrameSync } from 'lz4-napi';
import { compressSync as snappyCompress, uncompressSync as snappyUncompress } from 'snappy';
import { PipelineError } from '../../errors.ts';

/** Position = codec number in the batch's attributes. */
export const COMPRESSIONS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const;

export type Compression = (typeof COMPRESSIONS)[number];

const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
/** Magic, version and lowest compatible version. */
const XERIAL_HEADER_BYTES = 16;
const LZ4_MAGIC = 0x184d2204;

/**
 * Inflates the records of one batch.
 * @param bytes what follows the batch header; for `none` it comes back unchanged
 * @param maxBytes limit of the inflated size
 * @throws PipelineError corrupt | invalid
 */
export function inflate(codec: Compression, bytes: Uint8Array, maxBytes: number): Uint8Array {
  const limits = {
    maxOutputLength: maxBytes,
    // One output chunk for a usual batch; the default of 16 KiB joins dozens.
    chunkSize: Math.min(Math.max(bytes.length * 6, 16 << 10), 4 << 20),
  };
  try {
    switch (codec) {
      case 'none':
        return bytes;
      case 'gzip':
        return gunzipSync(bytes, limits);
      case 'zstd':
        return zstdDecompressSync(bytes, limits);
      case 'snappy':
        return inflateSnappy(bytes, maxBytes);
      case 'lz4':
        checkSize(lz4SizeMax(bytes), maxBytes);
        return decompressFrameSync(asBuffer(bytes));
    }
  } catch (error) {
    if (error instanceof PipelineError) throw error;
    if ((error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes);
    throw new PipelineError(
      'corrupt',
      'TM_RECORD_BATCH_CORRUPT',
      `record batch is not valid ${codec}`,
      { cause: error },
    );
  }
}

/** Compresses the records of one batch at each codec's default level. */
export function deflate(codec: Compression, bytes: Uint8Array): Uint8Array {
  switch (codec) {
    case 'none':
      return bytes;
    case 'gzip':
      return gzipSync(bytes);
    case 'zstd':
      return zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    case 'snappy':
      return snappyCompress(bytes);
    case 'lz4':
      return compressFrameSync(asBuffer(bytes));
  }
}

function inflateSnappy(bytes: Uint8Array, maxBytes: number): Uint8Array {
  const source = asBuffer(bytes);
  if (source.compare(XERIAL_MAGIC, 0, 8, 0, Math.min(8, source.length)) !== 0) {
    checkSize(snappySize(source), maxBytes);
    return snappyUncompress(source, { asBuffer: true }) as Buffer;
  }
  const blocks: Buffer[] = [];
  let total = 0;
  for (let at = XERIAL_HEADER_BYTES; at < source.length; ) {
    const end = at + 4 + source.readInt32BE(at);
    if (end > source.length || end < at + 4) throw new RangeError('snappy block is cut off');
    const block = source.subarray(at + 4, end);
    total += snappySize(block);
    checkSize(total, maxBytes);
    blocks.push(snappyUncompress(block, { asBuffer: true }) as Buffer);
    at = end;
  }
  return blocks.length === 1 ? blocks[0]! : Buffer.concat(blocks, total);
}

/** The inflated size that a raw snappy block states in its first varint. */
function snappySize(block: Buffer): number {
  let size = 0;
  for (let i = 0; i < 5; i++) {
    const byte = block.readUInt8(i);
    size += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return size;
  }
  throw new RangeError('snappy block states no size');
}

/**
 * Most that an LZ4 frame can inflate to, from its block sizes alone, since frames need not state it;
 * beyond the true size by less than one block.
 */
function lz4SizeMax(bytes: Uint8Array): number {
  const frame = asBuffer(bytes);
  let sizeMax = 0;
  for (let at = 0; at < frame.length; ) {
    if (frame.readUInt32LE(at) !== LZ4_MAGIC) throw new RangeError('not an LZ4 frame');
    const flags = frame.readUInt8(at + 4);
    const blockSizeMax = 1 << (8 + 2 * ((frame.readUInt8(at + 5) >> 4) & 7));
    const blockTrailer = flags & 0x10 ? 4 : 0;
    at += 7 + (flags & 0x08 ? 8 : 0) + (flags & 0x01 ? 4 : 0);
    for (;;) {
      const word = frame.readUInt32LE(at);
      at += 4;
      if (word === 0) break;
      const stored = word & 0x7fffffff;
      // The highest bit marks a block stored as it is; no LZ4 block inflates more than 255-fold.
      sizeMax += word >>> 31 === 1 ? stored : Math.min(blockSizeMax, stored * 255);
      at += stored + blockTrailer;
    }
    at += flags & 0x04 ? 4 : 0;
  }
  return sizeMax;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function checkSize(size: number, maxBytes: number): void {
  if (size > maxBytes) throw tooLarge(maxBytes);
}

function tooLarge(maxBytes: number): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_RECORD_BATCH_UNSUPPORTED',
    'a record batch inflates beyond the limit; raise source.maxRecordBytes if such batches are genuine',
    { context: { maxInflatedBytes: maxBytes } },
  );
}
