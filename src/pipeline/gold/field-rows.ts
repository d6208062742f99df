/**
 * The unit in which measures take in data: the values of one event field in a run of rows that fall
 * into one slot, nulls left out. Runs are short enough for their scratch space to stay in cache.
 */
import type { Vector } from '../columns.ts';

/** Rows that a slot takes in at a time. */
export const RUN_ROWS = 4096;

/**
 * Working memory for a run, shared by every slot of an aggregator; nothing in it outlives a call.
 */
export interface RunScratch {
  /** Window and group codes of each row, side by side. */
  readonly keys: Int32Array;
  readonly groups: Int32Array;
  /** The rows of one field that are not null, and their groups. */
  readonly fieldRows: Int32Array;
  readonly fieldGroups: Int32Array;
  readonly numbers: Float64Array;
  readonly codes: Int32Array;
  /** Four per row. */
  readonly words: Int32Array;
}

/** @param keyWords words of a row's group key */
export function createRunScratch(keyWords: number): RunScratch {
  return {
    keys: new Int32Array(RUN_ROWS * keyWords),
    groups: new Int32Array(RUN_ROWS),
    fieldRows: new Int32Array(RUN_ROWS),
    fieldGroups: new Int32Array(RUN_ROWS),
    numbers: new Float64Array(RUN_ROWS),
    codes: new Int32Array(RUN_ROWS),
    words: new Int32Array(4 * RUN_ROWS),
  };
}

/** One field's non-null values in a run. Buffers belong to the caller and are reused. */
export interface FieldRows {
  readonly vector: Vector;
  /** Row numbers in `vector`, ascending, none null. */
  readonly rows: Int32Array;
  /** Group of each of `rows`. */
  readonly groups: Int32Array;
  /**
   * Numbers of each of `rows`, when the field has numbers; NaN where an integer or a decimal's
   * unscaled value exceeds 2^53 and its words must be read.
   */
  readonly numbers: Float64Array;
  readonly scratch: RunScratch;
}

/** State of one measure (or of several that need the same) for every group of a slot. */
export interface Accumulator {
  /** Bytes of memory. */
  readonly residentBytes: number;
  /** Makes room for groups below `capacity`; those not there before start without values. */
  grow(capacity: number): void;
  /** Takes in values. The state afterwards depends on the set of values only (P9). */
  add(input: FieldRows): void;
}

/** What the column of a measure is built from. */
export interface ColumnRequest {
  /** Groups in the order of the rows. */
  readonly order: Int32Array;
  /** By group: how many values the field had; where 0, the measure is null. */
  readonly counts: Float64Array;
}
