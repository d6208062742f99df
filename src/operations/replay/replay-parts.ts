/**
 * How a replay is cut into parts that are decided one after the other: by when records were ingested, for
 * files overlap once compaction and several workers have written them. Pure.
 *
 * Invariants:
 * - PT1 Each row of each file is in the span of exactly one part, and that part has the file.
 * - PT2 Parts ascend, so a copy of an event is in the part of the event or in a later one. (The clock of a
 *   machine that takes a partition over may be behind; then a copy may be in an earlier part, and stays.)
 */
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import { type IngestionSpan, ingestionOf } from '../silver-edit/bronze-range.ts';
import type { TableFile } from '../silver-edit/edited-lake.ts';

/** The rows of `files` that were ingested in `span`. */
export interface ReplayPart {
  readonly span: IngestionSpan;
  readonly files: readonly TableFile[];
}

interface Bounded {
  readonly one: TableFile;
  readonly firstMicros: bigint | undefined;
  readonly lastMicros: bigint | undefined;
}

/**
 * The parts, ascending.
 * @param rowsMax a part is ended by the file with which it has as many, beside what it shares with the
 *   part before
 */
export function partsOf(files: readonly TableFile[], rowsMax: number): readonly ReplayPart[] {
  const parts: ReplayPart[] = [];
  let open: Bounded[] = [];
  let fromMicros: bigint | undefined;
  let rows = 0;
  const end = (toMicros: bigint | undefined): void => {
    parts.push({ span: { fromMicros, toMicros }, files: open.map(({ one }) => one) });
    open = open.filter(({ lastMicros }) => !isBefore(lastMicros, toMicros));
    fromMicros = toMicros;
    rows = 0;
  };
  const bounded = files.map((one): Bounded => ({ one, ...ingestionOf(one.file) }));
  for (const next of bounded.sort(byFirst)) {
    if (rows >= rowsMax && isBefore(fromMicros ?? 0n, next.firstMicros)) end(next.firstMicros);
    open.push(next);
    rows += numRecordsOf(next.one.file.stats) ?? 0;
  }
  if (open.length > 0) end(undefined);
  return parts;
}

function byFirst(a: Bounded, b: Bounded): number {
  const [x, y] = [a.firstMicros ?? 0n, b.firstMicros ?? 0n];
  return x < y ? -1 : x > y ? 1 : 0;
}

function isBefore(a: bigint | undefined, b: bigint | undefined): boolean {
  return a !== undefined && b !== undefined && a < b;
}
