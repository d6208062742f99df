/**
 * Thrift's compact protocol, as far as a Parquet footer needs it: a struct is read as the places of
 * its fields, so that whatever is not understood can be copied as it is. Pure.
 *
 * Invariant T1: no byte is read outside the footer and no recursion or loop is unbounded, whatever
 * the bytes say.
 *
 * Source: Apache Thrift, thrift-compact-protocol.md.
 */
import { PipelineError } from '../../errors.ts';

/** Deeper nesting is not a Parquet footer; it would only exhaust the stack. */
const DEPTH_MAX = 32;

/** Types of the compact protocol. */
const TRUE = 1;
const FALSE = 2;
const BYTE = 3;
const I16 = 4;
export const I32 = 5;
export const I64 = 6;
const DOUBLE = 7;
const BINARY = 8;
const LIST = 9;
const SET = 10;
const MAP = 11;
export const STRUCT = 12;
const UUID = 13;

/** The error for a file that is not what it claims. */
export function corruptParquet(message: string): PipelineError {
  return new PipelineError(
    'corrupt',
    'TM_PARQUET_CORRUPT',
    `not a readable Parquet file: ${message}`,
  );
}

/** Where a value lies in the footer, its field header excluded. */
export interface Span {
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

/** A struct's fields by id. */
export type Fields = ReadonlyMap<number, Span>;

/** Reads values at known places; throws PipelineError corrupt on bytes that are not Thrift. */
export class CompactReader {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The fields of the struct at `start`. */
  fields(span: { readonly start: number }): Fields {
    const fields = new Map<number, Span>();
    this.#walk(span.start, 0, fields);
    return fields;
  }

  /** The elements of a list. */
  list(span: Span | undefined): Span[] {
    if (span === undefined) return [];
    if (span.type !== LIST) throw corruptParquet('a list was expected');
    let [{ count, type }, at] = this.#listHeader(span.start);
    const elements: Span[] = [];
    for (; count > 0; count--) {
      const end = this.#skip(type, at, 0, true);
      elements.push({ type, start: at, end });
      at = end;
    }
    return elements;
  }

  /** A signed integer of any width; positions and counts beyond 2^53 are not real. */
  integer(span: Span | undefined): number | undefined {
    if (span === undefined) return undefined;
    if (span.type !== I32 && span.type !== I64 && span.type !== I16) {
      throw corruptParquet('an integer was expected');
    }
    const [raw] = this.#varint(span.start);
    const value = raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
    if (!Number.isSafeInteger(value)) throw corruptParquet('an integer is out of range');
    return value;
  }

  string(span: Span | undefined): string {
    if (span?.type !== BINARY) throw corruptParquet('a string was expected');
    const [length, at] = this.#varint(span.start);
    return new TextDecoder().decode(this.bytes.subarray(at, at + length));
  }

  #byte(at: number): number {
    const byte = this.bytes[at];
    if (byte === undefined) throw corruptParquet('the footer ends early');
    return byte;
  }

