/**
 * When time has passed a window or a date. Pure.
 *
 * - CL1 The pipeline's watermark is the lowest of the partitions that still get records; one that has
 *   had none for `late.idlePartition`, and whose records are all in silver, does not hold it back. When
 *   all are idle, nothing is under way and the highest counts.
 * - CL2 A date is over `late.after` past its end, by the watermark or by the wall clock: whatever comes
 *   for it from then on is late.
 */
import type { LateConfig } from '../pipeline-config.ts';

const DAY_MS = 86_400_000;

/** How far one partition is. */
export interface PartitionClock {
  readonly partition: number;
  /** Latest event time, microseconds since the epoch; undefined when no event had one. */
  readonly watermarkMicros: bigint | undefined;
  /** When its last records came to bronze, milliseconds since the epoch. */
  readonly arrivedMs: number | undefined;
  /** Bronze has records of it that silver has not taken in: the watermark does not know them. */
  readonly isAheadOfSilver: boolean;
}

/** Partitions that still get records, or whose records are still on their way (CL1). */
export function activePartitions(
  clocks: readonly PartitionClock[],
  late: LateConfig,
  nowMs: number,
): readonly PartitionClock[] {
  return clocks.filter(
    ({ arrivedMs, isAheadOfSilver }) =>
      isAheadOfSilver || (arrivedMs !== undefined && nowMs - arrivedMs < late.idlePartitionMs),
  );
}

/**
 * The pipeline's watermark (CL1), microseconds since the epoch: windows that end at or before it are
 * closed.
 * @returns undefined when no partition has one
 */
export function overallWatermark(
  clocks: readonly PartitionClock[],
  late: LateConfig,
  nowMs: number,
): bigint | undefined {
  const active = watermarksOf(activePartitions(clocks, late, nowMs));
  if (active.length > 0) return active.reduce((a, b) => (b < a ? b : a));
  const all = watermarksOf(clocks);
  return all.length === 0 ? undefined : all.reduce((a, b) => (b > a ? b : a));
}

/**
 * - `over`: a reconciliation makes the date final.
 * - `arriving`: over, but some partition is still working through it, as in a backfill.
 * - `open`: ordinary events may still come, by the wall clock until `untilMs`.
 */
export type DateState =
  | { readonly kind: 'over' }
  | { readonly kind: 'arriving'; readonly partition: number }
  | { readonly kind: 'open'; readonly untilMs: number };

/** @param dateDays UTC date, days since the epoch */
export function dateState(
  dateDays: number,
  clocks: readonly PartitionClock[],
  late: LateConfig,
  nowMs: number,
): DateState {
  const endMs = (dateDays + 1) * DAY_MS;
  const untilMs = endMs + late.afterMs;
  const watermark = overallWatermark(clocks, late, nowMs);
  const isPast = watermark !== undefined && watermark >= BigInt(untilMs) * 1000n;
  if (nowMs < untilMs && !isPast) return { kind: 'open', untilMs };
  const behind = activePartitions(clocks, late, nowMs).find(
    ({ watermarkMicros, isAheadOfSilver }) => {
      if (watermarkMicros === undefined) return isAheadOfSilver;
      // Records that are there already may be in time for the date until it is over.
      return watermarkMicros < BigInt(isAheadOfSilver ? untilMs : endMs) * 1000n;
    },
  );
  return behind ? { kind: 'arriving', partition: behind.partition } : { kind: 'over' };
}

function watermarksOf(clocks: readonly PartitionClock[]): bigint[] {
  return clocks.flatMap(({ watermarkMicros }) => watermarkMicros ?? []);
}
