/**
 * What is noted about the rows of a sub-batch while their fields are decoded: quality flags, and
 * raw JSON to keep in `_rescued`. Rows without findings cost nothing. Pure.
 *
 * R1 Flags of a row stand in a fixed order: id, time, fields as declared, then unknown_fields,
 *    duplicate_keys, future_event_time.
 * R2 `_rescued` is one JSON object of raw values: refused fields and undeclared members inside
 *    declared structs (`field.member`, elements as `field[0].member`) as declared, then undeclared
 *    top-level members as they came. Of equal names the last counts.
 * R3 A refused field takes back what was noted inside it: its raw text has it all.
 */
import type { ListBuilder } from './growable-columns.ts';
import type { BytesBuilder } from './growable-scalars.ts';
import { type NestedFindings, OUT_OF_RANGE } from './decoder.ts';
import { UNKNOWN_STRIDE } from './event-tokenizer.ts';
import { IntList } from './int-list.ts';
import { bytesEqual, escapedNameBytes, textOf } from './member-names.ts';
import { ByteScratch } from './string-text.ts';

/** Ids of the flags that do not name a field; the others follow. */
export const FLAG_MISSING_ID = 0;
export const FLAG_MISSING_TIME = 1;
export const FLAG_INVALID_TIME = 2;
export const FLAG_UNKNOWN_FIELDS = 3;
export const FLAG_DUPLICATE_KEYS = 4;
export const FLAG_FUTURE = 5;
const GENERAL_FLAGS = [
  'missing_id',
  'missing_time',
  'invalid_time',
  'unknown_fields',
  'duplicate_keys',
  'future_event_time',
];
const KINDS_PER_FIELD = 3;
const MISSING_REQUIRED = 0;
const MISMATCH = 1;
const RANGE = 2;

/** Notes per row that are turned into flags at the end. */
const NOTE_UNKNOWN = 1;
const NOTE_DUPLICATE = 2;
const NOTE_FUTURE = 4;

/** Numbers of one rescue entry: next entry, prefix, name and value ranges. */
const RESCUE_STRIDE = 7;
/** Rescued members of one row up to which comparing all pairs beats hashing. */
const PAIRWISE_NAMES_MAX = 16;

const encoder = new TextEncoder();
const DOT = encoder.encode('.');
const BACKSLASH = 0x5c;

/** Findings of up to `rowsMax` rows, called slots. */
export class RowFindings implements NestedFindings {
  /** Name of each flag by its id. */
  readonly flagNames: readonly string[];
  /** 1 for rows that cannot be in silver. */
  readonly dead: Uint8Array;
  readonly #fieldNames: readonly Uint8Array[];
  readonly #flagBytes: readonly Uint8Array[];
  readonly #notes: Uint8Array;
  readonly #flags: SlotLists;
  readonly #rescues: SlotLists;
  /** Names and paths that are not in the source text, JSON-escaped. */
  readonly #prefixes = new ByteScratch();
  /** Where the decoder is: names, JSON-escaped, and element numbers. */
  readonly #path: (Uint8Array | number)[] = [];
  readonly #text = new ByteScratch();
  #data: Uint8Array = new Uint8Array(0);
  #slot = 0;
  #noted = false;
  #undo = { rescues: 0, tail: -1, notes: 0 };

  constructor(fieldNames: readonly string[], rowsMax: number) {
    const ofFields = fieldNames.flatMap((name) => [
      `missing_required:${name}`,
      `type_mismatch:${name}`,
      `out_of_range:${name}`,
    ]);
    this.flagNames = [...GENERAL_FLAGS, ...ofFields];
    this.#flagBytes = this.flagNames.map((name) => encoder.encode(name));
    this.#fieldNames = fieldNames.map(escapedNameBytes);
    this.dead = new Uint8Array(rowsMax);
    this.#notes = new Uint8Array(rowsMax);
    this.#flags = new SlotLists(2, rowsMax);
    this.#rescues = new SlotLists(RESCUE_STRIDE, rowsMax);
  }

