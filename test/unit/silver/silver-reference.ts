/**
 * The silver stage once more, written for clarity and independence: recursive descent over strings,
 * BigInt for every number, Date for the calendar, one object per event. Tests compare with it.
 */
import type { CellValue, RowValue } from '../../../src/pipeline/column-builder.ts';
import type { EventConfig, LateConfig } from '../../../src/pipeline/pipeline-config.ts';
import type { DataType, StructType } from '../../../src/pipeline/types.ts';
import type { TestRecord } from './bronze-batches.ts';

interface Member {
  readonly rawKey: string;
  readonly key: string;
  readonly node: Node;
}

/** A JSON value with its raw text. */
export interface Node {
  readonly kind: 'null' | 'boolean' | 'number' | 'string' | 'object' | 'array';
  readonly raw: string;
  readonly members: readonly Member[];
  readonly items: readonly Node[];
}

type Fault = 'invalid_json' | 'too_deep';

/** Parses a whole text, or tells what is wrong with it. */
export function parseText(text: string): Node | Fault {
  let p = 0;
  const space = (): void => {
    while (p < text.length && ' \t\n\r'.includes(text[p]!)) p++;
  };
  const refuse = (fault: Fault = 'invalid_json'): never => {
    throw new Error(fault);
  };
  const match = (pattern: RegExp): string => {
    pattern.lastIndex = p;
    const found = pattern.exec(text);
    if (found === null) return refuse();
    p += found[0].length;
    return found[0];
  };
  const value = (depth: number): Node => {
    const start = p;
    const c = text[p] ?? refuse();
    const made = (kind: Node['kind'], members: Member[] = [], items: Node[] = []): Node => ({
      kind,
      raw: text.slice(start, p),
      members,
      items,
    });
    if (c === '{' || c === '[') {
      if (depth === 64) refuse('too_deep');
      p++;
      space();
      const members: Member[] = [];
      const items: Node[] = [];
      const close = c === '{' ? '}' : ']';
      while (text[p] !== close) {
        if (members.length + items.length > 0) {
          match(/,/y);
          space();
        }
        if (c === '{') {
          const rawKey = match(STRING);
          space();
          match(/:/y);
          space();
          const node = value(depth + 1);
          members.push({ rawKey: rawKey.slice(1, -1), key: JSON.parse(rawKey) as string, node });
        } else {
          items.push(value(depth + 1));
        }
        space();
      }
      p++;
      return made(c === '{' ? 'object' : 'array', members, items);
    }
    if (c === '"') {
      match(STRING);
      return made('string');
    }
    if (/[-0-9]/.test(c)) {
      match(/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y);
      return made('number');
    }
    return match(/null|true|false/y) === 'null' ? made('null') : made('boolean');
  };
  try {
    space();
    const node = value(0);
    space();
    if (p < text.length) refuse();
    return node;
  } catch (thrown) {
    return (thrown as Error).message as Fault;
  }
}

// oxlint-disable-next-line no-control-regex -- JSON forbids exactly these in strings
const STRING = /"([^"\\\u0000-\u001f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"/y;

type Refused = 'type_mismatch' | 'out_of_range';

/** What is noted while a declared field is converted. */
interface Notes {
  rescued: [name: string, raw: string][];
  duplicate: boolean;
}

class Misfit extends Error {
  readonly verdict: Refused;
  constructor(verdict: Refused) {
    super(verdict);
    this.verdict = verdict;
  }
}

const mismatch = (): never => {
  throw new Misfit('type_mismatch');
};
const outOfRange = (): never => {
  throw new Misfit('out_of_range');
};

function convert(type: DataType, node: Node, path: string, notes: Notes): CellValue {
  switch (type.kind) {
    case 'decimal': {
      const { digits, exponent } = exactNumber(node);
      const scaled = exponent + type.scale;
      if (digits === 0n) return 0n;
      if (scaled < 0 && digits % 10n ** BigInt(-scaled) !== 0n) return outOfRange();
      const unscaled =
        scaled < 0 ? digits / 10n ** BigInt(-scaled) : digits * 10n ** BigInt(scaled);
      const limit = 10n ** BigInt(type.precision);
      return unscaled >= limit || unscaled <= -limit ? outOfRange() : unscaled;
    }
    case 'array':
      if (node.kind !== 'array') return mismatch();
      return node.items.map((item, i) =>
        item.kind === 'null' && type.containsNull
          ? null
          : convertPresent(type.element, item, `${path}[${i}]`, notes),
      );
    case 'map': {
      if (node.kind !== 'object') return mismatch();
      const last = new Map(node.members.map((m) => [m.key, m]));
      if (last.size < node.members.length) notes.duplicate = true;
      const entries = new Map<CellValue, CellValue>();
      for (const member of node.members) {
        if (!member.key.isWellFormed()) mismatch();
        if (last.get(member.key) !== member) continue;
        const isNull = member.node.kind === 'null' && type.valueContainsNull;
        const inner = `${path}.${member.rawKey}`;
        entries.set(
          member.key,
          isNull ? null : convertPresent(type.value, member.node, inner, notes),
        );
      }
      return entries;
    }
    case 'struct':
      return node.kind === 'object' ? convertStruct(type, node, path, notes) : mismatch();
    case 'primitive':
      return convertPrimitive(type.name, node);
  }
}

