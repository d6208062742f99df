/**
 * Whether two batches hold the same values, whatever their buffers look like under nulls. Pure; for
 * checking that a file says what it was to say, at the cost of one pass over the buffers.
 */
import { bitAt } from '../../pipeline/bitmaps.ts';
import { type ColumnBatch, isNullAt, type Vector } from '../../pipeline/columns.ts';
import { typeName } from './schema-json.ts';

/** Compares column by column, in order; names and types have to be equal as well. */
export function sameColumns(a: ColumnBatch, b: ColumnBatch): boolean {
  if (a.length !== b.length || typeName(a.schema) !== typeName(b.schema)) return false;
  return a.columns.every((column, i) => sameVector(column, b.columns[i]!));
}

function sameVector(a: Vector, b: Vector): boolean {
  if (a.length !== b.length || a.nullCount !== b.nullCount) return false;
  if (a.nullCount > 0 && !sameNulls(a, b)) return false;
  if (a.offsets && !sameLengths(a, b)) return false;
  if (a.data && !sameBytes(bytesOf(a), bytesOf(b))) return false;
  if (a.values && !sameValues(a, b)) return false;
  return (a.children ?? []).every((child, i) => sameVector(child, b.children![i]!));
}

function sameNulls(a: Vector, b: Vector): boolean {
  const wholeBytes = a.length >>> 3;
  const left = a.validity!.subarray(0, wholeBytes);
  if (!sameBytes(left, b.validity!.subarray(0, wholeBytes))) return false;
  for (let row = wholeBytes * 8; row < a.length; row++) {
    if (isNullAt(a, row) !== isNullAt(b, row)) return false;
  }
  return true;
}

/** Lengths of texts or lists; a null has length 0 on both sides. */
function sameLengths(a: Vector, b: Vector): boolean {
  for (let row = 0; row < a.length; row++) {
    const length = a.offsets![row + 1]! - a.offsets![row]!;
    if (length !== b.offsets![row + 1]! - b.offsets![row]!) return false;
  }
  return true;
}

function sameValues(a: Vector, b: Vector): boolean {
  const isBitmap = a.type.kind === 'primitive' && a.type.name === 'boolean';
  const words = a.type.kind === 'decimal' ? 2 : 1;
  for (let row = 0; row < a.length; row++) {
    if (isNullAt(a, row)) continue;
    if (isBitmap) {
      const same = bitAt(a.values as Uint8Array, row) === bitAt(b.values as Uint8Array, row);
      if (!same) return false;
      continue;
    }
    for (let i = row * words; i < (row + 1) * words; i++) {
      if (!Object.is(a.values![i], b.values![i])) return false;
    }
  }
  return true;
}

function bytesOf({ data, offsets, length }: Vector): Uint8Array {
  return data!.subarray(offsets![0]!, offsets![length]!);
}

/** Compares bytes natively. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(b);
}
