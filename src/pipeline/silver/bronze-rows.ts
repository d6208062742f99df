/**
 * Bronze files as the silver stage reads them, and the one order in which their rows count. Pure.
 *
 * B1 Rows are taken by (bronze version, partition, offset), whatever file or place they lie in.
 */
import { assert } from '../../errors.ts';
import { nullVector } from '../column-builder.ts';
import { type ColumnBatch, columnOf, type Vector } from '../columns.ts';
import { type PrimitiveName, primitive } from '../types.ts';
import { wordsOf } from './growable-scalars.ts';

/** A file of a bronze version, or some of its rows. */
export interface BronzeInput {
  readonly bronzeVersion: number;
  /** Of `bronzeFileSchema()`; the columns that silver has no use for may be absent. */
  readonly batch: ColumnBatch;
}

/** The columns of one input. */
export class BronzeRows {
  readonly bronzeVersion: number;
  readonly length: number;
  readonly rawValue: Vector;
  readonly rawBytes: Vector;
  readonly key: Vector;
  readonly topic: Vector;
  readonly partition: Vector;
  readonly offset: Vector;
  readonly timestamp: Vector;
  readonly valueSize: Vector;
  readonly partitions: Int32Array;
  /** Low and high 32 bits of each row's offset. */
  readonly offsetWords: Int32Array;
  /** Low and high 32 bits of each row's Kafka timestamp, microseconds. */
  readonly timestampWords: Int32Array;

  constructor({ bronzeVersion, batch }: BronzeInput) {
    const column = (name: string, type: PrimitiveName): Vector =>
      columnOf(batch, name) ?? nullVector(primitive(type), batch.length);
    this.bronzeVersion = bronzeVersion;
    this.length = batch.length;
    this.rawValue = column('_raw_value', 'string');
    this.rawBytes = column('_raw_bytes', 'binary');
    this.key = column('_kafka_key', 'binary');
    this.topic = column('_kafka_topic', 'string');
    this.partition = column('_kafka_partition', 'integer');
    this.offset = column('_kafka_offset', 'long');
    this.timestamp = column('_kafka_timestamp', 'timestamp');
    this.valueSize = column('_value_size', 'integer');
    for (const { nullCount } of [this.partition, this.offset, this.timestamp]) {
      assert(nullCount === 0, 'bronze rows have Kafka coordinates', { bronzeVersion });
    }
    this.partitions = wordsOf(this.partition);
    this.offsetWords = wordsOf(this.offset);
    this.timestampWords = wordsOf(this.timestamp);
  }
}

/** Rows of one input that are next in the order. */
export interface OrderedRows {
  readonly input: BronzeRows;
  readonly rows: Int32Array;
}

/** Puts the rows of all inputs in order (B1). */
export function orderRows(inputs: readonly BronzeRows[]): OrderedRows[] {
  const runs = inputs.flatMap(ascendingRuns);
  runs.sort((a, b) => compareRows(a.input, a.from, b.input, b.from));
  const overlapping = runs.some(
    (run, i) =>
      i > 0 && compareRows(runs[i - 1]!.input, runs[i - 1]!.to - 1, run.input, run.from) > 0,
  );
  const ordered = overlapping ? splitByRow(runs) : runs;
  return ordered.map(({ input, from, to }) => {
    const rows = new Int32Array(to - from);
    for (let i = 0; i < rows.length; i++) rows[i] = from + i;
    return { input, rows };
  });
}

/** Rows [from, to) of an input. */
interface Run {
  readonly input: BronzeRows;
  readonly from: number;
  readonly to: number;
}

/** Cuts an input where its rows do not ascend; a bronze file is a single run. */
function ascendingRuns(input: BronzeRows): Run[] {
  const runs: Run[] = [];
  let from = 0;
  for (let row = 1; row <= input.length; row++) {
    if (row < input.length && compareRows(input, row - 1, input, row) < 0) continue;
    runs.push({ input, from, to: row });
    from = row;
  }
  return runs;
}

/** Orders rows one by one, and joins neighbours of one input again. */
function splitByRow(runs: readonly Run[]): Run[] {
  const single = runs.flatMap(({ input, from, to }) =>
    Array.from({ length: to - from }, (_, i) => ({ input, row: from + i })),
  );
  single.sort((a, b) => compareRows(a.input, a.row, b.input, b.row));
  const joined: { input: BronzeRows; from: number; to: number }[] = [];
  for (const { input, row } of single) {
    const last = joined.at(-1);
    if (last !== undefined && last.input === input && last.to === row) last.to++;
    else joined.push({ input, from: row, to: row + 1 });
  }
  return joined;
}

function compareRows(a: BronzeRows, aRow: number, b: BronzeRows, bRow: number): number {
  return (
    a.bronzeVersion - b.bronzeVersion ||
    a.partitions[aRow]! - b.partitions[bRow]! ||
    a.offsetWords[2 * aRow + 1]! - b.offsetWords[2 * bRow + 1]! ||
    (a.offsetWords[2 * aRow]! >>> 0) - (b.offsetWords[2 * bRow]! >>> 0)
  );
}
