/**
 * Takes one JSON event apart: where the value of each declared field lies, and which members are
 * not declared. Pure, and the hottest loop of the silver stage.
 *
 * K1 The whole value is validated (J1) before anything of it counts; a refused event leaves no
 *    trace.
 * K2 Of members with the same name the last counts, and the event is marked.
 */
import { IntList } from './int-list.ts';
import { type JsonScanner, TOKEN_ABSENT, type TokenTable } from './json-scanner.ts';
import { MemberNames } from './member-names.ts';

/** How an event's text was read. */
export const EVENT_OK = 0;
/** No bytes, or white space only. */
export const EVENT_EMPTY = 1;
/** Not JSON; the scanner's `fault` says why, `too_deep` included. */
export const EVENT_REFUSED = 2;
export const EVENT_NOT_OBJECT = 3;

/** Integers per entry of `unknown`: slot, name start and end, raw value start and end. */
export const UNKNOWN_STRIDE = 5;

/** Positions in the order of members that are remembered from one event to the next. */
const HINTS = 256;

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Reads events into slots of a token table: entry `slot * fieldCount + field`. */
export class EventTokenizer {
  readonly fieldCount: number;
  /** Members that are not declared, by slot, in the order of the text. */
  readonly unknown = new IntList();
  /** Whether the event read last named a declared field twice. */
  duplicateNames = false;
  readonly #scanner: JsonScanner;
  readonly #tokens: TokenTable;
  readonly #names: MemberNames;
  readonly #hints = new Int32Array(HINTS).fill(-1);

  constructor(scanner: JsonScanner, tokens: TokenTable, fieldNames: readonly string[]) {
    this.fieldCount = fieldNames.length;
    this.#scanner = scanner;
    this.#tokens = tokens;
    this.#names = new MemberNames(fieldNames);
  }

  /** Reads the scanner's data from `start` to its `end` into `slot`. */
  read(slot: number, start: number): number {
    const scanner = this.#scanner;
    const { data, end } = scanner;
    const p = scanner.skipSpace(start);
    if (p >= end) return EVENT_EMPTY;
    const base = slot * this.fieldCount;
    const kinds = this.#tokens.kinds;
    for (let i = base; i < base + this.fieldCount; i++) kinds[i] = TOKEN_ABSENT;
    this.duplicateNames = false;
    if (data[p] !== OPEN_OBJECT) return this.#readOther(p);
    const unknownBefore = this.unknown.length;
    if (this.#readMembers(p, slot, base) >= 0) return EVENT_OK;
    this.unknown.truncate(unknownBefore);
    return EVENT_REFUSED;
  }

  /** Forgets the undeclared members of `slot`, the last one read. */
  dropUnknown(slot: number): void {
    const { unknown } = this;
    while (unknown.length > 0 && unknown.values[unknown.length - UNKNOWN_STRIDE] === slot) {
      unknown.truncate(unknown.length - UNKNOWN_STRIDE);
    }
  }

  /** @returns the end of the text, or -1 */
  #readMembers(at: number, slot: number, base: number): number {
    const scanner = this.#scanner;
    const tokens = this.#tokens;
    const names = this.#names;
    const hints = this.#hints;
    const { data, view, end } = scanner;
    let p = scanner.skipSpace(at + 1);
    if (p < end && data[p] === CLOSE_OBJECT) return this.#readTail(p + 1);
    for (let position = 0; ; position++) {
      if (p >= end || data[p] !== QUOTE) return scanner.fail('member', p);
      const nameStart = p + 1;
      let field = position < HINTS ? hints[position]! : -1;
      let close = field < 0 ? -1 : names.matchAt(field, view, nameStart, end);
      if (close < 0) {
        close = scanner.scanString(nameStart);
        if (close < 0) return -1;
        field = names.findString(data, nameStart, close, scanner.stringKind);
        if (position < HINTS) hints[position] = field;
      }
      p = close + 1;
      if (p + 1 < end && data[p] === 0x3a && data[p + 1]! > 0x20) p++;
      else {
        p = scanner.scanColon(p);
        if (p < 0) return -1;
      }
      if (field >= 0) {
        if (tokens.kinds[base + field] !== TOKEN_ABSENT) this.duplicateNames = true;
        p = scanner.scanValue(p, tokens, base + field, 1);
        if (p < 0) return -1;
      } else {
        const valueStart = p;
        p = scanner.skipValue(p, 1);
        if (p < 0) return -1;
        this.unknown.push5(slot, nameStart, close, valueStart, p);
      }
      if (p < end && data[p]! <= 0x20) p = scanner.skipSpace(p);
      const separator = p < end ? data[p]! : 0;
      if (separator === CLOSE_OBJECT) return this.#readTail(p + 1);
      if (separator !== COMMA) return scanner.fail('comma', p);
      p++;
      if (p < end && data[p]! <= 0x20) p = scanner.skipSpace(p);
    }
  }

  #readTail(at: number): number {
    const p = this.#scanner.skipSpace(at);
    return p === this.#scanner.end ? p : this.#scanner.fail('trailing', p);
  }

  /** A text that does not begin like an object. */
  #readOther(at: number): number {
    const scanner = this.#scanner;
    const { data, end } = scanner;
    if (data[at] === 0xef && at + 2 < end && data[at + 1] === 0xbb && data[at + 2] === 0xbf) {
      scanner.fail('bom', at);
      return EVENT_REFUSED;
    }
    const next = scanner.skipValue(at, 0);
    if (next < 0 || this.#readTail(next) < 0) return EVENT_REFUSED;
    return EVENT_NOT_OBJECT;
  }
}
