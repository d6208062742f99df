/**
 * Columns to an Arrow IPC stream: the schema message, one record batch message, end of stream. It
 * is how rows enter parquet-wasm. Pure.
 *
 * Invariants:
 * - I1 Every buffer is copied exactly once, into one allocation of the stream's exact size.
 * - I2 Buffers start at multiples of 64 bytes, so that the reader need not realign 128 bit
 *   decimals.
 * - I3 The name of a list's child is `element`, of a map's `key_value`, `key`, `value`: these
 *   become Parquet's names, and they are the ones Spark writes and expects.
 *
 * Source: Arrow columnar format, "Serialization and Interprocess Communication"; Message.fbs,
 * Schema.fbs. Written by hand because apache-arrow takes an eighth of a second to load in each
 * thread.
 */
import { Builder } from 'flatbuffers';
import { assert } from '../../errors.ts';
import { bitmapBytes } from '../../pipeline/bitmaps.ts';
import { entryTypeOf, isTextual } from '../../pipeline/column-builder.ts';
import type { ColumnBatch, Vector } from '../../pipeline/columns.ts';
import type { DataType, PrimitiveName, StructField, StructType } from '../../pipeline/types.ts';

/** Members of the flatbuffer unions and enums that are used here (Schema.fbs, Message.fbs). */
const METADATA_V5 = 4;
const HEADER_SCHEMA = 1;
const HEADER_RECORD_BATCH = 3;
const TYPE_INT = 2;
const TYPE_FLOAT = 3;
const TYPE_BINARY = 4;
const TYPE_UTF8 = 5;
const TYPE_BOOL = 6;
const TYPE_DECIMAL = 7;
const TYPE_DATE = 8;
const TYPE_TIMESTAMP = 10;
const TYPE_LIST = 12;
const TYPE_STRUCT = 13;
const TYPE_MAP = 17;
const FLOAT_SINGLE = 1;
const FLOAT_DOUBLE = 2;
const UNIT_MICROSECOND = 2;

const FIXED_WIDTH: Partial<Record<PrimitiveName, number>> = {
  byte: 1,
  short: 2,
  integer: 4,
  date: 4,
  long: 8,
  timestamp: 8,
  float: 4,
  double: 8,
};

const BUFFER_ALIGNMENT = 64;
const CONTINUATION = 0xffffffff;
const PREFIX_BYTES = 8;

/** `roundUp(70, 64)` is 128. */
function roundUp(size: number, multiple: number): number {
  return Math.ceil(size / multiple) * multiple;
}

/** A record batch's nodes and buffers, flattened depth first as the specification orders them. */
class Body {
  readonly nodes: { readonly length: number; readonly nullCount: number }[] = [];
  readonly buffers: { readonly bytes: Uint8Array; readonly position: number }[] = [];
  size = 0;

  add(vector: Vector): void {
    const { length, type } = vector;
    const nullCount = vector.validity === undefined ? 0 : vector.nullCount;
    this.nodes.push({ length, nullCount });
    this.#push(vector.validity, nullCount === 0 ? 0 : bitmapBytes(length));
    if (type.kind === 'array' || type.kind === 'map') this.#pushOffsets(vector);
    else if (isTextual(type)) this.#pushText(vector);
    else if (type.kind !== 'struct') this.#push(vector.values, fixedBytes(type, length));
    for (const child of vector.children ?? []) this.add(child);
  }

  #pushOffsets(vector: Vector): void {
    this.#push(vector.offsets, (vector.length + 1) * 4);
  }

  /** Only the bytes that the rows refer to; a slice's offsets are rebased to start at zero. */
  #pushText(vector: Vector): void {
    const { length, offsets } = vector;
    const first = offsets?.[0] ?? 0;
    const last = offsets?.[length] ?? 0;
    if (first === 0) {
      this.#pushOffsets(vector);
    } else {
      const rebased = new Int32Array(length + 1);
      for (let i = 0; i <= length; i++) rebased[i] = offsets![i]! - first;
      this.#push(rebased, rebased.byteLength);
    }
    this.#push(vector.data?.subarray(first, last), last - first);
  }

  /** Takes the first `size` bytes of a view. */
  #push(view: ArrayBufferView | undefined, size: number): void {
    assert(size <= (view?.byteLength ?? 0), 'a buffer covers its rows', { size });
    const bytes = new Uint8Array(view?.buffer ?? new ArrayBuffer(0), view?.byteOffset ?? 0, size);
    this.buffers.push({ bytes, position: this.size });
    this.size += roundUp(size, BUFFER_ALIGNMENT);
  }
}

