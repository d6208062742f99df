/**
 * A table's schema as the `schemaString` of a metaData action and back, and the comparison of two
 * schemas. Pure. Source: PROTOCOL.md "Schema Serialization Format".
 *
 * H1 Column metadata that others wrote survives a round trip unchanged.
 * H2 A type this version does not know is refused by name, never guessed.
 */
import { PipelineError } from '../../errors.ts';
import {
  type DataType,
  type PrimitiveName,
  primitive,
  type StructField,
  type StructType,
  struct,
} from '../../pipeline/types.ts';
import { parseExactJson, stringifyExactJson } from './exact-json.ts';

const PRIMITIVES: ReadonlySet<string> = new Set<PrimitiveName>([
  'string',
  'long',
  'integer',
  'short',
  'byte',
  'float',
  'double',
  'boolean',
  'binary',
  'date',
  'timestamp',
]);

const DECIMAL = /^decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)$/;

/** Deeper than any real table; keeps a hostile schema from overflowing the stack. */
const DEPTH_MAX = 100;

/** Serialises a table's schema. */
export function schemaToJson(schema: StructType): string {
  return stringifyExactJson(typeToJson(schema));
}

/**
 * Reads a `schemaString`.
 * @throws PipelineError corrupt when it is not a schema, invalid when it has an unknown type (H2)
 */
export function schemaFromJson(text: string): StructType {
  let json: unknown;
  try {
    json = parseExactJson(text);
  } catch (cause) {
    throw new PipelineError('corrupt', 'TM_LOG_CORRUPT', 'schemaString is not JSON', { cause });
  }
  const type = typeFromJson(json, [], 0);
  if (type.kind !== 'struct') throw malformed([], 'a table schema must be a struct');
  return type;
}

/** Every field below `schema` at any depth, with its dotted path; array elements are `element`. */
export function* fieldsOf(
  type: DataType,
  path: readonly string[] = [],
): Generator<{ readonly path: string; readonly field: StructField }> {
  switch (type.kind) {
    case 'struct':
      for (const field of type.fields) {
        const fieldPath = [...path, field.name];
        yield { path: fieldPath.join('.'), field };
        yield* fieldsOf(field.type, fieldPath);
      }
      return;
    case 'array':
      return yield* fieldsOf(type.element, [...path, 'element']);
    case 'map':
      yield* fieldsOf(type.key, [...path, 'key']);
      return yield* fieldsOf(type.value, [...path, 'value']);
    case 'primitive':
    case 'decimal':
      return;
  }
}

/**
 * Whether rows of schema `rows` can be written to a table of schema `table`: every column is there
 * under the same name and type; columns the rows lack can be null. Column metadata is ignored.
 * @returns what is wrong with the first column that does not fit, or undefined
 */
export function schemaMisfit(table: StructType, rows: StructType): string | undefined {
  const columns = new Map(table.fields.map((field) => [field.name, field]));
  for (const field of rows.fields) {
    const column = columns.get(field.name);
    if (!column) return `the table has no column ${field.name}`;
    const declared = typeName(column.type);
    const wanted = typeName(field.type);
    if (declared !== wanted) return `column ${field.name} is ${declared}, not ${wanted}`;
    if (field.nullable && !column.nullable) return `column ${field.name} must not be null`;
    columns.delete(field.name);
  }
  for (const column of columns.values()) {
    if (!column.nullable) return `column ${column.name} must not be null and would be left out`;
  }
  return undefined;
}

/**
 * Two columns whose names differ at most in case, which no Delta reader can tell apart.
 * @returns the second of them, or undefined
 */
export function ambiguousColumn(schema: StructType): string | undefined {
  const seen = new Set<string>();
  for (const { path } of fieldsOf(schema)) {
    const folded = path.toLowerCase();
    if (seen.has(folded)) return path;
    seen.add(folded);
  }
  return undefined;
}

