/**
 * Arrow arrays that lie in WebAssembly memory to columns of our own: the record batches of a decoded
 * Parquet file are joined into one column each. Reads memory only; frees nothing.
 *
 * Invariants:
 * - M1 The result shares no memory with WebAssembly: its memory may grow or be freed afterwards.
 * - M2 Offsets start at zero; validity is absent when nothing is null; bits above `length` are zero.
 * - M3 A column has the declared type or the read fails; a member that the file lacks is all null.
 *
 * Source: Arrow C data interface, with pointers of 32 bits.
 */
import { assert, PipelineError } from '../../errors.ts';
import { bitmapBytes, copyBits, countSetBits, setBits } from '../../pipeline/bitmaps.ts';
import {
  entryTypeOf,
  fixedValuesFor,
  isTextual,
  nullVector,
} from '../../pipeline/column-builder.ts';
import type { ColumnBatch, Vector } from '../../pipeline/columns.ts';
import type { DataType, PrimitiveName, StructField, StructType } from '../../pipeline/types.ts';

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

/** Arrow's format strings; without the writer's own Arrow schema these are the only ones that occur. */
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

/** A run of rows of one array: `start` counts from the array's first buffer element. */
interface Piece {
  readonly array: number;
  readonly start: number;
  readonly length: number;
}

/** One column of the file: its schema and the rows of each batch. */
interface Source {
  readonly schema: number;
  readonly pieces: readonly Piece[];
  readonly rows: number;
  /** For messages, such as `client.name`. */
  readonly path: string;
}

const text = new TextDecoder('utf-8', { ignoreBOM: true });

class ArrowMemory {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  constructor(buffer: ArrayBufferLike) {
    this.#view = new DataView(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  /** The columns of `type` that `source` has; the others are null. */
  columns(type: StructType, source: Source): Vector[] {
    const positions = new Map<string, number>();
    const childCount = this.#integer(source.schema + SCHEMA_CHILD_COUNT);
    for (let i = 0; i < childCount; i++) {
      const child = this.#schemaChild(source.schema, i);
      positions.set(this.#cString(child + SCHEMA_NAME), i);
    }
    return type.fields.map((member) => {
      const position = positions.get(member.name);
      if (position === undefined) return nullVector(member.type, source.rows);
      return this.#column(member, {
        schema: this.#schemaChild(source.schema, position),
        pieces: source.pieces.map((piece) => this.#childPiece(piece, position, piece)),
        rows: source.rows,
        path: source.path === '' ? member.name : `${source.path}.${member.name}`,
      });
    });
  }

  /** The rows of a whole array. */
  whole(array: number): Piece {
    return {
      array,
      start: this.#integer(array + ARRAY_OFFSET),
      length: this.#integer(array + ARRAY_LENGTH),
    };
  }

