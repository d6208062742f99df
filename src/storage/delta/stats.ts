/**
 * Statistics of a data file as Delta's `add.stats` text. Readers skip files by them, so a bound
 * that is too tight silently loses rows, while one that is absent only costs time: when in doubt,
 * leave it out. Pure.
 *
 * Invariants:
 * - S1 min <= every non-null value <= max, as a reader parses the text: strings by code point,
 *   timestamps to the millisecond (min floored, max raised), 64 bit integers and decimals exactly.
 * - S2 A cut string is a whole number of code points; a cut maximum ends in a tie-breaker.
 * - S3 A float column with a NaN or an infinity has no bounds; a bound of zero holds for both
 *   zeros.
 * - S4 `nullCount` counts a struct member as null where any struct around it is.
 * - S5 Only the first 32 leaf columns have statistics; an array or map is one leaf. Boolean,
 *   binary, array and map have `nullCount` only.
 *
 * Source: PROTOCOL.md "Per-file Statistics"; Delta Spark StatisticsCollection (truncation).
 */
import { assert } from '../../errors.ts';
import { bitmapBytes, countSetBits } from '../../pipeline/bitmaps.ts';
import { decimalAt } from '../../pipeline/column-builder.ts';
import { type ColumnBatch, isNullAt, type Vector } from '../../pipeline/columns.ts';
import { dateText } from '../../pipeline/progress.ts';
import type { StructField } from '../../pipeline/types.ts';

/** Delta's default of `delta.dataSkippingNumIndexedCols`. */
const LEAF_COLUMNS_MAX = 32;
/** Code points kept of a string. */
const PREFIX_CODE_POINTS = 32;
/** Tie-breakers: above every other ASCII character, and the last code point of all. */
const LAST_ASCII = 0x7f;
const LAST_CODE_POINT = 0x10_ffff;

const MICROS_PER_MILLI = 1000n;
const MILLIS_PER_DAY = 86_400_000n;
/** Days of 0001-01-01 and 9999-12-31: years outside have no text that every reader parses. */
const DAY_MIN = -719_162;
const DAY_MAX = 2_932_896;
/** 9999-12-31T23:59:59.999999Z */
const MICROS_MAX = 253_402_300_799_999_999n;

/** What is computed beyond the counts. */
export interface StatsOptions {
  /** Top-level columns that get bounds, the others keep `nullCount`. Default: all that can. */
  readonly minMaxColumns?: readonly string[];
}

/** Bounds as JSON texts; undefined where there is none. */
interface Bounds {
  readonly min: string | undefined;
  readonly max: string | undefined;
}

/** Rows at which the least and the greatest value lie. */
interface ExtremeRows {
  readonly min: number;
  readonly max: number;
}

/** Members of the three JSON objects that are being written. */
interface Members {
  readonly min: string[];
  readonly max: string[];
  readonly nulls: string[];
}

/**
 * Computes a file's statistics.
 * @param batch the file's rows, without partition columns
 * @returns `{"numRecords":…,"minValues":{…},"maxValues":{…},"nullCount":{…}}`
 */
export function computeStats(batch: ColumnBatch, options: StatsOptions = {}): string {
  const bounded = options.minMaxColumns && new Set(options.minMaxColumns);
  const members: Members = { min: [], max: [], nulls: [] };
  let leavesLeft = LEAF_COLUMNS_MAX;

  const collect = (
    field: StructField,
    vector: Vector,
    outer: Uint8Array | undefined,
    hasBounds: boolean,
    into: Members,
  ): void => {
    if (leavesLeft === 0) return;
    const name = JSON.stringify(field.name);
    const validity = bothValid(vector, outer);
    if (field.type.kind === 'struct') {
      const inner: Members = { min: [], max: [], nulls: [] };
      field.type.fields.forEach((member, i) =>
        collect(member, vector.children![i]!, validity, hasBounds, inner),
      );
      if (inner.min.length > 0) into.min.push(`${name}:{${inner.min.join()}}`);
      if (inner.max.length > 0) into.max.push(`${name}:{${inner.max.join()}}`);
      if (inner.nulls.length > 0) into.nulls.push(`${name}:{${inner.nulls.join()}}`);
      return;
    }
    leavesLeft--;
    const valid = validity === undefined ? batch.length : countSetBits(validity, batch.length);
    into.nulls.push(`${name}:${batch.length - valid}`);
    if (valid === 0 || !hasBounds) return;
    const { min, max } = boundsOf({ ...vector, validity });
    if (min !== undefined) into.min.push(`${name}:${min}`);
    if (max !== undefined) into.max.push(`${name}:${max}`);
  };

  batch.schema.fields.forEach((field, i) => {
    const hasBounds = bounded === undefined || bounded.has(field.name);
    collect(field, batch.columns[i]!, undefined, hasBounds, members);
  });
  const { min, max, nulls } = members;
  return (
    `{"numRecords":${batch.length},"minValues":{${min.join()}},` +
    `"maxValues":{${max.join()}},"nullCount":{${nulls.join()}}}`
  );
}

