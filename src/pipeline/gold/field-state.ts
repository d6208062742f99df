/**
 * All that one slot keeps of one event field: how many values each group had, and the accumulators
 * that the measures of the field share.
 *
 * - G10 Measures ignore nulls, as in SQL: a count counts values, and sum, avg, min and max of no
 *   values are null. Until the field's first null the counts of values are the counts of rows, and
 *   no memory is spent on them.
 */
import { assert } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import type { DataType } from '../types.ts';
import type { AccumulatorKind, PlannedField, PlannedMeasure } from './aggregate-plan.ts';
import { grown, validityOf } from './buffers.ts';
import type { Dictionary } from './dictionary.ts';
import { DistinctCount } from './distinct-count.ts';
import { createExtreme, type ExtremeAccumulator } from './extremes.ts';
import type { Accumulator, ColumnRequest, RunScratch } from './field-rows.ts';
import { loadNumbers, vectorFromCounts } from './fixed-values.ts';
import { FloatSum } from './float-sum.ts';
import { isFloating } from './gold-schema.ts';
import { type DescribeGroup, IntegerSum } from './integer-sum.ts';

/** A field's state in one slot. */
export class FieldState {
  readonly #type: DataType;
  readonly #accumulators: readonly Accumulator[];
  readonly #sum: IntegerSum | FloatSum | undefined;
  readonly #min: ExtremeAccumulator | undefined;
  readonly #max: ExtremeAccumulator | undefined;
  readonly #distinct: DistinctCount | undefined;
  readonly #needsNumbers: boolean;
  /** By group: values that are not null; undefined until the first null. */
  #counts: Float64Array | undefined;

  /** @param dictionaryOf the slot's dictionary of a column */
  constructor(field: PlannedField, dictionaryOf: (name: string, type: DataType) => Dictionary) {
    const { type } = field;
    const has = (kind: AccumulatorKind): boolean => field.accumulators.includes(kind);
    this.#type = type;
    this.#sum = has('sum') ? (isFloating(type) ? new FloatSum() : new IntegerSum(type)) : undefined;
    this.#min = has('min') ? createExtreme(type, 'min') : undefined;
    this.#max = has('max') ? createExtreme(type, 'max') : undefined;
    this.#distinct = has('distinct')
      ? new DistinctCount(dictionaryOf(field.name, type))
      : undefined;
    this.#accumulators = [this.#sum, this.#min, this.#max, this.#distinct].filter(
      (accumulator) => accumulator !== undefined,
    );
    this.#needsNumbers = has('sum') || ((has('min') || has('max')) && !isBytes(type));
  }

  get residentBytes(): number {
    let bytes = this.#counts?.byteLength ?? 0;
    for (const accumulator of this.#accumulators) bytes += accumulator.residentBytes;
    return bytes;
  }

  /** Makes room for groups below `capacity`. */
  grow(capacity: number): void {
    if (this.#counts) this.#counts = grown(this.#counts, capacity);
    for (const accumulator of this.#accumulators) accumulator.grow(capacity);
  }

  /**
   * Takes in a run of rows.
   * @param groups group of each of `rows`
   * @param rowCounts by group: rows before this run
   */
  add(
    vector: Vector,
    rows: Int32Array,
    groups: Int32Array,
    rowCounts: Float64Array,
    scratch: RunScratch,
  ): void {
    let fieldRows = rows;
    let fieldGroups = groups;
    const validity = validityOf(vector);
    if (validity !== undefined) {
      const kept = selectValid(validity, rows, groups, scratch);
      if (kept < rows.length) {
        this.#counts ??= rowCounts.slice();
        fieldRows = scratch.fieldRows.subarray(0, kept);
        fieldGroups = scratch.fieldGroups.subarray(0, kept);
      }
    }
    const counts = this.#counts;
    if (counts) for (let i = 0; i < fieldGroups.length; i++) counts[fieldGroups[i]!]!++;
    if (this.#accumulators.length === 0) return;
    if (this.#needsNumbers) loadNumbers(vector, fieldRows, scratch.numbers);
    const input = {
      vector,
      rows: fieldRows,
      groups: fieldGroups,
      numbers: scratch.numbers,
      scratch,
    };
    for (const accumulator of this.#accumulators) accumulator.add(input);
  }

  /**
   * The column of a measure of this field.
   * @throws PipelineError invalid when a sum does not fit its column
   */
  column(
    measure: PlannedMeasure,
    order: Int32Array,
    rowCounts: Float64Array,
    describe: DescribeGroup,
  ): Vector {
    const request: ColumnRequest = { order, counts: this.#counts ?? rowCounts };
    switch (measure.fn) {
      case 'count':
        return countColumn(request);
      case 'countDistinct':
        return built(this.#distinct).column(order);
      case 'min':
        return built(this.#min).column(request);
      case 'max':
        return built(this.#max).column(request);
      case 'sum': {
        const sum = built(this.#sum);
        if (sum instanceof FloatSum) return sum.sums(request);
        return sum.sums(measure.type, request, describe);
      }
      case 'avg': {
        const sum = built(this.#sum);
        if (sum instanceof FloatSum) return sum.averages(request);
        const scale = this.#type.kind === 'decimal' ? this.#type.scale : 0;
        return sum.averages(measure.type, scale, request);
      }
    }
  }
}

/** A long column of how many values, or rows, the groups had. */
export function countColumn({ order, counts }: ColumnRequest): Vector {
  const ordered = new Float64Array(order.length);
  for (let i = 0; i < order.length; i++) ordered[i] = counts[order[i]!]!;
  return vectorFromCounts(ordered);
}

function built<T>(accumulator: T | undefined): T {
  assert(accumulator !== undefined, 'the plan names every accumulator that a measure shows');
  return accumulator;
}

function isBytes(type: DataType): boolean {
  return type.kind === 'primitive' && (type.name === 'string' || type.name === 'binary');
}

/** Copies the rows that are not null, with their groups, to the scratch. */
function selectValid(
  validity: Uint8Array,
  rows: Int32Array,
  groups: Int32Array,
  { fieldRows, fieldGroups }: RunScratch,
): number {
  let kept = 0;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    fieldRows[kept] = row;
    fieldGroups[kept] = groups[i]!;
    kept += (validity[row >> 3]! >> (row & 7)) & 1;
  }
  return kept;
}
