/**
 * Bronze rows: the records of a batch as the columns of Parquet files, one file per UTC date of the
 * Kafka timestamp, and the statement of which offsets a batch covers. Pure.
 *
 * Invariants:
 * - B1 Every record is exactly one row, its bytes unchanged: `_raw_value` when they are UTF-8, else
 *   `_raw_bytes`; neither for a tombstone or a value above the size limit, which `_value_size`
 *   tells apart (P4).
 * - B2 Within a file rows are ordered by partition, then offset.
 * - B3 Every offset of a covered range is a row or lies in one explained gap (P4); a batch that
 *   breaks this is refused before anything is written.
 * - B4 A column is built from runs of rows with bulk copies; only offsets and dates are touched per
 *   row.
 */
import { assert, PipelineError } from '../errors.ts';
import { bitAt, bitmapBytes, countSetBits, setBits } from './bitmaps.ts';
import { concatSlices, type VectorSlice } from './column-concat.ts';
import type { ColumnBatch, Vector } from './columns.ts';
import type { Gap, RecordChunk } from './records.ts';
import { type DataType, field, primitive, type StructType, struct } from './types.ts';

const HEADERS: DataType = {
  kind: 'array',
  element: struct([field('key', 'string'), field('value', 'binary')]),
  containsNull: false,
};

/** The columns of a bronze data file, in order. */
const FILE_FIELDS = [
  field('_raw_value', 'string'),
  field('_raw_bytes', 'binary'),
  field('_kafka_key', 'binary'),
  field('_kafka_headers', HEADERS),
  field('_kafka_topic', 'string'),
  field('_kafka_partition', 'integer'),
  field('_kafka_offset', 'long'),
  field('_kafka_timestamp', 'timestamp'),
  field('_ingested_at', 'timestamp'),
  field('_value_size', 'integer'),
];

/** Partition column of the table: the UTC date of the Kafka timestamp. Not in the files. */
export const BRONZE_DATE_COLUMN = '_event_date';

/** Columns whose bounds let readers skip bronze files; bounds of raw JSON text never do. */
export const BRONZE_BOUNDED_COLUMNS: readonly string[] = [
  '_kafka_partition',
  '_kafka_offset',
  '_kafka_timestamp',
  '_ingested_at',
  '_value_size',
];

/** Schema of a bronze data file; `_value_size` is the value's bytes in the log. */
export function bronzeFileSchema(): StructType {
  return struct(FILE_FIELDS);
}

/** Schema of the bronze table: the file's columns and the partition column. */
export function bronzeTableSchema(): StructType {
  return struct([...FILE_FIELDS, field(BRONZE_DATE_COLUMN, 'date')]);
}

/** The rows of one date. */
export interface BronzeBatch {
  /** Days since the epoch, UTC. */
  readonly dateDays: number;
  /** Of `bronzeFileSchema()`. */
  readonly batch: ColumnBatch;
}

/** Rows [from, to) of a chunk that share a date and a representation. */
interface Run {
  readonly chunk: RecordChunk;
  readonly from: number;
  readonly to: number;
  /** Whether all values that are present are UTF-8; otherwise none is. */
  readonly isText: boolean;
}

const MICROS_PER_DAY = 86_400_000_000;

/**
 * Builds the rows of a batch.
 * @param chunks of any number of partitions, in any order
 * @param options.ingestedAtMicros microseconds since the epoch
 * @returns by ascending date; dates without rows are absent
 */
export function buildBronzeBatches(
  chunks: readonly RecordChunk[],
  options: { readonly topic: string; readonly ingestedAtMicros: bigint },
): readonly BronzeBatch[] {
  const runsByDate = new Map<number, Run[]>();
  for (const chunk of inOrder(chunks)) {
    let from = 0;
    while (from < chunk.length) {
      const dateDays = dateDaysAt(chunk, from);
      const to = dateEnd(chunk, from, dateDays);
      let runs = runsByDate.get(dateDays);
      if (runs === undefined) runsByDate.set(dateDays, (runs = []));
      splitByText(chunk, from, to, runs);
      from = to;
    }
  }
  return [...runsByDate]
    .sort(([a], [b]) => a - b)
    .map(([dateDays, runs]) => ({ dateDays, batch: buildBatch(runs, options) }));
}

function inOrder(chunks: readonly RecordChunk[]): readonly RecordChunk[] {
  return chunks.toSorted((a, b) =>
    a.partition === b.partition ? Number(a.fromOffset - b.fromOffset) : a.partition - b.partition,
  );
}

