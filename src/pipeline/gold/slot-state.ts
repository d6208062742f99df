/**
 * Everything gold holds in memory of one slot: its groups and, by group, the state of every
 * measure, all in typed arrays.
 *
 * - G11 The rows are a function of the set of events added: not of their order, of batch cuts, or
 *   of whether they came from the stream or from a recomputation (P7, P9). Rows are ordered by
 *   window_start, then by the group columns in declared order (dictionary.ts, G5).
 */
import type { ColumnBatch, Vector } from '../columns.ts';
import { type DataType, primitive } from '../types.ts';
import type { AggregatePlan } from './aggregate-plan.ts';
import { grown } from './buffers.ts';
import { INITIAL_ENTRIES } from './code-table.ts';
import { createDictionary, type Dictionary } from './dictionary.ts';
import { RUN_ROWS, type RunScratch } from './field-rows.ts';
import { countColumn, FieldState } from './field-state.ts';
import { GroupIndex } from './group-index.ts';

/** What the rows of a slot say about themselves. */
export interface GoldRowsMeta {
  readonly source: 'streaming' | 'batch';
  readonly isFinal: boolean;
  /** Int32, counts the rewrites that a final date has seen. */
  readonly revision: number;
  /** Version of the silver table up to which the rows are complete. */
  readonly silverVersion: bigint;
}

/** A batch's columns in the order of the plan's groups and fields. */
export interface PlannedBatch {
  readonly groups: readonly Vector[];
  readonly fields: readonly Vector[];
}

/** State of one slot. */
export class SlotState {
  readonly #plan: AggregatePlan;
  readonly #slot: number;
  readonly #scratch: RunScratch;
  /** By column name, shared between group columns and distinct counts. */
  readonly #dictionaries = new Map<string, Dictionary>();
  readonly #groupDictionaries: readonly Dictionary[];
  readonly #index: GroupIndex;
  readonly #fields: readonly FieldState[];
  /** By group. */
  #rowCounts = new Float64Array(INITIAL_ENTRIES);
  #eventCount = 0;

