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
}

/** @see design.md section 4 */
export function tableRoots(config: PipelineConfig): TableRoots {
  return {
    bronze: `bronze/${config.tableName}`,
    deadLetter: `bronze/${config.tableName}_dlq`,
    silver: `silver/${config.tableName}`,
    gold: new Map(config.gold.map(({ name }) => [name, `gold/${name.replaceAll('-', '_')}`])),
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

/** Silver's progress in one dedup bucket; its version is the last bronze version covered. */
export function silverAppId(pipeline: string, bronzeTableId: string, bucket: number): string {
  return `tidemark:${pipeline}:silver:${bronzeTableId}:${bucket}`;
}

/** The dead-letter table's progress in one dedup bucket; its version is the last bronze version covered. */
export function deadLetterAppId(pipeline: string, bronzeTableId: string, bucket: number): string {
  return `tidemark:${pipeline}:dead-letter:${bronzeTableId}:${bucket}`;
}

/** Event-time watermark of one partition in silver; its version is microseconds since the epoch. */
export function watermarkAppId(pipeline: string, topicId: string, partition: number): string {
  return `tidemark:${pipeline}:watermark:${topicId}:${partition}`;
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
