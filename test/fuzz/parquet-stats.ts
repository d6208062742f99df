/**
 * Statistics of data files, checked by reading the file with DuckDB: no value lies outside a bound as
 * another reader parses it, and every count is exact (I12).
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import type { ColumnBatch } from '../../src/pipeline/columns.ts';
import type { DataType, StructType } from '../../src/pipeline/types.ts';
import { computeStats } from '../../src/storage/delta/stats.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { sqlName, sqlText } from '../../src/storage/query/table-view-sql.ts';
import { anyBatch, flatBatch } from '../unit/parquet/column-arbitraries.ts';
import { type FuzzTarget, property } from './fuzz-target.ts';

const codec = createParquetCodec();

interface Leaf {
  /** As SQL reaches it. */
  readonly sql: string;
  readonly path: readonly string[];
  readonly type: DataType;
}

/** The columns that statistics are about: leaves that no list or map holds. */
function* leavesOf(schema: StructType, above: readonly string[] = []): Generator<Leaf> {
  for (const { name, type } of schema.fields) {
    const path = [...above, name];
    if (type.kind === 'struct') yield* leavesOf(type, path);
    else yield { path, type, sql: path.map(sqlName).join('.') };
  }
}

type SourceReviver = (key: string, value: unknown, context: { source?: string }) => unknown;
const parseJson = JSON.parse as (text: string, reviver: SourceReviver) => unknown;

function at(tree: unknown, path: readonly string[]): string | undefined {
  return path.reduce<unknown>(
    (node, name) => (node as Record<string, unknown> | undefined)?.[name],
    tree,
  ) as string | undefined;
}

function castTo(type: DataType): string {
  if (type.kind === 'decimal') return `DECIMAL(${type.precision},${type.scale})`;
  assert.ok(type.kind === 'primitive');
  const names: Partial<Record<string, string>> = {
    string: 'VARCHAR',
    long: 'BIGINT',
    integer: 'INTEGER',
    short: 'SMALLINT',
    byte: 'TINYINT',
    float: 'FLOAT',
    double: 'DOUBLE',
    date: 'DATE',
    timestamp: 'TIMESTAMPTZ',
  };
  return names[type.name] ?? assert.fail(`bounds of ${type.name}`);
}

async function holdsFor(
  connection: DuckDBConnection,
  file: string,
  batch: ColumnBatch,
): Promise<void> {
  // Numbers stay texts, so that nothing is rounded on the way.
  const stats = parseJson(computeStats(batch), (_key, value, { source }) =>
    typeof value === 'number' ? source : value,
  ) as Record<'minValues' | 'maxValues' | 'nullCount' | 'numRecords', unknown>;
  await writeFile(file, codec.encode(batch, { compression: 'none' }));
  const checks: string[] = [];
  const claims: string[] = [];
  const claim = (text: string, sql: string): void => {
    claims.push(text);
    checks.push(sql);
  };
  claim(`numRecords ${String(stats.numRecords)}`, `count(*) = ${String(stats.numRecords)}`);
  for (const { path, sql, type } of leavesOf(batch.schema)) {
    const nulls = at(stats.nullCount, path);
    if (nulls !== undefined) {
      claim(`${sql} has ${nulls} nulls`, `count(*) FILTER (${sql} IS NULL) = ${nulls}`);
    }
    for (const [bounds, order] of [
      [stats.minValues, '<'],
      [stats.maxValues, '>'],
    ] as const) {
      const bound = at(bounds, path);
      if (bound === undefined) continue;
      const value = `CAST(${sqlText(bound)} AS ${castTo(type)})`;
      claim(`nothing ${order} ${bound}`, `count(*) FILTER (${sql} ${order} ${value}) = 0`);
    }
  }
  const reader = await connection.runAndReadAll(
    `SELECT ${checks.join(', ')} FROM read_parquet(${sqlText(file)})`,
  );
  const [verdicts = []] = reader.getRowsJson();
  await rm(file);
  verdicts.forEach((isTrue, i) => assert.equal(isTrue, true, claims[i]));
}

/** DuckDB ends texts of literals at NUL. */
function hasNoNul(batch: ColumnBatch): boolean {
  return !computeStats(batch).includes('\\u0000');
}

export const parquetStats: FuzzTarget = {
  name: 'parquet-stats',
  runs: 400,
  open: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidemark-fuzz-stats-'));
    const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
    const connection = await instance.connect();
    let files = 0;
    await connection.run("SET TimeZone = 'UTC'");
    return {
      // A name for every file: DuckDB remembers those that it has seen.
      property: property(fc.oneof(flatBatch, anyBatch).filter(hasNoNul), (batch) =>
        holdsFor(connection, join(folder, `${files++}.parquet`), batch),
      ),
      close: () => {
        connection.closeSync();
        instance.closeSync();
        rmSync(folder, { recursive: true });
      },
    };
  },
};
