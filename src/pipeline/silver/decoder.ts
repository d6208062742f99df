/**
 * What a decoder of one declared type is: it takes a token and appends a typed value to its column.
 * Pure.
 *
 * F1 A value is taken exactly or not at all: no coercion between JSON types, no rounding but the
 *    nearest double, no wrapped integers.
 * F2 A value that is not taken may leave rows behind in a nested column; the caller truncates.
 * F3 Inside arrays, structs and maps the first misfit, in declared order, refuses the whole field.
 */
import type { InstantParser } from './civil-time.ts';
import type { ColumnBuilder } from './growable-column.ts';
import { type JsonScanner, TOKEN_NULL, type TokenTable } from './json-scanner.ts';
import type { ByteScratch } from './string-text.ts';

/** What became of a value. */
export const TAKEN = 0;
export const TYPE_MISMATCH = 1;
export const OUT_OF_RANGE = 2;
/** There was none: absent or null. */
export const NO_VALUE = 3;

/** Where nested decoders report members that the schema does not name. */
export interface NestedFindings {
  /** The path goes down into a member (JSON-escaped name), an array's element, or a map's entry. */
  enterMember(name: Uint8Array): void;
  enterElement(index: number): void;
  enterKey(start: number, end: number): void;
  leave(): void;
  /** The member [nameStart, nameEnd) with the raw value [valueStart, valueEnd) is not declared. */
  unknownMember(nameStart: number, nameEnd: number, valueStart: number, valueEnd: number): void;
  /** A member or key came more than once. */
  duplicateName(): void;
}

/** What the decoders of one event schema share. */
export interface DecodeContext {
  /** Its `data` holds the text that tokens point into. */
  readonly scanner: JsonScanner;
  readonly scratch: ByteScratch;
  readonly instants: InstantParser;
  readonly nested: NestedFindings;
}

/** Appends values of one type to its column. */
export abstract class FieldDecoder {
  abstract readonly builder: ColumnBuilder;
  /** Why the last appendRun stopped early. */
  verdict = TAKEN;
  protected readonly context: DecodeContext;

  constructor(context: DecodeContext) {
    this.context = context;
  }

  /** Appends a value that is neither absent nor null, or tells why not (F2). */
  abstract append(kind: number, start: number, end: number, number: number): number;

  /**
   * Appends entry `index` of `tokens` and those that follow it `stride` apart, `count` in all,
   * until one is absent, null or not taken; that one is left to the caller, with its `verdict`.
   * @returns how many were appended
   */
  appendRun(tokens: TokenTable, index: number, stride: number, count: number): number {
    const { kinds, starts, ends, numbers } = tokens;
    let at = index;
    for (let done = 0; done < count; done++, at += stride) {
      const kind = kinds[at]!;
      const verdict =
        kind <= TOKEN_NULL ? NO_VALUE : this.append(kind, starts[at]!, ends[at]!, numbers[at]!);
      if (verdict === TAKEN) continue;
      this.verdict = verdict;
      return done;
    }
    return count;
  }
}

/** Appends entry `index` of `tokens`, where absent and null are null. */
export function appendToken(
  decoder: FieldDecoder,
  tokens: TokenTable,
  index: number,
  nullable: boolean,
): number {
  const kind = tokens.kinds[index]!;
  if (kind <= TOKEN_NULL) {
    if (!nullable) return TYPE_MISMATCH;
    decoder.builder.appendNull();
    return TAKEN;
  }
  return decoder.append(kind, tokens.starts[index]!, tokens.ends[index]!, tokens.numbers[index]!);
}
