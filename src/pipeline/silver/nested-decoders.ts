/**
 * Decoders of arrays, structs and maps (F2, F3). They read again, level by level, text that the
 * tokenizer has validated as a whole; no position is checked twice. Pure.
 */
import type { DataType, StructType } from '../types.ts';
import { entryTypeOf } from '../column-builder.ts';
import { ListBuilder, StructBuilder } from './growable-columns.ts';
import { BytesBuilder } from './growable-scalars.ts';
import { appendToken, type DecodeContext, FieldDecoder, TAKEN, TYPE_MISMATCH } from './decoder.ts';
import { IntList } from './int-list.ts';
import {
  TOKEN_ARRAY,
  TOKEN_LONE_SURROGATE,
  TOKEN_OBJECT,
  TOKEN_STRING,
  TokenTable,
} from './json-scanner.ts';
import { bytesEqual, escapedNameBytes, MemberNames, textOf } from './member-names.ts';
import { unescapeInto } from './string-text.ts';

/** Keys of one map up to which comparing all pairs beats hashing. */
const PAIRWISE_KEYS_MAX = 16;
const NO_KEYS: ReadonlySet<number> = new Set();

export class ArrayDecoder extends FieldDecoder {
  readonly builder: ListBuilder;
  readonly #element: FieldDecoder;
  readonly #containsNull: boolean;
  readonly #token = new TokenTable(1);

