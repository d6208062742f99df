/**
 * The table properties that oblige a writer. Pure. Source: PROTOCOL.md "Append-only Tables", Delta's
 * table properties reference.
 */

type Configuration = Readonly<Record<string, string>>;

const HOUR_MS = 3_600_000;

const UNIT_MS: Readonly<Record<string, number>> = {
  millisecond: 1,
  second: 1_000,
  minute: 60_000,
  hour: HOUR_MS,
  day: 24 * HOUR_MS,
  week: 7 * 24 * HOUR_MS,
};

/** Whether rows may only be added (`delta.appendOnly`). */
export function isAppendOnly(configuration: Configuration): boolean {
  return configuration['delta.appendOnly']?.toLowerCase() === 'true';
}

/** How long a removed file is still needed by older snapshots; default one week. */
export function deletedFileRetentionMs(configuration: Configuration): number {
  return intervalMs(configuration['delta.deletedFileRetentionDuration']) ?? UNIT_MS['week']!;
}

/** How long log entries are kept; default 30 days. */
export function logRetentionMs(configuration: Configuration): number {
  return intervalMs(configuration['delta.logRetentionDuration']) ?? 30 * UNIT_MS['day']!;
}

/**
 * A duration such as `interval 1 week` or `2 days 3 hours`.
 * @returns undefined for text that is none; months and years have no fixed length and are none
 */
export function intervalMs(text: string | undefined): number | undefined {
  const words = text?.trim().toLowerCase().split(/\s+/) ?? [];
  if (words[0] === 'interval') words.shift();
  if (words.length === 0 || words.length % 2 !== 0) return undefined;
  let totalMs = 0;
  for (let i = 0; i < words.length; i += 2) {
    const unitMs = UNIT_MS[words[i + 1]!.replace(/s$/, '')];
    if (unitMs === undefined || !/^\d+$/.test(words[i]!)) return undefined;
    totalMs += Number(words[i]) * unitMs;
  }
  return totalMs;
}
