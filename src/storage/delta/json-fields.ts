/**
 * Typed access to the fields of a JSON object that somebody else wrote. Pure.
 *
 * F1 A field of the wrong type is an error that names place and field; null counts as absent.
 */
import { PipelineError } from '../../errors.ts';

/** A JSON object, to be written. */
export type Json = Readonly<Record<string, unknown>>;

const LONG_MIN = -(2n ** 63n);
const LONG_MAX = 2n ** 63n - 1n;

/** One object with the place it was read from. All methods throw PipelineError corrupt (F1). */
export class JsonFields {
  readonly fields: Json;
  /** File and line, for messages. */
  readonly place: string;

  private constructor(fields: Json, place: string) {
    this.fields = fields;
    this.place = place;
  }

  /** Wraps a parsed value, which has to be an object. */
  static of(value: unknown, place: string): JsonFields {
    if (!isObject(value)) throw wrong(place, 'not a JSON object');
    return new JsonFields(value, place);
  }

  text(name: string): string {
    return this.optionalText(name) ?? this.#missing(name);
  }

  optionalText(name: string): string | undefined {
    const value = this.#value(name);
    if (value === undefined || typeof value === 'string') return value;
    return this.#wrongType(name, 'text');
  }

  boolean(name: string): boolean {
    const value = this.#value(name) ?? this.#missing(name);
    return typeof value === 'boolean' ? value : this.#wrongType(name, 'a boolean');
  }

  /** A safe integer. */
  integer(name: string): number {
    return this.optionalInteger(name) ?? this.#missing(name);
  }

  optionalInteger(name: string): number | undefined {
    const value = this.#value(name);
    if (value === undefined || Number.isSafeInteger(value)) return value as number | undefined;
    return this.#wrongType(name, 'a safe integer');
  }

  /** A 64-bit integer, exact. */
  long(name: string): bigint {
    const value = this.#value(name) ?? this.#missing(name);
    if (Number.isSafeInteger(value)) return BigInt(value as number);
    if (typeof value === 'bigint' && value >= LONG_MIN && value <= LONG_MAX) return value;
    return this.#wrongType(name, 'a 64-bit integer');
  }

  optionalObject(name: string): JsonFields | undefined {
    const value = this.#value(name);
    if (value === undefined) return undefined;
    if (!isObject(value)) return this.#wrongType(name, 'an object');
    return new JsonFields(value, this.place);
  }

  optionalStrings(name: string): readonly string[] | undefined {
    const value = this.#value(name);
    if (value === undefined) return undefined;
    const ok = Array.isArray(value) && value.every((item) => typeof item === 'string');
    return ok ? (value as string[]) : this.#wrongType(name, 'a list of texts');
  }

  optionalTextMap(name: string): Readonly<Record<string, string>> | undefined {
    const value = this.optionalObject(name);
    if (value === undefined) return undefined;
    const entries = Object.entries(value.fields).filter(([, item]) => item !== null);
    const ok = entries.every(([, item]) => typeof item === 'string');
    return ok ? Object.fromEntries(entries as [string, string][]) : this.#wrongType(name, 'texts');
  }

  /** Partition values by column; the protocol gives the empty text the meaning null. */
  partitionValues(name: string): Readonly<Record<string, string | null>> | undefined {
    const value = this.optionalObject(name);
    if (value === undefined) return undefined;
    const entries = Object.entries(value.fields).map(([column, item]) => {
      if (item !== null && typeof item !== 'string') return this.#wrongType(name, 'texts or nulls');
      return [column, item === '' ? null : item] as const;
    });
    return Object.fromEntries(entries);
  }

  #value(name: string): unknown {
    return Object.hasOwn(this.fields, name) ? (this.fields[name] ?? undefined) : undefined;
  }

  #missing(name: string): never {
    throw wrong(this.place, `${name} is missing`);
  }

  #wrongType(name: string, wanted: string): never {
    throw wrong(this.place, `${name} is not ${wanted}`);
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(place: string, problem: string): PipelineError {
  return new PipelineError('corrupt', 'TM_LOG_CORRUPT', `${place}: ${problem}`);
}
