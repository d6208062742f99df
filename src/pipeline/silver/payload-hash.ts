/**
 * The payload hash of rows: 64 bits over named columns, column by column. Pure, the same on every
 * machine; stored in fingerprints, so its definition must not change.
 *
 * H2 Each column counts by name and class of types: null and absent are the same, and neither the
 *    order of fields nor a new field that is null changes the hash. So hashes that were stored
 *    before an additive schema change still hold.
 * H3 Entries of a map count in any order; elements of an array in theirs.
 *
 * A row has two lanes. Columns are absorbed in the order of their names, 8 bytes a step, each lane
 * mixed into the other. Source: the structure of MurmurHash3.
 */
import { bitAt } from '../bitmaps.ts';
import { type ColumnBatch, columnOf, isNullAt, type Vector } from '../columns.ts';
import { wordsOf } from './growable-scalars.ts';
import { mix, murmur128, partWord, rotate, viewOf } from './murmur.ts';
import { typeClass } from './type-class.ts';

const encoder = new TextEncoder();

/**
 * The payload hash of each row over the columns called `names`, two words per row.
 * Columns that the batch lacks count as null.
 */
export function hashRows(batch: ColumnBatch, names: readonly string[]): Uint32Array {
  const lanes = new Int32Array(2 * batch.length);
  for (const name of [...names].sort(byCodeUnit)) {
    const column = columnOf(batch, name);
    if (column !== undefined) absorbColumn(column, name, 0, batch.length, lanes);
  }
  const hashes = new Uint32Array(2 * batch.length);
  for (let i = 0; i < lanes.length; i += 2) {
    const a = mix(lanes[i]! + lanes[i + 1]!);
    const b = mix(lanes[i + 1]! + a);
    hashes[i] = a + b;
    hashes[i + 1] = b;
  }
  return hashes;
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What tells the values of one column from equal values of another. */
interface Salt {
  readonly a: number;
  readonly b: number;
}

/** Absorbs rows [from, to) of a column into the lanes of rows 0 and on; a null changes nothing. */
function absorbColumn(
  column: Vector,
  name: string,
  from: number,
  to: number,
  lanes: Int32Array,
): void {
  const bytes = encoder.encode(name);
  const seed = new Uint32Array(4);
  murmur128(typeClass(column.type), viewOf(bytes), 0, bytes.length, seed, 0);
  const salt: Salt = { a: seed[0]! | 0, b: seed[1]! | 0 };
  if (column.data !== undefined) absorbBytes(column, salt, from, to, lanes);
  else if (column.children !== undefined) absorbNested(column, salt, from, to, lanes);
  else absorbFixed(column, salt, from, to, lanes);
}

function absorbBytes(
  column: Vector,
  salt: Salt,
  from: number,
  to: number,
  lanes: Int32Array,
): void {
  const data = viewOf(column.data!);
  const offsets = column.offsets!;
  const nullable = column.nullCount > 0;
  for (let row = from, lane = 0; row < to; row++, lane += 2) {
    if (nullable && isNullAt(column, row)) continue;
    const start = offsets[row]!;
    const end = offsets[row + 1]!;
    const length = end - start;
    let a = lanes[lane]! ^ salt.a ^ length;
    let b = lanes[lane + 1]! ^ salt.b;
    for (let p = start; p + 8 < end; p += 8) {
      a = absorbA(a, b, data.getInt32(p, true));
      b = absorbB(b, a, data.getInt32(p + 4, true));
    }
    // The last step takes the last 8 bytes, which may overlap the step before.
    const last = length >= 8 ? end - 8 : start;
    a = absorbA(a, b, partWord(data, last, end));
    lanes[lane] = a;
    lanes[lane + 1] = absorbB(b, a, length >= 4 ? data.getInt32(end - 4, true) : 0);
  }
}

function absorbFixed(
  column: Vector,
  salt: Salt,
  from: number,
  to: number,
  lanes: Int32Array,
): void {
  const width = column.type.kind === 'decimal' ? 4 : 2;
  const words = wideWords(column);
  const nullable = column.nullCount > 0;
  for (let row = from, lane = 0; row < to; row++, lane += 2) {
    if (nullable && isNullAt(column, row)) continue;
    let a = lanes[lane]! ^ salt.a;
    let b = lanes[lane + 1]! ^ salt.b;
    for (let i = row * width; i < (row + 1) * width; i += 2) {
      a = absorbA(a, b, words[i]!);
      b = absorbB(b, a, words[i + 1]!);
    }
    lanes[lane] = a;
    lanes[lane + 1] = b;
  }
}

function absorbNested(
  column: Vector,
  salt: Salt,
  from: number,
  to: number,
  lanes: Int32Array,
): void {
  const { type, offsets } = column;
  const children = column.children!;
  const childFrom = offsets === undefined ? from : offsets[from]!;
  const childTo = offsets === undefined ? to : offsets[to]!;
  const parts = new Int32Array(2 * (childTo - childFrom));
  const members = type.kind === 'struct' ? type.fields.map((f, i) => ({ name: f.name, i })) : [];
  if (type.kind !== 'struct') members.push({ name: '', i: 0 });
  for (const { name, i } of members.sort((x, y) => byCodeUnit(x.name, y.name))) {
    absorbColumn(children[i]!, name, childFrom, childTo, parts);
  }
  for (let row = from, lane = 0; row < to; row++, lane += 2) {
    if (isNullAt(column, row)) continue;
    const start = (offsets === undefined ? row : offsets[row]!) - childFrom;
    const end = (offsets === undefined ? row + 1 : offsets[row + 1]!) - childFrom;
    let a = lanes[lane]! ^ salt.a ^ (end - start);
    let b = lanes[lane + 1]! ^ salt.b;
    let sumA = 0;
    let sumB = 0;
    for (let i = 2 * start; i < 2 * end; i += 2) {
      if (type.kind === 'map') {
        const mixed = mix(parts[i]! + parts[i + 1]!);
        sumA = (sumA + mixed) | 0;
        sumB = (sumB + mix(parts[i + 1]! + mixed)) | 0;
      } else {
        a = absorbA(a, b, parts[i]!);
        b = absorbB(b, a, parts[i + 1]!);
      }
    }
    a = absorbA(a, b, sumA);
    lanes[lane] = a;
    lanes[lane + 1] = absorbB(b, a, sumB);
  }
}

function absorbA(a: number, b: number, word: number): number {
  const k = Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
  return (Math.imul((rotate(a ^ k, 19) + b) | 0, 5) + 0x561ccd1b) | 0;
}

function absorbB(b: number, a: number, word: number): number {
  const k = Math.imul(rotate(Math.imul(word, 0xab0e9789), 17), 0x38b34ae5);
  return (Math.imul((rotate(b ^ k, 17) + a) | 0, 5) + 0x0bcaa747) | 0;
}

const CAST_WORDS = new Int32Array(2);
const CAST_FLOAT = new Float32Array(CAST_WORDS.buffer);
const CAST_DOUBLE = new Float64Array(CAST_WORDS.buffer);

/**
 * Fixed-width values in the widest form of their class, low word first: decimals as 128 bits, all
 * others as 64 (integers with their sign, floats as doubles). Shares memory where it can.
 */
function wideWords(column: Vector): Int32Array {
  const { type, length } = column;
  const name = type.kind === 'primitive' ? type.name : 'decimal';
  if (name === 'decimal' || name === 'long' || name === 'timestamp' || name === 'double') {
    return wordsOf(column);
  }
  const wide = new Int32Array(2 * length);
  if (name === 'boolean') {
    const bits = column.values as Uint8Array;
    for (let row = 0; row < length; row++) wide[2 * row] = bitAt(bits, row) ? 1 : 0;
    return wide;
  }
  const words = wordsOf(column);
  for (let row = 0; row < length; row++) {
    if (name === 'float') {
      CAST_WORDS[0] = words[row]!;
      CAST_DOUBLE[0] = CAST_FLOAT[0]!;
      wide[2 * row] = CAST_WORDS[0]!;
      wide[2 * row + 1] = CAST_WORDS[1]!;
    } else {
      wide[2 * row] = words[row]!;
      wide[2 * row + 1] = words[row]! >> 31;
    }
  }
  return wide;
}
