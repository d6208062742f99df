/**
 * What a span of silver commits means for gold. Pure.
 *
 * - SP1 Rows that a commit brought are added to the slots they fall into; slots that lost rows (a
 *   rebuild, a restore) are computed again from silver as it is at the span's end.
 * - SP2 A final date is left as it is: what came for it after the version it was computed from becomes
 *   a mark, which makes the date wait for the next reconciliation (P7).
 */
import type { SilverFile } from '../../pipeline/gold/silver-files.ts';
import { mayHold, type PlannedSlot, slotsOfDate } from '../../pipeline/gold/slots.ts';
import type { TumblingWindows } from '../../pipeline/gold/windows.ts';

/** A silver commit that changed rows; files that were merely rearranged are left out. */
export interface SilverChange {
  readonly version: number;
  readonly adds: readonly SilverFile[];
  readonly removes: readonly SilverFile[];
}

/** What the plan needs to know of an aggregate. */
export interface AggregateProgress {
  readonly name: string;
  readonly windows: TumblingWindows;
  /** Silver version that its table covers. */
  readonly covered: number;
  /** @see SlotIndex */
  finalVersion(date: string): number | undefined;
}

/** Late data for a final date, the last silver version that brought some. */
export interface LateMark {
  readonly aggregate: string;
  readonly date: string;
  readonly silverVersion: number;
}

export interface SpanPlan {
  /** Files whose rows are added, and to which aggregates; a file may be wanted by none. */
  readonly inputs: readonly { readonly path: string; readonly aggregates: readonly string[] }[];
  readonly recompute: readonly PlannedSlot[];
  readonly marks: readonly LateMark[];
}

/** @param changes ascending */
export function planSpan(
  changes: readonly SilverChange[],
  aggregates: readonly AggregateProgress[],
): SpanPlan {
  const wanted = new Map<string, string[]>();
  const recompute = new Map<string, PlannedSlot>();
  const marks = new Map<string, LateMark>();
  for (const { version, adds, removes } of changes) {
    for (const { path } of adds) wanted.set(path, []);
    for (const aggregate of aggregates) {
      if (aggregate.covered >= version) continue;
      const open = (file: SilverFile): boolean => {
        const finalVersion = aggregate.finalVersion(file.date);
        if (finalVersion === undefined) return true;
        // SP2
        if (version > finalVersion) {
          const { name } = aggregate;
          const mark = { aggregate: name, date: file.date, silverVersion: version };
          marks.set(`${name} ${file.date}`, mark);
        }
        return false;
      };
      for (const file of adds) if (open(file)) wanted.get(file.path)!.push(aggregate.name);
      for (const file of removes) {
        if (!open(file)) continue;
        for (const slot of slotsOfDate(aggregate.name, aggregate.windows, file.date)) {
          if (mayHold(file, slot)) recompute.set(`${slot.aggregate} ${slot.slot}`, slot);
        }
      }
    }
  }
  return {
    inputs: [...wanted].map(([path, names]) => ({ path, aggregates: names })),
    recompute: [...recompute.values()],
    marks: [...marks.values()],
  };
}
