/**
 * Ranges of bronze rows: what a user asks for, which files may hold such rows, and the rows. Pure.
 *
 * Invariant BR1: files are skipped only by what the log states of them; a file that states nothing is
 * read.
 */
import { PipelineError } from '../../errors.ts';
import { type ColumnBatch, columnOf } from '../../pipeline/columns.ts';
import { dateText, daysOfDate } from '../../pipeline/progress.ts';
import { InstantParser } from '../../pipeline/silver/civil-time.ts';
import { dateOf } from '../../pipeline/silver/arrival.ts';
import { builderFor } from '../../pipeline/silver/growable-columns.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';

/** Rows by Kafka timestamp or by offset; both bounds are of the timestamp, in microseconds. */
export interface BronzeRange {
  /** Inclusive. */
  readonly fromMicros: bigint | undefined;
  /** Exclusive. */
  readonly toMicros: bigint | undefined;
  /** First offset by partition; partitions that are not named are left out. */
  readonly startingOffsets: ReadonlyMap<number, bigint> | undefined;
}

/** Times of ingestion, in microseconds since the epoch; undefined: open on that side. */
export interface IngestionSpan {
  /** Inclusive. */
  readonly fromMicros: bigint | undefined;
  /** Exclusive. */
  readonly toMicros: bigint | undefined;
}

/** Every row. */
export const WHOLE_RANGE: BronzeRange = {
  fromMicros: undefined,
  toMicros: undefined,
  startingOffsets: undefined,
};

const MICROS_PER_DAY = 86_400_000_000n;

/**
 * The range that a command's options mean; exactly one of the three ways.
 * @param given.date `YYYY-MM-DD`; `from` and `to` are RFC 3339 times, or dates that mean midnight UTC
 * @throws PipelineError invalid TM_USAGE
 */
export function parseRange(given: {
  readonly date?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly startingOffsets?: string | undefined;
}): BronzeRange {
  const { date, from, to, startingOffsets } = given;
  const bounded = from !== undefined || to !== undefined;
  const ways = [date !== undefined, bounded, startingOffsets !== undefined].filter(Boolean).length;
  if (ways !== 1) {
    throw usage('Give one of --date D, --from T with --to T, or --starting-offsets \'{"0":123}\'.');
  }
  if (date !== undefined) {
    const days = daysOfDate(date);
    if (days === undefined) throw usage(`--date takes YYYY-MM-DD; "${date}" is none.`);
    const fromMicros = BigInt(days) * MICROS_PER_DAY;
    return { ...WHOLE_RANGE, fromMicros, toMicros: fromMicros + MICROS_PER_DAY };
  }
  if (startingOffsets !== undefined) {
    return { ...WHOLE_RANGE, startingOffsets: parseOffsets(startingOffsets) };
  }
  const fromMicros = from === undefined ? undefined : parseInstant('--from', from);
  const toMicros = to === undefined ? undefined : parseInstant('--to', to);
  if (fromMicros !== undefined && toMicros !== undefined && fromMicros >= toMicros) {
    throw usage(`--from ${from} is not before --to ${to}.`);
  }
  return { ...WHOLE_RANGE, fromMicros, toMicros };
}

function parseInstant(option: string, text: string): bigint {
  const days = daysOfDate(text);
  if (days !== undefined) return BigInt(days) * MICROS_PER_DAY;
  const micros = instantMicros(text);
  if (micros !== undefined) return micros;
  throw usage(`${option} takes a date or an RFC 3339 time; "${text}" is none.`);
}

/** An RFC 3339 time in microseconds since the epoch; undefined when it is none. */
function instantMicros(text: string): bigint | undefined {
  const parser = new InstantParser();
  const bytes = new TextEncoder().encode(text);
  if (!parser.parseRfc3339(bytes, 0, bytes.length)) return undefined;
  return (BigInt(parser.high) << 32n) | BigInt(parser.low >>> 0);
}