  #column(member: StructField, source: Source): Vector {
    const { type } = member;
    const found = this.#cString(source.schema + SCHEMA_FORMAT);
    const expected = formatOf(type);
    if (found !== expected) {
      throw new PipelineError(
        'corrupt',
        'TM_SCHEMA_MISMATCH',
        `column ${source.path} of a Parquet file has Arrow type "${found}", not "${expected}"`,
        { context: { column: source.path, found, expected } },
      );
    }
    const head = { type, length: source.rows, ...this.#validity(source) };
    switch (type.kind) {
      case 'struct':
        return { ...head, children: this.columns(type, source) };
      case 'array':
        return { ...head, ...this.#nested(type.element, source) };
      case 'map':
        return { ...head, ...this.#nested(entryTypeOf(type), source) };
      default:
        return isTextual(type)
          ? { ...head, ...this.#textual(source) }
          : { ...head, values: this.#fixed(type, source) };
    }
  }

  #validity(source: Source): { readonly nullCount: number; readonly validity?: Uint8Array } {
    const bitmaps = source.pieces.map((piece) => this.#buffer(piece, 0));
    if (bitmaps.every((address) => address === 0)) return { nullCount: 0 };
    const validity = new Uint8Array(bitmapBytes(source.rows));
    let row = 0;
    source.pieces.forEach((piece, i) => {
      const address = bitmaps[i]!;
      if (address === 0) setBits(validity, row, piece.length);
      else copyBits(this.#from(address), piece.start, validity, row, piece.length);
      row += piece.length;
    });
    const nullCount = source.rows - countSetBits(validity, source.rows);
    return nullCount === 0 ? { nullCount } : { nullCount, validity };
  }

  #fixed(type: DataType, source: Source): NonNullable<Vector['values']> {
    const values = fixedValuesFor(type, source.rows);
    assert(values !== undefined, 'type has fixed values', { column: source.path });
    const isBoolean = type.kind === 'primitive' && type.name === 'boolean';
    const bytes = new Uint8Array(values.buffer);
    const width = values.BYTES_PER_ELEMENT * (type.kind === 'decimal' ? 2 : 1);
    let row = 0;
    for (const piece of source.pieces) {
      const address = this.#buffer(piece, 1);
      if (isBoolean) copyBits(this.#from(address), piece.start, bytes, row, piece.length);
      else bytes.set(this.#slice(address + piece.start * width, piece.length * width), row * width);
      row += piece.length;
    }
    return values;
  }

  #textual(source: Source): { readonly offsets: Int32Array; readonly data: Uint8Array } {
    const { offsets, spans } = this.#offsets(source);
    const data = new Uint8Array(offsets[source.rows]!);
    let end = 0;
    source.pieces.forEach((piece, i) => {
      const { first, size } = spans[i]!;
      data.set(this.#slice(this.#buffer(piece, 2) + first, size), end);
      end += size;
    });
    return { offsets, data };
  }

  #nested(
    element: DataType,
    source: Source,
  ): { readonly offsets: Int32Array; readonly children: readonly Vector[] } {
    const { offsets, spans } = this.#offsets(source);
    const pieces = source.pieces.map((piece, i) => {
      const { first, size } = spans[i]!;
      return this.#childPiece(piece, 0, { start: first, length: size });
    });
    const child = this.#column(
      { name: 'element', type: element, nullable: true },
      {
        schema: this.#schemaChild(source.schema, 0),
        pieces,
        rows: offsets[source.rows]!,
        path: `${source.path}[]`,
      },
    );
    return { offsets, children: [child] };
  }

  /** The joined offsets, and per piece the range of elements that it refers to. */
  #offsets(source: Source): {
    readonly offsets: Int32Array;
    readonly spans: readonly { readonly first: number; readonly size: number }[];
  } {
    const offsets = new Int32Array(source.rows + 1);
    let row = 0;
    const spans = source.pieces.map((piece) => {
      if (piece.length === 0) return { first: 0, size: 0 };
      const own = new Int32Array(
        this.#view.buffer,
        this.#buffer(piece, 1) + piece.start * 4,
        piece.length + 1,
      );
      const first = own[0]!;
      const shift = offsets[row]! - first;
      for (let i = 1; i <= piece.length; i++) offsets[row + i] = own[i]! + shift;
      row += piece.length;
      return { first, size: own[piece.length]! - first };
    });
    return { offsets, spans };
  }

  #childPiece(
    piece: Piece,
    position: number,
    range: { readonly start: number; readonly length: number },
  ): Piece {
    const children = this.#pointer(piece.array + ARRAY_CHILDREN);
    const array = this.#pointer(children + position * POINTER_BYTES);
    const offset = this.#integer(array + ARRAY_OFFSET);
    return { array, start: offset + range.start, length: range.length };
  }

  #schemaChild(schema: number, position: number): number {
    return this.#pointer(this.#pointer(schema + SCHEMA_CHILDREN) + position * POINTER_BYTES);
  }

  #buffer(piece: Piece, position: number): number {
    return this.#pointer(this.#pointer(piece.array + ARRAY_BUFFERS) + position * POINTER_BYTES);
  }

  #pointer(address: number): number {
    return this.#view.getUint32(address, true);
  }

  /** A 64 bit count; memory of 32 bit addresses cannot hold more than its low word says. */
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

  #from(address: number): Uint8Array {
    return this.#bytes.subarray(address);
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
  const pieces = [...options.arrayAddresses].map((array) => memory.whole(array));
  const rows = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const source = { schema: options.schemaAddress, pieces, rows, path: '' };
  return { schema, length: rows, columns: memory.columns(schema, source) };
}
