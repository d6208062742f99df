/**
 * What gold reads of silver. Pure.
 */
import type { AggregateConfig, EventConfig } from '../pipeline-config.ts';
import { silverFileSchema } from '../silver/tables.ts';
import { type StructType, struct } from '../types.ts';
import { goldFileSchema } from './gold-schema.ts';

/**
 * The silver columns that a set of aggregates needs, event time first, then in declared order.
 * @throws PipelineError invalid when an aggregate does not fit the event
 */
export function silverProjection(
  aggregates: readonly AggregateConfig[],
  event: EventConfig,
): readonly string[] {
  const needed = new Set<string>();
  for (const aggregate of aggregates) {
    goldFileSchema(aggregate, event);
    for (const name of aggregate.groupBy) needed.add(name);
    for (const { field: name } of aggregate.measures) if (name !== undefined) needed.add(name);
  }
  needed.delete(event.time.field);
  const declared = event.schema.fields.map(({ name }) => name);
  return [event.time.field, ...declared.filter((name) => needed.has(name))];
}

/** The same as a schema to read silver's files with, in the files' order. */
export function silverProjectionSchema(
  aggregates: readonly AggregateConfig[],
  event: EventConfig,
): StructType {
  const names = new Set(silverProjection(aggregates, event));
  return struct(silverFileSchema(event).fields.filter(({ name }) => names.has(name)));
}