/** Bytes of `values` for `length` rows. */
function fixedBytes(type: DataType, length: number): number {
  if (type.kind === 'decimal') return length * 16;
  assert(type.kind === 'primitive', 'type has fixed values', { kind: type.kind });
  if (type.name === 'boolean') return bitmapBytes(length);
  const width = FIXED_WIDTH[type.name];
  assert(width !== undefined, 'type has a fixed width', { type: type.name });
  return length * width;
}

/** The union member and the table that describe `type`. */
function writeType(fbb: Builder, type: DataType): { readonly tag: number; readonly table: number } {
  const table = (tag: number, slots: number, fill: () => void = () => {}) => {
    fbb.startObject(slots);
    fill();
    return { tag, table: fbb.endObject() };
  };
  const int = (bitWidth: number) =>
    table(TYPE_INT, 2, () => {
      fbb.addFieldInt32(0, bitWidth, 0);
      fbb.addFieldInt8(1, 1, 0);
    });
  const float = (precision: number) =>
    table(TYPE_FLOAT, 1, () => fbb.addFieldInt16(0, precision, 0));
  switch (type.kind) {
    case 'decimal':
      return table(TYPE_DECIMAL, 3, () => {
        fbb.addFieldInt32(0, type.precision, 0);
        fbb.addFieldInt32(1, type.scale, 0);
      });
    case 'array':
      return table(TYPE_LIST, 0);
    case 'map':
      return table(TYPE_MAP, 1);
    case 'struct':
      return table(TYPE_STRUCT, 0);
    case 'primitive':
      switch (type.name) {
        case 'string':
          return table(TYPE_UTF8, 0);
        case 'binary':
          return table(TYPE_BINARY, 0);
        case 'boolean':
          return table(TYPE_BOOL, 0);
        case 'byte':
          return int(8);
        case 'short':
          return int(16);
        case 'integer':
          return int(32);
        case 'long':
          return int(64);
        case 'float':
          return float(FLOAT_SINGLE);
        case 'double':
          return float(FLOAT_DOUBLE);
        case 'date':
          // The unit's default is milliseconds (1); days must be written out.
          return table(TYPE_DATE, 1, () => fbb.addFieldInt16(0, 0, 1));
        case 'timestamp': {
          const zone = fbb.createString('UTC');
          return table(TYPE_TIMESTAMP, 2, () => {
            fbb.addFieldInt16(0, UNIT_MICROSECOND, 0);
            fbb.addFieldOffset(1, zone, 0);
          });
        }
      }
  }
}

/** The fields below `type` as Arrow nests and names them (I3). */
function childFields(type: DataType): readonly StructField[] {
  switch (type.kind) {
    case 'struct':
      return type.fields;
    case 'array':
      return [{ name: 'element', type: type.element, nullable: type.containsNull }];
    case 'map':
      return [{ name: 'key_value', type: entryTypeOf(type), nullable: false }];
    default:
      return [];
  }
}

function writeOffsets(fbb: Builder, offsets: readonly number[]): number {
  fbb.startVector(4, offsets.length, 4);
  for (let i = offsets.length - 1; i >= 0; i--) fbb.addOffset(offsets[i]!);
  return fbb.endVector();
}

function writeField(fbb: Builder, field: StructField): number {
  const children = writeOffsets(
    fbb,
    childFields(field.type).map((child) => writeField(fbb, child)),
  );
  const name = fbb.createString(field.name);
  const { tag, table } = writeType(fbb, field.type);
  fbb.startObject(7);
  fbb.addFieldOffset(0, name, 0);
  fbb.addFieldInt8(1, field.nullable ? 1 : 0, 0);
  fbb.addFieldInt8(2, tag, 0);
  fbb.addFieldOffset(3, table, 0);
  fbb.addFieldOffset(5, children, 0);
  return fbb.endObject();
}