function dateDaysAt(chunk: RecordChunk, row: number): number {
  const micros = chunk.timestamps[row]!;
  const day = micros / BigInt(MICROS_PER_DAY);
  return Number(micros % BigInt(MICROS_PER_DAY) < 0n ? day - 1n : day);
}

/**
 * The first row after `from` that lies on another date. Doubles decide as bigints would: midnights
 * are multiples of 8192 µs and so exact, and what is at least 1000 µs before one never rounds up to
 * it.
 */
function dateEnd(chunk: RecordChunk, from: number, dateDays: number): number {
  const { timestamps } = chunk;
  const words = new Int32Array(timestamps.buffer, timestamps.byteOffset, timestamps.length * 2);
  const start = dateDays * MICROS_PER_DAY;
  let row = from + 1;
  for (; row < chunk.length; row++) {
    const sinceStart = words[row * 2 + 1]! * 2 ** 32 + (words[row * 2]! >>> 0) - start;
    if (sinceStart < 0 || sinceStart >= MICROS_PER_DAY) break;
  }
  return row;
}

/** Appends rows [from, to) as runs that are wholly UTF-8 or wholly not; nulls go with either. */
function splitByText(chunk: RecordChunk, from: number, to: number, runs: Run[]): void {
  const { utf8 } = chunk;
  if (utf8 === undefined) {
    runs.push({ chunk, from, to, isText: true });
    return;
  }
  const { validity } = chunk.values;
  let start = from;
  let isText = true;
  for (let row = from; row < to; row++) {
    if (bitAt(utf8, row) === isText || (validity && !bitAt(validity, row))) continue;
    if (row > start) runs.push({ chunk, from: start, to: row, isText });
    start = row;
    isText = !isText;
  }
  if (to > start) runs.push({ chunk, from: start, to, isText });
}

function buildBatch(
  runs: readonly Run[],
  options: { readonly topic: string; readonly ingestedAtMicros: bigint },
): ColumnBatch {
  const schema = bronzeFileSchema();
  const length = runs.reduce((rows, run) => rows + run.to - run.from, 0);
  const joined = (type: DataType, pick: (run: Run) => Vector | undefined): Vector =>
    concatSlices(
      type,
      runs.map((run): VectorSlice => ({ vector: pick(run), from: run.from, to: run.to })),
    );
  const partitions = new Int32Array(length);
  const offsets = new BigInt64Array(length);
  const timestamps = new BigInt64Array(length);
  const sizes = new Int32Array(length);
  let row = 0;
  for (const { chunk, from, to } of runs) {
    partitions.fill(chunk.partition, row, row + to - from);
    offsets.set(chunk.offsets.subarray(from, to), row);
    timestamps.set(chunk.timestamps.subarray(from, to), row);
    sizes.set(chunk.valueSizes.subarray(from, to), row);
    row += to - from;
  }
  const columns: Readonly<Record<string, Vector>> = {
    _raw_value: joined(primitive('string'), (run) => (run.isText ? run.chunk.values : undefined)),
    _raw_bytes: joined(primitive('binary'), (run) => (run.isText ? undefined : run.chunk.values)),
    _kafka_key: joined(primitive('binary'), (run) => run.chunk.keys),
    _kafka_headers: joined(HEADERS, (run) => run.chunk.headers),
    _kafka_topic: repeatedText(options.topic, length),
    _kafka_partition: withoutNulls(primitive('integer'), partitions),
    _kafka_offset: withoutNulls(primitive('long'), offsets),
    _kafka_timestamp: withoutNulls(primitive('timestamp'), timestamps),
    _ingested_at: withoutNulls(
      primitive('timestamp'),
      new BigInt64Array(length).fill(options.ingestedAtMicros),
    ),
    _value_size: valueSizes(sizes, runs),
  };
  return { schema, length, columns: FILE_FIELDS.map(({ name }) => columns[name]!) };
}

function withoutNulls(type: DataType, values: Int32Array | BigInt64Array): Vector {
  return { type, length: values.length, nullCount: 0, values };
}

/** The same text in every row. */
function repeatedText(text: string, length: number): Vector {
  const unit = new TextEncoder().encode(text);
  const offsets = new Int32Array(length + 1);
  for (let row = 1; row <= length; row++) offsets[row] = row * unit.length;
  const data = new Uint8Array(unit.length * length);
  if (length > 0) data.set(unit);
  for (let filled = unit.length; filled < data.length; filled *= 2) {
    data.copyWithin(filled, 0, filled);
  }
  return { type: primitive('string'), length, nullCount: 0, offsets, data };
}

