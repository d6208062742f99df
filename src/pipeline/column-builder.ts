/**
 * Columns from plain JavaScript values and back: for checkpoints, small tables and tests. Not for
 * events: one value costs far more than in the bulk paths of bronze and silver. Pure.
 *
 * A value by type: string → string; binary → Uint8Array; boolean → boolean; byte, short, integer,
 * date (days), float, double → number; long, timestamp (µs), decimal (unscaled) → bigint, a safe
 * integer is taken too; array → array; struct → object by member name, absent members are null;
 * map → Map, an object with string keys is taken too. null and undefined are null.
 */
import { assert } from '../errors.ts';
import { bitAt, bitmapBytes, setBits } from './bitmaps.ts';
import { type ColumnBatch, type FixedValues, isNullAt, type Vector } from './columns.ts';
import type { DataType, StructType } from './types.ts';

/** What a cell reads as. */
export type CellValue =
  | null
  | string
  | number
  | bigint
  | boolean
  | Uint8Array
  | readonly CellValue[]
  | ReadonlyMap<CellValue, CellValue>
  | RowValue;

/** A row, or a struct, by member name. */
export interface RowValue {
  readonly [name: string]: CellValue;
}

/** The type of a map's only child. */
export function entryTypeOf(type: DataType & { readonly kind: 'map' }): StructType {
  return {
    kind: 'struct',
    fields: [
      { name: 'key', type: type.key, nullable: false },
      { name: 'value', type: type.value, nullable: type.valueContainsNull },
    ],
  };
}

/** Whether the type keeps `offsets` and `data`. */
export function isTextual(type: DataType): boolean {
  return type.kind === 'primitive' && (type.name === 'string' || type.name === 'binary');
}

/**
 * A zeroed `values` array for `length` rows.
 * @returns undefined for types that have none: string, binary, array, map, struct
 */
export function fixedValuesFor(type: DataType, length: number): FixedValues | undefined {
  if (type.kind === 'decimal') return new BigInt64Array(length * 2);
  if (type.kind !== 'primitive') return undefined;
  switch (type.name) {
    case 'boolean':
      return new Uint8Array(bitmapBytes(length));
    case 'byte':
      return new Int8Array(length);
    case 'short':
      return new Int16Array(length);
    case 'integer':
    case 'date':
      return new Int32Array(length);
    case 'long':
    case 'timestamp':
      return new BigInt64Array(length);
    case 'float':
      return new Float32Array(length);
    case 'double':
      return new Float64Array(length);
    case 'string':
    case 'binary':
      return undefined;
  }
}

/** A column of `length` nulls. */
export function nullVector(type: DataType, length: number): Vector {
  const nulls = {
    type,
    length,
    nullCount: length,
    ...(length > 0 ? { validity: new Uint8Array(bitmapBytes(length)) } : {}),
  };
  switch (type.kind) {
    case 'struct':
      return { ...nulls, children: type.fields.map((f) => nullVector(f.type, length)) };
    case 'array':
      return {
        ...nulls,
        offsets: new Int32Array(length + 1),
        children: [nullVector(type.element, 0)],
      };
    case 'map':
      return {
        ...nulls,
        offsets: new Int32Array(length + 1),
        children: [nullVector(entryTypeOf(type), 0)],
      };
    default:
      return isTextual(type)
        ? { ...nulls, offsets: new Int32Array(length + 1), data: new Uint8Array(0) }
        : { ...nulls, values: fixedValuesFor(type, length) };
  }
}

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder('utf-8', { ignoreBOM: true });

const LOW_WORD = 0xffffffffffffffffn;

/** The two words of a decimal's unscaled value, low word first. */
export function decimalWords(unscaled: bigint): readonly [bigint, bigint] {
  return [BigInt.asIntN(64, unscaled), BigInt.asIntN(64, unscaled >> 64n)];
}

/** The unscaled value of row `row` of a decimal column's words. */
export function decimalAt(words: BigInt64Array, row: number): bigint {
  return (words[row * 2 + 1]! << 64n) | (words[row * 2]! & LOW_WORD);
}

/**
 * A column from one value per row.
 * @throws PipelineError internal when a value does not fit the type
 */