/** Validity within the structs around a vector; undefined when nothing is null. */
function bothValid(vector: Vector, outer: Uint8Array | undefined): Uint8Array | undefined {
  const own = vector.nullCount === 0 ? undefined : vector.validity;
  if (outer === undefined || own === undefined) return own ?? outer;
  const both = new Uint8Array(bitmapBytes(vector.length));
  for (let i = 0; i < both.length; i++) both[i] = own[i]! & outer[i]!;
  return both;
}

const NO_BOUNDS: Bounds = { min: undefined, max: undefined };

/** Bounds of a vector that has at least one value. */
function boundsOf(vector: Vector): Bounds {
  const { type } = vector;
  if (type.kind === 'decimal') {
    const words = vector.values as BigInt64Array;
    const { min, max } = extremeRows(vector, type.precision <= 18 ? 'low word' : 'both words');
    return {
      min: decimalText(decimalAt(words, min), type.scale),
      max: decimalText(decimalAt(words, max), type.scale),
    };
  }
  if (type.kind !== 'primitive') return NO_BOUNDS;
  switch (type.name) {
    case 'byte':
    case 'short':
    case 'integer':
    case 'date': {
      const { min, max } = numberRange(vector);
      if (type.name === 'date') return { min: dateJson(min), max: dateJson(max) };
      return { min: String(min), max: String(max) };
    }
    case 'float':
    case 'double': {
      const { min, max } = numberRange(vector);
      if (!Number.isFinite(min) || !Number.isFinite(max)) return NO_BOUNDS;
      return { min: min === 0 ? '-0.0' : doubleText(min), max: doubleText(max) };
    }
    case 'long': {
      const { min, max } = extremeRows(vector, 'single word');
      return { min: String(vector.values![min]!), max: String(vector.values![max]!) };
    }
    case 'timestamp': {
      const { min, max } = extremeRows(vector, 'single word');
      const micros = vector.values as BigInt64Array;
      return {
        min: timestampJson(floorDivide(micros[min]!, MICROS_PER_MILLI)),
        max: latestJson(micros[max]!),
      };
    }
    case 'string': {
      const { min, max } = extremeTexts(vector);
      return { min: leastPrefix(textAt(vector, min)), max: greatestPrefix(textAt(vector, max)) };
    }
    case 'boolean':
    case 'binary':
      return NO_BOUNDS;
  }
}

function firstValidRow(vector: Vector): number {
  let row = 0;
  while (isNullAt(vector, row)) row++;
  assert(row < vector.length, 'the vector has a value');
  return row;
}

/** Least and greatest number; NaN when any value is. */
function numberRange(vector: Vector): { readonly min: number; readonly max: number } {
  const { length, validity } = vector;
  const values = vector.values as Exclude<Vector['values'], BigInt64Array | undefined>;
  let min = values[firstValidRow(vector)]!;
  let max = min;
  for (let row = 0; row < length; row++) {
    if (validity !== undefined && (validity[row >> 3]! & (1 << (row & 7))) === 0) continue;
    const value = values[row]!;
    if (value < min) min = value;
    else if (value > max) max = value;
    // Comparisons with NaN are all false.
    else if (value !== value) return { min: value, max: value };
  }
  return { min, max };
}

/** Where the integers that are compared lie within `values`. */
type Words = 'single word' | 'low word' | 'both words';

/**
 * Rows of the extremes of 64 or 128 bit integers, compared as 32 bit halves: a bigint per row would
 * cost an allocation each.
 */
