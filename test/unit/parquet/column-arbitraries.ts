/** fast-check generators of schemas, and of rows that fit them, over every type of Delta. */
import fc from 'fast-check';
import {
  type CellValue,
  columnsFromRows,
  type RowValue,
} from '../../../src/pipeline/column-builder.ts';
import type { ColumnBatch } from '../../../src/pipeline/columns.ts';
import {
  type DataType,
  type PrimitiveName,
  primitive,
  type StructType,
} from '../../../src/pipeline/types.ts';

const PRIMITIVES: readonly PrimitiveName[] = [
  'string',
  'binary',
  'boolean',
  'byte',
  'short',
  'integer',
  'long',
  'float',
  'double',
  'date',
  'timestamp',
];

const leafType: fc.Arbitrary<DataType> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...PRIMITIVES).map(primitive) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.integer({ min: 1, max: 38 }), fc.nat(38)).map(
      ([precision, scale]): DataType => ({
        kind: 'decimal',
        precision,
        scale: Math.min(precision, scale),
      }),
    ),
  },
);

const { type: anyType } = fc.letrec<{ type: DataType }>((tie) => ({
  type: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leafType,
    fc.tuple(tie('type'), fc.boolean()).map(([element, containsNull]): DataType => {
      return { kind: 'array', element, containsNull };
    }),
    fc
      .tuple(fc.constantFrom<PrimitiveName>('string', 'long', 'date'), tie('type'), fc.boolean())
      .map(([key, value, valueContainsNull]): DataType => {
        return { kind: 'map', key: primitive(key), value, valueContainsNull };
      }),
    structOf(tie('type')),
  ),
}));

function structOf(type: fc.Arbitrary<DataType>): fc.Arbitrary<StructType> {
  return fc.array(fc.tuple(type, fc.boolean()), { minLength: 1, maxLength: 5 }).map(
    (members): StructType => ({
      kind: 'struct',
      fields: members.map(([member, nullable], i) => ({ name: `f${i}`, type: member, nullable })),
    }),
  );
}

/** Any value of a type, or null where `nullable`. */
export function cellOf(type: DataType, nullable: boolean): fc.Arbitrary<CellValue> {
  const cell = valueOf(type);
  return nullable ? fc.option(cell, { freq: 4, nil: null }) : cell;
}

function valueOf(type: DataType): fc.Arbitrary<CellValue> {
  switch (type.kind) {
    case 'decimal': {
      const bound = 10n ** BigInt(type.precision) - 1n;
      return fc.bigInt({ min: -bound, max: bound });
    }
    case 'array':
      return fc.array(cellOf(type.element, type.containsNull), { maxLength: 4 });
    case 'map':
      return fc
        .uniqueArray(fc.tuple(valueOf(type.key), cellOf(type.value, type.valueContainsNull)), {
          maxLength: 4,
          selector: ([key]) => key,
        })
        .map((entries) => new Map(entries));
    case 'struct':
      return rowOf(type);
    case 'primitive':
      switch (type.name) {
        case 'string':
          return fc.string({ unit: 'binary', maxLength: 80 });
        case 'binary':
          return fc.uint8Array({ maxLength: 20 });
        case 'boolean':
          return fc.boolean();
        case 'byte':
          return fc.integer({ min: -128, max: 127 });
        case 'short':
          return fc.integer({ min: -32_768, max: 32_767 });
        case 'integer':
          return fc.integer();
        case 'date':
          return fc.integer({ min: -800_000, max: 3_000_000 });
        case 'long':
          return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
        case 'timestamp':
          return fc.bigInt({ min: -(2n ** 57n), max: 2n ** 58n });
        case 'float':
          return fc.float();
        case 'double':
          return fc.double();
      }
  }
}

function rowOf(schema: StructType): fc.Arbitrary<RowValue> {
  return fc.record(
    Object.fromEntries(
      schema.fields.map(({ name, type, nullable }) => [name, cellOf(type, nullable)]),
    ),
  );
}

/** A batch of any schema; column names f0, f1, … */
export const anyBatch: fc.Arbitrary<ColumnBatch> = structOf(anyType).chain((schema) =>
  fc.array(rowOf(schema), { maxLength: 20 }).map((rows) => columnsFromRows(schema, rows)),
);

/** A batch whose columns are leaves. */
export const flatBatch: fc.Arbitrary<ColumnBatch> = structOf(leafType).chain((schema) =>
  fc.array(rowOf(schema), { maxLength: 40 }).map((rows) => columnsFromRows(schema, rows)),
);
