/**
 * The schemas of the silver and the dead-letter table. Pure. Source: design section 4.
 *
 * S1 Every column is nullable: what is required is enforced by the derivation (a row without it is
 *    a dead letter), so that adding a field is always an additive change of the table.
 * S2 The partition column is last in the table's schema and absent from its data files.
 */
import { PipelineError } from '../../errors.ts';
import type { EventConfig } from '../pipeline-config.ts';
import { type DataType, field, primitive, type StructType, struct } from '../types.ts';

/** Column of raw JSON that has no typed column, or did not fit it. */
export const RESCUED = '_rescued';

const FLAGS: DataType = { kind: 'array', element: primitive('string'), containsNull: false };

const COORDINATE_FIELDS = [
  field('_kafka_topic', 'string'),
  field('_kafka_partition', 'integer'),
  field('_kafka_offset', 'long'),
  field('_kafka_timestamp', 'timestamp'),
];

const SILVER_FIELDS = [
  ...COORDINATE_FIELDS,
  field('_is_late_arriving', 'boolean'),
  field('_arrival_delay_seconds', 'double'),
  field('_quality_flags', FLAGS),
  field(RESCUED, 'string'),
  field('_schema_version', 'integer'),
];

const DEAD_LETTER_FIELDS = [
  field('_raw_value', 'string'),
  field('_raw_bytes', 'binary'),
  field('_kafka_key', 'binary'),
  ...COORDINATE_FIELDS,
  field('_quality_flags', FLAGS),
  field('_error', 'string'),
];

/** Partition column of silver and gold: UTC date of the event's own time. */
export const EVENT_DATE = '_event_date';
/** Partition column of the dead-letter table: UTC date of the Kafka timestamp. */
export const DEAD_LETTER_DATE = '_dlq_date';

/**
 * Columns of a silver data file: the event's fields as declared, then Tidemark's own.
 * @throws PipelineError invalid when a declared name is one of Tidemark's, or is declared twice;
 *   names that differ only in case count as one, as they do for Delta
 */
export function silverFileSchema(event: EventConfig): StructType {
  const seen = new Set([...SILVER_FIELDS.map((f) => f.name), EVENT_DATE]);
  for (const { name } of event.schema.fields) {
    const folded = name.toLowerCase();
    if (seen.has(folded)) {
      throw new PipelineError(
        'invalid',
        'TM_CONFIG_INVALID',
        `event.schema.fields: the name ${name} is reserved or declared twice; rename the field`,
      );
    }
    seen.add(folded);
  }
  const declared = event.schema.fields.map((f) => field(f.name, f.type));
  return struct([...declared, ...SILVER_FIELDS]);
}

/**
 * Columns of the silver table.
 * @throws PipelineError invalid as silverFileSchema does
 */
export function silverTableSchema(event: EventConfig): StructType {
  return struct([...silverFileSchema(event).fields, field(EVENT_DATE, 'date')]);
}

/** Columns of a dead-letter data file. */
export function deadLetterFileSchema(): StructType {
  return struct(DEAD_LETTER_FIELDS);
}

/** Columns of the dead-letter table. */
export function deadLetterTableSchema(): StructType {
  return struct([...DEAD_LETTER_FIELDS, field(DEAD_LETTER_DATE, 'date')]);
}
