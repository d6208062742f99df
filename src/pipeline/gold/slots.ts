/** Slots of aggregates, and which silver files may hold rows of them. Pure. */
import { dateDaysOf, type SilverFile } from './silver-files.ts';
import type { TumblingWindows } from './windows.ts';

/** A slot of an aggregate. */
export interface SlotName {
  readonly aggregate: string;
  readonly slot: number;
}

/** The same with the event times that it takes in: inclusive and exclusive micros. */
export interface PlannedSlot extends SlotName {
  readonly startMicros: number;
  readonly endMicros: number;
}

/** A slot of an aggregate whose windows are `windows`. */
export function slotSpan(aggregate: string, windows: TumblingWindows, slot: number): PlannedSlot {
  const { fromMs, toMs } = windows.spanOfSlot(slot);
  return { aggregate, slot, startMicros: fromMs * 1000, endMicros: toMs * 1000 };
}

/** The slots of a date (`YYYY-MM-DD`), ascending. */
export function slotsOfDate(
  aggregate: string,
  windows: TumblingWindows,
  date: string,
): PlannedSlot[] {
  return windows.slotsOfDate(dateDaysOf(date)).map((slot) => slotSpan(aggregate, windows, slot));
}

/** Whether a silver file may hold rows of a slot. */
export function mayHold(file: SilverFile, slot: PlannedSlot): boolean {
  return slot.startMicros <= file.maxMicros && slot.endMicros > file.minMicros;
}
