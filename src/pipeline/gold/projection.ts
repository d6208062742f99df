/**
 * What gold reads of silver. Pure.
 */
import type { AggregateConfig, EventConfig } from '../pipeline-config.ts';
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
