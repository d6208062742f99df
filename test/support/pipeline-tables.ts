/**
 * Delta tables read without Tidemark's code: the log replayed from its JSON commits as PROTOCOL.md
 * "Action Reconciliation" says, rows by DuckDB's own Parquet reader. What it finds proves the tables,
 * not that writer and reader share a mistake.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';

interface Add {
  readonly path: string;
  readonly partitionValues: Readonly<Record<string, string | null>>;
  readonly size: number;
  readonly dataChange: boolean;
  readonly stats?: string;
}

interface Action {
  readonly commitInfo?: { readonly txnId?: string };
  readonly metaData?: { readonly schemaString: string; readonly partitionColumns: string[] };
  readonly add?: Add;
  readonly remove?: { readonly path: string; readonly dataChange: boolean };
  readonly txn?: { readonly appId: string; readonly version: number };
}

/** A row as DuckDB's JSON has it: 64-bit numbers and decimals are strings. */
export type JsonRow = Readonly<Record<string, unknown>>;

/** A table's log, replayed up to a version. */
export interface ReplayedLog {
  readonly version: number;
  /** Column names in order, partition columns included. */
  readonly columns: readonly string[];
  readonly files: readonly Add[];
  readonly transactions: ReadonlyMap<string, number>;
  /** Commits that changed rows. */
  readonly dataChanges: number;
}

/**
 * Replays the log of a table in a local folder, and checks on the way that versions are contiguous
 * (I10), nonces are unique, no live file is added again, and only live files are removed.
 */
export function replayLog(table: string, upTo = Number.POSITIVE_INFINITY): ReplayedLog {
  const log = join(table, '_delta_log');
  const names = readdirSync(log).filter((name) => /^\d{20}\.json$/.test(name));
  const files = new Map<string, Add>();
  const transactions = new Map<string, number>();
  const nonces = new Set<string>();
  let columns: string[] = [];
  let dataChanges = 0;
  let version = -1;
  for (const name of names.toSorted()) {
    if (Number(name.slice(0, 20)) > upTo) break;
    version += 1;
    assert.equal(Number(name.slice(0, 20)), version, `${table}: versions have a gap`);
    const text = readFileSync(join(log, name), 'utf8');
    assert.ok(text.endsWith('}') || text.endsWith('}\n'), `${table}: ${name} is cut off`);
    let changes = false;
    for (const line of text.trimEnd().split('\n')) {
      const { add, remove, txn, metaData, commitInfo } = JSON.parse(line) as Action;
      if (commitInfo?.txnId !== undefined) {
        assert.ok(!nonces.has(commitInfo.txnId), `${table}: ${name} repeats a nonce`);
        nonces.add(commitInfo.txnId);
      }
      if (metaData) {
        const schema = JSON.parse(metaData.schemaString) as { fields: { name: string }[] };
        columns = schema.fields.map((field) => field.name);
      }
      if (txn) transactions.set(txn.appId, txn.version);
      if (remove) {
        assert.ok(files.delete(remove.path), `${table}: ${name} removes what is not live`);
        changes ||= remove.dataChange;
      }
      if (add) {
        assert.ok(!files.has(add.path), `${table}: ${name} adds ${add.path} again`);
        files.set(add.path, add);
        changes ||= add.dataChange;
      }
    }
    if (changes) dataChanges += 1;
  }
  return { version, columns, files: [...files.values()], transactions, dataChanges };
}

/** SQL over tables of local folders. */
export class TableReader {
  readonly #connection: DuckDBConnection;

  private constructor(connection: DuckDBConnection) {
    this.#connection = connection;
  }

  static async open(t: TestContext): Promise<TableReader> {
    const instance = await DuckDBInstance.create(':memory:', {
      threads: '2',
      memory_limit: '4GB',
    });
    const connection = await instance.connect();
    t.after(() => {
      connection.closeSync();
      instance.closeSync();
    });
    return new TableReader(connection);
  }

  /** Runs a statement. */
  async run(sql: string): Promise<void> {
    await this.#connection.run(sql);
  }

  /** Rows of a query. */
  async rows(sql: string): Promise<readonly JsonRow[]> {
    const reader = await this.#connection.runAndReadAll(sql);
    return reader.getRowObjectsJson() as readonly JsonRow[];
  }

  /** The single row of a query. */
  async row(sql: string): Promise<JsonRow> {
    const rows = await this.rows(sql);
    assert.equal(rows.length, 1, sql);
    return rows[0]!;
  }

  /**
   * Makes `view` stand for a table. Every live file must be there with the size that the log says.
   * @param upTo version; the newest by default
   */
  async attach(view: string, table: string, upTo?: number): Promise<ReplayedLog> {
    const log = replayLog(table, upTo);
    const byPartition = Map.groupBy(log.files, (add) => JSON.stringify(add.partitionValues));
    const selects = [...byPartition.values()].map((adds) => {
      const paths = adds.map((add) => {
        const path = join(table, decodeURIComponent(add.path));
        assert.equal(existsSync(path) ? statSync(path).size : 'gone', add.size, path);
        return sqlText(path);
      });
      const values = Object.entries(adds[0]!.partitionValues).map(
        ([name, value]) => `, ${value === null ? 'NULL' : sqlText(value)}::DATE AS "${name}"`,
      );
      return `SELECT *${values.join('')} FROM read_parquet([${paths.join(', ')}])`;
    });
    const columns = log.columns.map((name) => `"${name}"`).join(', ');
    const rows =
      selects.length > 0
        ? `SELECT ${columns} FROM (${selects.join(' UNION ALL BY NAME ')})`
        : `SELECT ${log.columns.map((name) => `NULL AS "${name}"`).join(', ')} LIMIT 0`;
    await this.run(`CREATE OR REPLACE VIEW "${view}" AS ${rows}`);
    return log;
  }

  /** Asserts that two queries give the same rows, any order, each as often (bag equality). */
  async assertSame(actual: string, expected: string, what: string): Promise<void> {
    const some = (from: string, except: string): Promise<readonly JsonRow[]> =>
      this.rows(`SELECT * FROM (${from}) EXCEPT ALL SELECT * FROM (${except}) LIMIT 3`);
    const surplus = await some(actual, expected);
    const missing = await some(expected, actual);
    assert.deepEqual({ surplus, missing }, { surplus: [], missing: [] }, what);
  }
}

/** A SQL text literal. */
export function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
