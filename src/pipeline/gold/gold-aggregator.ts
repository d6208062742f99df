/**
 * All in-memory state of one aggregate: its resident slots. It takes in silver rows and returns
 * whole slots as gold rows. Streaming and recomputation use the same class, so that their results
 * are equal bit for bit (P7, G11).
 *
 * What is resident is the caller's decision: it creates a slot and, unless the slot is new in gold,
 * adds all silver rows of the slot's span again; it drops what exceeds its memory (P10). Adding a
 * row twice counts it twice, so the caller keeps which silver version each slot is complete up to.
 *
 * - G12 No event is left out silently (P8): a row whose slot is neither resident nor excluded by
 *   name is an error, found before anything is added.
 */
import { assert, PipelineError } from '../../errors.ts';
import { type ColumnBatch, columnOf, type Vector } from '../columns.ts';
import type { AggregateConfig, EventConfig } from '../pipeline-config.ts';
import type { DataType, StructType } from '../types.ts';
import { type AggregatePlan, type PlannedColumn, planAggregate } from './aggregate-plan.ts';
import { createRunScratch, type RunScratch } from './field-rows.ts';
import { partitionBySlot, slotsOfTimes } from './slot-partition.ts';
import { type GoldRowsMeta, type PlannedBatch, SlotState } from './slot-state.ts';
import type { TumblingWindows } from './windows.ts';

/** Which rows of a batch to add. */
export interface AddOptions {
  /** Rows of other slots are left out; absent: every row is added. */
  readonly onlySlots?: ReadonlySet<number>;
}

interface ResidentSlot {
  readonly state: SlotState;
  bytes: number;
}

/** State of one aggregate. A slot is named by its start in milliseconds since the epoch. */
export class GoldAggregator {
  readonly #plan: AggregatePlan;
  readonly #scratch: RunScratch;
  /** Least recently used first. */
  readonly #slots = new Map<number, ResidentSlot>();
  #residentBytes = 0;

  /**
   * @throws PipelineError invalid when the aggregate does not fit the event
   */
  constructor(aggregate: AggregateConfig, event: EventConfig) {
    this.#plan = planAggregate(aggregate, event);
    this.#scratch = createRunScratch(1 + aggregate.groupBy.length);
  }

  /** The window grid: spans and dates of slots. */
  get windows(): TumblingWindows {
    return this.#plan.windows;
  }

  /** Schema of what `rows` returns. */
  get fileSchema(): StructType {
    return this.#plan.fileSchema;
  }

  /** The slot of an event time in microseconds since the epoch. */
  slotOf(micros: bigint): number {
    return this.#plan.windows.slotOf(micros);
  }

  /**
   * The slots that a batch touches, ascending.
   * @param batch silver rows with at least the event time
   * @throws PipelineError corrupt when the event time is missing or null
   */
  slotsTouched(batch: ColumnBatch): number[] {
    return slotsOfTimes(this.windows, this.#timesOf(batch)).sort((a, b) => a - b);
  }

  /**
   * Adds silver rows to resident slots.
   * @param batch silver rows, with the columns of `silverProjection` in any order
   * @throws PipelineError internal when a slot is not resident, corrupt when a column is missing or
   *   has another type; nothing is added then
   */
  add(batch: ColumnBatch, options: AddOptions = {}): void {
    const { onlySlots } = options;
    const planned: PlannedBatch = {
      groups: this.#plan.groups.map((column) => plannedVector(batch, column)),
      fields: this.#plan.fields.map((column) => plannedVector(batch, column)),
    };
    const parts = partitionBySlot(this.windows, this.#timesOf(batch)).filter(
      ({ slot }) => onlySlots?.has(slot) ?? true,
    );
    for (const { slot } of parts) this.#resident(slot);
    for (const { slot, rows, windows } of parts) {
      const resident = this.#touch(slot);
      resident.state.add(planned, rows, windows);
      this.#account(resident);
    }
  }

  /** Whether the slot's state is in memory. */
  isResident(slot: number): boolean {
    return this.#slots.has(slot);
  }

  /** Makes an empty slot resident. */
  create(slot: number): void {
    assert(!this.#slots.has(slot), 'a slot is created once', { slot });
    assert(this.slotOf(BigInt(this.windows.firstWindowMs(slot)) * 1000n) === slot, 'a slot', {
      slot,
    });
    const resident = { state: new SlotState(this.#plan, slot, this.#scratch), bytes: 0 };
    this.#slots.set(slot, resident);
    this.#account(resident);
  }

  /** Forgets a slot; of no effect when it is not resident. */
  drop(slot: number): void {
    this.#residentBytes -= this.#slots.get(slot)?.bytes ?? 0;
    this.#slots.delete(slot);
  }

  /** Bytes that the resident slots hold. */
  get residentBytes(): number {
    return this.#residentBytes;
  }

  /** Resident slots, the least recently used first. */
  residentSlots(): number[] {
    return [...this.#slots.keys()];
  }

  /** The slot to drop first. */
  leastRecentlyUsed(): number | undefined {
    return this.#slots.keys().next().value;
  }

  /** Rows that the slot has in gold. */
  groupCount(slot: number): number {
    return this.#resident(slot).state.groupCount;
  }

  /** Silver rows that the slot holds. */
  eventCount(slot: number): number {
    return this.#resident(slot).state.eventCount;
  }

  /**
   * The slot's full content, ordered by window_start and group.
   * @throws PipelineError invalid when a sum does not fit its column, naming the window
   */
  rows(slot: number, meta: GoldRowsMeta): ColumnBatch {
    const resident = this.#touch(slot);
    const rows = resident.state.rows(meta);
    this.#account(resident); // the order of the groups is kept for the next time
    return rows;
  }

  #resident(slot: number): ResidentSlot {
    const resident = this.#slots.get(slot);
    assert(resident !== undefined, 'the slot is resident', { aggregate: this.#plan.name, slot });
    return resident;
  }

  #touch(slot: number): ResidentSlot {
    const resident = this.#resident(slot);
    this.#slots.delete(slot);
    this.#slots.set(slot, resident);
    return resident;
  }

  #account(resident: ResidentSlot): void {
    const bytes = resident.state.residentBytes;
    this.#residentBytes += bytes - resident.bytes;
    resident.bytes = bytes;
  }

  #timesOf(batch: ColumnBatch): Vector {
    return plannedVector(batch, {
      name: this.#plan.timeField,
      type: { kind: 'primitive', name: 'timestamp' },
    });
  }
}

function plannedVector(batch: ColumnBatch, { name, type }: PlannedColumn): Vector {
  const vector = columnOf(batch, name);
  if (vector !== undefined && sameType(vector.type, type)) return vector;
  const problem = vector === undefined ? 'lacks a column' : 'has a column of another type';
  throw new PipelineError('corrupt', 'TM_SCHEMA_MISMATCH', `the silver batch ${problem}`, {
    context: { column: name },
  });
}

/** Whether values of both types have the same layout and meaning. */
function sameType(a: DataType, b: DataType): boolean {
  if (a.kind === 'decimal' && b.kind === 'decimal') return a.scale === b.scale;
  return a.kind === 'primitive' && b.kind === 'primitive' && a.name === b.name;
}
