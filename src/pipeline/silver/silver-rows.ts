/** Silver rows by the UTC date of their event time, one growing set of columns per date. Pure. */
import type { ColumnBatch, Vector } from '../columns.ts';
import type { StructType } from '../types.ts';
import { bytesOfWords, FINGERPRINT_WORDS } from './fingerprints.ts';
import type { ColumnBuilder } from './growable-column.ts';
import { builderFor } from './growable-columns.ts';
import { IntList } from './int-list.ts';

/** The rows of one date; `batch` is of `silverFileSchema()`. */
export interface SilverRows {
  /** UTC date of the event time, days since the epoch. */
  readonly dateDays: number;
  readonly batch: ColumnBatch;
  /** FINGERPRINT_BYTES per row, in row order: id and payload hash, little-endian. */
  readonly fingerprints: Uint8Array;
}

/** Collects rows of sub-batches by date. */
export class SilverCollector {
  readonly #schema: StructType;
  readonly #sets = new Map<number, SilverSet>();
  #lastSet: SilverSet | undefined;
  #rowsExpected: number;
  #touched: SilverSet[] = [];

  /** @param rowsExpected an estimate of all rows to come, for the size of buffers only */
  constructor(schema: StructType, rowsExpected: number) {
    this.#schema = schema;
    this.#rowsExpected = rowsExpected;
  }

  /** Chooses a staged row for a date; `append` then copies all that were chosen. */
  choose(dateDays: number, slot: number, sourceRow: number): void {
    let set = this.#lastSet;
    if (set === undefined || set.dateDays !== dateDays) {
      set = this.#sets.get(dateDays);
      if (set === undefined) {
        set = new SilverSet(dateDays, this.#schema);
        this.#sets.set(dateDays, set);
      }
      this.#lastSet = set;
    }
    if (set.slots.length === 0) this.#touched.push(set);
    set.slots.push(slot);
    set.sourceRows.push(sourceRow);
  }

  /**
   * Copies the chosen rows.
   * @param columns of the file schema; each by slot, or by row of the bronze input
   * @param fingerprints by slot
   * @param rowsTaken of the rows to come, whether chosen or not
   */
  append(columns: readonly StagedColumn[], fingerprints: Uint32Array, rowsTaken: number): void {
    const rows = this.#touched.reduce((sum, set) => sum + set.slots.length, 0);
    for (const set of this.#touched) {
      if (set.length === 0) set.reserve(Math.ceil((set.slots.length / rows) * this.#rowsExpected));
      set.append(columns, fingerprints);
    }
    this.#touched = [];
    this.#rowsExpected -= rowsTaken;
  }

  /** Everything collected, by date. */
  finish(): SilverRows[] {
    return [...this.#sets.values()]
      .map((set) => set.finish())
      .sort((a, b) => a.dateDays - b.dateDays);
  }
}

/** A column of the rows at hand, and what its rows are numbered by. */
export interface StagedColumn {
  readonly vector: Vector;
  readonly by: 'slot' | 'sourceRow';
}

class SilverSet {
  readonly dateDays: number;
  /** Chosen rows that are not copied yet. */
  readonly slots = new IntList();
  readonly sourceRows = new IntList();
  readonly #schema: StructType;
  readonly #builders: readonly ColumnBuilder[];
  readonly #fingerprints = new IntList();
  length = 0;

  constructor(dateDays: number, schema: StructType) {
    this.dateDays = dateDays;
    this.#schema = schema;
    this.#builders = schema.fields.map((f) => builderFor(f.type));
  }

  reserve(rows: number): void {
    for (const builder of this.#builders) builder.reserve(rows);
    this.#fingerprints.reserve(rows * FINGERPRINT_WORDS);
  }

  append(columns: readonly StagedColumn[], fingerprints: Uint32Array): void {
    const { slots, sourceRows } = this;
    const count = slots.length;
    for (const [i, { vector, by }] of columns.entries()) {
      const rows = by === 'slot' ? slots.values : sourceRows.values;
      this.#builders[i]!.appendRows(vector, rows, count);
    }
    for (let i = 0; i < count; i++) {
      const at = slots.values[i]! * FINGERPRINT_WORDS;
      this.#fingerprints.pushFrom(fingerprints, at, FINGERPRINT_WORDS);
    }
    this.length += count;
    slots.truncate(0);
    sourceRows.truncate(0);
  }

  finish(): SilverRows {
    const { values, length } = this.#fingerprints;
    return {
      dateDays: this.dateDays,
      batch: {
        schema: this.#schema,
        length: this.length,
        columns: this.#builders.map((builder) => builder.view()),
      },
      fingerprints: bytesOfWords(new Uint32Array(values.buffer, 0, length)),
    };
  }
}
