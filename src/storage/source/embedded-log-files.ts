/**
 * Files of the embedded log, below the source's path:
 *
 *     topic.json                   name, id and number of partitions; replaced as a whole
 *     heads                        one slot per partition: how far the log is durable
 *     writer.lock.<n>              held by the one process that appends (directory-lock.ts)
 *     <partition>/<offset>.log     segments: raw record batches, named by their first offset, 20 digits
 *     ingest/<input>.json          how often an input file was ingested completely
 *
 * A reader trusts `heads` alone: a slot is written after the segment's fsync, so bytes behind it are
 * either torn or not yet promised to anybody.
 */
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32c } from '@node-rs/crc32';
import { PipelineError } from '../../errors.ts';

/** What topic.json says. */
export interface LogManifest {
  readonly formatVersion: 1;
  readonly topic: string;
  /** UUID; another one after the folder was deleted and made anew. */
  readonly topicId: string;
  readonly partitionCount: number;
}

/** How far a partition is durable. */
export interface LogHead {
  /** First offset of the newest segment. */
  readonly segment: bigint;
  /** Bytes of that segment that count. */
  readonly position: number;
  /** Exclusive end of the log. */
  readonly nextOffset: bigint;
}

const HEAD_BYTES = 32;
const SEGMENT_NAME = /^(\d{20})\.log$/;

/** The path of topic.json. */
export function manifestPath(root: string): string {
  return join(root, 'topic.json');
}

/** The path of the heads. */
export function headsPath(root: string): string {
  return join(root, 'heads');
}

/** The path of the writer's lock. */
export function writerLockPath(root: string): string {
  return join(root, 'writer.lock');
}

/** The folder of a partition's segments. */
export function partitionPath(root: string, partition: number): string {
  return join(root, String(partition));
}

/** The path of the segment that begins at `baseOffset`. */
export function segmentPath(root: string, partition: number, baseOffset: bigint): string {
  return join(partitionPath(root, partition), `${String(baseOffset).padStart(20, '0')}.log`);
}

/**
 * First offsets of a partition's segments, ascending.
 * @throws the error of readdir
 */
export async function listSegments(root: string, partition: number): Promise<bigint[]> {
  const names = await readdir(partitionPath(root, partition));
  const offsets = names.flatMap((name) => {
    const digits = SEGMENT_NAME.exec(name)?.[1];
    return digits === undefined ? [] : [BigInt(digits)];
  });
  return offsets.sort((a, b) => (a < b ? -1 : 1));
}

/**
 * Reads topic.json.
 * @returns undefined when there is none
 * @throws PipelineError corrupt TM_LOG_CORRUPT
 */
export async function readManifest(root: string): Promise<LogManifest | undefined> {
  let text: string;
  try {
    text = await readFile(manifestPath(root), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw diskError(error, manifestPath(root));
  }
  try {
    const manifest = JSON.parse(text) as Partial<LogManifest>;
    const { formatVersion, topic, topicId, partitionCount } = manifest;
    const valid =
      formatVersion === 1 &&
      typeof topic === 'string' &&
      typeof topicId === 'string' &&
      Number.isSafeInteger(partitionCount);
    if (valid) return manifest as LogManifest;
  } catch {
    // Said below, as for any other content.
  }
  throw new PipelineError(
    'corrupt',
    'TM_LOG_CORRUPT',
    'topic.json of the embedded log is damaged',
    {
      context: { path: manifestPath(root) },
    },
  );
}

/** Encodes a slot of the heads. */
export function encodeHead(head: LogHead): Buffer {
  const slot = Buffer.alloc(HEAD_BYTES);
  slot.writeBigInt64BE(head.segment, 0);
  slot.writeBigInt64BE(BigInt(head.position), 8);
  slot.writeBigInt64BE(head.nextOffset, 16);
  slot.writeUInt32BE(crc32c(slot.subarray(0, 24)), 24);
  return slot;
}

/**
 * The slot of `partition` out of all heads.
 * @returns undefined when it was never written, or is being written
 */
export function decodeHead(heads: Buffer, partition: number): LogHead | undefined {
  const slot = heads.subarray(partition * HEAD_BYTES, (partition + 1) * HEAD_BYTES);
  // The checksum of zeros is not zero, so that an unwritten slot is none.
  if (slot.length < HEAD_BYTES || crc32c(slot.subarray(0, 24)) !== slot.readUInt32BE(24)) {
    return undefined;
  }
  return {
    segment: slot.readBigInt64BE(0),
    position: Number(slot.readBigInt64BE(8)),
    nextOffset: slot.readBigInt64BE(16),
  };
}

/** Where the slot of a partition lies. */
export function headPosition(partition: number): number {
  return partition * HEAD_BYTES;
}

/** Replaces a small file as a whole and durably: readers see the old or the new one. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.tmp`;
  await mkdir(dirname(path), { recursive: true });
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** What the file system throws, as our errors. */
export function diskError(thrown: unknown, path: string): PipelineError {
  if (thrown instanceof PipelineError) return thrown;
  const { code } = thrown as NodeJS.ErrnoException;
  const details = { context: { path, errno: code }, cause: thrown };
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new PipelineError(
      'unavailable',
      'TM_DISK_FULL',
      'the embedded log has no space left',
      details,
    );
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new PipelineError(
      'invalid',
      'TM_SOURCE_DENIED',
      'the embedded log is not accessible',
      details,
    );
  }
  const message = 'the embedded log cannot be read or written';
  return new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', message, details);
}
