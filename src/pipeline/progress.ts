/**
 * Names of the `txn` applications under which progress is committed with the data (P2), and of the
 * tables. An upstream's identity is part of each name, so that a re-created topic or table can never
 * be taken for the old one.
 */
import type { PipelineConfig } from './pipeline-config.ts';

/** Folders of a pipeline's tables below the lake's root. */
export interface TableRoots {
  readonly bronze: string;
  readonly deadLetter: string;
  readonly silver: string;
  /** By aggregate name. */
  readonly gold: ReadonlyMap<string, string>;
  /** What reconciliations changed, of all aggregates. */
  readonly reconciliation: string;
  /** Bronze rows older than the hot span (retention). */
  readonly archive: string;
}

/** @see design.md section 4 */
export function tableRoots(config: PipelineConfig): TableRoots {
  return {
    bronze: `bronze/${config.tableName}`,
    deadLetter: `bronze/${config.tableName}_dlq`,
    silver: `silver/${config.tableName}`,
    gold: new Map(config.gold.map(({ name }) => [name, `gold/${name.replaceAll('-', '_')}`])),
    reconciliation: `gold/${config.tableName}_reconciliation`,
    archive: `archive/bronze/${config.tableName}`,
  };
}

/** Everything of bronze's txns for one topic name; what follows is `<topicId>:<partition>`. */
export function bronzeAppPrefix(pipeline: string, topic: string): string {
  return `tidemark:${pipeline}:bronze:${topic}:`;
}

/** Bronze's progress in one partition; its version is the next offset (exclusive). */
export function bronzeAppId(
  pipeline: string,
  topic: string,
  topicId: string,
  partition: number,
): string {
  return `${bronzeAppPrefix(pipeline, topic)}${topicId}:${partition}`;
}

/** Which partition a txn of bronze is about; undefined when it is not about one of this topic. */
export function parseBronzeAppId(
  pipeline: string,
  topic: string,
  appId: string,
): { readonly topicId: string; readonly partition: number } | undefined {
  const prefix = bronzeAppPrefix(pipeline, topic);
  if (!appId.startsWith(prefix)) return undefined;
  const colon = appId.lastIndexOf(':');
  return {
    topicId: appId.slice(prefix.length, colon),
    partition: Number(appId.slice(colon + 1)),
  };
}

/** Silver's progress in one dedup bucket; its version is the last bronze version covered. */
export function silverAppId(pipeline: string, bronzeTableId: string, bucket: number): string {
  return `tidemark:${pipeline}:silver:${bronzeTableId}:${bucket}`;
}

/** The dead-letter table's progress in one dedup bucket; its version is the last bronze version covered. */
export function deadLetterAppId(pipeline: string, bronzeTableId: string, bucket: number): string {
  return `tidemark:${pipeline}:dead-letter:${bronzeTableId}:${bucket}`;
}

/**
 * The progress names of all dedup buckets.
 * @param idOf `silverAppId` or `deadLetterAppId`
 */
export function bucketAppIds(
  { name, dedupBuckets }: PipelineConfig,
  bronzeTableId: string,
  idOf: (pipeline: string, bronzeTableId: string, bucket: number) => string,
): readonly string[] {
  return Array.from({ length: dedupBuckets }, (_, bucket) => idOf(name, bronzeTableId, bucket));
}

/**
 * The bronze version that each dedup bucket of silver covers; 0 where it has none yet.
 * @param silver a snapshot
 */
export function bronzeVersionsIn(
  silver: { progress(appId: string): bigint | undefined },
  config: PipelineConfig,
  bronzeTableId: string,
): readonly number[] {
  return bucketAppIds(config, bronzeTableId, silverAppId).map((appId) =>
    Number(silver.progress(appId) ?? 0n),
  );
}

/**
 * Under which schema a dedup bucket's dead letters were derived last; written when that changes. Its
 * version is made by `schemaMark`.
 */
export function deadLetterSchemaAppId(
  pipeline: string,
  bronzeTableId: string,
  bucket: number,
): string {
  return `tidemark:${pipeline}:dead-letter-schema:${bronzeTableId}:${bucket}`;
}

/**
 * A schema version as the version of a txn, which may only grow though the schema may go back: the
 * bronze version from which it is in use stands above it.
 */
export function schemaMark(bronzeVersion: number, schemaVersion: number): bigint {
  return (BigInt(bronzeVersion) << 32n) | BigInt(schemaVersion);
}

/** The schema version of a `schemaMark`. */
export function schemaOfMark(mark: bigint): number {
  return Number(BigInt.asUintN(32, mark));
}

/**
 * Everything of the partitions' watermarks, of one topic or of all; what follows is `<partition>`, or
 * `<topicId>:<partition>`.
 */
export function watermarkAppPrefix(pipeline: string, topicId?: string): string {
  const all = `tidemark:${pipeline}:watermark:`;
  return topicId === undefined ? all : `${all}${topicId}:`;
}

/** Event-time watermark of one partition in silver; its version is microseconds since the epoch. */
export function watermarkAppId(pipeline: string, topicId: string, partition: number): string {
  return `${watermarkAppPrefix(pipeline, topicId)}${partition}`;
}

/**
 * How often silver's rows were changed outside the stream: by replay, rebuild, dead-letter retry or
 * restore. The stream guards its commits with it, so that its dedup index is never behind the table.
 */
