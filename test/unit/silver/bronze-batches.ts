/** Bronze batches from plain records, and silver results as plain rows, for the silver tests. */
import {
  columnsFromRows,
  type RowValue,
  rowsFromColumns,
} from '../../../src/pipeline/column-builder.ts';
import type { EventConfig, LateConfig } from '../../../src/pipeline/pipeline-config.ts';
import type { BronzeInput } from '../../../src/pipeline/silver/bronze-rows.ts';
import type { SilverResult } from '../../../src/pipeline/silver/derivation.ts';
import { field, struct, type StructType } from '../../../src/pipeline/types.ts';

/** A record as the source would hand it to bronze. */
export interface TestRecord {
  readonly bronzeVersion: number;
  readonly partition: number;
  readonly offset: bigint;
  /** Microseconds. */
  readonly timestamp: bigint;
  /** null is a tombstone; a number is the size of a value that was too large to keep. */
  readonly value: Uint8Array | null | number;
}

const BRONZE = struct([
  field('_raw_value', 'string'),
  field('_raw_bytes', 'binary'),
  field('_kafka_key', 'binary'),
  field('_kafka_topic', 'string'),
  field('_kafka_partition', 'integer'),
  field('_kafka_offset', 'long'),
  field('_kafka_timestamp', 'timestamp'),
  field('_value_size', 'integer'),
]);

/** One bronze file; every record must have the same bronze version. */
export function bronzeInput(records: readonly TestRecord[]): BronzeInput {
  const rows = records.map((record): RowValue => {
    const { value } = record;
    const bytes = value instanceof Uint8Array ? Buffer.from(value) : undefined;
    const isText = bytes !== undefined && Buffer.from(bytes.toString('utf8')).equals(bytes);
    return {
      _raw_value: isText ? bytes.toString('utf8') : null,
      _raw_bytes: bytes !== undefined && !isText ? bytes : null,
      _kafka_key: Buffer.from(`key-${record.offset}`),
      _kafka_topic: 'events',
      _kafka_partition: record.partition,
      _kafka_offset: record.offset,
      _kafka_timestamp: record.timestamp,
      _value_size: value instanceof Uint8Array ? value.length : value,
    };
  });
  return { bronzeVersion: records[0]?.bronzeVersion ?? 0, batch: columnsFromRows(BRONZE, rows) };
}

const DEFAULT_TIMESTAMP = 1_763_805_600_000_000n; // 2025-11-22T10:00:00Z

/** Records of one partition from values: text, bytes, null, or the size of a lost value. */
export function recordsOf(
  values: readonly (string | Uint8Array | null | number)[],
  options: { bronzeVersion?: number; partition?: number; timestamp?: bigint } = {},
): TestRecord[] {
  return values.map((value, i) => ({
    bronzeVersion: options.bronzeVersion ?? 1,
    partition: options.partition ?? 0,
    offset: BigInt(i),
    timestamp: options.timestamp ?? DEFAULT_TIMESTAMP,
    value: typeof value === 'string' ? Buffer.from(value) : value,
  }));
}

/** An event declaration with id `id` and time `at`. */
export function eventOf(
  schema: StructType,
  unit: EventConfig['time']['unit'] = 'rfc3339',
): EventConfig {
  return { id: 'id', time: { field: 'at', unit }, schemaVersion: 3, schema };
}

export const LATE: LateConfig = {
  afterMs: 7_200_000,
  futureToleranceMs: 300_000,
  idlePartitionMs: 60_000,
};

/** All silver rows with their date, in the order of the topic. */
export function silverRowsOf(result: SilverResult): RowValue[] {
  return result.silver
    .flatMap(({ dateDays, batch }) =>
      rowsFromColumns(batch).map((row): RowValue => ({ ...row, _event_date: dateDays })),
    )
    .sort(byPlace);
}

/** All dead letters with their date and bronze version, in the order of the topic. */
export function deadRowsOf(result: SilverResult): RowValue[] {
  return result.dead
    .flatMap(({ dateDays, bronzeVersion, batch }) =>
      rowsFromColumns(batch).map(
        (row): RowValue => ({ ...row, _dlq_date: dateDays, _bronze_version: bronzeVersion }),
      ),
    )
    .sort(byPlace);
}

function byPlace(a: RowValue, b: RowValue): number {
  const partitions = Number(a['_kafka_partition']) - Number(b['_kafka_partition']);
  if (partitions !== 0) return partitions;
  return Number((a['_kafka_offset'] as bigint) - (b['_kafka_offset'] as bigint));
}
