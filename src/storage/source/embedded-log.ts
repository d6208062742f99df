/**
 * The writer of the embedded log: an append-only, partitioned log of Kafka record batches on disk.
 * - E1 One process writes (directory-lock.ts); within it appends run one after another.
 * - E2 `append` returns when its batches are fsynced and the heads say so; readers see nothing sooner.
 *   A crash in between leaves whole batches, which recovery keeps, or a torn tail, which it cuts off.
 * - E3 Offsets are dense: base offsets are stamped here, outside the part that the checksum covers.
 * - E4 After a failed fsync nobody knows what is on disk: the log refuses to go on until reopened.
 * Cost: one fsync per touched partition and append, so callers append megabytes, not records.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { assert, PipelineError } from '../../errors.ts';
import { acquireDirectoryLock, type DirectoryLock, describeHolder } from './directory-lock.ts';
import {
  decodeHead,
  diskError,
  encodeHead,
  headPosition,
  headsPath,
  type LogHead,
  type LogManifest,
  listSegments,
  manifestPath,
  partitionPath,
  readManifest,
  replaceFile,
  segmentPath,
  syncFolder,
  writerLockPath,
} from './embedded-log-files.ts';
import { recoverPartition } from './embedded-log-recovery.ts';
import type { OffsetRange } from './event-source.ts';
import type { EmbeddedSourceConfig, SourceContext } from './source-context.ts';
import { BATCH_FIELD, readBatchHeader } from './record-batch-header.ts';
import { SegmentWalker } from './segment-walker.ts';

/** A finished batch on its way into a partition; its base offset is overwritten. */
export interface PendingBatch {
  readonly partition: number;
  readonly batch: Buffer;
}

/** Noted on the writer's lock once the heads can be trusted. */
export const RECOVERED_NOTE = 'recovered';

const SEGMENT_BYTES_MAX = 256 << 20;
const LOCK_WAIT_MS = 5000;

/** A partition as the writer holds it. */
interface OpenPartition {
  head: LogHead;
  /** The segment being written, which after a roll is newer than the head's until the append is done. */
  file: { readonly segment: bigint; readonly handle: FileHandle } | undefined;
}

/** The log while this process writes it. */
export class EmbeddedLog {
  readonly root: string;
  readonly manifest: LogManifest;
  readonly #lock: DirectoryLock;
  readonly #heads: FileHandle;
  readonly #partitions: OpenPartition[];
  readonly #segmentBytesMax: number;
  #tail: Promise<unknown> = Promise.resolve();
  #failure: PipelineError | undefined;
  #closed = false;

  private constructor(
    root: string,
    manifest: LogManifest,
    lock: DirectoryLock,
    heads: FileHandle,
    partitions: OpenPartition[],
    segmentBytesMax: number,
  ) {
    this.root = root;
    this.manifest = manifest;
    this.#lock = lock;
    this.#heads = heads;
    this.#partitions = partitions;
    this.#segmentBytesMax = segmentBytesMax;
  }

  /**
   * Takes the writer's lock, creates what is missing, and recovers from a crash.
   * @param options `waitMs`: for a living writer, 5 s by default; `segmentBytesMax`: for tests
   * @throws PipelineError unavailable (another writer, disk) | invalid (other topic) | corrupt
   */
  static async open(
    config: EmbeddedSourceConfig,
    { ambient, logger }: SourceContext,
    options: { readonly waitMs?: number; readonly segmentBytesMax?: number } = {},
  ): Promise<EmbeddedLog> {
    const root = config.path;
    const lockPath = writerLockPath(root);
    let lock: DirectoryLock | undefined;
    let heads: FileHandle | undefined;
    try {
      await mkdir(root, { recursive: true });
      lock = await acquireDirectoryLock(lockPath, ambient, options.waitMs ?? LOCK_WAIT_MS);
      if (!lock) throw await beingWritten(lockPath);
      const manifest = await ensureTopic(config, ambient.ids.uuid());
      heads = await openHeads(root);
      const stored = await heads.readFile();
      const partitions: OpenPartition[] = [];
      for (let partition = 0; partition < manifest.partitionCount; partition++) {
        const recovered = await recoverPartition(root, partition, decodeHead(stored, partition));
        if (recovered.cutBytes > 0) {
          logger.warn('cut a torn tail off the embedded log', {
            partition,
            cutBytes: recovered.cutBytes,
            nextOffset: recovered.head.nextOffset,
          });
        }
        partitions.push({ head: recovered.head, file: undefined });
      }
      const segmentBytesMax = options.segmentBytesMax ?? SEGMENT_BYTES_MAX;
      const log = new EmbeddedLog(root, manifest, lock, heads, partitions, segmentBytesMax);
      await log.#publish(partitions.map((_, partition) => partition));
      await lock.setNote(RECOVERED_NOTE);
      return log;
    } catch (thrown) {
      await heads?.close();
      await lock?.release();
      throw diskError(thrown, root);
    }
  }

