/**
 * LakeQuery on DuckDB: an instance in memory whose views stand for Delta tables.
 *
 * Invariants:
 * Q1 a query can read the files of the lake and nothing else, and change nothing: exactly one SELECT
 *    (or EXPLAIN of one), external access off but for the lake's folder, configuration locked;
 * Q2 nothing is downloaded or loaded at run time: only the extensions that are linked in;
 * Q3 memory and threads are bounded; what does not fit goes to a temporary folder;
 * Q4 results do not depend on the machine's time zone: the session's is UTC.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  type DuckDBConnection,
  DuckDBInstance,
  type DuckDBPreparedStatement,
  StatementType,
} from '@duckdb/node-api';
import type { Ambient, Clock } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { ObjectStore } from '../object-store/object-store.ts';
import { isNumericType, toJsonValue } from './json-values.ts';
import type {
  JsonValue,
  LakeQuery,
  QueriedTable,
  QueriedTables,
  QueryResult,
} from './lake-query.ts';
import { type CacheBounds, ObjectDiskCache } from './object-disk-cache.ts';
import { literalPath, sqlName, sqlText, tableViewSql } from './table-view-sql.ts';

export interface DuckDbOptions {
  readonly store: ObjectStore;
  readonly ambient: Ambient;
  /** Copies of remote objects; not used when the store has local files. */
  readonly cacheFolder: string;
  readonly cacheBounds?: CacheBounds;
  readonly memoryBytesMax?: number;
  readonly threads?: number;
}

const GIB = 2 ** 30;
const CACHE_BOUNDS: CacheBounds = { bytes: 4 * GIB, files: 16_384 };
const COMMENTS = String.raw`(?:\s|--[^\n]*\n|/\*[\s\S]*?\*/)*`;
const QUERY = 'select|with|from|values|table|pivot|unpivot';
/** EXPLAIN ANALYZE runs what it explains, so that must be a query too. */
const QUERY_START = new RegExp(
  `^${COMMENTS}(?:\\(|(?:${QUERY}|describe|show|summarize|explain\\s+(?:analyze\\s+)?(?:${QUERY}))\\b)`,
  'i',
);
const ONLY_QUERIES =
  'Only queries are allowed: SELECT, WITH, FROM, DESCRIBE, SUMMARIZE or EXPLAIN.';
const LAYERS = ['bronze', 'silver', 'gold', 'archive'];

const INTERRUPT_EVERY_MS = 50;

export class DuckDbLakeQuery implements LakeQuery {
  readonly #store: ObjectStore;
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #cache: ObjectDiskCache;
  readonly #spillFolder: string;
  readonly #clock: Clock;

  private constructor(
    store: ObjectStore,
    instance: DuckDBInstance,
    connection: DuckDBConnection,
    cache: ObjectDiskCache,
    spillFolder: string,
    clock: Clock,
  ) {
    this.#store = store;
    this.#instance = instance;
    this.#connection = connection;
    this.#cache = cache;
    this.#spillFolder = spillFolder;
    this.#clock = clock;
  }

  static async open(options: DuckDbOptions): Promise<DuckDbLakeQuery> {
    const { store, ambient, cacheFolder, cacheBounds = CACHE_BOUNDS } = options;
    const { memoryBytesMax = GIB, threads = 2 } = options;
    const cache = new ObjectDiskCache({
      store,
      ambient,
      folder: cacheFolder,
      bounds: cacheBounds,
    });
    const spillFolder = await mkdtemp(join(tmpdir(), 'tidemark-sql-'));
    const instance = await DuckDBInstance.create(':memory:', {
      threads: String(threads),
      memory_limit: `${memoryBytesMax} B`,
      temp_directory: spillFolder,
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
      enable_object_cache: 'true',
      preserve_insertion_order: 'false',
    });
    const connection = await instance.connect();
    const local = store.localPath('bronze');
    const folder = `${local === undefined ? cacheFolder : dirname(local)}/`;
    // DuckDB checks the pattern first, then the file that it stands for.
    const readable = [folder, literalPath(folder)].map(sqlText);
    for (const statement of [
      `SET TimeZone = 'UTC'`,
      ...LAYERS.map((layer) => `CREATE SCHEMA ${layer}`),
      `SET allowed_directories = [${readable.join(', ')}]`,
      'SET enable_external_access = false',
      'SET lock_configuration = true',
    ]) {
      await connection.run(statement);
    }
    return new DuckDbLakeQuery(store, instance, connection, cache, spillFolder, ambient.clock);
  }

