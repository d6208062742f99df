/**
 * What an aggregate asks of its slots, resolved once: which event fields are read, which
 * accumulators each needs, and which of them every measure shows. Measures share: an average and a
 * sum of one field are one accumulator, and every count comes with the groups. Pure.
 */
import type { AggregateConfig, EventConfig, MeasureFn } from '../pipeline-config.ts';
import type { DataType, StructType } from '../types.ts';
import { eventFieldType, goldFileSchema } from './gold-schema.ts';
import { TumblingWindows } from './windows.ts';

/** State that a measure needs beyond the count of values. */
export type AccumulatorKind = 'sum' | 'min' | 'max' | 'distinct';

/** A column of silver. */
export interface PlannedColumn {
  readonly name: string;
  readonly type: DataType;
}

/** A field that measures read. */
export interface PlannedField extends PlannedColumn {
  readonly accumulators: readonly AccumulatorKind[];
}

/** A measure, and where its state is. */
export interface PlannedMeasure {
  readonly name: string;
  readonly fn: MeasureFn;
  /** Type of its column. */
  readonly type: DataType;
  /** Index of its field in the plan; -1 for the count of rows. */
  readonly field: number;
}

/** An aggregate, resolved against the event's schema. */
export interface AggregatePlan {
  readonly name: string;
  readonly windows: TumblingWindows;
  readonly timeField: string;
  readonly groups: readonly PlannedColumn[];
  readonly fields: readonly PlannedField[];
  readonly measures: readonly PlannedMeasure[];
  readonly fileSchema: StructType;
}

const ACCUMULATOR_OF: Readonly<Record<MeasureFn, AccumulatorKind | undefined>> = {
  count: undefined,
  sum: 'sum',
  avg: 'sum',
  min: 'min',
  max: 'max',
  countDistinct: 'distinct',
};

/**
 * @throws PipelineError invalid when the aggregate does not fit the event
 */
export function planAggregate(aggregate: AggregateConfig, event: EventConfig): AggregatePlan {
  const fileSchema = goldFileSchema(aggregate, event);
  const column = (name: string): PlannedColumn => ({
    name,
    type: eventFieldType(aggregate, event, name),
  });
  const fields: (PlannedColumn & { readonly accumulators: AccumulatorKind[] })[] = [];
  const measures = aggregate.measures.map((measure, index): PlannedMeasure => {
    const { type } = fileSchema.fields[2 + aggregate.groupBy.length + index]!;
    const { name, fn } = measure;
    if (measure.field === undefined) return { name, fn, type, field: -1 };
    let field = fields.findIndex((known) => known.name === measure.field);
    if (field < 0) field = fields.push({ ...column(measure.field), accumulators: [] }) - 1;
    const { accumulators } = fields[field]!;
    const kind = ACCUMULATOR_OF[fn];
    if (kind !== undefined && !accumulators.includes(kind)) accumulators.push(kind);
    return { name, fn, type, field };
  });
  return {
    name: aggregate.name,
    windows: new TumblingWindows(aggregate.windowMs),
    timeField: event.time.field,
    groups: aggregate.groupBy.map(column),
    fields,
    measures,
    fileSchema,
  };
}