  /** Forgets all rows; `data` is the text of the rows to come. */
  begin(data: Uint8Array): void {
    this.#data = data;
    this.dead.fill(0);
    if (this.#noted) this.#notes.fill(0);
    this.#noted = false;
    this.#flags.clear();
    this.#rescues.clear();
    this.#prefixes.begin(0);
  }

  /** Whether the row has no flag at all so far. */
  isClean(slot: number): boolean {
    return this.#flags.head(slot) < 0 && this.#notes[slot] === 0;
  }

  addFlag(slot: number, flag: number): void {
    const entry = this.#flags.append(slot);
    this.#flags.entries.values[entry + 1] = flag;
    if (this.isDeadFlag(flag)) this.dead[slot] = 1;
  }

  /** Whether rows with this flag are dead letters. */
  isDeadFlag(flag: number): boolean {
    if (flag < GENERAL_FLAGS.length) return flag <= FLAG_INVALID_TIME;
    return (flag - GENERAL_FLAGS.length) % KINDS_PER_FIELD === MISSING_REQUIRED;
  }

  noteFuture(slot: number): void {
    this.#note(slot, NOTE_FUTURE);
  }

  noteDuplicateNames(slot: number): void {
    this.#note(slot, NOTE_DUPLICATE);
  }

  missingRequired(slot: number, field: number): void {
    this.addFlag(slot, GENERAL_FLAGS.length + field * KINDS_PER_FIELD + MISSING_REQUIRED);
  }

  /** The declared field that a missing_required flag names, or -1 for other flags. */
  requiredFieldOf(flag: number): number {
    const index = flag - GENERAL_FLAGS.length;
    return index >= 0 && index % KINDS_PER_FIELD === MISSING_REQUIRED
      ? index / KINDS_PER_FIELD
      : -1;
  }

  /** A declared field's value was not taken; its raw text is kept. */
  refused(slot: number, field: number, verdict: number, rawStart: number, rawEnd: number): void {
    const kind = verdict === OUT_OF_RANGE ? RANGE : MISMATCH;
    this.addFlag(slot, GENERAL_FLAGS.length + field * KINDS_PER_FIELD + kind);
    const name = this.#fieldNames[field]!;
    const start = this.#prefixes.length;
    this.#prefixes.append(name, 0, name.length);
    this.#rescue(slot, start, this.#prefixes.length, 0, 0, rawStart, rawEnd);
  }

  /** Undeclared top-level members, as the tokenizer lists them. */
  unknownTopLevel(unknown: IntList): void {
    const { values, length } = unknown;
    for (let i = 0; i < length; i += UNKNOWN_STRIDE) {
      const slot = values[i]!;
      this.#note(slot, NOTE_UNKNOWN);
      this.#rescue(slot, 0, 0, values[i + 1]!, values[i + 2]!, values[i + 3]!, values[i + 4]!);
    }
  }

  /** Nested findings from now on belong to this row's field. */
  beginField(slot: number, field: number): void {
    this.#slot = slot;
    this.#path.length = 0;
    this.#path.push(this.#fieldNames[field]!);
    this.#undo.rescues = this.#rescues.entries.length;
    this.#undo.tail = this.#rescues.tail(slot);
    this.#undo.notes = this.#notes[slot]!;
  }

  /** Takes back the nested findings since beginField (R3). */
  undoField(): void {
    this.#rescues.cut(this.#slot, this.#undo.tail, this.#undo.rescues);
    this.#notes[this.#slot] = this.#undo.notes;
  }

  enterMember(name: Uint8Array): void {
    this.#path.push(name);
  }

  enterElement(index: number): void {
    this.#path.push(index);
  }

  enterKey(start: number, end: number): void {
    this.#path.push(this.#data.subarray(start, end));
  }

  leave(): void {
    this.#path.pop();
  }

  unknownMember(nameStart: number, nameEnd: number, valueStart: number, valueEnd: number): void {
    const start = this.#prefixes.length;
    for (const part of this.#path) {
      const bytes = typeof part === 'number' ? encoder.encode(`[${part}]`) : part;
      if (typeof part !== 'number' && this.#prefixes.length > start)
        this.#prefixes.append(DOT, 0, 1);
      this.#prefixes.append(bytes, 0, bytes.length);
    }
    this.#prefixes.append(DOT, 0, 1);
    this.#note(this.#slot, NOTE_UNKNOWN);
    const end = this.#prefixes.length;
    this.#rescue(this.#slot, start, end, nameStart, nameEnd, valueStart, valueEnd);
  }

  duplicateName(): void {
    this.#note(this.#slot, NOTE_DUPLICATE);
  }

  /** Appends `_rescued` of the rows [0, count). Comes before writeFlags: it may find duplicates. */
  writeRescued(builder: BytesBuilder, count: number): void {
    if (this.#rescues.entries.length === 0) {
      builder.appendNulls(count);
      return;
    }
    for (let slot = 0; slot < count; slot++) {
      const head = this.#rescues.head(slot);
      if (head < 0) builder.appendNull();
      else this.#writeRescuedRow(builder, slot, head);
    }
  }

  /** Ids of the row's flags in order (R1). */
  flagsOf(slot: number): number[] {
    const flags: number[] = [];
    const { values } = this.#flags.entries;
    for (let e = this.#flags.head(slot); e >= 0; e = values[e]!) flags.push(values[e + 1]!);
    const notes = this.#notes[slot]!;
    if ((notes & NOTE_UNKNOWN) !== 0) flags.push(FLAG_UNKNOWN_FIELDS);
    if ((notes & NOTE_DUPLICATE) !== 0) flags.push(FLAG_DUPLICATE_KEYS);
    if ((notes & NOTE_FUTURE) !== 0) flags.push(FLAG_FUTURE);
    return flags;
  }

  /** Appends `_quality_flags` of the rows [0, count): null for a row without any. */
  writeFlags(builder: ListBuilder, texts: BytesBuilder, count: number): void {
    if (this.#flags.entries.length === 0 && !this.#noted) {
      builder.appendNulls(count);
      return;
    }
    for (let slot = 0; slot < count; slot++) {
      if (this.isClean(slot)) {
        builder.appendNull();
        continue;
      }
      for (const flag of this.flagsOf(slot)) {
        const text = this.#flagBytes[flag]!;
        texts.append(text, 0, text.length);
      }
      builder.closeRow();
    }
  }

  #note(slot: number, note: number): void {
    this.#notes[slot]! |= note;
    this.#noted = true;
  }

  #rescue(
    slot: number,
    prefixStart: number,
    prefixEnd: number,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    const entry = this.#rescues.append(slot);
    const { values } = this.#rescues.entries;
    values[entry + 1] = prefixStart;
    values[entry + 2] = prefixEnd;
    values[entry + 3] = nameStart;
    values[entry + 4] = nameEnd;
    values[entry + 5] = valueStart;
    values[entry + 6] = valueEnd;
  }

  #writeRescuedRow(builder: BytesBuilder, slot: number, head: number): void {
    const { values } = this.#rescues.entries;
    const data = this.#data;
    const text = this.#text;
    const superseded = values[head]! < 0 ? NONE : this.#supersededEntries(head);
    if (superseded.size > 0) this.#note(slot, NOTE_DUPLICATE);
    text.begin(0);
    for (let entry = head; entry >= 0; entry = values[entry]!) {
      if (superseded.has(entry)) continue;
      text.append(text.length === 0 ? OPEN : SEPARATOR, 0, 2);
      text.append(this.#prefixes.bytes, values[entry + 1]!, values[entry + 2]!);
      text.append(data, values[entry + 3]!, values[entry + 4]!);
      text.append(COLON, 0, 2);
      text.append(data, values[entry + 5]!, values[entry + 6]!);
    }
    text.append(CLOSE, 0, 1);
    builder.append(text.bytes, 0, text.length);
  }

  /** Entries whose whole name comes again later in the row. */
  #supersededEntries(head: number): ReadonlySet<number> {
    const { values } = this.#rescues.entries;
    const names = this.#text;
    names.begin(0);
    const entries: number[] = [];
    const ends: number[] = [0];
    let plain = true;
    for (let entry = head; entry >= 0; entry = values[entry]!) {
      names.append(this.#prefixes.bytes, values[entry + 1]!, values[entry + 2]!);
      names.append(this.#data, values[entry + 3]!, values[entry + 4]!);
      entries.push(entry);
      ends.push(names.length);
    }
    for (let i = 0; i < names.length && plain; i++) plain = names.bytes[i] !== BACKSLASH;
    if (plain && entries.length <= PAIRWISE_NAMES_MAX && !hasEqualRanges(names.bytes, ends)) {
      return NONE;
    }
    const lastByName = new Map<unknown, number>();
    const superseded = new Set<number>();
    for (const [i, entry] of entries.entries()) {
      const name: unknown = JSON.parse(`"${textOf(names.bytes, ends[i]!, ends[i + 1]!)}"`);
      const earlier = lastByName.get(name);
      if (earlier !== undefined) superseded.add(earlier);
      lastByName.set(name, entry);
    }
    return superseded;
  }
}

const NONE: ReadonlySet<number> = new Set();
const OPEN = encoder.encode('{"');
const SEPARATOR = encoder.encode(',"');
const COLON = encoder.encode('":');
const CLOSE = encoder.encode('}');

function hasEqualRanges(bytes: Uint8Array, ends: readonly number[]): boolean {
  for (let i = 1; i < ends.length; i++) {
    for (let k = i + 1; k < ends.length; k++) {
      if (bytesEqual(bytes, ends[i - 1]!, ends[i]!, bytes, ends[k - 1]!, ends[k]!)) return true;
    }
  }
  return false;
}

/** One linked list of entries per slot; the first number of an entry is the next entry or -1. */
class SlotLists {
  readonly entries = new IntList();
  readonly #stride: number;
  readonly #heads: Int32Array;
  readonly #tails: Int32Array;

  constructor(stride: number, slots: number) {
    this.#stride = stride;
    this.#heads = new Int32Array(slots).fill(-1);
    this.#tails = new Int32Array(slots).fill(-1);
  }

  head(slot: number): number {
    return this.#heads[slot]!;
  }

  tail(slot: number): number {
    return this.#tails[slot]!;
  }

  clear(): void {
    if (this.entries.length === 0) return;
    this.entries.truncate(0);
    this.#heads.fill(-1);
    this.#tails.fill(-1);
  }

  /** Adds an entry at the end of the slot's list, for the caller to fill. */
  append(slot: number): number {
    const entry = this.entries.length;
    for (let i = 0; i < this.#stride; i++) this.entries.push(-1);
    const tail = this.#tails[slot]!;
    if (tail < 0) this.#heads[slot] = entry;
    else this.entries.values[tail] = entry;
    this.#tails[slot] = entry;
    return entry;
  }

  /** Drops the entries of `slot` after `tail`, which are all entries from position `length` on. */
  cut(slot: number, tail: number, length: number): void {
    if (this.entries.length === length) return;
    this.entries.truncate(length);
    this.#tails[slot] = tail;
    if (tail < 0) this.#heads[slot] = -1;
    else this.entries.values[tail] = -1;
  }
}
