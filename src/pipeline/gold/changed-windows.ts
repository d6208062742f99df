/**
 * What differs between two contents of one slot, window by window and group by group. Pure.
 *
 * - CW1 Rows meet by window and group, in whatever order they are; what `_source` and its like say is
 *   no difference.
 * - CW2 Values and differences are exact: integers and decimals as decimal text, doubles as the shortest
 *   text that reads back the same.
 */
import { cellAt, type CellValue } from '../column-builder.ts';
import { type ColumnBatch, columnOf, isNullAt, type Vector } from '../columns.ts';
import { instantText } from '../generator/instant-text.ts';
import type { AggregateConfig, MeasureConfig } from '../pipeline-config.ts';
import { dateText } from '../progress.ts';
import type { DataType } from '../types.ts';

/** One measure whose value changed; texts, null where there is no value. */
export interface ChangedMeasure {
  readonly name: string;
  readonly before: string | null;
  readonly after: string | null;
  /** `after` - `before`; null for values that have none, and for averages and extremes of nothing. */
  readonly difference: string | null;
}

/** One window of one group that changed. */
export interface ChangedWindow {
  /** Identifies the window and the group within the aggregate. */
  readonly key: string;
  /** Microseconds since the epoch. */
  readonly windowStartMicros: bigint;
  readonly windowEndMicros: bigint;
  /** The group columns as a JSON object. */
  readonly groups: string;
  readonly measures: readonly ChangedMeasure[];
  /** Rows before and after, when the aggregate counts them. */
  readonly events: { readonly before: bigint; readonly after: bigint } | undefined;
}

interface Side {
  readonly batch: ColumnBatch;
  readonly start: Vector;
  readonly groups: readonly Vector[];
  readonly measures: readonly (Vector | undefined)[];
}

/**
 * Windows that differ.
 * @param before undefined when the slot had no file
 */
export function changedWindows(
  aggregate: AggregateConfig,
  before: ColumnBatch | undefined,
  after: ColumnBatch,
): ChangedWindow[] {
  const new_ = sideOf(aggregate, after);
  const old = before && sideOf(aggregate, before);
  if (old && sameRows(old, new_)) return [];
  const oldRows = new Map<string, number>();
  for (let row = 0; row < (old?.batch.length ?? 0); row++) {
    oldRows.set(keyOf(aggregate, old!, row), row);
  }
  const changes: ChangedWindow[] = [];
  const compare = (key: string, oldRow: number | undefined, newRow: number | undefined): void => {
    const measures = aggregate.measures.flatMap((measure, m): ChangedMeasure[] => {
      const a = oldRow === undefined ? undefined : old!.measures[m];
      const b = newRow === undefined ? undefined : new_.measures[m];
      if (a && b && equalAt(a, oldRow!, b, newRow!)) return [];
      return [changedMeasure(measure, a && cellAt(a, oldRow!), b && cellAt(b, newRow!), a ?? b)];
    });
    if (measures.length === 0 && oldRow !== undefined && newRow !== undefined) return;
    const side = newRow === undefined ? old! : new_;
    const row = newRow ?? oldRow!;
    changes.push({
      key,
      windowStartMicros: side.start.values![row] as bigint,
      windowEndMicros: columnOf(side.batch, 'window_end')!.values![row] as bigint,
      groups: groupsText(aggregate, side, row),
      measures,
      events: eventsOf(aggregate, old, oldRow, new_, newRow),
    });
  };
  for (let row = 0; row < after.length; row++) {
    const key = keyOf(aggregate, new_, row);
    compare(key, oldRows.get(key), row);
    oldRows.delete(key);
  }
  for (const [key, row] of oldRows) compare(key, row, undefined);
  return changes;
}

/** Keys of a batch's rows as `ChangedWindow.key` has them; it needs window_start and the groups. */
export function windowKeys(aggregate: AggregateConfig, batch: ColumnBatch): string[] {
  const side = sideOf({ ...aggregate, measures: [] }, batch);
  return Array.from({ length: batch.length }, (_, row) => keyOf(aggregate, side, row));
}

function sideOf(aggregate: AggregateConfig, batch: ColumnBatch): Side {
  return {
    batch,
    start: columnOf(batch, 'window_start')!,
    groups: aggregate.groupBy.map((name) => columnOf(batch, name)!),
    measures: aggregate.measures.map(({ name }) => columnOf(batch, name)),
  };
}

function sameRows(old: Side, new_: Side): boolean {
  if (old.batch.length !== new_.batch.length) return false;
  const pairs = [old, new_].map((side) => [side.start, ...side.groups, ...side.measures]);
  return pairs[0]!.every((a, i) => {
    const b = pairs[1]![i];
    for (let row = 0; row < old.batch.length; row++) {
      if (!a || !b || !equalAt(a, row, b, row)) return false;
    }
    return true;
  });
}