function extremeRows(vector: Vector, words: Words): ExtremeRows {
  const { length, validity } = vector;
  const values = vector.values as BigInt64Array;
  const halves = new Int32Array(values.buffer, values.byteOffset, values.length * 2);
  if (words === 'both words') return extremeWideRows(vector, halves);
  const stride = words === 'single word' ? 2 : 4;
  let min = firstValidRow(vector);
  let max = min;
  let minLow = halves[min * stride]! >>> 0;
  let minHigh = halves[min * stride + 1]!;
  let maxLow = minLow;
  let maxHigh = minHigh;
  for (let row = 0; row < length; row++) {
    if (validity !== undefined && (validity[row >> 3]! & (1 << (row & 7))) === 0) continue;
    const low = halves[row * stride]! >>> 0;
    const high = halves[row * stride + 1]!;
    if (high < minHigh || (high === minHigh && low < minLow)) {
      min = row;
      minLow = low;
      minHigh = high;
    } else if (high > maxHigh || (high === maxHigh && low > maxLow)) {
      max = row;
      maxLow = low;
      maxHigh = high;
    }
  }
  return { min, max };
}

function extremeWideRows(vector: Vector, halves: Int32Array): ExtremeRows {
  let min = firstValidRow(vector);
  let max = min;
  for (let row = 0; row < vector.length; row++) {
    if (isNullAt(vector, row)) continue;
    if (compareWide(halves, row, min) < 0) min = row;
    else if (compareWide(halves, row, max) > 0) max = row;
  }
  return { min, max };
}

/** Order of two 128 bit integers: only the topmost of their four words is signed. */
function compareWide(halves: Int32Array, left: number, right: number): number {
  const top = halves[left * 4 + 3]! - halves[right * 4 + 3]!;
  if (top !== 0) return top;
  for (let word = 2; word >= 0; word--) {
    const order = (halves[left * 4 + word]! >>> 0) - (halves[right * 4 + word]! >>> 0);
    if (order !== 0) return order;
  }
  return 0;
}

/**
 * Rows of the least and the greatest text by bytes, which is by code point in UTF-8. What the two
 * extremes so far have in common, every text between them has too: one walk over that prefix, and
 * most rows are decided at the first byte after it.
 */
function extremeTexts(vector: Vector): ExtremeRows {
  const { length, validity } = vector;
  const offsets = vector.offsets!;
  const data = vector.data!;
  let min = firstValidRow(vector);
  let max = min;
  let minStart = offsets[min]!;
  let minEnd = offsets[min + 1]!;
  let maxStart = minStart;
  let maxEnd = minEnd;
  let common = minEnd - minStart;
  for (let row = min + 1; row < length; row++) {
    if (validity !== undefined && (validity[row >> 3]! & (1 << (row & 7))) === 0) continue;
    const start = offsets[row]!;
    const end = offsets[row + 1]!;
    const size = end - start;
    let at = 0;
    while (at < common && at < size && data[start + at] === data[minStart + at]) at++;
    if (at < common) {
      // Outside the common prefix: below both extremes or above both.
      if (at === size || data[start + at]! < data[minStart + at]!) {
        min = row;
        minStart = start;
        minEnd = end;
      } else {
        max = row;
        maxStart = start;
        maxEnd = end;
      }
      common = at;
      continue;
    }
    if (compareBytes(data, start + at, end, minStart + at, minEnd) < 0) {
      min = row;
      minStart = start;
      minEnd = end;
    } else if (compareBytes(data, start + at, end, maxStart + at, maxEnd) > 0) {
      max = row;
      maxStart = start;
      maxEnd = end;
    } else {
      continue;
    }
    common = commonPrefix(data, minStart, minEnd, maxStart, maxEnd);
  }
  return { min, max };
}

/** Order of two runs of bytes, a prefix first. */
function compareBytes(
  data: Uint8Array,
  leftStart: number,
  leftEnd: number,
  rightStart: number,
  rightEnd: number,
): number {
  let left = leftStart;
  let right = rightStart;
  for (; left < leftEnd && right < rightEnd; left++, right++) {
    const order = data[left]! - data[right]!;
    if (order !== 0) return order;
  }
  return leftEnd - left - (rightEnd - right);
}

