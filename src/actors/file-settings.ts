/** How each table's data files are encoded and named. Measured choices: docs/performance.md. */
import { dateText } from '../pipeline/progress.ts';
import type { EncodeOptions } from '../storage/parquet/parquet-codec.ts';

/** Raw values and keys are long and unique: a dictionary would only cost time. */
export const BRONZE_ENCODING: EncodeOptions = {
  compression: 'snappy',
  plainColumns: ['_raw_value', '_raw_bytes', '_kafka_offset'],
};

/** @param idField column of unique ids, which no dictionary helps */
export function silverEncoding(idField: string): EncodeOptions {
  return { compression: 'snappy', plainColumns: [idField, '_kafka_offset'] };
}

export const DEAD_LETTER_ENCODING: EncodeOptions = {
  compression: 'zstd',
  plainColumns: ['_raw_value'],
};

export const GOLD_ENCODING: EncodeOptions = { compression: 'snappy' };

/**
 * Path of a new data file below its table. The folder is a convenience for people: the partition value
 * is what the log says. It does not start with `_` as `_event_date=` would (delta-rules 1.8).
 */
export function dataFilePath(dateDays: number, id: string): string {
  return `${dateText(dateDays)}/part-${id}.parquet`;
}

/** Rows after which a batch is cut into a further file: encoding needs several times a file's memory. */
const FILE_ROWS = 65_536;

/** Consecutive items in groups that end as soon as they hold a file's rows. */
export function groupByRows<Item>(
  items: readonly Item[],
  rowsOf: (item: Item) => number,
): readonly Item[][] {
  const groups: Item[][] = [];
  let rows = FILE_ROWS;
  for (const item of items) {
    if (rows >= FILE_ROWS) {
      groups.push([]);
      rows = 0;
    }
    groups.at(-1)!.push(item);
    rows += rowsOf(item);
  }
  return groups;
}
