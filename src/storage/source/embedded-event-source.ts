/**
 * The event source on the embedded log: same offsets and batches as Kafka, from files.
 * - M1 Only what `heads` covers is read: it is durable, and a torn tail lies behind it.
 * - M2 Appends by this and by other processes are noticed the same way: `heads` is looked at every
 *   POLL_MS while somebody waits, one read for all partitions.
 * - M3 A deleted, re-created or damaged log ends reading loudly (P8).
 */
import { type FileHandle, open } from 'node:fs/promises';
import { type ErrorCode, PipelineError } from '../../errors.ts';
import { readLockNote } from './directory-lock.ts';
import {
  decodeHead,
  diskError,
  headsPath,
  type LogHead,
  type LogManifest,
  listSegments,
  manifestPath,
  readManifest,
  segmentPath,
  writerLockPath,
} from './embedded-log-files.ts';
import { EmbeddedLog, RECOVERED_NOTE } from './embedded-log.ts';
import type {
  EventSource,
  FetchResult,
  OffsetRange,
  PartitionReader,
  TopicInfo,
} from './event-source.ts';
import type { EmbeddedSourceConfig, SourceContext } from './source-context.ts';
import { stopped } from './source-context.ts';
import { SegmentReader } from './segment-reader.ts';

const POLL_MS = 10;
const RECOVERY_WAIT_MS = 5000;
/** How often a waiting source looks whether the topic is still the same one. */
const IDENTITY_CHECK_MS = 1000;

/**
 * Opens the log for reading; creates it, and recovers it after a crash, unless a writer has it open.
 * @throws PipelineError unavailable | invalid | corrupt
 */
export async function openEmbeddedEventSource(
  config: EmbeddedSourceConfig,
  context: SourceContext,
): Promise<EventSource> {
  await recoverUnlessWritten(config, context);
  const manifest = await requireManifest(config.path, undefined);
  const heads = await open(headsPath(config.path), 'r').catch((error: unknown) => {
    throw diskError(error, headsPath(config.path));
  });
  return new EmbeddedEventSource(
    config,
    manifest,
    new HeadWatch(config.path, manifest, heads, context),
  );
}

/**
 * Recovers the log, or sees to it that the process which writes it has done so: until then the heads
 * may lie behind what bronze has read already.
 */
async function recoverUnlessWritten(
  config: EmbeddedSourceConfig,
  context: SourceContext,
): Promise<void> {
  const { clock } = context.ambient;
  const deadlineMs = clock.monotonicMs() + RECOVERY_WAIT_MS;
  for (;;) {
    try {
      const log = await EmbeddedLog.open(config, context, { waitMs: 0 });
      return await log.close();
    } catch (thrown) {
      if (!(thrown instanceof PipelineError && thrown.kind === 'unavailable')) throw thrown;
      if ((await readLockNote(writerLockPath(config.path))) === RECOVERED_NOTE) return;
      if (clock.monotonicMs() >= deadlineMs) throw thrown;
    }
    await clock.sleep(POLL_MS);
  }
}

class EmbeddedEventSource implements EventSource {
  readonly description: string;
  readonly #config: EmbeddedSourceConfig;
  readonly #manifest: LogManifest;
  readonly #watch: HeadWatch;
  readonly #readers = new Set<PartitionReader>();

  constructor(config: EmbeddedSourceConfig, manifest: LogManifest, watch: HeadWatch) {
    this.description = `embedded log ${config.path} topic ${config.topic}`;
    this.#config = config;
    this.#manifest = manifest;
    this.#watch = watch;
  }

