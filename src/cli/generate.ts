/**
 * `tidemark generate`: synthetic API usage events to a file, to stdout, or into the pipeline's
 * source, at full speed or at a steady rate.
 */
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { PipelineError } from '../errors.ts';
import { type GeneratedChunk, UsageEventGenerator } from '../pipeline/generator.ts';
import { parseInstantMs } from '../pipeline/generator/instant-text.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { untilAvailable } from './availability.ts';
import {
  decimal,
  defineCommand,
  EXIT,
  integer,
  type Options,
  text,
  usageError,
} from './command.ts';
import type { CommandContext } from './context.ts';
import { toJson } from './terminal.ts';
import { groupDigits } from './text-table.ts';

/** Lines handled at a time at full speed. */
const CHUNK_LINES = 5_000;
/** Length of one step at a steady rate. */
const STEP_MS = 50;
/** Fixed, so that a seed alone decides what is generated. */
const START = '2026-11-22T00:00:00Z';

const OPTIONS = {
  events: integer('lines in all', { min: 0, fallback: 10_000 }),
  seed: integer('the same seed gives the same events', { min: 0, fallback: 7 }),
  out: text('FILE', 'write NDJSON; - is stdout (default without -c: stdout)'),
  truth: text('FILE', 'write what a correct pipeline must end with, as JSON'),
  arrivals: text('FILE', 'write arrival times, little-endian int64 epoch milliseconds'),
  arrivalField: text('F', 'add the arrival time to each event under this name'),
  rate: decimal('R', 'lines per second, arriving now (default: as fast as possible)', {
    min: 0.001,
    max: 10_000_000,
    fallback: undefined,
  }),
  duplicates: decimal('X', 'share of lines that repeat an earlier one', {
    min: 0,
    max: 0.5,
    fallback: 0.02,
  }),
  late: decimal('X', 'share of events two to six hours late', { min: 0, max: 1, fallback: 0.01 }),
  poison: decimal('X', 'share of lines that are not JSON', { min: 0, max: 1, fallback: 0.001 }),
  start: text('TIME', `first arrival, RFC 3339 (default: ${START}, with --rate now)`),
  hours: decimal('H', 'span that arrivals cover, without --rate', {
    min: 0.001,
    max: 100_000,
    fallback: 24,
  }),
};

export const generateCommand = defineCommand({
  name: 'generate',
  summary: 'make synthetic usage events with duplicates, late and poison ones',
  options: OPTIONS,
  example: 'tidemark generate --events 1000000 --seed 7 --out events.ndjson --truth truth.json',
  run: (context, { options }) => generate(context, options),
});

async function generate(
  context: CommandContext,
  options: Options<typeof OPTIONS>,
): Promise<typeof EXIT.ok> {
  const { clock } = context.ambient;
  if (options.late + options.poison > 1) throw usageError('--late and --poison exceed 1 together.');
  const startMs = startOf(options.start, options.rate === undefined, clock.nowMs());
  const spanMs =
    options.rate === undefined
      ? Math.max(1, Math.round(options.hours * 3_600_000))
      : Math.max(1, Math.round((options.events / options.rate) * 1000));
  const generator = new UsageEventGenerator({ ...options, startMs, spanMs });
  const sink = await openSink(context, options);
  const arrivals =
    options.arrivals === undefined ? undefined : await openFile(context, options.arrivals);
  const startedMs = clock.monotonicMs();
  let lines = 0;
  let complete = false;
  try {
    while (!context.signal.aborted) {
      const linesMax =
        options.rate === undefined
          ? CHUNK_LINES
          : await pace(context, { rate: options.rate, lines, startedMs });
      const chunk = generator.next(linesMax);
      if (!chunk) {
        complete = true;
        break;
      }
      await sink.write(chunk);
      if (arrivals) await writeFully(arrivals, arrivalBytes(chunk.arrivalsMs));
      lines += chunk.values.length;
      showProgress(context, lines, options.events, clock.monotonicMs() - startedMs);
    }
  } finally {
    await arrivals?.close();
    await sink.close(complete);
    context.terminal.clearProgress();
  }
  if (!complete) throw new PipelineError('invalid', 'TM_STOPPED', 'Stopped before the end.');
  const truth = generator.truth();
  if (options.truth !== undefined) {
    const file = await openFile(context, options.truth);
    await writeFully(file, Buffer.from(`${toJson(truth)}\n`));
    await file.close();
  }
  const seconds = (clock.monotonicMs() - startedMs) / 1000;
  if (sink.usesStdout) return EXIT.ok;
  await context.terminal.result({ out: sink.description, seconds, ...truth }, () =>
    [
      `${groupDigits(truth.lines)} lines to ${sink.description} in ${seconds.toFixed(1)} s: ` +
        `${groupDigits(truth.unique_valid)} valid events, ${groupDigits(truth.duplicates)} duplicates, ` +
        `${groupDigits(truth.late)} late, ${groupDigits(truth.invalid)} not JSON`,
    ].join('\n'),
  );
  return EXIT.ok;
}