function convertPresent(type: DataType, node: Node, path: string, notes: Notes): CellValue {
  return node.kind === 'null' ? mismatch() : convert(type, node, path, notes);
}

function convertStruct(type: StructType, node: Node, path: string, notes: Notes): RowValue {
  const found = new Map<string, Node>();
  for (const { key, rawKey, node: inner } of node.members) {
    if (!type.fields.some((f) => f.name === key)) {
      notes.rescued.push([`${path}.${rawKey}`, inner.raw]);
      continue;
    }
    if (found.has(key)) notes.duplicate = true;
    found.set(key, inner);
  }
  const row: Record<string, CellValue> = {};
  for (const member of type.fields) {
    const inner = found.get(member.name);
    if (inner === undefined || inner.kind === 'null') {
      if (!member.nullable) mismatch();
      row[member.name] = null;
    } else {
      const name = JSON.stringify(member.name).slice(1, -1);
      row[member.name] = convert(member.type, inner, `${path}.${name}`, notes);
    }
  }
  return row;
}

function convertPrimitive(name: string, node: Node): CellValue {
  switch (name) {
    case 'boolean':
      return node.kind === 'boolean' ? node.raw === 'true' : mismatch();
    case 'string':
      return stringOf(node);
    case 'binary': {
      const text = stringOf(node);
      const bytes = Buffer.from(text, 'base64');
      return bytes.toString('base64') === text ? new Uint8Array(bytes) : mismatch();
    }
    case 'date': {
      const text = stringOf(node);
      if (!/^\d{4}-\d\d-\d\d$/.test(text)) return mismatch();
      return Number((instantOf(`${text}T00:00:00Z`) ?? mismatch()) / 86_400_000_000n);
    }
    case 'timestamp':
      return instantOf(stringOf(node)) ?? mismatch();
    case 'float':
    case 'double': {
      if (node.kind !== 'number') return mismatch();
      const value = name === 'float' ? Math.fround(Number(node.raw)) : Number(node.raw);
      return Number.isFinite(value) ? value : outOfRange();
    }
    default: {
      const { digits, exponent } = exactNumber(node);
      if (exponent < 0 && digits % 10n ** BigInt(-exponent) !== 0n) return mismatch();
      const whole =
        exponent < 0 ? digits / 10n ** BigInt(-exponent) : digits * 10n ** BigInt(exponent);
      const bits = { byte: 8, short: 16, integer: 32, long: 64 }[name]!;
      if (BigInt.asIntN(bits, whole) !== whole) return outOfRange();
      return name === 'long' ? whole : Number(whole);
    }
  }
}

function stringOf(node: Node): string {
  if (node.kind !== 'string') return mismatch();
  const text = JSON.parse(node.raw) as string;
  return text.isWellFormed() ? text : mismatch();
}

