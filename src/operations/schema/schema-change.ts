/**
 * Looks at the tables' schemas and evolves them: one metadata commit per table, columns only added.
 *
 * Invariant SA1: silver comes last, and with it the version that says the change is applied; a crash
 * before leaves gold tables with columns that nobody fills yet, and applying again goes on.
 */
import {
  aggregateProperties,
  appliedVersion,
  declaredAggregate,
  declaredEvents,
  schemaProperties,
} from '../../engine/declared-schema.ts';
import { PipelineError } from '../../errors.ts';
import { goldTableSchema } from '../../pipeline/gold/gold-schema.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { tableRoots } from '../../pipeline/progress.ts';
import { EVENT_DATE, RESCUED, silverTableSchema } from '../../pipeline/silver/tables.ts';
import { type StructType, struct } from '../../pipeline/types.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';
import type { LakeCatalog } from '../../storage/query/lake-catalog.ts';
import { commitFailed } from '../housekeeping/lake-tables.ts';
import { statsOf } from '../silver-edit/bronze-range.ts';
import { diffSchema, type SchemaDiff } from './schema-diff.ts';

/** The tables that a schema is about. */
export interface SchemaTables {
  readonly silver: DeltaTable;
  /** By aggregate name; those that exist. */
  readonly gold: ReadonlyMap<string, DeltaTable>;
}

/**
 * Opens the tables at their newest versions.
 * @returns undefined when the pipeline has none yet
 */
export async function openSchemaTables(
  catalog: LakeCatalog,
  config: PipelineConfig,
): Promise<SchemaTables | undefined> {
  const roots = tableRoots(config);
  const silver = await catalog.table(roots.silver);
  if (!silver) return undefined;
  const gold = new Map<string, DeltaTable>();
  for (const [name, root] of roots.gold) {
    const table = await catalog.table(root);
    if (table) gold.set(name, table);
  }
  return { silver, gold };
}

/** What the file would change. */
export function schemaDiff(tables: SchemaTables, config: PipelineConfig): SchemaDiff {
  return diffSchema(tables.silver, tables.gold, config);
}

/**
 * Applies a file's schema.
 * @returns the tables that changed, with their new versions
 * @throws PipelineError invalid TM_SCHEMA_MISMATCH when the change is not compatible
 */
export async function applySchema(
  tables: SchemaTables,
  config: PipelineConfig,
  signal: AbortSignal,
): Promise<readonly { readonly table: string; readonly version: number }[]> {
  const diff = schemaDiff(tables, config);
  // An older file goes on working; applying it would take the newer one back.
  if (diff.fileVersion < (diff.appliedVersion ?? 0) && diff.compatible) return [];
  if (!diff.compatible) {
    throw new PipelineError(
      'invalid',
      'TM_SCHEMA_MISMATCH',
      'this schema would lose data, so it is not applied; `tidemark schema check FILE` says why',
    );
  }
  const changed: { table: string; version: number }[] = [];
  for (const aggregate of config.gold) {
    const table = tables.gold.get(aggregate.name);
    if (!table) continue;
    const wanted = {
      schema: goldTableSchema(aggregate, config.event),
      configuration: aggregateProperties(
        aggregate,
        declaredAggregate(table.snapshot.configuration),
      ),
    };
    const version = await evolve(table, wanted, signal);
    if (version !== undefined) changed.push({ table: table.root, version });
  }
  // SA1
  const newest = appliedVersion(tables.silver.snapshot.configuration) ?? 0;
  const isKnown = declaredEvents(tables.silver.snapshot.configuration).some(
    ({ schemaVersion }) => schemaVersion === config.event.schemaVersion,
  );
  if (!isKnown || newest < config.event.schemaVersion) {
    const wanted = {
      schema: silverTableSchema(config.event),
      configuration: schemaProperties(config.event),
    };
    const version = await evolve(tables.silver, wanted, signal);
    if (version !== undefined) changed.push({ table: tables.silver.root, version });
  }
  return changed;
}

async function evolve(
  table: DeltaTable,
  wanted: {
    readonly schema: StructType;
    readonly configuration: Readonly<Record<string, string>>;
  },
  signal: AbortSignal,
): Promise<number | undefined> {
  const { schema, configuration } = await table.refresh();
  const names = new Set(schema.fields.map(({ name }) => name));
  const added = wanted.schema.fields.filter(({ name }) => !names.has(name));
  const isDeclared = Object.entries(wanted.configuration).every(
    ([name, text]) => configuration[name] === text,
  );
  if (added.length === 0 && isDeclared) return undefined;
  const columns = added.map((column) => ({ ...column, nullable: true }));
  const outcome = await table.commit({
    operation: added.length > 0 ? 'ADD COLUMNS' : 'SET TBLPROPERTIES',
    operationParameters: { columns: JSON.stringify(added.map(({ name }) => name)) },
    adds: [],
    progress: [],
    metadata: {
      ...(added.length > 0 ? { schema: struct([...schema.fields, ...columns]) } : {}),
      configuration: wanted.configuration,
    },
    lineage: { stage: 'schema' },
    signal,
  });
  if (outcome.kind === 'committed') return outcome.version;
  throw commitFailed(table, outcome);
}

/** Files with undeclared or misfitting values, the newest first. */
export function filesWithRescued(silver: DeltaTable, max: number): readonly LiveFile[] {
  return silver.snapshot
    .files()
    .filter((file) => {
      const nulls = (statsOf(file) as { nullCount?: Record<string, unknown> }).nullCount?.[RESCUED];
      return typeof nulls !== 'number' || nulls < (numRecordsOf(file.stats) ?? Infinity);
    })
    .toSorted((a, b) => b.modifiedMs - a.modifiedMs)
    .slice(0, max);
}

/**
 * From when on records have rows that may read differently: with undeclared values when fields were
 * added only, else the table's first record.
 * @returns UTC date of a Kafka timestamp; undefined when there are no such rows
 */
export function rebuildFrom(silver: DeltaTable, diff: SchemaDiff): string | undefined {
  if (!diff.needsRebuild) return undefined;
  const kinds = diff.silver.changes.map(({ kind }) => kind);
  const goldAlone = diff.gold.some(({ changes }) => changes.length > 0);
  const addedOnly = !goldAlone && !kinds.includes('time');
  const files = addedOnly
    ? filesWithRescued(silver, Number.POSITIVE_INFINITY)
    : silver.snapshot.files();
  const dates = files.flatMap((file) => {
    const first = statsOf(file).minValues?.['_kafka_timestamp'];
    return typeof first === 'string'
      ? first.slice(0, 10)
      : (file.partitionValues[EVENT_DATE] ?? []);
  });
  return dates.toSorted()[0];
}