function startOf(given: string | undefined, fixed: boolean, nowMs: number): number {
  if (given === undefined) return fixed ? parseInstantMs(START)! : Math.round(nowMs);
  const ms = parseInstantMs(given);
  if (ms === undefined)
    throw usageError(`--start takes a time such as ${START}; "${given}" is none.`);
  return ms;
}

/** Waits until lines are due. @returns how many */
async function pace(
  context: CommandContext,
  at: { readonly rate: number; readonly lines: number; readonly startedMs: number },
): Promise<number> {
  const { clock } = context.ambient;
  for (;;) {
    const due = Math.floor(((clock.monotonicMs() - at.startedMs) * at.rate) / 1000) - at.lines;
    if (due > 0 || context.signal.aborted) return Math.min(Math.max(due, 1), CHUNK_LINES);
    await clock.sleep(Math.max(STEP_MS, Math.min(1000, 1000 / at.rate)), context.signal);
  }
}

function showProgress(
  context: CommandContext,
  lines: number,
  all: number,
  elapsedMs: number,
): void {
  const rate = lines / Math.max(1, elapsedMs / 1000);
  const left = Math.ceil((all - lines) / rate);
  context.terminal.progress(
    `${groupDigits(lines)} of ${groupDigits(all)} lines, ${groupDigits(Math.round(rate))}/s, ${left} s left`,
  );
}

/** Where lines go. */
interface LineSink {
  readonly description: string;
  /** Lines are the output: no result is printed. */
  readonly usesStdout: boolean;
  write(chunk: GeneratedChunk): Promise<void>;
  /** @param complete whether all lines were written */
  close(complete: boolean): Promise<void>;
}

async function openSink(
  context: CommandContext,
  options: Options<typeof OPTIONS>,
): Promise<LineSink> {
  const { out } = options;
  if (out === undefined && context.configFile !== undefined) return openSourceSink(context);
  if (out === undefined || out === '-') {
    if (context.terminal.json)
      throw usageError('--json needs --out FILE or -c: lines go to stdout.');
    return {
      description: 'stdout',
      usesStdout: true,
      write: (chunk) => context.terminal.write(`${chunk.values.join('\n')}\n`),
      close: async () => {},
    };
  }
  return openFileSink(context, out);
}

/** Writes beside the file and renames at the end, so that a half file is never taken for whole. */
async function openFileSink(context: CommandContext, out: string): Promise<LineSink> {
  const path = resolve(context.cwd, out);
  const partial = `${path}.partial`;
  const file = await openFile(context, `${out}.partial`);
  return {
    description: out,
    usesStdout: false,
    // The generator writes ASCII only, for which latin1 is the fastest encoding.
    write: (chunk) => writeFully(file, Buffer.from(`${chunk.values.join('\n')}\n`, 'latin1')),
    close: async (complete) => {
      await file.close();
      await (complete ? rename(partial, path) : rm(partial));
    },
  };
}

async function openSourceSink(context: CommandContext): Promise<LineSink> {
  const config = context.loadConfig();
  requireUsageEvents(config);
  const sink = await untilAvailable(context, () => context.adapters.openSink(config));
  return {
    description: sink.description,
    usesStdout: false,
    // Not tried again: a lost answer would append the lines a second time.
    write: (chunk) =>
      sink.append(
        chunk.values.map((value, i) => ({
          key: chunk.keys[i],
          value,
          timestampMs: chunk.arrivalsMs[i]!,
        })),
      ),
    close: () => sink.close(),
  };
}

/** What is generated fits pipelines of usage events only. */
function requireUsageEvents(config: PipelineConfig): void {
  const { id, time } = config.event;
  if (id === 'event_id' && time.field === 'event_time' && time.unit === 'rfc3339') return;
  throw usageError(
    `generate makes API usage events (event_id, event_time); ${config.name} takes events of ` +
      `another kind. Write them to a file with --out instead.`,
  );
}

function arrivalBytes(arrivalsMs: readonly number[]): Buffer {
  const bytes = Buffer.alloc(arrivalsMs.length * 8);
  arrivalsMs.forEach((ms, i) => bytes.writeBigInt64LE(BigInt(ms), i * 8));
  return bytes;
}

/** @throws PipelineError invalid when the file cannot be written */
async function openFile(context: CommandContext, file: string): Promise<FileHandle> {
  const path = resolve(context.cwd, file);
  try {
    await mkdir(dirname(path), { recursive: true });
    return await open(path, 'w');
  } catch (cause) {
    throw fileError(cause);
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  try {
    await file.writeFile(bytes);
  } catch (cause) {
    throw fileError(cause);
  }
}

function fileError(cause: unknown): PipelineError {
  const { code, path, message } = cause as NodeJS.ErrnoException;
  if (code === 'ENOSPC') {
    return new PipelineError('unavailable', 'TM_DISK_FULL', 'The disk is full.', { cause });
  }
  return new PipelineError(
    'invalid',
    'TM_USAGE',
    `Cannot write ${path ?? 'the file'}: ${message}.`,
    {
      cause,
    },
  );
}