export function vectorFromCells(type: DataType, cells: readonly (CellValue | undefined)[]): Vector {
  const length = cells.length;
  const validity = new Uint8Array(bitmapBytes(length));
  let nullCount = 0;
  for (let row = 0; row < length; row++) {
    if (cells[row] === null || cells[row] === undefined) nullCount++;
    else setBits(validity, row, 1);
  }
  const head = { type, length, nullCount, ...(nullCount > 0 ? { validity } : {}) };
  switch (type.kind) {
    case 'struct': {
      const rows = cells as readonly (RowValue | null | undefined)[];
      const children = type.fields.map((member) =>
        vectorFromCells(
          member.type,
          rows.map((row) => row?.[member.name]),
        ),
      );
      return { ...head, children };
    }
    case 'array': {
      const lists = cells as readonly (readonly CellValue[] | null | undefined)[];
      return { ...head, ...nested(lists, type.element) };
    }
    case 'map': {
      const maps = cells as readonly (ReadonlyMap<CellValue, CellValue> | RowValue | null)[];
      const lists = maps.map((map) => {
        if (map === null || map === undefined) return map;
        const entries = map instanceof Map ? [...map] : Object.entries(map);
        return entries.map(([key, value]) => ({ key, value }) as RowValue);
      });
      return { ...head, ...nested(lists, entryTypeOf(type)) };
    }
    default:
      return isTextual(type)
        ? { ...head, ...textual(cells as readonly (string | Uint8Array | null | undefined)[]) }
        : { ...head, values: fixed(type, cells) };
  }
}

/** Offsets and the joined child of a list or map. */
function nested(
  lists: readonly (readonly CellValue[] | null | undefined)[],
  child: DataType,
): { readonly offsets: Int32Array; readonly children: readonly Vector[] } {
  const offsets = new Int32Array(lists.length + 1);
  const flat: CellValue[] = [];
  lists.forEach((list, row) => {
    for (const cell of list ?? []) flat.push(cell);
    offsets[row + 1] = flat.length;
  });
  return { offsets, children: [vectorFromCells(child, flat)] };
}

function textual(cells: readonly (string | Uint8Array | null | undefined)[]): {
  readonly offsets: Int32Array;
  readonly data: Uint8Array;
} {
  const parts = cells.map((cell) => (typeof cell === 'string' ? utf8.encode(cell) : cell));
  const offsets = new Int32Array(parts.length + 1);
  parts.forEach((part, row) => {
    offsets[row + 1] = offsets[row]! + (part?.length ?? 0);
  });
  const data = new Uint8Array(offsets[parts.length]!);
  parts.forEach((part, row) => {
    if (part) data.set(part, offsets[row]!);
  });
  return { offsets, data };
}

function fixed(type: DataType, cells: readonly (CellValue | undefined)[]): FixedValues {
  const values = fixedValuesFor(type, cells.length);
  assert(values !== undefined, 'type has fixed values');
  for (let row = 0; row < cells.length; row++) {
    const cell = cells[row];
    if (cell === null || cell === undefined) continue;
    if (type.kind === 'decimal') {
      const words = values as BigInt64Array;
      [words[row * 2], words[row * 2 + 1]] = decimalWords(BigInt(cell as bigint | number));
    } else if (values instanceof BigInt64Array) {
      values[row] = BigInt(cell as bigint | number);
    } else if (values instanceof Uint8Array) {
      if (cell === true) setBits(values, row, 1);
    } else {
      assert(typeof cell === 'number', 'cell is a number', { type: typeof cell });
      values[row] = cell;
    }
  }
  return values;
}

/** Rows as columns; members that a row lacks are null. */
export function columnsFromRows(
  schema: StructType,
  rows: readonly Readonly<Record<string, CellValue | undefined>>[],
): ColumnBatch {
  const columns = schema.fields.map((column) =>
    vectorFromCells(
      column.type,
      rows.map((row) => row[column.name]),
    ),
  );
  return { schema, length: rows.length, columns };
}

/** The value of one cell. */
export function cellAt(vector: Vector, row: number): CellValue {
  if (isNullAt(vector, row)) return null;
  const { type } = vector;
  switch (type.kind) {
    case 'struct':
      return Object.fromEntries(
        type.fields.map((member, i) => [member.name, cellAt(vector.children![i]!, row)]),
      );
    case 'array':
      return childCells(vector, row);
    case 'map': {
      const entries = childCells(vector, row) as readonly RowValue[];
      return new Map(entries.map((entry) => [entry['key']!, entry['value']!]));
    }
    case 'decimal':
      return decimalAt(vector.values as BigInt64Array, row);
    case 'primitive': {
      if (type.name === 'boolean') return bitAt(vector.values as Uint8Array, row);
      if (type.name !== 'string' && type.name !== 'binary') return vector.values![row]!;
      const bytes = vector.data!.subarray(vector.offsets![row]!, vector.offsets![row + 1]!);
      return type.name === 'string' ? fromUtf8.decode(bytes) : bytes.slice();
    }
  }
}

function childCells(vector: Vector, row: number): CellValue[] {
  const cells: CellValue[] = [];
  for (let i = vector.offsets![row]!; i < vector.offsets![row + 1]!; i++) {
    cells.push(cellAt(vector.children![0]!, i));
  }
  return cells;
}

/** Every row as an object. */
export function rowsFromColumns(batch: ColumnBatch): RowValue[] {
  return Array.from({ length: batch.length }, (_, row) =>
    Object.fromEntries(
      batch.schema.fields.map((column, i) => [column.name, cellAt(batch.columns[i]!, row)]),
    ),
  );
}