/** Finishes a message and returns its metadata, without prefix and padding. */
function finishMessage(
  fbb: Builder,
  options: { readonly tag: number; readonly header: number; readonly bodyBytes: number },
): Uint8Array {
  fbb.startObject(5);
  fbb.addFieldInt16(0, METADATA_V5, 0);
  fbb.addFieldInt8(1, options.tag, 0);
  fbb.addFieldOffset(2, options.header, 0);
  fbb.addFieldInt64(3, BigInt(options.bodyBytes), 0n);
  fbb.finish(fbb.endObject());
  return fbb.asUint8Array();
}

function schemaMessage(schema: StructType): Uint8Array {
  const fbb = new Builder(1024);
  const fields = writeOffsets(
    fbb,
    schema.fields.map((field) => writeField(fbb, field)),
  );
  fbb.startObject(4);
  fbb.addFieldOffset(1, fields, 0);
  return finishMessage(fbb, { tag: HEADER_SCHEMA, header: fbb.endObject(), bodyBytes: 0 });
}

/** Two 64 bit numbers in place: the structs FieldNode and Buffer have the same shape. */
function writePair(fbb: Builder, first: number, second: number): void {
  fbb.prep(8, 16);
  fbb.writeInt64(BigInt(second));
  fbb.writeInt64(BigInt(first));
}

function recordBatchMessage(length: number, body: Body): Uint8Array {
  const fbb = new Builder(1024);
  fbb.startVector(16, body.buffers.length, 8);
  for (let i = body.buffers.length - 1; i >= 0; i--) {
    const { bytes, position } = body.buffers[i]!;
    writePair(fbb, position, bytes.byteLength);
  }
  const buffers = fbb.endVector();
  fbb.startVector(16, body.nodes.length, 8);
  for (let i = body.nodes.length - 1; i >= 0; i--) {
    const node = body.nodes[i]!;
    writePair(fbb, node.length, node.nullCount);
  }
  const nodes = fbb.endVector();
  fbb.startObject(4);
  fbb.addFieldInt64(0, BigInt(length), 0n);
  fbb.addFieldOffset(1, nodes, 0);
  fbb.addFieldOffset(2, buffers, 0);
  const header = fbb.endObject();
  return finishMessage(fbb, { tag: HEADER_RECORD_BATCH, header, bodyBytes: body.size });
}

/**
 * Serializes a batch.
 * @param allocate gives memory of a size in bytes; it need not be zeroed
 * @returns one complete stream, in the memory that `allocate` gave
 */
export function writeArrowStream(
  batch: ColumnBatch,
  allocate: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes),
): Uint8Array {
  const body = new Body();
  for (const column of batch.columns) body.add(column);
  const schema = schemaMessage(batch.schema);
  const rows = recordBatchMessage(batch.length, body);
  const schemaEnd = roundUp(PREFIX_BYTES + schema.length, BUFFER_ALIGNMENT);
  const bodyStart = schemaEnd + roundUp(PREFIX_BYTES + rows.length, BUFFER_ALIGNMENT);
  const stream = allocate(bodyStart + body.size + PREFIX_BYTES);
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  const putMessage = (metadata: Uint8Array, start: number, end: number): void => {
    view.setUint32(start, CONTINUATION, true);
    view.setUint32(start + 4, end - start - PREFIX_BYTES, true);
    stream.set(metadata, start + PREFIX_BYTES);
  };
  putMessage(schema, 0, schemaEnd);
  putMessage(rows, schemaEnd, bodyStart);
  for (const { bytes, position } of body.buffers) stream.set(bytes, bodyStart + position);
  view.setUint32(stream.length - PREFIX_BYTES, CONTINUATION, true);
  view.setUint32(stream.length - PREFIX_BYTES + 4, 0, true);
  return stream;
}
