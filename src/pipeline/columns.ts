/**
 * Columns in Arrow's memory layout, the form in which events travel from the fetch to Parquet: no
 * JavaScript object per event. Pure; buffers may be transferred between threads.
 *
 * Layout by type (source: Arrow columnar format):
 * - string, binary: `offsets` (length + 1 entries, first may be > 0), bytes in `data`.
 * - boolean: `values` is a Uint8Array bitmap, least significant bit first.
 * - byte Int8Array, short Int16Array, integer and date (days) Int32Array, long and timestamp (µs)
 *   BigInt64Array, float Float32Array, double Float64Array, decimal BigInt64Array of 2 words per
 *   row (little-endian 128 bit two's complement, low word first).
 * - array: `offsets`, one child; map: `offsets`, one struct child of (key, value); struct: children.
 */
import type { DataType, StructType } from './types.ts';

export type FixedValues =
  | Uint8Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/** One column. */
export interface Vector {
  readonly type: DataType;
  /** Rows. */
  readonly length: number;
  readonly nullCount: number;
  /** Bit set = not null, least significant bit first. Absent means no nulls. */
  readonly validity?: Uint8Array | undefined;
  readonly values?: FixedValues | undefined;
  readonly offsets?: Int32Array | undefined;
  readonly data?: Uint8Array | undefined;
  readonly children?: readonly Vector[] | undefined;
}

/** Rows as columns; `columns[i]` belongs to `schema.fields[i]`. */
export interface ColumnBatch {
  readonly schema: StructType;
  readonly length: number;
  readonly columns: readonly Vector[];
}

/** Whether row `row` of `vector` is null. */
export function isNullAt(vector: Vector, row: number): boolean {
  const validity = vector.validity;
  return validity !== undefined && (validity[row >> 3]! & (1 << (row & 7))) === 0;
}

/**
 * The column called `name`.
 * @returns undefined when the batch has none
 */
export function columnOf(batch: ColumnBatch, name: string): Vector | undefined {
  const index = batch.schema.fields.findIndex((f) => f.name === name);
  return index < 0 ? undefined : batch.columns[index];
}

/** Collects every distinct ArrayBuffer below a batch, for `postMessage`'s transfer list. */
export function transferablesOf(batch: ColumnBatch): ArrayBuffer[] {
  const found = new Set<ArrayBuffer>();
  const visit = (vector: Vector): void => {
    for (const view of [vector.validity, vector.values, vector.offsets, vector.data]) {
      if (view && view.buffer instanceof ArrayBuffer) found.add(view.buffer);
    }
    for (const child of vector.children ?? []) visit(child);
  };
  for (const column of batch.columns) visit(column);
  return [...found];
}