  get partitionCount(): number {
    return this.#partitions.length;
  }

  /** Next offset of a partition. */
  nextOffset(partition: number): bigint {
    return this.#partition(partition).head.nextOffset;
  }

  /**
   * Appends batches durably, those of one partition in their order.
   * @returns the range of offsets that each touched partition got: `earliest` inclusive, `latest` exclusive
   * @throws PipelineError unavailable TM_DISK_FULL, TM_SOURCE_UNAVAILABLE; nothing of them is visible then
   */
  append(batches: readonly PendingBatch[]): Promise<ReadonlyMap<number, OffsetRange>> {
    const done = this.#tail.then(async () => {
      if (this.#failure) throw this.#failure;
      if (!(await this.#lock.isHeld())) throw this.#fenced();
      const byPartition = Map.groupBy(batches, ({ partition }) => partition);
      const touched = [...byPartition.keys()];
      const before = touched.map((partition) => this.#partition(partition).head);
      const ends = await Promise.allSettled(
        [...byPartition].map(([partition, ofOne]) =>
          this.#appendTo(
            partition,
            ofOne.map(({ batch }) => batch),
          ),
        ),
      );
      const failed = ends.find((end) => end.status === 'rejected');
      if (failed) {
        await Promise.all(touched.map((one, index) => this.#rollBack(one, before[index]!)));
        throw failed.reason;
      }
      await this.#publish(touched);
      return new Map(
        touched.map((partition, index) => [
          partition,
          { earliest: before[index]!.nextOffset, latest: this.nextOffset(partition) },
        ]),
      );
    });
    this.#tail = done.catch(() => {});
    return done;
  }

  /** How many records each partition holds of one producer id; reads the headers of the whole log. */
  async recordsOf(producerId: bigint): Promise<readonly number[]> {
    await this.#tail;
    return Promise.all(
      this.#partitions.map(async ({ head }, partition) => {
        let records = 0;
        for (const segment of await listSegments(this.root, partition)) {
          const file = await open(segmentPath(this.root, partition, segment), 'r');
          try {
            const end = segment === head.segment ? head.position : (await file.stat()).size;
            const walker = new SegmentWalker(file, 0, end);
            for (let header = await walker.header(); header; header = await walker.header()) {
              if (header.producerId === producerId) records += header.recordCount;
              walker.position += header.end;
            }
          } finally {
            await file.close();
          }
        }
        return records;
      }),
    );
  }

  /** Waits for the appends under way and gives the lock back. Idempotent. */
  async close(): Promise<void> {
    await this.#tail;
    if (this.#closed) return;
    this.#closed = true;
    this.#failure ??= new PipelineError('unavailable', 'TM_STOPPED', 'the embedded log was closed');
    for (const { file } of this.#partitions) await file?.handle.close();
    await this.#heads.close();
    await this.#lock.release();
  }

  /** A writer that slept so long that another took over must never write again. */
  #fenced(): PipelineError {
    const message = 'another process writes the embedded log now';
    this.#failure = new PipelineError('fenced', 'TM_STOPPED', message, {
      context: { path: this.root },
    });
    return this.#failure;
  }

