/**
 * Arrow arrays that lie in WebAssembly memory to columns of our own: the record batches of a
 * decoded Parquet file are viewed in place and joined into one column each. Frees nothing.
 *
 * Invariants:
 * - M1 The result shares no memory with WebAssembly: its memory may grow or be freed afterwards.
 * - M2 Offsets start at zero; validity is absent when nothing is null.
 * - M3 A column has the declared type or the read fails; a member that the file lacks is all null.
 *
 * Source: Arrow C data interface, with pointers of 32 bits.
 */
import { PipelineError } from '../../errors.ts';
import { bitmapBytes, copyBits, countSetBits } from '../../pipeline/bitmaps.ts';
import {
  entryTypeOf,
  fixedValuesFor,
  isTextual,
  nullVector,
} from '../../pipeline/column-builder.ts';
import { concatBatches } from '../../pipeline/column-concat.ts';
import type { ColumnBatch, FixedValues, Vector } from '../../pipeline/columns.ts';
import type { DataType, PrimitiveName, StructType } from '../../pipeline/types.ts';

/** Positions within struct ArrowSchema. */
const SCHEMA_FORMAT = 0;
const SCHEMA_NAME = 4;
const SCHEMA_CHILD_COUNT = 24;
const SCHEMA_CHILDREN = 32;
/** Positions within struct ArrowArray. */
const ARRAY_LENGTH = 0;
const ARRAY_OFFSET = 16;
const ARRAY_BUFFERS = 40;
const ARRAY_CHILDREN = 44;

const POINTER_BYTES = 4;

/** Arrow's format strings: the only ones that occur without the writer's own Arrow schema. */
const FORMATS: Readonly<Record<PrimitiveName, string>> = {
  string: 'u',
  binary: 'z',
  boolean: 'b',
  byte: 'c',
  short: 's',
  integer: 'i',
  long: 'l',
  float: 'f',
  double: 'g',
  date: 'tdD',
  timestamp: 'tsu:UTC',
};

function formatOf(type: DataType): string {
  switch (type.kind) {
    case 'primitive':
      return FORMATS[type.name];
    case 'decimal':
      return `d:${type.precision},${type.scale}`;
    case 'array':
      return '+l';
    case 'map':
      return '+m';
    case 'struct':
      return '+s';
  }
}

/** Rows of one array that are in use: those of a parent's slice, before the array's own offset. */
interface Rows {
  readonly from: number;
  readonly length: number;
}

const text = new TextDecoder('utf-8', { ignoreBOM: true });

/** Views of arrays; they die when the memory grows or the arrays are freed. */
class ArrowMemory {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  constructor(buffer: ArrayBufferLike) {
    this.#view = new DataView(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  /** One record batch, which is a struct that is never null itself. */
  batch(schema: StructType, schemaAddress: number, array: number): ColumnBatch {
    const from = this.#integer(array + ARRAY_OFFSET);
    const length = this.#integer(array + ARRAY_LENGTH);
    const columns = this.#members(schema, schemaAddress, array, { from, length }, '');
    return { schema, length, columns };
  }

  #members(
    type: StructType,
    schema: number,
    array: number,
    rows: Rows,
    path: string,
  ): readonly Vector[] {
    const positions = new Map<string, number>();
    const childCount = this.#integer(schema + SCHEMA_CHILD_COUNT);
    for (let i = 0; i < childCount; i++) {
      positions.set(this.#cString(this.#child(schema + SCHEMA_CHILDREN, i) + SCHEMA_NAME), i);
    }
    return type.fields.map((member) => {
      const position = positions.get(member.name);
      if (position === undefined) return nullVector(member.type, rows.length);
      return this.#vector(
        member.type,
        this.#child(schema + SCHEMA_CHILDREN, position),
        this.#child(array + ARRAY_CHILDREN, position),
        rows,
        path === '' ? member.name : `${path}.${member.name}`,
      );
    });
  }