function commonPrefix(
  data: Uint8Array,
  leftStart: number,
  leftEnd: number,
  rightStart: number,
  rightEnd: number,
): number {
  const size = Math.min(leftEnd - leftStart, rightEnd - rightStart);
  let at = 0;
  while (at < size && data[leftStart + at] === data[rightStart + at]) at++;
  return at;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** Enough bytes to decide every cut: code points that are examined, of four bytes at most. */
const EXAMINED_CODE_POINTS = 2 * PREFIX_CODE_POINTS;
const EXAMINED_BYTES = EXAMINED_CODE_POINTS * 4;

/** The start of a text as code points. */
interface TextStart {
  readonly codePoints: readonly string[];
  /** Whether `codePoints` is the whole text. */
  readonly isWhole: boolean;
}

/** @returns undefined when the bytes are not UTF-8, which no decoded text could bound */
function textAt(vector: Vector, row: number): TextStart | undefined {
  const start = vector.offsets![row]!;
  const end = vector.offsets![row + 1]!;
  let cut = Math.min(end, start + EXAMINED_BYTES);
  // Continuation bytes belong to a character that began before the cut.
  while (cut < end && cut > start && (vector.data![cut]! & 0xc0) === 0x80) cut--;
  try {
    const codePoints = Array.from(strictUtf8.decode(vector.data!.subarray(start, cut)));
    return { codePoints, isWhole: cut === end };
  } catch {
    return undefined;
  }
}

function leastPrefix(text: TextStart | undefined): string | undefined {
  return text && JSON.stringify(text.codePoints.slice(0, PREFIX_CODE_POINTS).join(''));
}

/** The shortest cut that some tie-breaker lifts above the text; undefined when there is none. */
function greatestPrefix(text: TextStart | undefined): string | undefined {
  if (text === undefined) return undefined;
  const { codePoints, isWhole } = text;
  if (isWhole && codePoints.length <= PREFIX_CODE_POINTS)
    return JSON.stringify(codePoints.join(''));
  for (let cut = PREFIX_CODE_POINTS; cut < codePoints.length; cut++) {
    const next = codePoints[cut]!.codePointAt(0)!;
    if (next === LAST_CODE_POINT) continue;
    const tieBreaker = next < LAST_ASCII ? LAST_ASCII : LAST_CODE_POINT;
    return JSON.stringify(codePoints.slice(0, cut).join('') + String.fromCodePoint(tieBreaker));
  }
  return undefined;
}

/** Always with a fraction or exponent, so that no reader takes it for an integer. */
function doubleText(value: number): string {
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

function decimalText(unscaled: bigint, scale: number): string {
  if (scale === 0) return String(unscaled);
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0');
  const point = digits.length - scale;
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, point)}.${digits.slice(point)}`;
}

function floorDivide(value: bigint, divisor: bigint): bigint {
  const quotient = value / divisor;
  return value % divisor < 0n ? quotient - 1n : quotient;
}

function dateJson(days: number): string | undefined {
  return days < DAY_MIN || days > DAY_MAX ? undefined : `"${dateText(days)}"`;
}

/**
 * The upper bound of an instant. In the last millisecond of the year 9999, where "for ever" often
 * lies, it is the last microsecond: a column that lacks one bound loses the file in delta-rs's Arrow
 * datasets (1.6.6), which take it for null.
 */
function latestJson(micros: bigint): string | undefined {
  const raised = timestampJson(-floorDivide(-micros, MICROS_PER_MILLI));
  return raised ?? (micros <= MICROS_MAX ? '"9999-12-31T23:59:59.999999Z"' : undefined);
}

/** `"2026-11-23T07:05:00.250Z"`; undefined outside the years 1 to 9999. */
function timestampJson(millis: bigint): string | undefined {
  const days = floorDivide(millis, MILLIS_PER_DAY);
  if (days < BigInt(DAY_MIN) || days > BigInt(DAY_MAX)) return undefined;
  const ofDay = Number(millis - days * MILLIS_PER_DAY);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const hours = two(ofDay / 3_600_000);
  const minutes = two((ofDay / 60_000) % 60);
  const seconds = two((ofDay / 1000) % 60);
  const fraction = String(ofDay % 1000).padStart(3, '0');
  return `"${dateText(Number(days))}T${hours}:${minutes}:${seconds}.${fraction}Z"`;
}
