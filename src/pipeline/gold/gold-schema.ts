/**
 * The columns of a gold table: one row per (window_start, group). Pure.
 *
 * Every gold column is nullable in the schema, as Spark writes it, so that a measure can be added
 * to an existing table; only groups and measures ever hold nulls.
 */
import { PipelineError } from '../../errors.ts';
import type { AggregateConfig, EventConfig, MeasureConfig } from '../pipeline-config.ts';
import { type DataType, field, primitive, type StructType, struct } from '../types.ts';

/** Partition column of gold tables: UTC date of window_start. In the table, not in its files. */
export const GOLD_PARTITION_COLUMN = '_event_date';

function configError(aggregate: AggregateConfig, problem: string): PipelineError {
  return new PipelineError('invalid', 'TM_CONFIG_INVALID', `gold ${aggregate.name}: ${problem}`, {
    context: { aggregate: aggregate.name },
  });
}

/**
 * Type of an event field that an aggregate names.
 * @throws PipelineError invalid when the event has no such field, or it is nested
 */
export function eventFieldType(
  aggregate: AggregateConfig,
  event: EventConfig,
  name: string,
): DataType {
  const found = event.schema.fields.find((candidate) => candidate.name === name);
  if (found === undefined) throw configError(aggregate, `the event has no field "${name}"`);
  if (found.type.kind !== 'primitive' && found.type.kind !== 'decimal') {
    throw configError(aggregate, `"${name}" is a nested field; only plain values aggregate`);
  }
  return found.type;
}

/** Whether a type can be summed and averaged. */
function isNumeric(type: DataType): boolean {
  if (type.kind === 'decimal') return true;
  return (
    type.kind === 'primitive' &&
    ['byte', 'short', 'integer', 'long', 'float', 'double'].includes(type.name)
  );
}

/** Whether a type is stored as a binary floating point number. */
export function isFloating(type: DataType): boolean {
  return type.kind === 'primitive' && (type.name === 'float' || type.name === 'double');
}

/**
 * Type of a measure's column: counts are long; sums long, double or decimal(38, scale); averages
 * double; extremes the field's own type.
 * @throws PipelineError invalid when the function does not fit the field
 */
export function measureType(
  aggregate: AggregateConfig,
  event: EventConfig,
  measure: MeasureConfig,
): DataType {
  if (measure.field === undefined) {
    if (measure.fn === 'count') return primitive('long');
    throw configError(aggregate, `measure "${measure.name}" (${measure.fn}) needs a field`);
  }
  const type = eventFieldType(aggregate, event, measure.field);
  switch (measure.fn) {
    case 'count':
    case 'countDistinct':
      return primitive('long');
    case 'min':
    case 'max':
      return type;
    case 'sum':
    case 'avg':
      if (!isNumeric(type)) {
        throw configError(aggregate, `${measure.fn} of "${measure.field}", which is no number`);
      }
      if (measure.fn === 'avg' || isFloating(type)) return primitive('double');
      return type.kind === 'decimal'
        ? { kind: 'decimal', precision: 38, scale: type.scale }
        : primitive('long');
  }
}

/**
 * Columns of the gold table's Parquet files, in order: window_start, window_end, group columns,
 * measures, _source, _is_final, _revision, _silver_version.
 * @throws PipelineError invalid when the aggregate does not fit the event, or two columns share a
 *   name
 */
export function goldFileSchema(aggregate: AggregateConfig, event: EventConfig): StructType {
  const fields = [
    field('window_start', 'timestamp'),
    field('window_end', 'timestamp'),
    ...aggregate.groupBy.map((name) => field(name, eventFieldType(aggregate, event, name))),
    ...aggregate.measures.map((measure) =>
      field(measure.name, measureType(aggregate, event, measure)),
    ),
    field('_source', 'string'),
    field('_is_final', 'boolean'),
    field('_revision', 'integer'),
    field('_silver_version', 'long'),
  ];
  const seen = new Set([GOLD_PARTITION_COLUMN]);
  for (const { name } of fields) {
    const key = name.toLowerCase(); // Delta's column names are unique ignoring case
    if (seen.has(key)) throw configError(aggregate, `two columns are called "${name}"`);
    seen.add(key);
  }
  return struct(fields);
}

/** The file schema, then the partition column `_event_date`. */
export function goldTableSchema(aggregate: AggregateConfig, event: EventConfig): StructType {
  const { fields } = goldFileSchema(aggregate, event);
  return struct([...fields, field(GOLD_PARTITION_COLUMN, 'date')]);
}
