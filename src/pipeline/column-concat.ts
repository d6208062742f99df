/**
 * Joins slices of columns into one column with bulk copies: a run of rows costs a few memory moves
 * per buffer, whatever its number of rows. Pure.
 *
 * Invariants:
 * - C1 The result owns its buffers, its offsets start at zero, and a column without nulls has no
 *   validity.
 * - C2 Only offsets are touched per row.
 */
import { assert } from '../errors.ts';
import { bitmapBytes, copyBits, countSetBits, setBits } from './bitmaps.ts';
import { entryTypeOf, fixedValuesFor, isTextual } from './column-builder.ts';
import type { ColumnBatch, FixedValues, Vector } from './columns.ts';
import type { DataType, StructType } from './types.ts';

/** Rows [from, to) of a vector; without a vector, that many nulls. */
export interface VectorSlice {
  readonly vector: Vector | undefined;
  readonly from: number;
  readonly to: number;
}

const OFFSET_MAX = 0x7fff_ffff;

/**
 * Joins slices in order.
 * @param type of every slice's vector
 * @throws PipelineError internal when the text or elements of one column exceed 2 GiB
 */
export function concatSlices(type: DataType, slices: readonly VectorSlice[]): Vector {
  const length = slices.reduce((rows, slice) => rows + slice.to - slice.from, 0);
  const head = { type, length, ...joinValidity(slices, length) };
  switch (type.kind) {
    case 'struct':
      return {
        ...head,
        children: type.fields.map((member, i) =>
          concatSlices(
            member.type,
            slices.map(({ vector, from, to }) => ({ vector: vector?.children![i], from, to })),
          ),
        ),
      };
    case 'array':
    case 'map': {
      const { offsets, spans } = joinOffsets(slices, length);
      const child = type.kind === 'array' ? type.element : entryTypeOf(type);
      const elements = slices.map(({ vector }, i) => ({
        vector: vector?.children![0],
        ...spans[i]!,
      }));
      return { ...head, offsets, children: [concatSlices(child, elements)] };
    }
    default:
      return isTextual(type)
        ? { ...head, ...joinText(slices, length) }
        : { ...head, values: joinFixed(type, slices, length) };
  }
}

/** Joins whole batches of one schema. */
export function concatBatches(schema: StructType, batches: readonly ColumnBatch[]): ColumnBatch {
  const columns = schema.fields.map((column, i) =>
    concatSlices(
      column.type,
      batches.map((batch) => ({ vector: batch.columns[i], from: 0, to: batch.length })),
    ),
  );
  return { schema, length: batches.reduce((rows, batch) => rows + batch.length, 0), columns };
}

function joinValidity(
  slices: readonly VectorSlice[],
  length: number,
): { readonly nullCount: number; readonly validity?: Uint8Array } {
  if (slices.every(({ vector }) => vector !== undefined && vector.validity === undefined)) {
    return { nullCount: 0 };
  }
  const validity = new Uint8Array(bitmapBytes(length));
  let row = 0;
  for (const { vector, from, to } of slices) {
    if (vector?.validity) copyBits(vector.validity, from, validity, row, to - from);
    else if (vector) setBits(validity, row, to - from);
    row += to - from;
  }
  const nullCount = length - countSetBits(validity, length);
  return nullCount === 0 ? { nullCount } : { nullCount, validity };
}

function joinFixed(type: DataType, slices: readonly VectorSlice[], length: number): FixedValues {
  const values = fixedValuesFor(type, length);
  assert(values !== undefined, 'type has fixed values', { kind: type.kind });
  const isBoolean = values instanceof Uint8Array;
  const target = new Uint8Array(values.buffer);
  const width = values.BYTES_PER_ELEMENT * (type.kind === 'decimal' ? 2 : 1);
  let row = 0;
  for (const { vector, from, to } of slices) {
    const source = vector?.values;
    if (source !== undefined && isBoolean) {
      copyBits(source as Uint8Array, from, target, row, to - from);
    } else if (source !== undefined) {
      const start = source.byteOffset + from * width;
      target.set(new Uint8Array(source.buffer, start, (to - from) * width), row * width);
    }
    row += to - from;
  }
  return values;
}

function joinText(
  slices: readonly VectorSlice[],
  length: number,
): { readonly offsets: Int32Array; readonly data: Uint8Array } {
  const { offsets, spans } = joinOffsets(slices, length);
  const data = new Uint8Array(offsets[length]!);
  let end = 0;
  slices.forEach(({ vector }, i) => {
    const { from, to } = spans[i]!;
    if (to > from) data.set(vector!.data!.subarray(from, to), end);
    end += to - from;
  });
  return { offsets, data };
}

/** The joined offsets, and per slice the range of bytes or elements that it refers to. */
function joinOffsets(
  slices: readonly VectorSlice[],
  length: number,
): {
  readonly offsets: Int32Array;
  readonly spans: readonly { readonly from: number; readonly to: number }[];
} {
  const offsets = new Int32Array(length + 1);
  let row = 0;
  let end = 0;
  const spans = slices.map(({ vector, from, to }) => {
    const own = vector?.offsets;
    if (own === undefined || to === from) {
      offsets.fill(end, row + 1, row + 1 + to - from);
      row += to - from;
      return { from: 0, to: 0 };
    }
    const first = own[from]!;
    const shift = end - first;
    end += own[to]! - first;
    assert(end <= OFFSET_MAX, 'one column holds less than 2 GiB', { rows: length });
    if (shift === 0) {
      offsets.set(own.subarray(from + 1, to + 1), row + 1);
    } else {
      for (let i = from + 1, at = row + 1; i <= to; i++, at++) offsets[at] = own[i]! + shift;
    }
    row += to - from;
    return { from: first, to: own[to]! };
  });
  return { offsets, spans };
}