  #vector(type: DataType, schema: number, array: number, parentRows: Rows, path: string): Vector {
    this.#checkFormat(type, schema, path);
    const { length } = parentRows;
    const from = parentRows.from + this.#integer(array + ARRAY_OFFSET);
    const head = { type, length, ...this.#validity(array, { from, length }) };
    switch (type.kind) {
      case 'struct':
        return { ...head, children: this.#members(type, schema, array, { from, length }, path) };
      case 'array':
      case 'map': {
        const offsets = this.#offsets(array, { from, length });
        const elementType = type.kind === 'array' ? type.element : entryTypeOf(type);
        const child = this.#vector(
          elementType,
          this.#child(schema + SCHEMA_CHILDREN, 0),
          this.#child(array + ARRAY_CHILDREN, 0),
          { from: 0, length: offsets[length]! },
          `${path}[]`,
        );
        return { ...head, offsets, children: [child] };
      }
      default: {
        if (!isTextual(type))
          return { ...head, values: this.#fixed(type, array, { from, length }) };
        const offsets = this.#offsets(array, { from, length });
        const data = this.#slice(this.#buffer(array, 2), offsets[length]!);
        return { ...head, offsets, data };
      }
    }
  }

  #checkFormat(type: DataType, schema: number, path: string): void {
    const found = this.#cString(schema + SCHEMA_FORMAT);
    const expected = formatOf(type);
    if (found === expected) return;
    throw new PipelineError(
      'corrupt',
      'TM_SCHEMA_MISMATCH',
      `column ${path} of a Parquet file has Arrow type "${found}", not "${expected}"`,
      { context: { column: path, found, expected } },
    );
  }

  #validity(
    array: number,
    rows: Rows,
  ): { readonly nullCount: number; readonly validity?: Uint8Array } {
    const address = this.#buffer(array, 0);
    if (address === 0) return { nullCount: 0 };
    const validity = this.#bits(address, rows);
    return { nullCount: rows.length - countSetBits(validity, rows.length), validity };
  }

  #fixed(type: DataType, array: number, rows: Rows): FixedValues {
    const address = this.#buffer(array, 1);
    const empty = fixedValuesFor(type, 0)!;
    if (empty instanceof Uint8Array) return this.#bits(address, rows);
    if (rows.length === 0) return empty;
    const elementsPerRow = type.kind === 'decimal' ? 2 : 1;
    const width = empty.BYTES_PER_ELEMENT * elementsPerRow;
    const View = empty.constructor as new (
      buffer: ArrayBufferLike,
      byteOffset: number,
      length: number,
    ) => FixedValues;
    return new View(this.#view.buffer, address + rows.from * width, rows.length * elementsPerRow);
  }

  #offsets(array: number, rows: Rows): Int32Array {
    // An empty array may have no offsets at all.
    if (rows.length === 0) return new Int32Array(1);
    const address = this.#buffer(array, 1) + rows.from * Int32Array.BYTES_PER_ELEMENT;
    return new Int32Array(this.#view.buffer, address, rows.length + 1);
  }

  /** Bits cannot be viewed from within a byte, so they are copied. */
  #bits(address: number, rows: Rows): Uint8Array {
    const bits = new Uint8Array(bitmapBytes(rows.length));
    copyBits(this.#bytes.subarray(address), rows.from, bits, 0, rows.length);
    return bits;
  }

  /** Pointer `position` of the pointer array that lies at the pointer at `address`. */
  #child(address: number, position: number): number {
    return this.#pointer(this.#pointer(address) + position * POINTER_BYTES);
  }

  #buffer(array: number, position: number): number {
    return this.#child(array + ARRAY_BUFFERS, position);
  }

  #pointer(address: number): number {
    return this.#view.getUint32(address, true);
  }

  /** The low word of a 64 bit count, which is all that 32 bit addresses can reach. */
  #integer(address: number): number {
    return this.#view.getUint32(address, true);
  }

  #cString(pointerAddress: number): string {
    const start = this.#pointer(pointerAddress);
    return text.decode(this.#bytes.subarray(start, this.#bytes.indexOf(0, start)));
  }

  #slice(address: number, length: number): Uint8Array {
    return this.#bytes.subarray(address, address + length);
  }
}

/**
 * Joins the record batches of a file into one batch.
 * @param options.buffer WebAssembly memory
 * @param options.schemaAddress of the file's ArrowSchema, a struct
 * @param options.arrayAddresses of the batches' ArrowArrays, in order
 * @throws PipelineError corrupt TM_SCHEMA_MISMATCH when a column has another type
 */
export function readArrowMemory(
  schema: StructType,
  options: {
    readonly buffer: ArrayBufferLike;
    readonly schemaAddress: number;
    readonly arrayAddresses: Iterable<number>;
  },
): ColumnBatch {
  const memory = new ArrowMemory(options.buffer);
  const batches = Array.from(options.arrayAddresses, (array) =>
    memory.batch(schema, options.schemaAddress, array),
  );
  return concatBatches(schema, batches);
}
