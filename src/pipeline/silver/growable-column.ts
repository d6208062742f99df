/**
 * Growable columns of events in Arrow layout (columns.ts): append, take back, and copy rows from
 * other columns. This is what all of them share: length, nulls and growth. Pure.
 *
 * C1 A column without nulls has no validity bitmap; it appears with the first null.
 * C2 `view` shares memory with the builder and is valid until the next append or reset; the view of
 *    a builder that is not used again is a finished column.
 */
import { bitAt, bitmapBytes, setBits } from '../bitmaps.ts';
import { isNullAt, type Vector } from '../columns.ts';
import type { DataType } from '../types.ts';

const ROWS_MIN = 16;

/** A column that grows. */
export abstract class ColumnBuilder {
  readonly type: DataType;
  length = 0;
  nullCount = 0;
  protected capacity = 0;
  #validity = new Uint8Array(0);

  constructor(type: DataType) {
    this.type = type;
  }

  appendNull(): void {
    if (this.length === this.capacity) this.#growFor(this.length + 1);
    if (this.nullCount++ === 0) this.#startValidity();
    this.#validity[this.length >> 3]! &= ~(1 << (this.length & 7));
    this.appendNullValue();
    this.length++;
  }

  appendNulls(count: number): void {
    for (let i = 0; i < count; i++) this.appendNull();
  }

  /** Makes room for `rows` rows in all, so that columns of known length grow once. */
  reserve(rows: number): void {
    if (rows > this.capacity) this.#growTo((rows + 7) & ~7);
  }

  isNull(row: number): boolean {
    return this.nullCount > 0 && !bitAt(this.#validity, row);
  }

  /** Takes back the rows from `length` on. */
  truncate(length: number): void {
    for (let row = length; row < this.length && this.nullCount > 0; row++) {
      if (this.isNull(row)) this.nullCount--;
    }
    this.length = length;
    this.truncateValues();
  }

  /** Takes back every row, keeping the memory. */
  reset(): void {
    this.nullCount = 0;
    this.truncate(0);
  }

  /** Appends the rows `rows[0 .. count)` of `source`, a column of the same type. */
  appendRows(source: Vector, rows: Int32Array, count: number): void {
    if (this.length + count > this.capacity) this.#growFor(this.length + count);
    const before = this.length;
    this.appendValues(source, rows, count);
    this.length = before + count;
    if (source.nullCount === 0) {
      if (this.nullCount > 0) setBits(this.#validity, before, count);
      return;
    }
    for (let i = 0; i < count; i++) {
      const row = before + i;
      if (!isNullAt(source, rows[i]!)) {
        if (this.nullCount > 0) this.#validity[row >> 3]! |= 1 << (row & 7);
        continue;
      }
      if (this.nullCount++ === 0) this.#startValidity();
      this.#validity[row >> 3]! &= ~(1 << (row & 7));
    }
  }

  /** The rows so far as a column (C2). */
  view(): Vector {
    const { type, length, nullCount } = this;
    const validity = nullCount === 0 ? undefined : this.#validity.subarray(0, bitmapBytes(length));
    return { type, length, nullCount, validity, ...this.viewValues() };
  }

  /** Makes room for one row and marks it as not null; the caller writes it and adds to `length`. */
  protected claimRow(): void {
    if (this.length === this.capacity) this.#growFor(this.length + 1);
    if (this.nullCount > 0) this.#validity[this.length >> 3]! |= 1 << (this.length & 7);
  }

  protected abstract growTo(capacity: number): void;
  /** Writes what stands below a null at `length`. */
  protected abstract appendNullValue(): void;
  /** Copies values to `length` and on, without touching `length`. */
  protected abstract appendValues(source: Vector, rows: Int32Array, count: number): void;
  protected abstract truncateValues(): void;
  protected abstract viewValues(): Pick<Vector, 'values' | 'offsets' | 'data' | 'children'>;

  #growFor(rows: number): void {
    let capacity = Math.max(ROWS_MIN, this.capacity * 2);
    while (capacity < rows) capacity *= 2;
    this.#growTo(capacity);
  }

  #growTo(capacity: number): void {
    this.growTo(capacity);
    const validity = new Uint8Array(capacity >> 3);
    validity.set(this.#validity);
    this.#validity = validity;
    this.capacity = capacity;
  }

  /** Every row so far is valid; rows to come set their own bit. */
  #startValidity(): void {
    this.#validity.fill(0xff);
  }
}
