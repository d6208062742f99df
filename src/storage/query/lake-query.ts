/**
 * Port: read-only SQL over Delta tables at chosen versions. Adapter: duckdb-lake-query.ts.
 */
import type { StructType } from '../../pipeline/types.ts';

/** A table at one version, as a query sees it. A Delta snapshot with its root is one. */
export interface QueriedTable {
  /** Key prefix of the table in the store, without a trailing slash. */
  readonly root: string;
  readonly schema: StructType;
  readonly partitionColumns: readonly string[];
  /** Exactly the rows of these files are seen. `path` is relative to the root, not encoded. */
  readonly files: readonly {
    readonly path: string;
    readonly partitionValues: Readonly<Record<string, string | null>>;
    readonly sizeBytes: number;
  }[];
}

/** Tables by the name a query uses: `bronze.x`, `silver.x`, `gold.x`. */
export type QueriedTables = ReadonlyMap<string, QueriedTable>;

/**
 * A value as JSON keeps it: 64-bit integers and decimals are strings, timestamps RFC 3339 in UTC,
 * binary is base64, maps are arrays of {key, value}.
 */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [name: string]: JsonValue };

export interface QueryResult {
  /** In order; `numeric` ones stand to the right in tables. */
  readonly columns: readonly { readonly name: string; readonly numeric: boolean }[];
  /** Rows as they are computed, in chunks; values in the order of `columns`. Iterate once, fully. */
  readonly chunks: AsyncIterable<readonly (readonly JsonValue[])[]>;
}

export interface LakeQuery {
  /**
   * The tables that a query names, as `layer.table`.
   * @throws PipelineError invalid `TM_USAGE` when it cannot be parsed
   */
  tablesOf(sql: string): readonly string[];

  /**
   * Runs one SELECT.
   * @param tables every name of `tablesOf(sql)`
   * @param options.signal interrupts the query
   * @throws PipelineError invalid `TM_USAGE` (not one SELECT, unknown column, ...) | corrupt | unavailable
   */
  run(
    sql: string,
    tables: QueriedTables,
    options?: { readonly signal?: AbortSignal },
  ): Promise<QueryResult>;

  close(): Promise<void>;
}

/** All rows of a query as objects; for queries whose result is known to be small. */
export async function queryRows(
  query: LakeQuery,
  sql: string,
  tables: QueriedTables,
  options?: { readonly signal?: AbortSignal },
): Promise<Record<string, JsonValue>[]> {
  const { columns, chunks } = await query.run(sql, tables, options);
  const rows: Record<string, JsonValue>[] = [];
  for await (const chunk of chunks) for (const row of chunk) rows.push(rowObject(columns, row));
  return rows;
}

/** A row as an object, its keys in the order of the columns. */
export function rowObject(
  columns: QueryResult['columns'],
  row: readonly JsonValue[],
): Record<string, JsonValue> {
  return Object.fromEntries(columns.map(({ name }, index) => [name, row[index] ?? null]));
}