/** A type in the notation of pipeline files, for messages and comparison: `array<struct<a:long>>`. */
export function typeName(type: DataType): string {
  switch (type.kind) {
    case 'primitive':
      return type.name;
    case 'decimal':
      return `decimal(${type.precision},${type.scale})`;
    case 'array':
      return `array<${typeName(type.element)}>`;
    case 'map':
      return `map<${typeName(type.key)},${typeName(type.value)}>`;
    case 'struct':
      return `struct<${type.fields.map((f) => `${f.name}:${typeName(f.type)}`).join(',')}>`;
  }
}

function typeToJson(type: DataType): unknown {
  switch (type.kind) {
    case 'primitive':
      return type.name;
    case 'decimal':
      return `decimal(${type.precision},${type.scale})`;
    case 'array':
      return {
        type: 'array',
        elementType: typeToJson(type.element),
        containsNull: type.containsNull,
      };
    case 'map':
      return {
        type: 'map',
        keyType: typeToJson(type.key),
        valueType: typeToJson(type.value),
        valueContainsNull: type.valueContainsNull,
      };
    case 'struct':
      return {
        type: 'struct',
        fields: type.fields.map((field) => ({
          name: field.name,
          type: typeToJson(field.type),
          nullable: field.nullable,
          metadata: field.metadata ?? {},
        })),
      };
  }
}

function typeFromJson(json: unknown, path: readonly string[], depth: number): DataType {
  if (depth > DEPTH_MAX) throw malformed(path.slice(0, 3), 'is nested too deeply');
  if (typeof json === 'string') return atomFromName(json, path);
  if (!isObject(json)) throw malformed(path, 'has no type');
  const nested = (key: string, name: string): DataType =>
    typeFromJson(json[key], [...path, name], depth + 1);
  switch (json['type']) {
    case 'struct': {
      const fields = json['fields'];
      if (!Array.isArray(fields)) throw malformed(path, 'is a struct without fields');
      return struct(fields.map((field: unknown) => fieldFromJson(field, path, depth + 1)));
    }
    case 'array':
      return {
        kind: 'array',
        element: nested('elementType', 'element'),
        containsNull: json['containsNull'] !== false,
      };
    case 'map':
      return {
        kind: 'map',
        key: nested('keyType', 'key'),
        value: nested('valueType', 'value'),
        valueContainsNull: json['valueContainsNull'] !== false,
      };
    default:
      throw unsupported(path, String(json['type']));
  }
}

function fieldFromJson(json: unknown, path: readonly string[], depth: number): StructField {
  if (!isObject(json)) throw malformed(path, 'has a field that is not an object');
  const { name, type, nullable, metadata } = json;
  if (typeof name !== 'string') throw malformed(path, 'has a field without a name');
  const parsed = {
    name,
    type: typeFromJson(type, [...path, name], depth),
    nullable: nullable !== false,
  };
  const noted = isObject(metadata) && Object.keys(metadata).length > 0;
  return noted ? { ...parsed, metadata } : parsed;
}

function atomFromName(name: string, path: readonly string[]): DataType {
  if (PRIMITIVES.has(name)) return primitive(name as PrimitiveName);
  if (name === 'decimal') return { kind: 'decimal', precision: 10, scale: 0 };
  const decimal = DECIMAL.exec(name);
  const precision = Number(decimal?.[1]);
  const scale = Number(decimal?.[2]);
  if (decimal && precision >= 1 && precision <= 38 && scale <= precision) {
    return { kind: 'decimal', precision, scale };
  }
  throw unsupported(path, name);
}

function isObject(json: unknown): json is Record<string, unknown> {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}

function malformed(path: readonly string[], problem: string): PipelineError {
  const where = path.length === 0 ? 'the schema' : `column ${path.join('.')}`;
  return new PipelineError('corrupt', 'TM_LOG_CORRUPT', `${where} ${problem}`);
}

function unsupported(path: readonly string[], name: string): PipelineError {
  const message = `column ${path.join('.')} has the unsupported type ${JSON.stringify(name)}`;
  return new PipelineError('invalid', 'TM_LOG_UNSUPPORTED', message);
}