/** Sizes as a column; takes over `sizes`. A tombstone's -1 becomes null. */
function valueSizes(sizes: Int32Array, runs: readonly Run[]): Vector {
  const type = primitive('integer');
  const { length } = sizes;
  if (runs.every(({ chunk }) => chunk.values.nullCount === 0)) return withoutNulls(type, sizes);
  const validity = new Uint8Array(bitmapBytes(length));
  for (let row = 0; row < length; row++) {
    if (sizes[row]! >= 0) setBits(validity, row, 1);
    else sizes[row] = 0;
  }
  const nullCount = length - countSetBits(validity, length);
  return { type, length, nullCount, values: sizes, ...(nullCount > 0 ? { validity } : {}) };
}

/** What a batch covers of one partition. */
export interface Coverage {
  readonly partition: number;
  /** Inclusive. */
  readonly from: bigint;
  /** Exclusive. */
  readonly to: bigint;
  readonly rows: number;
  /** Ascending; adjacent gaps of one kind are one. */
  readonly gaps: readonly Gap[];
}

/** Key of `add.tags` under which a file's coverage is kept. */
export const COVERAGE_TAG = 'tidemark.coverage';

/**
 * The offsets that chunks cover, by ascending partition.
 * @throws PipelineError internal when chunks do not join or an offset is unaccounted for (B3)
 */
export function coverageOf(chunks: readonly RecordChunk[]): readonly Coverage[] {
  const byPartition = Map.groupBy(inOrder(chunks), (chunk) => chunk.partition);
  return [...byPartition].map(([partition, own]) => {
    const from = own[0]!.fromOffset;
    let to = from;
    let rows = 0;
    let explained = 0n;
    const gaps: Gap[] = [];
    for (const chunk of own) {
      assert(chunk.fromOffset === to, 'chunks of a partition join', {
        partition,
        fromOffset: chunk.fromOffset,
        expected: to,
      });
      for (const gap of chunk.gaps) {
        const last = gaps.at(-1);
        if (last?.kind === gap.kind && last.to === gap.from) {
          gaps[gaps.length - 1] = { ...last, to: gap.to };
        } else {
          gaps.push(gap);
        }
        explained += gap.to - gap.from;
      }
      rows += chunk.length;
      to = chunk.nextOffset;
    }
    assert(BigInt(rows) + explained === to - from, 'every offset is a row or in a gap', {
      partition,
      from,
      to,
      rows,
      explained,
    });
    return { partition, from, to, rows, gaps };
  });
}

const GAP_KINDS: readonly Gap['kind'][] = ['marker', 'aborted', 'compacted'];

/** Coverage as JSON: `[{"partition":0,"from":5,"to":9,"rows":3,"gaps":[[7,8,"marker"]]}]`. */
export function coverageText(coverage: readonly Coverage[]): string {
  const parts = coverage.map(({ partition, from, to, rows, gaps }) => {
    const list = gaps.map((gap) => `[${gap.from},${gap.to},"${gap.kind}"]`).join(',');
    return `{"partition":${partition},"from":${from},"to":${to},"rows":${rows},"gaps":[${list}]}`;
  });
  return `[${parts.join(',')}]`;
}

/**
 * Reads what `coverageText` wrote.
 * @throws PipelineError corrupt TM_LOG_CORRUPT
 */
export function parseCoverage(text: string): readonly Coverage[] {
  try {
    // Offsets go through strings, for they may be beyond what JSON numbers hold.
    const parsed: unknown = JSON.parse(text.replace(/-?\d+/g, '"$&"'));
    if (!Array.isArray(parsed)) throw new TypeError('not an array');
    return parsed.map(parseCoveragePart);
  } catch (error) {
    throw new PipelineError('corrupt', 'TM_LOG_CORRUPT', 'a file tag states no valid coverage', {
      cause: error,
    });
  }
}

function parseCoveragePart(part: unknown): Coverage {
  const { partition, from, to, rows, gaps } = part as Record<string, unknown>;
  if (!Array.isArray(gaps)) throw new TypeError('no gaps');
  return {
    partition: Number(parseInteger(partition)),
    from: parseInteger(from),
    to: parseInteger(to),
    rows: Number(parseInteger(rows)),
    gaps: gaps.map((gap: unknown): Gap => {
      const [gapFrom, gapTo, kind] = gap as readonly unknown[];
      const known = GAP_KINDS.find((candidate) => candidate === kind);
      if (known === undefined) throw new TypeError('unknown gap');
      return { from: parseInteger(gapFrom), to: parseInteger(gapTo), kind: known };
    }),
  };
}

function parseInteger(digits: unknown): bigint {
  if (typeof digits !== 'string') throw new TypeError('not an integer');
  return BigInt(digits);
}
