/**
 * Silver rows as plain values, turned into column batches, and gold batches turned back into plain
 * values. Slow and obvious on purpose.
 *
 * Values: text as string, binary as lower-case hex, long, timestamp and decimal (unscaled) as
 * bigint, other numbers as number, boolean as boolean, null as null.
 */
import type { ColumnBatch, Vector } from '../../../src/pipeline/columns.ts';
import { isNullAt } from '../../../src/pipeline/columns.ts';
import type { EventConfig } from '../../../src/pipeline/pipeline-config.ts';
import { type DataType, field, struct } from '../../../src/pipeline/types.ts';

export type Value = string | number | bigint | boolean | null;
export type EventRow = Readonly<Record<string, Value>>;

/** One field per type; the field is called like its type. */
export const EVENT: EventConfig = {
  id: 'event_id',
  time: { field: 'event_time', unit: 'rfc3339' },
  schemaVersion: 1,
  schema: struct([
    field('event_id', 'string', false),
    field('event_time', 'timestamp', false),
    field('string', 'string'),
    field('binary', 'binary'),
    field('boolean', 'boolean'),
    field('byte', 'byte'),
    field('short', 'short'),
    field('integer', 'integer'),
    field('long', 'long'),
    field('float', 'float'),
    field('double', 'double'),
    field('date', 'date'),
    field('timestamp', 'timestamp'),
    field('decimal', { kind: 'decimal', precision: 38, scale: 6 }),
  ]),
};

/** Type of a field of EVENT. */
export function typeOf(name: string): DataType {
  return EVENT.schema.fields.find((f) => f.name === name)!.type;
}

/** Silver rows as a batch of all the fields of EVENT but the id; absent values are null. */
export function batchOf(rows: readonly EventRow[]): ColumnBatch {
  const fields = EVENT.schema.fields.filter(({ name }) => name !== 'event_id');
  return {
    schema: struct(fields),
    length: rows.length,
    columns: fields.map(({ name, type }) =>
      vectorOf(
        type,
        rows.map((row) => row[name] ?? null),
      ),
    ),
  };
}

/** A column of these values. */
export function vectorOf(type: DataType, values: readonly Value[]): Vector {
  const validity = new Uint8Array((values.length + 7) >> 3);
  values.forEach((value, i) => {
    if (value !== null) validity[i >> 3]! |= 1 << (i & 7);
  });
  const nullCount = values.filter((value) => value === null).length;
  const base = { type, length: values.length, nullCount, validity };
  if (type.kind === 'decimal') {
    const words = values.flatMap((value) => {
      const unscaled = BigInt(value ?? 0n);
      return [BigInt.asIntN(64, unscaled), BigInt.asIntN(64, unscaled >> 64n)];
    });
    return { ...base, values: BigInt64Array.from(words) };
  }
  const name = type.kind === 'primitive' ? type.name : 'string';
  if (name === 'string' || name === 'binary') {
    const encoding = name === 'string' ? 'utf8' : 'hex';
    const pieces = values.map((value) => Buffer.from((value ?? '') as string, encoding));
    const offsets = new Int32Array(values.length + 1);
    offsets[0] = 3; // Arrow allows bytes before the first value
    pieces.forEach((piece, i) => {
      offsets[i + 1] = offsets[i]! + piece.length;
    });
    return { ...base, offsets, data: new Uint8Array(Buffer.concat([Buffer.alloc(3), ...pieces])) };
  }
  if (name === 'boolean') {
    const bits = new Uint8Array(validity.length);
    values.forEach((value, i) => {
      if (value === true) bits[i >> 3]! |= 1 << (i & 7);
    });
    return { ...base, values: bits };
  }
  if (name === 'long' || name === 'timestamp') {
    return { ...base, values: BigInt64Array.from(values, (value) => BigInt(value ?? 0n)) };
  }
  const kinds = {
    byte: Int8Array,
    short: Int16Array,
    integer: Int32Array,
    date: Int32Array,
    float: Float32Array,
    double: Float64Array,
  };
  return { ...base, values: kinds[name].from(values as number[]) };
}

/** The value of a column in a row. */
export function valueAt(vector: Vector, row: number): Value {
  if (isNullAt(vector, row)) return null;
  const { type } = vector;
  if (type.kind === 'decimal') {
    const words = vector.values as BigInt64Array;
    return (words[2 * row + 1]! << 64n) | BigInt.asUintN(64, words[2 * row]!);
  }
  if (vector.offsets) {
    const piece = vector.data!.subarray(vector.offsets[row], vector.offsets[row + 1]);
    const isText = type.kind === 'primitive' && type.name === 'string';
    return Buffer.from(piece).toString(isText ? 'utf8' : 'hex');
  }
  if (type.kind === 'primitive' && type.name === 'boolean') {
    return (((vector.values as Uint8Array)[row >> 3]! >> (row & 7)) & 1) === 1;
  }
  return (vector.values as BigInt64Array | Float64Array)[row]!;
}

/** The rows of a batch, by column name. */
export function rowsOf(batch: ColumnBatch): Record<string, Value>[] {
  return Array.from({ length: batch.length }, (_, row) =>
    Object.fromEntries(
      batch.schema.fields.map(({ name }, c) => [name, valueAt(batch.columns[c]!, row)]),
    ),
  );
}

/** Every buffer of a batch, as bytes: equal only for batches that are equal bit for bit. */
export function buffersOf(batch: ColumnBatch): string[] {
  return batch.columns.flatMap((vector) =>
    [vector.validity, vector.values, vector.offsets, vector.data].map((buffer) =>
      buffer === undefined
        ? '-'
        : Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength).toString('hex'),
    ),
  );
}
