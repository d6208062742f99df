/**
 * Delta's data types as values, and the schema of a table. Source: PROTOCOL.md, "Schema
 * Serialization Format". Pure.
 */

/** A primitive type by Delta's own name. */
export type PrimitiveName =
  | 'string'
  | 'long'
  | 'integer'
  | 'short'
  | 'byte'
  | 'float'
  | 'double'
  | 'boolean'
  | 'binary'
  | 'date'
  | 'timestamp';

/** A column's type. Timestamps are microseconds since the epoch, UTC-adjusted. */
export type DataType =
  | { readonly kind: 'primitive'; readonly name: PrimitiveName }
  | { readonly kind: 'decimal'; readonly precision: number; readonly scale: number }
  | { readonly kind: 'array'; readonly element: DataType; readonly containsNull: boolean }
  | {
      readonly kind: 'map';
      readonly key: DataType;
      readonly value: DataType;
      readonly valueContainsNull: boolean;
    }
  | StructType;

/** One named column or struct member. */
export interface StructField {
  readonly name: string;
  readonly type: DataType;
  readonly nullable: boolean;
  /** Delta column metadata; empty unless a foreign writer set some. */
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** A struct, and so also a table's schema. */
export interface StructType {
  readonly kind: 'struct';
  readonly fields: readonly StructField[];
}

/** Shorthand for a primitive type. */
export function primitive(name: PrimitiveName): DataType {
  return { kind: 'primitive', name };
}

/** Shorthand for a nullable field. */
export function field(name: string, type: DataType | PrimitiveName, nullable = true): StructField {
  return { name, type: typeof type === 'string' ? primitive(type) : type, nullable };
}

/** Shorthand for a struct type. */
export function struct(fields: readonly StructField[]): StructType {
  return { kind: 'struct', fields };
}
