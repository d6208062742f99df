/**
 * Version 0 of a table, and whether a table that is there will do instead.
 * Source: PROTOCOL.md "Change Metadata", "Protocol Evolution".
 */
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { StructType } from '../../pipeline/types.ts';
import type { LogEntry } from './actions.ts';
import { ENGINE_INFO } from './commit-plan.ts';
import type { Committer } from './committer.ts';
import { ambiguousColumn, schemaMisfit, schemaToJson } from './schema-json.ts';
import type { Snapshot } from './snapshot.ts';
import { OUR_PROTOCOL, requireSupportedMetadata } from './table-support.ts';

/** A table to create. */
export interface NewTable {
  /** Key prefix in the store, without a final slash: `bronze/api_usage_events`. */
  readonly root: string;
  readonly schema: StructType;
  readonly partitionColumns: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
  readonly description?: string;
}

/**
 * Writes version 0 unless somebody else just did.
 * @throws PipelineError invalid when the table makes no sense, unavailable when the store fails
 */
export async function createTable(
  committer: Committer,
  ambient: Ambient,
  table: NewTable,
): Promise<void> {
  const outcome = await committer.createVersion(firstEntry(ambient, table));
  if (outcome.kind !== 'undecided') return;
  throw new PipelineError(
    'unavailable',
    'TM_COMMIT_UNKNOWN',
    `creating ${table.root} is undecided`,
  );
}

/** @throws PipelineError invalid TM_SCHEMA_MISMATCH when rows of `wanted` cannot go into the table */
export function requireFit(existing: Snapshot, wanted: NewTable): void {
  const here = existing.partitionColumns.join(', ');
  const there = wanted.partitionColumns.join(', ');
  const misfit =
    here === there
      ? schemaMisfit(existing.schema, wanted.schema)
      : `it is partitioned by ${here || 'nothing'}, not by ${there || 'nothing'}`;
  if (misfit === undefined) return;
  throw new PipelineError(
    'invalid',
    'TM_SCHEMA_MISMATCH',
    `the table ${wanted.root} exists and does not fit: ${misfit}; ` +
      'see `tidemark schema check FILE`, and apply what is new with `tidemark schema apply FILE`',
    { context: { table: wanted.root } },
  );
}

function firstEntry(ambient: Ambient, table: NewTable): LogEntry {
  const { schema, partitionColumns } = table;
  const ambiguous = ambiguousColumn(schema);
  if (ambiguous !== undefined) throw unusable(table, `two columns are called ${ambiguous}`);
  const names = new Set(schema.fields.map((column) => column.name));
  const unknown = partitionColumns.find((column) => !names.has(column));
  if (unknown !== undefined) throw unusable(table, `partition column ${unknown} is not a column`);
  const nowMs = Math.trunc(ambient.clock.nowMs());
  const metadata = {
    id: ambient.ids.uuid(),
    description: table.description,
    format: { provider: 'parquet', options: {} },
    schemaString: schemaToJson(schema),
    partitionColumns,
    configuration: table.configuration,
    createdTimeMs: nowMs,
  };
  requireSupportedMetadata(metadata, schema);
  return {
    version: 0,
    commitInfo: {
      timestampMs: nowMs,
      operation: 'CREATE TABLE',
      operationParameters: { partitionBy: JSON.stringify(partitionColumns) },
      isolationLevel: 'Serializable',
      isBlindAppend: true,
      operationMetrics: {},
      engineInfo: ENGINE_INFO,
      txnId: ambient.ids.id(),
    },
    protocol: OUR_PROTOCOL,
    metadata,
    txns: [],
    adds: [],
    removes: [],
  };
}

function unusable(table: NewTable, problem: string): PipelineError {
  return new PipelineError('invalid', 'TM_SCHEMA_MISMATCH', `table ${table.root}: ${problem}`);
}
