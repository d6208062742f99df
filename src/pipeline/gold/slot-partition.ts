/**
 * Sorts the rows of a batch by the slot they belong to, in one pass over the event times and one
 * over the rows. Batches have few windows, mostly in runs, so a row's window is looked up in the
 * last one first and in a small direct-mapped cache next.
 */
import { PipelineError } from '../../errors.ts';
import type { Vector } from '../columns.ts';
import { wordView } from './fixed-values.ts';
import type { TumblingWindows } from './windows.ts';

const TWO_32 = 4_294_967_296;
const CACHE_SIZE = 256;

/** The rows of a batch that fall into one slot. */
export interface SlotRows {
  readonly slot: number;
  /** Ascending. */
  readonly rows: Int32Array;
  /** By row in `rows`: which window of the slot, 0 for its first. */
  readonly windows: Int32Array;
}

/** A window met in a batch. */
interface MetWindow {
  /** Index of its slot among those met. */
  readonly slotIndex: number;
  /** 0 for the slot's first window. */
  readonly ordinal: number;
}

/** Slots and windows of a batch's rows, the rows still in batch order. */
interface Located {
  readonly slots: number[];
  readonly windows: MetWindow[];
  /** By row: index in `windows`. */
  readonly windowOfRow: Int32Array;
}

/**
 * The slots that a column of event times touches, in order of first touch.
 * @throws PipelineError corrupt when a time is null, invalid when one is out of range
 */
export function slotsOfTimes(windows: TumblingWindows, times: Vector): number[] {
  return locate(windows, times).slots;
}

/**
 * The rows of each slot that a column of event times touches.
 * @throws PipelineError corrupt when a time is null, invalid when one is out of range
 */
export function partitionBySlot(grid: TumblingWindows, times: Vector): SlotRows[] {
  const { slots, windows, windowOfRow } = locate(grid, times);
  const starts = new Int32Array(slots.length + 1);
  const slotOfWindow = Int32Array.from(windows, ({ slotIndex }) => slotIndex);
  const ordinalOfWindow = Int32Array.from(windows, ({ ordinal }) => ordinal);
  for (let row = 0; row < times.length; row++) starts[slotOfWindow[windowOfRow[row]!]! + 1]!++;
  for (let i = 0; i < slots.length; i++) starts[i + 1]! += starts[i]!;
  const rows = new Int32Array(times.length);
  const ordinals = new Int32Array(times.length);
  const next = starts.slice();
  for (let row = 0; row < times.length; row++) {
    const window = windowOfRow[row]!;
    const at = next[slotOfWindow[window]!]!++;
    rows[at] = row;
    ordinals[at] = ordinalOfWindow[window]!;
  }
  return slots.map((slot, i) => ({
    slot,
    rows: rows.subarray(starts[i], starts[i + 1]),
    windows: ordinals.subarray(starts[i], starts[i + 1]),
  }));
}

function locate(grid: TumblingWindows, times: Vector): Located {
  if (times.nullCount > 0) {
    throw new PipelineError('corrupt', 'TM_SCHEMA_MISMATCH', 'a silver row has no event time');
  }
  const slots: number[] = [];
  const slotIndexes = new Map<number, number>();
  const windows: MetWindow[] = [];
  const windowIndexes = new Map<number, number>();
  const meet = (startMs: number): number => {
    const known = windowIndexes.get(startMs);
    if (known !== undefined) return known;
    const slot = grid.slotOfWindow(startMs);
    let slotIndex = slotIndexes.get(slot);
    if (slotIndex === undefined) {
      slotIndex = slots.push(slot) - 1;
      slotIndexes.set(slot, slotIndex);
    }
    const ordinal = (startMs - grid.firstWindowMs(slot)) / grid.windowMs;
    const index = windows.push({ slotIndex, ordinal }) - 1;
    windowIndexes.set(startMs, index);
    return index;
  };

  const words = wordView(times.values!);
  const windowOfRow = new Int32Array(times.length);
  const cachedStarts = new Float64Array(CACHE_SIZE).fill(Number.NaN);
  const cachedIndexes = new Int32Array(CACHE_SIZE);
  let index = -1;
  let fromMicros = 0; // the last window, when its bounds are exact as doubles
  let toMicros = 0;
  for (let row = 0; row < windowOfRow.length; row++) {
    const high = words[2 * row + 1]!;
    const low = words[2 * row]!;
    const micros = high * TWO_32 + (low >>> 0);
    if (micros < fromMicros || micros >= toMicros) {
      const startMs = grid.windowStartMs(high, low);
      const cacheAt = (startMs / grid.windowMs) & (CACHE_SIZE - 1);
      if (cachedStarts[cacheAt] !== startMs) {
        cachedStarts[cacheAt] = startMs;
        cachedIndexes[cacheAt] = meet(startMs);
      }
      index = cachedIndexes[cacheAt]!;
      const exact = Number.isSafeInteger((startMs + grid.windowMs) * 1000);
      fromMicros = exact ? startMs * 1000 : 0;
      toMicros = exact ? (startMs + grid.windowMs) * 1000 : 0;
    }
    windowOfRow[row] = index;
  }
  return { slots, windows, windowOfRow };
}