function equalAt(a: Vector, i: number, b: Vector, j: number): boolean {
  const isNull = isNullAt(a, i);
  if (isNull !== isNullAt(b, j)) return false;
  if (isNull) return true;
  if (a.offsets && b.offsets) {
    const from = a.offsets[i]!;
    const length = a.offsets[i + 1]! - from;
    const other = b.offsets[j]!;
    if (b.offsets[j + 1]! - other !== length) return false;
    for (let at = 0; at < length; at++) {
      if (a.data![from + at] !== b.data![other + at]) return false;
    }
    return true;
  }
  return Object.is(cellAt(a, i), cellAt(b, j));
}

function keyOf(aggregate: AggregateConfig, side: Side, row: number): string {
  return `${side.start.values![row]} ${groupsText(aggregate, side, row)}`;
}

function groupsText(aggregate: AggregateConfig, side: Side, row: number): string {
  const members = aggregate.groupBy.map((name, i) => {
    const vector = side.groups[i]!;
    const value = cellAt(vector, row);
    const text = valueText(vector.type, value);
    const isLiteral = text !== null && (typeof value === 'boolean' || isInteger(vector.type));
    return `${JSON.stringify(name)}:${isLiteral ? text : JSON.stringify(text)}`;
  });
  return `{${members.join(',')}}`;
}

function changedMeasure(
  { name, fn }: MeasureConfig,
  before: CellValue | undefined,
  after: CellValue | undefined,
  vector: Vector | undefined,
): ChangedMeasure {
  const { type } = vector!;
  const isSum = fn === 'count' || fn === 'sum' || fn === 'countDistinct';
  return {
    name,
    before: valueText(type, before ?? null),
    after: valueText(type, after ?? null),
    difference: differenceText(type, before ?? null, after ?? null, isSum),
  };
}

/** The number of rows, from a count without a field. */
function eventsOf(
  aggregate: AggregateConfig,
  old: Side | undefined,
  oldRow: number | undefined,
  new_: Side,
  newRow: number | undefined,
): ChangedWindow['events'] {
  const m = aggregate.measures.findIndex(({ fn, field }) => fn === 'count' && field === undefined);
  if (m < 0) return undefined;
  const at = (side: Side | undefined, row: number | undefined): bigint =>
    (row === undefined ? undefined : (side?.measures[m]?.values?.[row] as bigint | undefined)) ??
    0n;
  return { before: at(old, oldRow), after: at(new_, newRow) };
}

function isInteger(type: DataType): boolean {
  return type.kind === 'primitive' && ['byte', 'short', 'integer', 'long'].includes(type.name);
}

/** A value of a group or measure as text (CW2): RFC 3339 for instants, base64 for binary. */
function valueText(type: DataType, value: CellValue): string | null {
  if (value === null) return null;
  if (type.kind === 'decimal') return decimalText(value as bigint, type.scale);
  if (value instanceof Uint8Array) return base64(value);
  if (type.kind !== 'primitive') return JSON.stringify(value);
  switch (type.name) {
    case 'timestamp':
      return microsText(value as bigint);
    case 'date':
      return dateText(value as number);
    default:
      return String(value as string | number | bigint | boolean);
  }
}

function differenceText(
  type: DataType,
  before: CellValue,
  after: CellValue,
  isSum: boolean,
): string | null {
  if (!isSum && (before === null || after === null)) return null;
  if (before === null && after === null) return null;
  if (type.kind === 'decimal') {
    return decimalText(((after ?? 0n) as bigint) - ((before ?? 0n) as bigint), type.scale);
  }
  if (type.kind !== 'primitive') return null;
  if (isInteger(type)) {
    return String(BigInt((after ?? 0n) as bigint) - BigInt((before ?? 0n) as bigint));
  }
  if (type.name !== 'double' && type.name !== 'float') return null;
  return String(((after ?? 0) as number) - ((before ?? 0) as number));
}

function decimalText(unscaled: bigint, scale: number): string {
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0');
  const sign = unscaled < 0n ? '-' : '';
  if (scale === 0) return `${sign}${digits}`;
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

function microsText(micros: bigint): string {
  const rest = ((micros % 1_000n) + 1_000n) % 1_000n;
  const text = instantText(Number((micros - rest) / 1_000n));
  return rest === 0n ? text : `${text.slice(0, -1)}${String(rest).padStart(3, '0')}Z`;
}

function base64(bytes: Uint8Array): string {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}