function exactNumber(node: Node): { digits: bigint; exponent: number } {
  if (node.kind !== 'number') return mismatch();
  const [, sign, whole, fraction = '', exponent = '0'] =
    /^(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$/.exec(node.raw)!;
  const digits = BigInt(`${sign}${whole}${fraction}`);
  // Beyond any type's range either way, and still a power that can be computed.
  const power = Math.max(-100_000, Math.min(100_000, Number(exponent) - fraction.length));
  return { digits, exponent: digits === 0n ? 0 : power };
}

const MICROS_MIN = BigInt(Date.parse('0001-01-01T00:00:00Z')) * 1000n;
const MICROS_MAX = BigInt(Date.UTC(9999, 11, 31, 23, 59, 59, 999)) * 1000n + 999n;

/** RFC 3339 text as microseconds, or undefined. */
export function instantOf(text: string): bigint | undefined {
  const parts =
    /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/.exec(
      text,
    );
  if (parts === null) return undefined;
  const [year, month, day, hour, minute, second] = parts.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  if (year === 0 || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  const offsetHour = Number(parts[9] ?? 0);
  const offsetMinute = Number(parts[10] ?? 0);
  if (hour > 23 || minute > 59 || second > 60 || offsetHour > 23 || offsetMinute > 59) {
    return undefined;
  }
  const offset = (parts[8] === '-' ? -1 : 1) * (offsetHour * 60 + offsetMinute) * 60_000;
  const ms = date.getTime() + hour * 3_600_000 + minute * 60_000 + second * 1000 - offset;
  if (second === 60 && !new Date(ms - 1000).toISOString().includes('23:59:59')) return undefined;
  const micros = BigInt(ms) * 1000n + BigInt((parts[7] ?? '').padEnd(6, '0').slice(0, 6));
  return micros < MICROS_MIN || micros > MICROS_MAX ? undefined : micros;
}

/** Epoch number as microseconds, rounded down, or undefined. */
function epochOf(node: Node, unit: 's' | 'ms' | 'us'): bigint | undefined {
  if (node.kind !== 'number') return undefined;
  const { digits, exponent } = exactNumber(node);
  const scaled = exponent + { s: 6, ms: 3, us: 0 }[unit];
  let micros: bigint;
  if (scaled >= 0) micros = digits * 10n ** BigInt(scaled);
  else {
    const divisor = 10n ** BigInt(-scaled);
    micros = digits / divisor - (digits % divisor < 0n ? 1n : 0n);
  }
  return micros < MICROS_MIN || micros > MICROS_MAX ? undefined : micros;
}

export interface ReferenceResult {
  readonly silver: readonly RowValue[];
  /** Coordinates and flags. */
  readonly dead: readonly RowValue[];
  readonly duplicates: number;
  readonly conflicts: number;
  readonly watermarks: ReadonlyMap<number, bigint>;
}

/** Derives all records, which come in order. */
export function deriveByReference(
  records: readonly TestRecord[],
  event: EventConfig,
  late: LateConfig,
): ReferenceResult {
  const payloads = new Map<string, string>();
  const silver: RowValue[] = [];
  const dead: RowValue[] = [];
  const watermarks = new Map<number, bigint>();
  let duplicates = 0;
  let conflicts = 0;
  for (const record of records) {
    const place = {
      _kafka_topic: 'events',
      _kafka_partition: record.partition,
      _kafka_offset: record.offset,
      _kafka_timestamp: record.timestamp,
    };
    const refuse = (...flags: string[]): void => {
      dead.push({ ...place, _quality_flags: flags });
    };
    const read = readEvent(record, event);
    if (Array.isArray(read)) {
      refuse(...read);
      continue;
    }
    const { fields, flags, rescued } = read;
    const time = fields[event.time.field] as bigint;
    const isFuture = time > record.timestamp + BigInt(late.futureToleranceMs) * 1000n;
    const id = comparable(fields[event.id]!);
    const payload = comparable(fields) + String(rescued);
    const earlier = payloads.get(id);
    if (earlier !== undefined && earlier !== payload) {
      conflicts++;
      refuse('conflicting_duplicate');
      continue;
    }
    if (!isFuture && time > (watermarks.get(record.partition) ?? -1n)) {
      watermarks.set(record.partition, time);
    }
    if (earlier !== undefined) {
      duplicates++;
      continue;
    }
    payloads.set(id, payload);
    const delay = record.timestamp - time;
    if (isFuture) flags.push('future_event_time');
    silver.push({
      ...fields,
      ...place,
      _is_late_arriving: delay >= BigInt(late.afterMs) * 1000n,
      _arrival_delay_seconds: Number(delay) / 1e6,
      _quality_flags: flags.length > 0 ? flags : null,
      _rescued: rescued,
      _schema_version: event.schemaVersion,
      _event_date: Number(time / DAY - (time % DAY < 0n ? 1n : 0n)),
    });
  }
  return { silver, dead, duplicates, conflicts, watermarks };
}

const DAY = 86_400_000_000n;

interface ReadEvent {
  readonly fields: Record<string, CellValue>;
  readonly flags: string[];
  readonly rescued: string | null;
}

/** The typed event, or the flags of its dead letter. */
function readEvent({ value }: TestRecord, event: EventConfig): ReadEvent | string[] {
  if (value === null) return ['tombstone'];
  if (typeof value === 'number') return ['too_large'];
  const text = Buffer.from(value).toString('utf8');
  if (!Buffer.from(text).equals(value)) return ['invalid_utf8'];
  if (/^[ \t\n\r]*$/.test(text)) return ['empty'];
  const root = parseText(text);
  if (typeof root === 'string') return [root];
  if (root.kind !== 'object') return ['not_an_object'];

  const declared = new Map<string, Node>();
  let duplicate = false;
  const unknown: [string, string][] = [];
  for (const { key, rawKey, node } of root.members) {
    if (!event.schema.fields.some((f) => f.name === key)) unknown.push([rawKey, node.raw]);
    else {
      if (declared.has(key)) duplicate = true;
      declared.set(key, node);
    }
  }
  const deadFlags: string[] = [];
  const flags: string[] = [];
  const fields: Record<string, CellValue> = {};
  const rescued: [string, string][] = [];
  let anyUnknown = unknown.length > 0;

  const isPresent = (node: Node | undefined): node is Node =>
    node !== undefined && node.kind !== 'null';
  const typeOf = (name: string): DataType => event.schema.fields.find((f) => f.name === name)!.type;
  const idNode = declared.get(event.id);
  try {
    fields[event.id] = isPresent(idNode)
      ? convert(typeOf(event.id), idNode, '', { rescued: [], duplicate: false })
      : mismatch();
    const id = fields[event.id]!;
    if ((typeof id === 'string' || id instanceof Uint8Array) && id.length === 0) mismatch();
  } catch {
    deadFlags.push('missing_id');
  }
  const timeNode = declared.get(event.time.field);
  if (!isPresent(timeNode)) deadFlags.push('missing_time');
  else {
    const { unit } = event.time;
    let time: bigint | undefined;
    if (unit !== 'rfc3339') time = epochOf(timeNode, unit);
    else if (timeNode.kind === 'string') time = instantOf(JSON.parse(timeNode.raw) as string);
    if (time === undefined) deadFlags.push('invalid_time');
    else fields[event.time.field] = time;
  }
  for (const { name, type, nullable } of event.schema.fields) {
    if (name === event.id || name === event.time.field) continue;
    const node = declared.get(name);
    const rawName = JSON.stringify(name).slice(1, -1);
    fields[name] = null;
    if (isPresent(node)) {
      const notes: Notes = { rescued: [], duplicate: false };
      try {
        fields[name] = convert(type, node, rawName, notes);
        rescued.push(...notes.rescued);
        if (notes.rescued.length > 0) anyUnknown = true;
        if (notes.duplicate) duplicate = true;
      } catch (thrown) {
        if (!(thrown instanceof Misfit)) throw thrown;
        flags.push(`${thrown.verdict}:${name}`);
        rescued.push([rawName, node.raw]);
      }
    }
    if (fields[name] === null && !nullable) deadFlags.push(`missing_required:${name}`);
  }
  if (deadFlags.length > 0) return deadFlags;
  const all = [...rescued, ...unknown];
  const last = new Map(all.map(([name], i) => [JSON.parse(`"${name}"`) as string, i]));
  if (last.size < all.length) duplicate = true;
  const kept = all.filter(([name], i) => last.get(JSON.parse(`"${name}"`) as string) === i);
  if (anyUnknown) flags.push('unknown_fields');
  if (duplicate) flags.push('duplicate_keys');
  const json = kept.map(([name, raw]) => `"${name}":${raw}`).join(',');
  return { fields, flags, rescued: kept.length > 0 ? `{${json}}` : null };
}

/** Text that is equal for equal cells only; entries of a map in any order. */
function comparable(cell: CellValue): string {
  if (cell === null) return 'null';
  if (typeof cell === 'number') return Object.is(cell, -0) ? '-0' : `${cell}`;
  if (typeof cell === 'bigint') return `${cell}n`;
  if (cell instanceof Uint8Array) return `x${Buffer.from(cell).toString('hex')}`;
  if (cell instanceof Map) {
    const entries = [...cell].map(([k, v]) => `${comparable(k)}=${comparable(v)}`);
    return `map(${entries.sort().join(',')})`;
  }
  if (Array.isArray(cell)) return `[${cell.map(comparable).join(',')}]`;
  if (typeof cell !== 'object') return JSON.stringify(cell);
  return `{${Object.entries(cell)
    .map(([k, v]) => `${k}:${comparable(v as CellValue)}`)
    .join(',')}}`;
}