  /** @param scratch working memory that no other slot uses at the same time */
  constructor(plan: AggregatePlan, slot: number, scratch: RunScratch) {
    this.#plan = plan;
    this.#slot = slot;
    this.#scratch = scratch;
    const dictionaryOf = (name: string, type: DataType): Dictionary => {
      const dictionary = this.#dictionaries.get(name) ?? createDictionary(type);
      this.#dictionaries.set(name, dictionary);
      return dictionary;
    };
    this.#groupDictionaries = plan.groups.map(({ name, type }) => dictionaryOf(name, type));
    this.#index = new GroupIndex(1 + plan.groups.length);
    this.#fields = plan.fields.map((field) => new FieldState(field, dictionaryOf));
    for (const field of this.#fields) field.grow(this.#rowCounts.length);
  }

  /** Rows that `rows` returns. */
  get groupCount(): number {
    return this.#index.size;
  }

  /** Events added. */
  get eventCount(): number {
    return this.#eventCount;
  }

  /** Bytes of memory. */
  get residentBytes(): number {
    let bytes = this.#index.residentBytes + this.#rowCounts.byteLength;
    for (const dictionary of this.#dictionaries.values()) bytes += dictionary.residentBytes;
    for (const field of this.#fields) bytes += field.residentBytes;
    return bytes;
  }

  /**
   * Adds events.
   * @param rows row numbers in the batch
   * @param windows which window of the slot each of them falls into
   */
  add(batch: PlannedBatch, rows: Int32Array, windows: Int32Array): void {
    this.#eventCount += rows.length;
    for (let from = 0; from < rows.length; from += RUN_ROWS) {
      const to = Math.min(rows.length, from + RUN_ROWS);
      this.#addRun(batch, rows.subarray(from, to), windows.subarray(from, to));
    }
  }

  #addRun(batch: PlannedBatch, rows: Int32Array, windows: Int32Array): void {
    const { keys, words } = this.#scratch;
    const keyWords = 1 + batch.groups.length;
    for (let i = 0, at = 0; i < rows.length; i++, at += keyWords) keys[at] = windows[i]!;
    for (const [c, dictionary] of this.#groupDictionaries.entries()) {
      dictionary.encode(batch.groups[c]!, rows, keys, keyWords, 1 + c, words);
    }
    const groups = this.#scratch.groups.subarray(0, rows.length);
    this.#index.find(keys, groups);
    this.#reserve();
    const rowCounts = this.#rowCounts;
    for (const [f, field] of this.#fields.entries()) {
      field.add(batch.fields[f]!, rows, groups, rowCounts, this.#scratch);
    }
    for (let i = 0; i < groups.length; i++) rowCounts[groups[i]!]!++;
  }

  #reserve(): void {
    let capacity = this.#rowCounts.length;
    if (this.#index.size <= capacity) return;
    while (capacity < this.#index.size) capacity *= 2;
    this.#rowCounts = grown(this.#rowCounts, capacity);
    for (const field of this.#fields) field.grow(capacity);
  }

  /**
   * The whole content of the slot, in the aggregate's file schema.
   * @throws PipelineError invalid when a sum does not fit its column
   */
  rows(meta: GoldRowsMeta): ColumnBatch {
    const { measures, fileSchema, name } = this.#plan;
    const order = this.#order();
    const ordinals = this.#index.wordsOf(order, 0);
    const columns: Vector[] = [this.#times(ordinals, 0), this.#times(ordinals, 1)];
    for (const [c, dictionary] of this.#groupDictionaries.entries()) {
      columns.push(dictionary.vector(this.#index.wordsOf(order, 1 + c)));
    }
    for (const measure of measures) {
      if (measure.field < 0) {
        columns.push(countColumn({ order, counts: this.#rowCounts }));
        continue;
      }
      const describe = (group: number) => ({
        aggregate: name,
        measure: measure.name,
        windowStartMs: this.#windowStartMs(this.#index.wordsOf(Int32Array.of(group), 0)[0]!),
      });
      columns.push(this.#fields[measure.field]!.column(measure, order, this.#rowCounts, describe));
    }
    columns.push(...metaColumns(order.length, meta));
    return { schema: fileSchema, length: order.length, columns };
  }

  #order(): Int32Array {
    const { fromMs, toMs } = this.#plan.windows.spanOfSlot(this.#slot);
    const ranks: (Int32Array | undefined)[] = [undefined];
    const bounds = [(toMs - fromMs) / this.#plan.windows.windowMs];
    for (const dictionary of this.#groupDictionaries) {
      ranks.push(dictionary.ranks());
      bounds.push(dictionary.size + 1);
    }
    return this.#index.sorted(ranks, bounds);
  }

  #windowStartMs(ordinal: number): number {
    const { windows } = this.#plan;
    return windows.firstWindowMs(this.#slot) + ordinal * windows.windowMs;
  }

  /** Starts of the windows of each row, moved by `shift` windows. */
  #times(ordinals: Int32Array, shift: number): Vector {
    const values = new BigInt64Array(ordinals.length);
    for (let from = 0; from < ordinals.length; ) {
      let to = from + 1;
      while (to < ordinals.length && ordinals[to] === ordinals[from]) to++;
      values.fill(BigInt(this.#windowStartMs(ordinals[from]! + shift)) * 1000n, from, to);
      from = to;
    }
    return { type: primitive('timestamp'), length: values.length, nullCount: 0, values };
  }
}

/** `_source`, `_is_final`, `_revision` and `_silver_version`, the same in every row. */
function metaColumns(length: number, meta: GoldRowsMeta): Vector[] {
  const source = new TextEncoder().encode(meta.source);
  const data = new Uint8Array(length * source.length);
  const offsets = new Int32Array(length + 1);
  for (let i = 0; i < data.length; i++) data[i] = source[i % source.length]!;
  for (let row = 1; row <= length; row++) offsets[row] = row * source.length;
  const flags = new Uint8Array((length + 7) >> 3).fill(meta.isFinal ? 0xff : 0);
  const revisions = new Int32Array(length).fill(meta.revision);
  const versions = new BigInt64Array(length).fill(meta.silverVersion);
  return [
    { type: primitive('string'), length, nullCount: 0, offsets, data },
    { type: primitive('boolean'), length, nullCount: 0, values: flags },
    { type: primitive('integer'), length, nullCount: 0, values: revisions },
    { type: primitive('long'), length, nullCount: 0, values: versions },
  ];
}