  #partition(partition: number): OpenPartition {
    const found = this.#partitions[partition];
    assert(found, 'the partition exists', { partition });
    return found;
  }

  /** Writes and fsyncs batches behind the head, and moves it. */
  async #appendTo(partition: number, batches: readonly Buffer[]): Promise<void> {
    const state = this.#partition(partition);
    let { segment, position, nextOffset } = state.head;
    const bytes = batches.reduce((sum, batch) => sum + batch.length, 0);
    if (position > 0 && position + bytes > this.#segmentBytesMax) {
      await state.file?.handle.close();
      state.file = undefined;
      segment = nextOffset;
      position = 0;
    }
    for (const batch of batches) {
      batch.writeBigInt64BE(nextOffset, BATCH_FIELD.baseOffset);
      nextOffset = readBatchHeader(new DataView(batch.buffer, batch.byteOffset), 0).offsetLast + 1n;
    }
    const path = segmentPath(this.root, partition, segment);
    try {
      state.file ??= { segment, handle: await openSegment(this.root, partition, segment) };
      const { bytesWritten } = await state.file.handle.writev([...batches], position);
      if (bytesWritten !== bytes) {
        throw Object.assign(new Error('the disk took a part only'), { code: 'ENOSPC' });
      }
    } catch (thrown) {
      throw diskError(thrown, path);
    }
    try {
      await state.file.handle.datasync();
    } catch (thrown) {
      this.#failure = diskError(thrown, path);
      throw this.#failure;
    }
    state.head = { segment, position: position + bytes, nextOffset };
  }

  /**
   * Takes back what a failed append wrote, so that recovery never meets leftovers which by chance
   * continue a later append.
   */
  async #rollBack(partition: number, head: LogHead): Promise<void> {
    const state = this.#partition(partition);
    const { file } = state;
    state.head = head;
    state.file = undefined;
    try {
      await file?.handle.truncate(file.segment === head.segment ? head.position : 0);
      await file?.handle.close();
    } catch (thrown) {
      this.#failure ??= diskError(thrown, segmentPath(this.root, partition, head.segment));
    }
  }

  /** Tells readers how far the partitions are durable. */
  async #publish(partitions: readonly number[]): Promise<void> {
    await Promise.all(
      partitions.map(async (partition) => {
        const slot = encodeHead(this.#partition(partition).head);
        await this.#heads.write(slot, 0, slot.length, headPosition(partition));
      }),
    );
  }
}

/** Opens a segment for writing, creating it durably when it is new. */
async function openSegment(root: string, partition: number, segment: bigint): Promise<FileHandle> {
  const path = segmentPath(root, partition, segment);
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const file = await open(path, 'wx+');
  await syncFolder(partitionPath(root, partition));
  return file;
}

async function openHeads(root: string): Promise<FileHandle> {
  const path = headsPath(root);
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  return open(path, 'wx+');
}

/** Creates the topic, or adds partitions to it; never takes any away. */
async function ensureTopic(config: EmbeddedSourceConfig, newId: string): Promise<LogManifest> {
  const { path: root, topic } = config;
  const existing = await readManifest(root);
  if (existing && existing.topic !== topic) {
    throw new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      'source.path holds the log of another topic',
      {
        context: { path: root, topic, found: existing.topic },
      },
    );
  }
  const partitionCount = Math.max(existing?.partitionCount ?? 0, config.partitions);
  for (let partition = 0; partition < partitionCount; partition++) {
    await mkdir(partitionPath(root, partition), { recursive: true });
  }
  if (existing?.partitionCount === partitionCount) return existing;
  const topicId = existing?.topicId ?? newId;
  const manifest: LogManifest = { formatVersion: 1, topic, topicId, partitionCount };
  await replaceFile(manifestPath(root), `${JSON.stringify(manifest, undefined, 2)}\n`);
  return manifest;
}

async function beingWritten(lockPath: string): Promise<PipelineError> {
  const holder = await describeHolder(lockPath);
  return new PipelineError(
    'unavailable',
    'TM_SOURCE_UNAVAILABLE',
    `the embedded log is being written by ${holder}; only one process can`,
    { context: { path: lockPath } },
  );
}
