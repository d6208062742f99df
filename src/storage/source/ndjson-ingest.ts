/**
 * Appends NDJSON to the embedded log: a line is one record's value, byte for byte, empty lines too.
 * - N1 An input file that was interrupted is continued: its batches carry an id made from the file's
 *   path, its first line and how it is routed, so that each partition tells how many of its lines it
 *   has. A file that was appended completely is appended again when it is given again.
 * - N2 Memory is bounded by two rounds of ROUND_BYTES: while one is written and fsynced the next is read.
 * - N3 A stream's records are appended as soon as nothing more is waiting to be read.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { PipelineError } from '../../errors.ts';
import type { EmbeddedLog, PendingBatch } from './embedded-log.ts';
import { replaceFile } from './embedded-log-files.ts';
import { LineSplitter } from './line-splitter.ts';
import { type InputProgress, RecordRouter } from './record-router.ts';
import type { SourceContext } from './source-context.ts';

const ROUND_BYTES = 8 << 20;
const READ_BYTES = 1 << 20;
const FIRST_LINE_BYTES = 64 << 10;

/** What to append, and how. */
export interface IngestOptions {
  readonly log: EmbeddedLog;
  /** Path of a file, or a stream, which cannot be continued (N1). */
  readonly input: string | Readable;
  /** Member of the object that becomes the record's key. */
  readonly keyField: string | undefined;
  /** Member that becomes the record's timestamp, RFC 3339 or epoch milliseconds; the present without. */
  readonly arrivalField: string | undefined;
  /** Of a longer line this many bytes and one more are kept, which marks it as too large. */
  readonly maxRecordBytes: number;
  /** Ends between two rounds; what was appended stays. */
  readonly signal?: AbortSignal;
  /** Lines and bytes read so far. */
  readonly onProgress?: (lines: number, bytes: number) => void;
}

/** What an ingest did. */
export interface Ingested {
  readonly lines: number;
  readonly bytes: number;
  /** Lines that the log had already (N1). */
  readonly resumedLines: number;
  /** Lines whose arrival time could not be read. */
  readonly undatedLines: number;
}

/**
 * Appends all lines of an input, durably when it returns.
 * @throws PipelineError invalid (no such file) | unavailable (disk)
 */
export async function ingestNdjson(
  options: IngestOptions,
  { ambient }: SourceContext,
): Promise<Ingested> {
  const { log, input, keyField, arrivalField, signal } = options;
  const file = typeof input === 'string' ? await openInput(input) : undefined;
  try {
    const run = file && (await InputRun.find(options, input as string, file));
    const progress = run && (await run.progress(log));
    const router = new RecordRouter({
      clock: ambient.clock,
      partitionCount: log.partitionCount,
      keyField,
      arrivalField,
      progress,
    });
    let lines = 0;
    let bytes = 0;
    const splitter = new LineSplitter((line, start, end) => {
      lines += 1;
      router.route(line, start, end);
    }, options.maxRecordBytes + 1);
    let writing: Promise<unknown> = Promise.resolve();
    const startRound = async (): Promise<void> => {
      const batches: readonly PendingBatch[] = router.take();
      await writing;
      writing = batches.length > 0 ? log.append(batches) : Promise.resolve();
      // Observed by the next round; a failure until then must not count as unhandled.
      writing.catch(() => {});
      options.onProgress?.(lines, bytes);
    };
    router.beginChunk();
    for await (const { chunk, more } of file
      ? chunksOfFile(file)
      : chunksOfStream(input as Readable)) {
      if (signal?.aborted) break;
      router.beginChunk();
      bytes += chunk.length;
      splitter.push(chunk);
      if (router.pendingBytes >= ROUND_BYTES || !more) await startRound();
    }
    if (!signal?.aborted) splitter.finish();
    await startRound();
    await writing;
    if (!signal?.aborted) await run?.complete();
    const resumedLines = (progress?.done ?? []).reduce((sum, one) => sum + one, 0);
    return { lines, bytes, resumedLines, undatedLines: router.undatedLines };
  } finally {
    await file?.close();
  }
}

interface InputChunk {
  readonly chunk: Buffer;
  /** Whether more can be read without waiting. */
  readonly more: boolean;
}

async function* chunksOfFile(file: FileHandle): AsyncGenerator<InputChunk> {
  // One buffer suffices: lines are copied into batches before the next read.
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return;
    yield { chunk: buffer.subarray(0, bytesRead), more: true };
  }
}

async function* chunksOfStream(stream: Readable): AsyncGenerator<InputChunk> {
  for await (const chunk of stream) {
    yield { chunk: Buffer.from(chunk as Uint8Array | string), more: stream.readableLength > 0 };
  }
}

/** One time that a file is appended from its first line to its last (N1). */
class InputRun {
  readonly #path: string;
  readonly #identity: string;
  readonly #completed: number;

  private constructor(path: string, identity: string, completed: number) {
    this.#path = path;
    this.#identity = identity;
    this.#completed = completed;
  }

  /** @returns undefined for a pipe or another file without a fixed content */
  static async find(
    { log, keyField }: IngestOptions,
    input: string,
    file: FileHandle,
  ): Promise<InputRun | undefined> {
    if (!(await file.stat()).isFile()) return undefined;
    const first = Buffer.alloc(FIRST_LINE_BYTES);
    const { bytesRead } = await file.read(first, 0, first.length, 0);
    const lineEnd = first.subarray(0, bytesRead).indexOf(0x0a);
    const firstLine = first.subarray(0, lineEnd < 0 ? bytesRead : lineEnd);
    const identity = createHash('sha256')
      .update(JSON.stringify([await realpath(input), log.partitionCount, keyField ?? null]))
      .update(firstLine)
      .digest('hex');
    const path = join(log.root, 'ingest', `${identity.slice(0, 32)}.json`);
    const stored = await readFile(path, 'utf8').catch(() => '{}');
    const { completed = 0 } = JSON.parse(stored) as { completed?: number };
    return new InputRun(path, identity, completed);
  }

  async progress(log: EmbeddedLog): Promise<InputProgress> {
    const digest = createHash('sha256').update(`${this.#identity} ${this.#completed}`).digest();
    // Kafka's producer ids are not negative.
    const producerId = BigInt.asUintN(63, digest.readBigUInt64BE(0));
    return { producerId, done: await log.recordsOf(producerId) };
  }

  async complete(): Promise<void> {
    await replaceFile(this.#path, `${JSON.stringify({ completed: this.#completed + 1 })}\n`);
  }
}

async function openInput(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    throw new PipelineError('invalid', 'TM_USAGE', `cannot read the input ${path}`, {
      context: { path, errno: (cause as NodeJS.ErrnoException).code },
      cause,
    });
  }
}
