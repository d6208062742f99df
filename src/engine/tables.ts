/** Opens the Delta tables of a pipeline, creating those that are not there yet. */
import { bronzeTableSchema } from '../pipeline/bronze.ts';
import { goldTableSchema } from '../pipeline/gold/gold-schema.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { tableRoots } from '../pipeline/progress.ts';
import { deadLetterTableSchema, silverTableSchema } from '../pipeline/silver/tables.ts';
import { type DeltaEnvironment, DeltaTable } from '../storage/delta/delta-table.ts';
import {
  aggregateProperties,
  requireDeclaredAggregate,
  requireDeclaredEvent,
  schemaProperties,
} from './declared-schema.ts';

/**
 * A commit a second leaves as many log entries and, once compacted or replaced, as many tombstones:
 * with these spans a checkpoint stays small enough to open a table at once.
 */
const RETENTION_PROPERTIES = {
  'delta.logRetentionDuration': 'interval 7 days',
  'delta.deletedFileRetentionDuration': 'interval 1 days',
};

export interface PipelineTables {
  readonly bronze: DeltaTable;
  readonly deadLetter: DeltaTable;
  readonly silver: DeltaTable;
  /** By aggregate name. */
  readonly gold: ReadonlyMap<string, DeltaTable>;
}

/**
 * Opens every table of the pipeline.
 * @throws PipelineError invalid when a table exists with a schema or partitioning that does not fit,
 *   or with another declared schema
 */
export async function openTables(
  env: DeltaEnvironment,
  config: PipelineConfig,
): Promise<PipelineTables> {
  const roots = tableRoots(config);
  const created = { 'tidemark.pipeline': config.name, ...RETENTION_PROPERTIES };
  const [bronze, deadLetter, silver, ...gold] = await Promise.all([
    DeltaTable.create(env, {
      root: roots.bronze,
      schema: bronzeTableSchema(),
      partitionColumns: ['_event_date'],
      configuration: { ...created, 'delta.appendOnly': 'true' },
      description: `Every record of ${config.source.topic} as it came`,
    }),
    DeltaTable.create(env, {
      root: roots.deadLetter,
      schema: deadLetterTableSchema(),
      partitionColumns: ['_dlq_date'],
      configuration: created,
      description: `Records of ${config.source.topic} that are no valid events, and why`,
    }),
    DeltaTable.create(env, {
      root: roots.silver,
      schema: silverTableSchema(config.event),
      partitionColumns: ['_event_date'],
      configuration: {
        ...created,
        ...schemaProperties(config.event),
        'tidemark.dedupBuckets': String(config.dedupBuckets),
      },
      description: `Every valid event of ${config.source.topic} exactly once`,
    }),
    ...config.gold.map((aggregate) =>
      DeltaTable.create(env, {
        root: roots.gold.get(aggregate.name)!,
        schema: goldTableSchema(aggregate, config.event),
        partitionColumns: ['_event_date'],
        configuration: { ...created, ...aggregateProperties(aggregate) },
        description: `${aggregate.name}: windows of ${aggregate.windowMs} ms`,
      }),
    ),
  ]);
  requireDeclaredEvent(silver.snapshot, silver.root, config.event);
  config.gold.forEach((aggregate, i) => {
    requireDeclaredAggregate(gold[i]!.snapshot, gold[i]!.root, aggregate);
  });
  return {
    bronze,
    deadLetter,
    silver,
    gold: new Map(config.gold.map(({ name }, index) => [name, gold[index]!])),
  };
}