  async describe(): Promise<TopicInfo> {
    const { topic, topicId, partitionCount } = await requireManifest(this.#config.path, undefined);
    return { topic, topicId, partitionCount };
  }

  async offsets(partition: number): Promise<OffsetRange> {
    await requireManifest(this.#config.path, this.#manifest);
    const [segments, head] = await Promise.all([
      readSegments(this.#config.path, partition),
      this.#watch.read(partition),
    ]);
    return rangeOf(segments, head);
  }

  async openPartition(partition: number): Promise<PartitionReader> {
    await this.offsets(partition);
    const reader = new EmbeddedPartitionReader(partition, this.#config.path, this.#watch, () =>
      this.#readers.delete(reader),
    );
    this.#readers.add(reader);
    return reader;
  }

  /** Nobody outside watches an embedded log. */
  async reportProgress(): Promise<void> {}

  async close(): Promise<void> {
    for (const reader of this.#readers) await reader.close();
    await this.#watch.close();
  }
}

class EmbeddedPartitionReader implements PartitionReader {
  readonly partition: number;
  readonly #root: string;
  readonly #watch: HeadWatch;
  readonly #ended = new AbortController();
  readonly #onClosed: () => void;
  #segments: readonly bigint[] = [];
  #open: SegmentReader | undefined;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(partition: number, root: string, watch: HeadWatch, onClosed: () => void) {
    this.partition = partition;
    this.#root = root;
    this.#watch = watch;
    this.#onClosed = onClosed;
  }

  fetch(request: Parameters<PartitionReader['fetch']>[0]): Promise<FetchResult> {
    const answer = this.#busy.then(() => this.#fetch(request));
    this.#busy = answer.catch(() => {});
    return answer;
  }

  async close(): Promise<void> {
    this.#ended.abort();
    await this.#busy;
    await this.#open?.close();
    this.#open = undefined;
    this.#onClosed();
  }

  async #fetch(request: Parameters<PartitionReader['fetch']>[0]): Promise<FetchResult> {
    const { offset, maxBytes } = request;
    if (this.#ended.signal.aborted) throw stopped();
    let head = await this.#watch.read(this.partition);
    if (head.nextOffset === offset) {
      head = await this.#watch.waitBeyond(this.partition, request, this.#ended.signal);
      if (this.#ended.signal.aborted) throw stopped();
    }
    if (this.#segments.at(-1) !== head.segment) {
      this.#segments = await readSegments(this.#root, this.partition);
    }
    const range = rangeOf(this.#segments, head);
    if (offset < range.earliest || offset > range.latest) return { kind: 'out-of-range', ...range };
    const bytes =
      offset < range.latest ? await this.#read(offset, maxBytes, head) : new Uint8Array(0);
    return { kind: 'records', bytes, aborted: [], ...range };
  }

  async #read(offset: bigint, maxBytes: number, head: LogHead): Promise<Uint8Array> {
    const segment = this.#segments.findLast((base) => base <= offset);
    if (segment === undefined)
      throw damaged(this.#root, 'a segment of the embedded log is missing');
    const path = segmentPath(this.#root, this.partition, segment);
    try {
      if (this.#open?.baseOffset !== segment) {
        await this.#open?.close();
        this.#open = undefined;
        this.#open = await SegmentReader.open(path, segment);
      }
      const end = segment === head.segment ? head.position : undefined;
      return await this.#open.read(offset, maxBytes, end);
    } catch (thrown) {
      // What was deleted under us is listed anew by the next fetch.
      this.#segments = [];
      throw diskError(thrown, path);
    }
  }
}

/** Knows how far each partition is, and wakes those who wait for more (M2). */
class HeadWatch {
  readonly #root: string;
  readonly #manifest: LogManifest;
  readonly #file: FileHandle;
  readonly #context: SourceContext;
  #reading: Promise<Buffer> | undefined;
  #identityCheckedMs: number;
  #closed = false;

  constructor(root: string, manifest: LogManifest, file: FileHandle, context: SourceContext) {
    this.#root = root;
    this.#manifest = manifest;
    this.#file = file;
    this.#context = context;
    this.#identityCheckedMs = context.ambient.clock.monotonicMs();
  }

  /** @throws PipelineError unavailable while the head cannot be read */
  async read(partition: number): Promise<LogHead> {
    for (let attempt = 1; ; attempt++) {
      const head = decodeHead(await this.#heads(), partition);
      if (head) return head;
      // A slot caught while it was being written is whole the next time.
      if (attempt === 5) {
        throw unavailable(this.#root, 'the end of an embedded partition cannot be read');
      }
    }
  }

  /** Returns when the partition grew beyond the offset asked for, time is up, or a signal aborted. */
  async waitBeyond(
    partition: number,
    request: {
      readonly offset: bigint;
      readonly maxWaitMs: number;
      readonly signal?: AbortSignal;
    },
    ended: AbortSignal,
  ): Promise<LogHead> {
    const { clock } = this.#context.ambient;
    const deadlineMs = clock.monotonicMs() + request.maxWaitMs;
    for (;;) {
      const head = await this.read(partition);
      const leftMs = deadlineMs - clock.monotonicMs();
      const over = leftMs <= 0 || ended.aborted || request.signal?.aborted;
      if (head.nextOffset !== request.offset || over) return head;
      await clock.sleep(Math.min(POLL_MS, leftMs), request.signal ?? ended);
      await this.#checkIdentity();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#reading?.catch(() => {});
    await this.#file.close();
  }

  /** Callers of the same moment share one read. */
  #heads(): Promise<Buffer> {
    if (this.#closed) return Promise.reject(stopped());
    this.#reading ??= this.#readHeads().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #readHeads(): Promise<Buffer> {
    try {
      const { size } = await this.#file.stat();
      const heads = Buffer.allocUnsafe(size);
      const { bytesRead } = await this.#file.read(heads, 0, size, 0);
      return heads.subarray(0, bytesRead);
    } catch (thrown) {
      throw diskError(thrown, headsPath(this.#root));
    }
  }

  async #checkIdentity(): Promise<void> {
    const nowMs = this.#context.ambient.clock.monotonicMs();
    if (nowMs - this.#identityCheckedMs < IDENTITY_CHECK_MS) return;
    this.#identityCheckedMs = nowMs;
    await requireManifest(this.#root, this.#manifest);
  }
}

function rangeOf(segments: readonly bigint[], head: LogHead): OffsetRange {
  return { earliest: segments[0] ?? head.nextOffset, latest: head.nextOffset };
}

async function readSegments(root: string, partition: number): Promise<readonly bigint[]> {
  try {
    return await listSegments(root, partition);
  } catch (thrown) {
    throw diskError(thrown, root);
  }
}

/**
 * The manifest as it is now.
 * @param expected what it was when this source was opened
 * @throws PipelineError invalid TM_TOPIC_MISSING, TM_TOPIC_RECREATED | corrupt
 */
async function requireManifest(
  root: string,
  expected: LogManifest | undefined,
): Promise<LogManifest> {
  const manifest = await readManifest(root);
  if (!manifest) {
    throw gone('TM_TOPIC_MISSING', 'the embedded log is gone', root);
  }
  if (expected && manifest.topicId !== expected.topicId) {
    const message =
      'the embedded log was deleted and created again; its offsets mean other records now';
    throw gone('TM_TOPIC_RECREATED', message, root);
  }
  return manifest;
}

function gone(code: ErrorCode, message: string, root: string): PipelineError {
  return new PipelineError('invalid', code, message, { context: { path: manifestPath(root) } });
}

function damaged(root: string, message: string): PipelineError {
  return new PipelineError('corrupt', 'TM_LOG_CORRUPT', message, { context: { path: root } });
}

function unavailable(root: string, message: string): PipelineError {
  return new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', message, {
    context: { path: root },
  });
}
