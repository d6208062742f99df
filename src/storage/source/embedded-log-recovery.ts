/**
 * Makes an embedded log whole again after a crash. Run by whoever holds the writer's lock.
 * - W1 What `heads` covers was fsynced before and is left alone; whole batches behind it were written
 *   but not promised, and are kept; a torn tail behind those is cut off.
 * - W2 A bad batch with a good one behind it is no torn tail but damage: `corrupt`, nothing is cut.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { PipelineError } from '../../errors.ts';
import { diskError, type LogHead, listSegments, segmentPath } from './embedded-log-files.ts';
import { SegmentWalker } from './segment-walker.ts';

/** What recovery did to a partition. */
export interface Recovered {
  readonly head: LogHead;
  /** Bytes cut off the newest segment. */
  readonly cutBytes: number;
}

/**
 * Finds the true end of a partition, cuts off a torn tail and makes the rest durable.
 * @param head as stored; undefined when it is lost
 * @throws PipelineError corrupt TM_LOG_CORRUPT | unavailable | invalid
 */
export async function recoverPartition(
  root: string,
  partition: number,
  head: LogHead | undefined,
): Promise<Recovered> {
  const segments = await listSegments(root, partition);
  const newest = segments.at(-1);
  if (newest === undefined) {
    if (head && head.nextOffset > 0n) throw corrupt(root, partition, head.segment, 'is missing');
    return { head: { segment: 0n, position: 0, nextOffset: 0n }, cutBytes: 0 };
  }
  const known = head && segments.includes(head.segment) ? head : undefined;
  if (head && !known && head.segment >= newest) {
    throw corrupt(root, partition, head.segment, 'is missing');
  }
  let end: LogHead = known ?? { segment: newest, position: 0, nextOffset: newest };
  for (const segment of segments.filter((one) => one >= end.segment)) {
    if (segment !== end.segment) {
      if (segment !== end.nextOffset) throw corrupt(root, partition, segment, 'does not continue');
      end = { segment, position: 0, nextOffset: segment };
    }
    const path = segmentPath(root, partition, segment);
    const file = await open(path, 'r+').catch((error: unknown) => {
      throw diskError(error, path);
    });
    try {
      const { size } = await file.stat();
      if (size < end.position) throw corrupt(root, partition, segment, 'is shorter than it was');
      end = await scan(file, size, end);
      if (end.position === size) continue;
      const torn = segment === newest && !(await goodBatchFollows(file, size, end));
      if (!torn) throw corrupt(root, partition, segment, 'holds a damaged batch');
      await file.truncate(end.position);
      return { head: end, cutBytes: size - end.position };
    } finally {
      await file.datasync();
      await file.close();
    }
  }
  return { head: end, cutBytes: 0 };
}

/** Follows good batches from `head` on. */
async function scan(file: FileHandle, size: number, head: LogHead): Promise<LogHead> {
  const walker = new SegmentWalker(file, head.position, size);
  let { nextOffset } = head;
  for (let header = await walker.header(); header; header = await walker.header()) {
    if (header.baseOffset !== nextOffset || !(await walker.isIntact(header))) break;
    walker.position += header.end;
    nextOffset = header.offsetLast + 1n;
  }
  return { segment: head.segment, position: walker.position, nextOffset };
}

/** Whether an intact batch begins where the bad one at `head` says that it ends (W2). */
async function goodBatchFollows(file: FileHandle, size: number, head: LogHead): Promise<boolean> {
  const walker = new SegmentWalker(file, head.position, size);
  const bad = await walker.header();
  if (!bad) return false;
  walker.position += bad.end;
  const next = await walker.header();
  return next !== undefined && (await walker.isIntact(next));
}

function corrupt(root: string, partition: number, segment: bigint, why: string): PipelineError {
  return new PipelineError('corrupt', 'TM_LOG_CORRUPT', `a segment of the embedded log ${why}`, {
    context: { path: segmentPath(root, partition, segment) },
  });
}
