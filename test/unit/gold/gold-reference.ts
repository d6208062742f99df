/**
 * Gold computed the obvious way: objects, arrays and exact rational arithmetic on BigInt. Shares no
 * code with the aggregator.
 */
import type { AggregateConfig, MeasureConfig } from '../../../src/pipeline/pipeline-config.ts';
import { type EventRow, typeOf, type Value } from './event-batches.ts';

/** An exact number: units / 2^scale. */
interface Dyadic {
  readonly units: bigint;
  readonly scale: number;
}

/** A finite double, exactly. */
function dyadicOf(value: number): Dyadic {
  let scaled = value;
  let scale = 0;
  while (!Number.isInteger(scaled)) {
    scaled *= 2; // exact: a double that is no integer is below 2^53
    scale++;
  }
  return { units: BigInt(scaled), scale };
}

/**
 * The double nearest to a ratio; the engine's own decimal parser does the rounding.
 * @param digits places after the point, enough for the ratio's first 20 digits
 */
export function nearestDouble(numerator: bigint, denominator: bigint, digits = 120n): number {
  const scaled = numerator * 10n ** digits;
  const quotient = scaled / denominator;
  const sticky = quotient * denominator === scaled ? '0' : '1';
  return Number(`${quotient}${sticky}e-${digits + 1n}`) + 0;
}

/** The sum of doubles as IEEE defines it, the exact value rounded once. */
export function exactFloatSum(values: readonly number[]): number {
  const saw = (special: number): boolean => values.some((value) => Object.is(value, special));
  if (saw(Number.NaN) || (saw(Infinity) && saw(-Infinity))) return Number.NaN;
  if (saw(Infinity)) return Infinity;
  if (saw(-Infinity)) return -Infinity;
  let units = 0n;
  for (const value of values) {
    const exact = dyadicOf(value);
    units += exact.units << BigInt(1100 - exact.scale);
  }
  return nearestDouble(units, 1n << 1100n, 1100n);
}

/** Order of two values of one type: nulls first, text by bytes, NaN last. */
export function compareValues(a: Value, b: Value): number {
  if (a === null || b === null) return (a === null ? 0 : 1) - (b === null ? 0 : 1);
  if (typeof a === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b as string));
  if (Number.isNaN(a) || Number.isNaN(b))
    return (Number.isNaN(a) ? 1 : 0) - (Number.isNaN(b) ? 1 : 0);
  return a < b! ? -1 : a > b! ? 1 : 0;
}

/** The one form of a value: no -0. */
function normal(value: Value): Value {
  return typeof value === 'number' ? value + 0 : value;
}

/** Stands for a sum that does not fit its column. */
export const OVERFLOW = Symbol('overflow');

function measureOf(measure: MeasureConfig, rows: readonly EventRow[]): Value | typeof OVERFLOW {
  if (measure.field === undefined) return BigInt(rows.length);
  const values = rows
    .map((row) => normal(row[measure.field!] ?? null))
    .filter((value) => value !== null);
  if (measure.fn === 'count') return BigInt(values.length);
  if (measure.fn === 'countDistinct') return BigInt(new Set(values).size);
  if (values.length === 0) return null;
  const sorted = values.toSorted(compareValues);
  if (measure.fn === 'min') return sorted[0]!;
  if (measure.fn === 'max') return sorted.at(-1)!;
  const type = typeOf(measure.field);
  if (type.kind === 'primitive' && (type.name === 'float' || type.name === 'double')) {
    const sum = exactFloatSum(values as number[]);
    return measure.fn === 'sum' ? sum : sum / values.length;
  }
  const total = values.reduce<bigint>((sum, value) => sum + BigInt(value as number | bigint), 0n);
  const scale = type.kind === 'decimal' ? BigInt(type.scale) : 0n;
  if (measure.fn === 'avg') return nearestDouble(total, BigInt(values.length) * 10n ** scale);
  const limit = type.kind === 'decimal' ? 10n ** 38n : 2n ** 63n;
  const low = type.kind === 'decimal' ? -limit + 1n : -limit;
  return total >= low && total < limit ? total : OVERFLOW;
}

/** Gold rows (windows, groups and measures) of all events, in gold's order. */
export function referenceGold(
  aggregate: AggregateConfig,
  events: readonly EventRow[],
): Record<string, Value | typeof OVERFLOW>[] {
  const size = BigInt(aggregate.windowMs) * 1000n;
  const groups = new Map<string, { key: Value[]; rows: EventRow[] }>();
  for (const row of events) {
    const time = row['event_time'] as bigint;
    const start = time - (((time % size) + size) % size);
    const key = [start, ...aggregate.groupBy.map((name) => normal(row[name] ?? null))];
    const text = key.map((value) => `${typeof value}:${value}`).join('\u{10ffff}');
    const group = groups.get(text) ?? { key, rows: [] };
    group.rows.push(row);
    groups.set(text, group);
  }
  const sorted = [...groups.values()].toSorted((a, b) => {
    for (let i = 0; i < a.key.length; i++) {
      const order = compareValues(a.key[i]!, b.key[i]!);
      if (order !== 0) return order;
    }
    return 0;
  });
  return sorted.map(({ key, rows }) => ({
    window_start: key[0]!,
    window_end: (key[0] as bigint) + size,
    ...Object.fromEntries(aggregate.groupBy.map((name, i) => [name, key[1 + i]!])),
    ...Object.fromEntries(
      aggregate.measures.map((measure) => [measure.name, measureOf(measure, rows)]),
    ),
  }));
}
