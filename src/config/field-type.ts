/**
 * The type texts of a pipeline file (`decimal(18,6)`, `struct<a:string,b:array<long>>`) as Delta
 * data types. Pure recursive descent.
 * Source: PROTOCOL.md, "Schema Serialization Format"; the texts follow Spark's simple strings.
 */
import {
  type DataType,
  type PrimitiveName,
  primitive,
  type StructField,
} from '../pipeline/types.ts';
import { nearest } from './nearest.ts';

const PRIMITIVES: ReadonlyMap<string, PrimitiveName> = new Map([
  ['string', 'string'],
  ['long', 'long'],
  ['integer', 'integer'],
  ['int', 'integer'],
  ['short', 'short'],
  ['byte', 'byte'],
  ['float', 'float'],
  ['double', 'double'],
  ['boolean', 'boolean'],
  ['binary', 'binary'],
  ['date', 'date'],
  ['timestamp', 'timestamp'],
] as const);

/** What other systems call these types. */
const FOREIGN_NAMES: Readonly<Record<string, string>> = {
  bigint: 'long',
  int64: 'long',
  int32: 'integer',
  smallint: 'short',
  tinyint: 'byte',
  text: 'string',
  varchar: 'string',
  uuid: 'string',
  number: 'long, double or decimal(18,6)',
  numeric: 'decimal(18,6)',
  bool: 'boolean',
  float64: 'double',
  float32: 'float',
  real: 'float',
  datetime: 'timestamp',
  timestamptz: 'timestamp',
  timestamp_ntz: 'timestamp',
  bytes: 'binary',
  object: 'struct<name:type>',
  list: 'array<type>',
};

/** Types in one line, for messages. */
export const FIELD_TYPES_EXPECTED =
  'a Delta type: string, long, integer, short, byte, float, double, boolean, binary, date, timestamp, ' +
  'decimal(p,s), array<type>, map<string,type> or struct<name:type,...>';

/** Deeper types would exceed what readers of Parquet accept. */
const DEPTH_MAX = 16;
const DECIMAL_PRECISION_MAX = 38;
/** Characters that Spark and Parquet refuse in column names. */
const NAME_REFUSED = /[ ,;{}()\n\t=]/;

export type ParsedFieldType =
  | { readonly ok: true; readonly type: DataType }
  | { readonly ok: false; readonly reason: string };

class TypeTextError extends Error {}

class TypeParser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parseAll(): DataType {
    const type = this.#type(0);
    this.#skipSpace();
    if (this.#at < this.#text.length) {
      throw new TypeTextError(`"${this.#text.slice(this.#at)}" is left over after the type`);
    }
    return type;
  }

  #type(depth: number): DataType {
    if (depth > DEPTH_MAX) throw new TypeTextError(`is nested deeper than ${DEPTH_MAX} levels`);
    const name = this.#word('a type').toLowerCase();
    switch (name) {
      case 'decimal':
        return this.#decimal();
      case 'array': {
        this.#expect('<');
        const element = this.#type(depth + 1);
        this.#expect('>');
        return { kind: 'array', element, containsNull: true };
      }
      case 'map': {
        this.#expect('<');
        const key = this.#type(depth + 1);
        if (key.kind !== 'primitive' || key.name !== 'string') {
          throw new TypeTextError('has a map key other than string, which JSON cannot hold');
        }
        this.#expect(',');
        const value = this.#type(depth + 1);
        this.#expect('>');
        return { kind: 'map', key, value, valueContainsNull: true };
      }
      case 'struct':
        return this.#struct(depth);
      default: {
        const known = PRIMITIVES.get(name);
        if (known) return primitive(known);
        const meant =
          FOREIGN_NAMES[name] ??
          nearest(name, [...PRIMITIVES.keys(), 'decimal', 'array', 'struct']);
        throw new TypeTextError(
          `names the unknown type "${name}"${meant ? `; did you mean ${meant}?` : ''}`,
        );
      }
    }
  }

  #decimal(): DataType {
    this.#expect('(');
    const precision = Number(this.#word('a precision'));
    this.#expect(',');
    const scale = Number(this.#word('a scale'));
    this.#expect(')');
    if (!(precision >= 1 && precision <= DECIMAL_PRECISION_MAX)) {
      throw new TypeTextError(`needs a precision of 1 to ${DECIMAL_PRECISION_MAX}`);
    }
    if (!(scale >= 0 && scale <= precision)) {
      throw new TypeTextError('needs a scale from 0 to its precision');
    }
    return { kind: 'decimal', precision, scale };
  }

  #struct(depth: number): DataType {
    this.#expect('<');
    const fields: StructField[] = [];
    const seen = new Set<string>();
    do {
      const name = this.#word('a member name');
      const refused = columnNameProblem(name);
      if (refused) throw new TypeTextError(`has a member ${refused}`);
      if (seen.has(name.toLowerCase())) {
        throw new TypeTextError(`has two members called "${name}" (case is ignored)`);
      }
      seen.add(name.toLowerCase());
      this.#expect(':');
      fields.push({ name, type: this.#type(depth + 1), nullable: true });
    } while (this.#take(','));
    this.#expect('>');
    return { kind: 'struct', fields };
  }

  #skipSpace(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  /** Characters up to the next bracket, comma, colon or space; anything between backquotes. */
  #word(what: string): string {
    this.#skipSpace();
    const found = /^(?:`([^`]+)`|([^<>(),:\s`]+))/.exec(this.#text.slice(this.#at));
    if (!found)
      throw new TypeTextError(`lacks ${what} at "${this.#text.slice(this.#at) || 'its end'}"`);
    this.#at += found[0].length;
    return (found[1] ?? found[2])!;
  }

  #take(symbol: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== symbol) return false;
    this.#at++;
    return true;
  }

  #expect(symbol: string): void {
    if (!this.#take(symbol)) {
      throw new TypeTextError(
        `lacks "${symbol}" at ${this.#text.slice(this.#at) ? `"${this.#text.slice(this.#at)}"` : 'its end'}`,
      );
    }
  }
}

/** Reads a type text; a failure says what is wrong with it. */
export function parseFieldType(text: string): ParsedFieldType {
  try {
    return { ok: true, type: new TypeParser(text).parseAll() };
  } catch (thrown) {
    if (thrown instanceof TypeTextError) return { ok: false, reason: thrown.message };
    throw thrown;
  }
}

/** The text that `parseFieldType` reads back as the same type. */
export function formatFieldType(type: DataType): string {
  switch (type.kind) {
    case 'primitive':
      return type.name;
    case 'decimal':
      return `decimal(${type.precision},${type.scale})`;
    case 'array':
      return `array<${formatFieldType(type.element)}>`;
    case 'map':
      return `map<${formatFieldType(type.key)},${formatFieldType(type.value)}>`;
    case 'struct':
      return `struct<${type.fields.map((f) => `${quoteName(f.name)}:${formatFieldType(f.type)}`).join(',')}>`;
  }
}

function quoteName(name: string): string {
  return /^[^<>(),:\s`]+$/.test(name) ? name : `\`${name}\``;
}

/** Why `name` cannot be a column's name; undefined when it can. */
export function columnNameProblem(name: string): string | undefined {
  if (name === '') return 'with an empty name';
  if (NAME_REFUSED.test(name)) return `"${name}" with one of the characters " ,;{}()\\n\\t="`;
  if (name.length > 255) return `"${name.slice(0, 20)}..." with more than 255 characters`;
  return undefined;
}