export function silverEditsAppId(pipeline: string, bronzeTableId: string): string {
  return `tidemark:${pipeline}:silver-edits:${bronzeTableId}`;
}

/**
 * The last retry of dead letters, in silver when its rows are there and in the dead-letter table when
 * they are gone from it. Its version is the number of the edit and 32 random bits, which name the
 * retry's statement of what goes.
 */
export function deadLetterRetryAppId(pipeline: string, bronzeTableId: string): string {
  return `tidemark:${pipeline}:dead-letter-retry:${bronzeTableId}`;
}

/** What a ledger counter counts; all are running totals of bronze rows (P4, P6). */
export type LedgerCounter =
  | 'bronzeRows'
  | 'silverRows'
  | 'duplicates'
  | 'conflicts'
  | 'deadLetters'
  /** Dead letters that a retry took out again; each is counted once more as what it became. */
  | 'retried'
  /** Silver rows that a restore took out. */
  | 'takenOut'
  /** Of those: came back, by a replay or another restore. */
  | 'putBack'
  /** Of those: a later copy of the event has their place, which makes them its duplicates. */
  | 'replaced';

/**
 * A running total in silver, kept as a txn so that checkpoints keep it: how many bronze rows became
 * what, as one writer counted. The table's total is the sum over writers.
 * @param writer the stream's shard number, or `edits` for all that changes silver outside the stream
 */
export function ledgerAppId(
  pipeline: string,
  bronzeTableId: string,
  writer: number | 'edits',
  counter: LedgerCounter,
): string {
  return `${ledgerAppPrefix(pipeline, bronzeTableId)}${writer}:${counter}`;
}

/** Everything of the ledger's counters; what follows is `<writer>:<counter>`. */
export function ledgerAppPrefix(pipeline: string, bronzeTableId: string): string {
  return `tidemark:${pipeline}:ledger:${bronzeTableId}:`;
}

/**
 * How often a gold table's windows were replaced outside the stream: by reconciliation or restore.
 * The stream guards its commits with it.
 */
export function goldEditsAppId(pipeline: string, silverTableId: string): string {
  return `tidemark:${pipeline}:gold-edits:${silverTableId}`;
}

/**
 * The last silver version that brought rows for a date whose gold is final (P7); the date waits for
 * the next reconciliation while this is above the silver version its gold was made from.
 * @param date `YYYY-MM-DD`
 */
export function goldLateAppId(pipeline: string, silverTableId: string, date: string): string {
  return `${goldLateAppPrefix(pipeline, silverTableId)}${date}`;
}

/**
 * In the report table, the last revision of an aggregate's date whose changes are reported (P7).
 * @param date `YYYY-MM-DD`
 */
export function reportAppId(
  pipeline: string,
  silverTableId: string,
  aggregate: string,
  date: string,
): string {
  return `tidemark:${pipeline}:reconciliation:${silverTableId}:${aggregate}:${date}`;
}

/** Everything of the marks of late data for final dates; what follows is the date. */
export function goldLateAppPrefix(pipeline: string, silverTableId: string): string {
  return `tidemark:${pipeline}:gold-late:${silverTableId}:`;
}

/**
 * Where retention stands in bronze: rows of UTC dates before this one, in days since the epoch, move to
 * the archive. Compaction leaves their files alone, so that the archive never sees a row in two files.
 */
export function archivedBeforeAppId(pipeline: string): string {
  return `tidemark:${pipeline}:archived-before`;
}

/**
 * What retention has removed from the archive for good, as running totals in it: rows, and the rows
 * that the coverage stated by the removed files speaks of. The two differ while files that share a
 * coverage are of different dates.
 */
export function expiredAppId(pipeline: string, counter: 'rows' | 'coveredRows'): string {
  return `tidemark:${pipeline}:expired:${counter}`;
}

/** Offsets of a partition before this one (exclusive) may have expired: the ledger begins here. */
export function expiredBeforeAppId(pipeline: string, partition: number): string {
  return `${expiredBeforeAppPrefix(pipeline)}${partition}`;
}

/** What follows is the partition. */
export function expiredBeforeAppPrefix(pipeline: string): string {
  return `tidemark:${pipeline}:expired-before:`;
}

/** A gold table's progress; its version is the last silver version covered. */
export function goldAppId(pipeline: string, silverTableId: string): string {
  return `tidemark:${pipeline}:gold:${silverTableId}`;
}

/** UTC calendar date of a number of days since the epoch, `YYYY-MM-DD`. Source: Hinnant, days_from_civil. */
export function dateText(days: number): string {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear =
    dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthShifted = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthShifted + 2) / 5) + 1;
  const month = monthShifted < 10 ? monthShifted + 3 : monthShifted - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  const pad = (value: number, width: number): string => String(value).padStart(width, '0');
  return `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}`;
}

/**
 * The inverse of `dateText`. Source: Hinnant, days_from_civil.
 * @param text `YYYY-MM-DD`
 * @returns days since the epoch; undefined for anything that is no date of the calendar
 */
export function daysOfDate(text: string): number | undefined {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
  if (!match) return undefined;
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number];
  const shiftedYear = month <= 2 ? year - 1 : year;
  const era = Math.floor(shiftedYear / 400);
  const yearOfEra = shiftedYear - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const leapDays = Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  const days = era * 146_097 + yearOfEra * 365 + leapDays + dayOfYear - 719_468;
  return dateText(days) === text ? days : undefined;
}