  tablesOf(sql: string): readonly string[] {
    try {
      return this.#connection
        .getTableNames(sql, true)
        .map((name) => name.replace(/"((?:[^"]|"")*)"/g, (_, inner: string) => inner))
        .filter((name) => LAYERS.some((layer) => name.startsWith(`${layer}.`)));
    } catch (thrown) {
      throw queryError(thrown);
    }
  }

  async run(
    sql: string,
    tables: QueriedTables,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<QueryResult> {
    const release = await this.#mount(tables);
    const { signal } = options;
    let isOver = false;
    // DuckDB forgets an interruption that comes before the query has started.
    const interrupt = (): void => {
      if (isOver) return;
      this.#connection.interrupt();
      this.#clock.after(INTERRUPT_EVERY_MS, interrupt, { unref: true });
    };
    signal?.addEventListener('abort', interrupt);
    if (signal?.aborted) interrupt();
    const end = async (): Promise<void> => {
      signal?.removeEventListener('abort', interrupt);
      isOver = true;
      await release();
    };
    try {
      const statement = await this.#prepare(sql);
      const result = await statement.stream();
      const columns = result.deduplicatedColumnNames().map((name, index) => ({
        name,
        numeric: isNumericType(result.columnTypeId(index)),
      }));
      const rows = result.yieldConvertedRows(toJsonValue) as AsyncIterable<JsonValue[][]>;
      return { columns, chunks: thenEnd(rows, end) };
    } catch (thrown) {
      await end();
      throw queryError(thrown);
    }
  }

  async close(): Promise<void> {
    this.#connection.closeSync();
    this.#instance.closeSync();
    await rm(this.#spillFolder, { recursive: true, force: true });
  }

  /** Makes the views; the returned function lets cached files go. */
  async #mount(tables: QueriedTables): Promise<() => Promise<void>> {
    const remote = [...tables.values()].flatMap((table) =>
      table.files
        .map(({ path, sizeBytes }) => ({ key: `${table.root}/${path}`, sizeBytes }))
        .filter(({ key }) => this.#store.localPath(key) === undefined),
    );
    const release = remote.length > 0 ? await this.#cache.hold(remote) : async () => {};
    try {
      for (const [name, table] of tables) {
        const select = tableViewSql(table, (path) => this.#localPath(table, path));
        const dot = name.indexOf('.');
        const view = `${sqlName(name.slice(0, dot))}.${sqlName(name.slice(dot + 1))}`;
        await this.#connection.run(`CREATE OR REPLACE VIEW ${view} AS ${select}`);
      }
      return release;
    } catch (thrown) {
      await release();
      throw queryError(thrown);
    }
  }

  #localPath(table: QueriedTable, path: string): string {
    const key = `${table.root}/${path}`;
    return this.#store.localPath(key) ?? this.#cache.pathOf(key);
  }

  /** Q1 */
  async #prepare(sql: string): Promise<DuckDBPreparedStatement> {
    const statements = await this.#connection.extractStatements(sql);
    if (statements.count !== 1) {
      throw refused(`Give exactly one query; this is ${statements.count}.`);
    }
    // By its first word first: preparing anything else fails with a message about something else.
    if (!QUERY_START.test(sql)) throw refused(ONLY_QUERIES);
    const statement = await statements.prepare(0);
    const { statementType } = statement;
    if (statementType !== StatementType.SELECT && statementType !== StatementType.EXPLAIN) {
      throw refused(ONLY_QUERIES);
    }
    return statement;
  }
}

async function* thenEnd<T>(items: AsyncIterable<T>, end: () => Promise<void>): AsyncIterable<T> {
  try {
    yield* items;
  } catch (thrown) {
    throw queryError(thrown);
  } finally {
    await end();
  }
}

function refused(message: string): PipelineError {
  return new PipelineError('invalid', 'TM_USAGE', message);
}

/** DuckDB's error as ours: the query's fault unless a file is gone or broken. */
function queryError(thrown: unknown): PipelineError {
  if (thrown instanceof PipelineError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (/^IO Error|No files found that match/.test(message)) {
    const gone = /No files found|No such file|Cannot open file/i.test(message);
    const code = gone ? 'TM_OBJECT_MISSING' : 'TM_PARQUET_CORRUPT';
    return new PipelineError('corrupt', code, message, { cause: thrown });
  }
  if (/^Invalid (?:Input )?Error.*parquet|^Invalid Error: .*(?:page|thrift)/is.test(message)) {
    return new PipelineError('corrupt', 'TM_PARQUET_CORRUPT', message, { cause: thrown });
  }
  if (/^INTERRUPT/i.test(message)) {
    return new PipelineError('invalid', 'TM_STOPPED', 'The query was interrupted.', {
      cause: thrown,
    });
  }
  return new PipelineError('invalid', 'TM_USAGE', message, { cause: thrown });
}