  constructor(type: DataType & { kind: 'array' }, element: FieldDecoder, context: DecodeContext) {
    super(context);
    this.#element = element;
    this.#containsNull = type.containsNull;
    this.builder = new ListBuilder(type, this.#element.builder);
  }

  override append(kind: number, start: number, end: number): number {
    if (kind !== TOKEN_ARRAY) return TYPE_MISMATCH;
    const { scanner, nested } = this.context;
    let p = scanner.skipSpace(start + 1);
    for (let index = 0; p < end - 1; index++) {
      const next = scanner.skipSpace(scanner.scanValue(p, this.#token, 0, 0));
      nested.enterElement(index);
      const verdict = appendToken(this.#element, this.#token, 0, this.#containsNull);
      nested.leave();
      if (verdict !== TAKEN) return verdict;
      p = scanner.skipSpace(next + 1);
    }
    this.builder.closeRow();
    return TAKEN;
  }
}

export class StructDecoder extends FieldDecoder {
  readonly builder: StructBuilder;
  readonly #members: readonly FieldDecoder[];
  readonly #nullable: readonly boolean[];
  readonly #nameBytes: readonly Uint8Array[];
  readonly #names: MemberNames;
  readonly #tokens: TokenTable;

  constructor(type: StructType, members: readonly FieldDecoder[], context: DecodeContext) {
    super(context);
    const names = type.fields.map((f) => f.name);
    this.#members = members;
    this.#nullable = type.fields.map((f) => f.nullable);
    this.#nameBytes = names.map(escapedNameBytes);
    this.#names = new MemberNames(names);
    this.#tokens = new TokenTable(names.length);
    this.builder = new StructBuilder(
      type,
      members.map((m) => m.builder),
    );
  }

  override append(kind: number, start: number, end: number): number {
    if (kind !== TOKEN_OBJECT) return TYPE_MISMATCH;
    const nested = this.context.nested;
    this.#scanMembers(start, end);
    for (let index = 0; index < this.#members.length; index++) {
      nested.enterMember(this.#nameBytes[index]!);
      const verdict = appendToken(
        this.#members[index]!,
        this.#tokens,
        index,
        this.#nullable[index]!,
      );
      nested.leave();
      if (verdict !== TAKEN) return verdict;
    }
    this.builder.closeRow();
    return TAKEN;
  }

  #scanMembers(start: number, end: number): void {
    const { scanner, nested } = this.context;
    const data = scanner.data;
    const kinds = this.#tokens.kinds.fill(0);
    let p = scanner.skipSpace(start + 1);
    while (p < end - 1) {
      const nameStart = p + 1;
      const nameEnd = scanner.scanString(nameStart);
      const index = this.#names.findString(data, nameStart, nameEnd, scanner.stringKind);
      const valueStart = scanner.scanColon(nameEnd + 1);
      let valueEnd: number;
      if (index < 0) {
        valueEnd = scanner.skipValue(valueStart, 0);
        nested.unknownMember(nameStart, nameEnd, valueStart, valueEnd);
      } else {
        if (kinds[index] !== 0) nested.duplicateName();
        valueEnd = scanner.scanValue(valueStart, this.#tokens, index, 0);
      }
      p = scanner.skipSpace(scanner.skipSpace(valueEnd) + 1);
    }
  }
}

/** Objects as maps from string; of equal keys the last counts, at its own place. */
export class MapDecoder extends FieldDecoder {
  readonly builder: ListBuilder;
  readonly #entries: StructBuilder;
  readonly #key: BytesBuilder;
  readonly #value: FieldDecoder;
  readonly #valueContainsNull: boolean;
  readonly #token = new TokenTable(1);
  /** Start and end of each key's raw text in the map at hand. */
  readonly #keys = new IntList();

  constructor(type: DataType & { kind: 'map' }, value: FieldDecoder, context: DecodeContext) {
    super(context);
    this.#value = value;
    this.#valueContainsNull = type.valueContainsNull;
    this.#key = new BytesBuilder(type.key);
    this.#entries = new StructBuilder(entryTypeOf(type), [this.#key, value.builder]);
    this.builder = new ListBuilder(type, this.#entries);
  }

  override append(kind: number, start: number, end: number): number {
    if (kind !== TOKEN_OBJECT) return TYPE_MISMATCH;
    const { scanner, scratch, nested } = this.context;
    const data = scanner.data;
    const superseded = this.#supersededKeys(start, end);
    if (superseded.size > 0) nested.duplicateName();
    let p = scanner.skipSpace(start + 1);
    while (p < end - 1) {
      const keyStart = p + 1;
      const keyEnd = scanner.scanString(keyStart);
      if (scanner.stringKind === TOKEN_LONE_SURROGATE) return TYPE_MISMATCH;
      const next = scanner.scanValue(scanner.scanColon(keyEnd + 1), this.#token, 0, 0);
      p = scanner.skipSpace(scanner.skipSpace(next) + 1);
      if (superseded.has(keyStart)) continue;
      nested.enterKey(keyStart, keyEnd);
      const verdict = appendToken(this.#value, this.#token, 0, this.#valueContainsNull);
      nested.leave();
      if (verdict !== TAKEN) return verdict;
      unescapeInto(scratch, data, keyStart, keyEnd);
      this.#key.append(scratch.bytes, 0, scratch.length);
      this.#entries.closeRow();
    }
    this.builder.closeRow();
    return TAKEN;
  }

  /** Where the raw text of those keys begins that come again later. */
  #supersededKeys(start: number, end: number): ReadonlySet<number> {
    const { scanner } = this.context;
    const keys = this.#keys;
    keys.truncate(0);
    let plain = true;
    let p = scanner.skipSpace(start + 1);
    while (p < end - 1) {
      const keyEnd = scanner.scanString(p + 1);
      if (scanner.stringKind !== TOKEN_STRING) plain = false;
      keys.push(p + 1);
      keys.push(keyEnd);
      const next = scanner.skipValue(scanner.scanColon(keyEnd + 1), 0);
      p = scanner.skipSpace(scanner.skipSpace(next) + 1);
    }
    if (plain && keys.length <= 2 * PAIRWISE_KEYS_MAX && !this.#hasEqualKeys()) return NO_KEYS;
    const lastByKey = new Map<unknown, number>();
    const superseded = new Set<number>();
    for (let i = 0; i < keys.length; i += 2) {
      const keyStart = keys.values[i]!;
      const text = textOf(scanner.data, keyStart - 1, keys.values[i + 1]! + 1);
      const key: unknown = JSON.parse(text);
      const earlier = lastByKey.get(key);
      if (earlier !== undefined) superseded.add(earlier);
      lastByKey.set(key, keyStart);
    }
    return superseded;
  }

  #hasEqualKeys(): boolean {
    const { values, length } = this.#keys;
    const data = this.context.scanner.data;
    for (let i = 0; i < length; i += 2) {
      for (let k = i + 2; k < length; k += 2) {
        const start = values[i]!;
        if (bytesEqual(data, start, values[i + 1]!, data, values[k]!, values[k + 1]!)) return true;
      }
    }
    return false;
  }
}