  /** Precise below 2^53, which `integer` checks. */
  #varint(start: number): readonly [value: number, end: number] {
    let value = 0;
    let scale = 1;
    let at = start;
    for (;;) {
      const byte = this.#byte(at++);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return [value, at];
      scale *= 0x80;
      if (at - start >= 10) throw corruptParquet('an integer is too long');
    }
  }

  #listHeader(start: number): [{ readonly count: number; readonly type: number }, end: number] {
    const header = this.#byte(start);
    const type = header & 0x0f;
    const short = header >> 4;
    if (short < 15) return [{ count: short, type }, start + 1];
    const [count, end] = this.#varint(start + 1);
    // Every element takes at least one byte.
    if (count > this.bytes.length - end) throw corruptParquet('a list is longer than the footer');
    return [{ count, type }, end];
  }

  /** Walks a struct, noting its fields in `found`; returns its end. */
  #walk(start: number, depth: number, found?: Map<number, Span>): number {
    let at = start;
    let id = 0;
    for (;;) {
      const header = this.#byte(at++);
      if (header === 0) return at;
      const type = header & 0x0f;
      if (header >> 4 !== 0) {
        id += header >> 4;
      } else {
        const [raw, end] = this.#varint(at);
        id = raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
        at = end;
      }
      const end = this.#skip(type, at, depth, false);
      found?.set(id, { type, start: at, end });
      at = end;
    }
  }

  /** The end of a value. A boolean field lies in its header, a boolean element takes a byte. */
  #skip(type: number, start: number, depth: number, isElement: boolean): number {
    if (depth > DEPTH_MAX) throw corruptParquet('the footer is nested too deeply');
    let end: number;
    switch (type) {
      case TRUE:
      case FALSE:
        end = isElement ? start + 1 : start;
        break;
      case BYTE:
        end = start + 1;
        break;
      case I16:
      case I32:
      case I64:
        end = this.#varint(start)[1];
        break;
      case DOUBLE:
        end = start + 8;
        break;
      case UUID:
        end = start + 16;
        break;
      case BINARY: {
        const [length, at] = this.#varint(start);
        end = at + length;
        break;
      }
      case LIST:
      case SET: {
        const [header, at] = this.#listHeader(start);
        end = at;
        for (let i = 0; i < header.count; i++) end = this.#skip(header.type, end, depth + 1, true);
        break;
      }
      case MAP: {
        const [count, at] = this.#varint(start);
        if (count > this.bytes.length - at) throw corruptParquet('a map is longer than the footer');
        end = count === 0 ? at : at + 1;
        const types = count === 0 ? 0 : this.#byte(at);
        for (let i = 0; i < count; i++) {
          end = this.#skip(types >> 4, end, depth + 1, true);
          end = this.#skip(types & 0x0f, end, depth + 1, true);
        }
        break;
      }
      case STRUCT:
        end = this.#walk(start, depth + 1);
        break;
      default:
        throw corruptParquet(`the footer has an unknown Thrift type ${type}`);
    }
    if (end > this.bytes.length) throw corruptParquet('the footer ends early');
    return end;
  }
}

/** Writes the structs that are rewritten, and copies what is not. */
export class CompactWriter {
  readonly #source: Uint8Array;
  readonly #bytes: number[] = [];
  #lastId = 0;

  constructor(source: Uint8Array) {
    this.#source = source;
  }

  copy(id: number, span: Span | undefined): void {
    if (span === undefined) return;
    this.#header(id, span.type);
    this.#append(span);
  }

  integer(id: number, type: typeof I32 | typeof I64, value: number): void {
    this.#header(id, type);
    this.#varint(value * 2);
  }

  struct(id: number, fill: () => void): void {
    this.#header(id, STRUCT);
    this.element(fill);
  }

  /** A list whose elements `fill` writes, one call each, with `element` or `copyElement`. */
  structs<T>(id: number, items: readonly T[], fill: (item: T) => void): void {
    this.#header(id, LIST);
    if (items.length < 15) {
      this.#bytes.push((items.length << 4) | STRUCT);
    } else {
      this.#bytes.push(0xf0 | STRUCT);
      this.#varint(items.length);
    }
    for (const item of items) fill(item);
  }

  element(fill: () => void): void {
    const outerId = this.#lastId;
    this.#lastId = 0;
    fill();
    this.#bytes.push(0);
    this.#lastId = outerId;
  }

  copyElement(span: Span): void {
    this.#append(span);
  }

  finish(): Uint8Array {
    this.#bytes.push(0);
    return Uint8Array.from(this.#bytes);
  }

  #append(span: Span): void {
    for (let i = span.start; i < span.end; i++) this.#bytes.push(this.#source[i]!);
  }

  #header(id: number, type: number): void {
    this.#bytes.push(((id - this.#lastId) << 4) | type);
    this.#lastId = id;
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes.push((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes.push(rest);
  }
}