function parseOffsets(text: string): ReadonlyMap<number, bigint> {
  const problem = usage(
    `--starting-offsets takes an object of partition and offset such as '{"0":123,"1":0}'; "${text}" is none.`,
  );
  // Offsets go through strings, for they may be beyond what JSON numbers hold.
  let parsed: unknown;
  try {
    parsed = JSON.parse(text.replace(/:\s*(\d+)/g, ':"$1"'));
  } catch {
    throw problem;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw problem;
  const entries = Object.entries(parsed).map(([partition, offset]): [number, bigint] => {
    if (!/^\d{1,9}$/.test(partition) || typeof offset !== 'string' || !/^\d+$/.test(offset)) {
      throw problem;
    }
    return [Number(partition), BigInt(offset)];
  });
  if (entries.length === 0) throw problem;
  return new Map(entries);
}

function usage(message: string): PipelineError {
  return new PipelineError('invalid', 'TM_USAGE', message);
}

/** Dates of Kafka timestamps that the range touches, inclusive; undefined: open on that side. */
export function datesOfRange({ fromMicros, toMicros }: BronzeRange): {
  readonly first: string | undefined;
  readonly last: string | undefined;
} {
  const dateAt = (micros: bigint): string =>
    dateText(dateOf(Number(BigInt.asIntN(32, micros)), Number(micros >> 32n)));
  return {
    first: fromMicros === undefined ? undefined : dateAt(fromMicros),
    last: toMicros === undefined ? undefined : dateAt(toMicros - 1n),
  };
}

interface Stats {
  readonly minValues?: Readonly<Record<string, unknown>>;
  readonly maxValues?: Readonly<Record<string, unknown>>;
}

/** A file's statistics; empty when it has none that can be read. */
export function statsOf(file: LiveFile): Stats {
  try {
    return file.stats === undefined ? {} : ((JSON.parse(file.stats) as Stats | null) ?? {});
  } catch {
    return {};
  }
}

/**
 * When the rows of a bronze file were ingested, both bounds inclusive; open where the log states nothing
 * (BR1).
 */
export function ingestionOf(file: LiveFile): {
  readonly firstMicros: bigint | undefined;
  readonly lastMicros: bigint | undefined;
} {
  const { minValues, maxValues } = statsOf(file);
  const microsIn = (values: Stats['minValues']): bigint | undefined => {
    const time = values?.['_ingested_at'];
    return typeof time === 'string' ? instantMicros(time) : undefined;
  };
  const last = microsIn(maxValues);
  // Statistics of other writers may be cut to milliseconds.
  return { firstMicros: microsIn(minValues), lastMicros: last === undefined ? last : last + 999n };
}

/** Whether a bronze file may hold rows of the range (BR1). */
export function mayHoldRange(file: LiveFile, range: BronzeRange): boolean {
  const date = file.partitionValues['_event_date'] ?? undefined;
  return mayHoldRecords(file, range, { first: date, last: date });
}

/** Whether a silver file may have rows of the range's records (BR1). */
export function mayHaveRowsOf(file: LiveFile, range: BronzeRange): boolean {
  const { minValues, maxValues } = statsOf(file);
  const dateIn = (values: Stats['minValues']): string | undefined => {
    const time = values?.['_kafka_timestamp'];
    return typeof time === 'string' ? time.slice(0, 10) : undefined;
  };
  return mayHoldRecords(file, range, { first: dateIn(minValues), last: dateIn(maxValues) });
}

/** @param dates of the records' Kafka timestamps, as far as the log states them */
function mayHoldRecords(
  file: LiveFile,
  range: BronzeRange,
  dates: { readonly first: string | undefined; readonly last: string | undefined },
): boolean {
  const { first, last } = datesOfRange(range);
  if (first !== undefined && dates.last !== undefined && dates.last < first) return false;
  if (last !== undefined && dates.first !== undefined && dates.first > last) return false;
  if (range.startingOffsets === undefined) return true;
  const lastOffset = statsOf(file).maxValues?.['_kafka_offset'];
  if (typeof lastOffset !== 'number') return true;
  // Beyond 2^53 the number is rounded by up to half of what it is compared with here.
  return [...range.startingOffsets.values()].some((from) => BigInt(lastOffset) + 1024n >= from);
}

/** Whether a file may hold a record of one of the offsets, of whatever partition (BR1). */
export function mayHoldOffsets(file: LiveFile, offsets: readonly bigint[]): boolean {
  const { minValues, maxValues } = statsOf(file);
  const [first, last] = [minValues?.['_kafka_offset'], maxValues?.['_kafka_offset']];
  if (typeof first !== 'number' || typeof last !== 'number') return true;
  // Beyond 2^53 the numbers are rounded by up to half of this.
  const slack = last > Number.MAX_SAFE_INTEGER ? 1024n : 0n;
  const [from, to] = [BigInt(first) - slack, BigInt(last) + slack];
  return offsets.some((offset) => offset >= from && offset <= to);
}

/** The rows of a bronze batch that lie in the range. */
export function rowsInRange(batch: ColumnBatch, range: BronzeRange): number[] {
  const partitions = columnOf(batch, '_kafka_partition')!.values as Int32Array;
  const offsets = columnOf(batch, '_kafka_offset')!.values as BigInt64Array;
  const times = columnOf(batch, '_kafka_timestamp')!.values as BigInt64Array;
  const { fromMicros, toMicros, startingOffsets } = range;
  const rows: number[] = [];
  for (let row = 0; row < batch.length; row++) {
    if (fromMicros !== undefined && times[row]! < fromMicros) continue;
    if (toMicros !== undefined && times[row]! >= toMicros) continue;
    if (startingOffsets !== undefined) {
      const first = startingOffsets.get(partitions[row]!);
      if (first === undefined || offsets[row]! < first) continue;
    }
    rows.push(row);
  }
  return rows;
}

/** The rows of a bronze batch that were ingested in the span. */
export function rowsInSpan(batch: ColumnBatch, { fromMicros, toMicros }: IngestionSpan): number[] {
  const times = columnOf(batch, '_ingested_at')!.values as BigInt64Array;
  const rows: number[] = [];
  for (let row = 0; row < batch.length; row++) {
    const micros = times[row]!;
    if (fromMicros !== undefined && micros < fromMicros) continue;
    if (toMicros !== undefined && micros >= toMicros) continue;
    rows.push(row);
  }
  return rows;
}

/** A batch of only some rows; the batch itself when they are all of it. */
export function takeRows(batch: ColumnBatch, rows: readonly number[]): ColumnBatch {
  if (rows.length === batch.length) return batch;
  const wanted = Int32Array.from(rows);
  const columns = batch.columns.map((column) => {
    const builder = builderFor(column.type);
    builder.appendRows(column, wanted, wanted.length);
    return builder.view();
  });
  return { schema: batch.schema, length: rows.length, columns };
}
