/** Why a bronze row is no event, as flag and sentence. Byte positions count from 0. Pure. */
import type { DataType } from '../types.ts';
import { isNullAt, type Vector } from '../columns.ts';
import type { BronzeRows } from './bronze-rows.ts';
import { EVENT_EMPTY, EVENT_NOT_OBJECT } from './event-tokenizer.ts';
import {
  DEPTH_MAX,
  type JsonFault,
  type JsonScanner,
  rawStart,
  TOKEN_ABSENT,
  TOKEN_ARRAY,
  TOKEN_FALSE,
  TOKEN_LONE_SURROGATE,
  TOKEN_NULL,
  TOKEN_NUMBER,
  TOKEN_OBJECT,
  TOKEN_STRING,
  TOKEN_TRUE,
} from './json-scanner.ts';

/** One reason. */
export interface Refusal {
  readonly flag: string;
  readonly error: string;
}

/** A row without text: a tombstone, bytes that are no UTF-8, or a value that was too large. */
export function refusalWithoutText(input: BronzeRows, row: number): Refusal {
  if (!isNullAt(input.rawBytes, row)) {
    const { data, offsets } = input.rawBytes;
    const start = offsets![row]!;
    const at = firstInvalidUtf8(data!, start, offsets![row + 1]!) - start;
    return { flag: 'invalid_utf8', error: `The value is not UTF-8 at byte ${at}.` };
  }
  const size = sizeAt(input.valueSize, row);
  if (size < 0) {
    return { flag: 'tombstone', error: 'The record has a key but no value (a tombstone).' };
  }
  const error = `The value of ${size} bytes is above source.maxRecordBytes and was not kept.`;
  return { flag: 'too_large', error };
}

function sizeAt(sizes: Vector, row: number): number {
  return isNullAt(sizes, row) ? -1 : (sizes.values as Int32Array)[row]!;
}

const FAULTS: Readonly<Record<JsonFault, string>> = {
  end: 'it ends too early',
  value: 'expected a value',
  member: 'expected a member name in quotes',
  colon: 'expected ":" after a member name',
  comma: 'expected "," or a closing bracket',
  trailing: 'text goes on after the end of the value',
  control: 'a control character stands unescaped in a string',
  escape: 'a backslash begins no valid escape',
  number: 'expected a digit',
  depth: `more than ${DEPTH_MAX} brackets are open`,
  bom: 'it begins with a byte order mark',
};

/**
 * A text that is no JSON object.
 * @param status what the tokenizer returned, other than EVENT_OK
 * @param start where the value begins in the scanner's data
 */
export function refusalOfText(status: number, scanner: JsonScanner, start: number): Refusal {
  if (status === EVENT_EMPTY) {
    const blank = scanner.end > start;
    const error = blank ? 'The value is white space only.' : 'The value has no bytes.';
    return { flag: 'empty', error };
  }
  if (status === EVENT_NOT_OBJECT) {
    return { flag: 'not_an_object', error: 'The value is JSON, but no object.' };
  }
  const { fault, faultAt } = scanner;
  const flag = fault === 'depth' ? 'too_deep' : 'invalid_json';
  const lead = fault === 'depth' ? 'The value is nested too deeply' : 'The value is not JSON';
  return { flag, error: `${lead}: ${FAULTS[fault]} at byte ${faultAt - start}.` };
}

/** What is wrong with a field that must have a value: a clause for `_error`. */
export function fieldError(
  name: string,
  type: DataType,
  kind: number,
  tokenStart: number,
  tokenEnd: number,
  valueStart: number,
): string {
  if (kind === TOKEN_ABSENT) return `${name} is missing`;
  const at = `at byte ${rawStart(kind, tokenStart) - valueStart}`;
  if (kind === TOKEN_NULL) return `${name} is null ${at}`;
  if (kind === TOKEN_STRING && tokenStart === tokenEnd) return `${name} is empty ${at}`;
  return `${name} is no valid ${typeText(type)} but ${tokenText(kind)} ${at}`;
}

function typeText(type: DataType): string {
  return type.kind === 'primitive' ? type.name : type.kind;
}

function tokenText(kind: number): string {
  if (kind === TOKEN_OBJECT) return 'an object';
  if (kind === TOKEN_ARRAY) return 'an array';
  if (kind === TOKEN_TRUE || kind === TOKEN_FALSE) return 'a boolean';
  if (kind <= TOKEN_NUMBER) return 'a number';
  return kind === TOKEN_LONE_SURROGATE ? 'a string with half a surrogate pair' : 'a string';
}

/** Position of the first byte that breaks UTF-8 (RFC 3629), or `end`. */
function firstInvalidUtf8(data: Uint8Array, start: number, end: number): number {
  let p = start;
  while (p < end) {
    const lead = data[p]!;
    if (lead < 0x80) {
      p++;
      continue;
    }
    const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || p + length > end) return p;
    const second = data[p + 1]!;
    const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (second < low || second > high) return p;
    for (let i = 2; i < length; i++) if ((data[p + i]! & 0xc0) !== 0x80) return p;
    p += length;
  }
  return end;
}
