/** SQL over Delta tables (invariants Q1 to Q4, V1, V2). */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import { columnsFromRows } from '../../../src/pipeline/column-builder.ts';
import { type DataType, field, primitive, struct } from '../../../src/pipeline/types.ts';
import { openFsObjectStore } from '../../../src/storage/object-store/fs-object-store.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import type { ObjectStore } from '../../../src/storage/object-store/object-store.ts';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';
import { DuckDbLakeQuery } from '../../../src/storage/query/duckdb-lake-query.ts';
import { type QueriedTable, queryRows } from '../../../src/storage/query/lake-query.ts';

const codec = createParquetCodec();
const OLD = struct([field('id', 'string'), field('n', 'long')]);
const DECIMAL: DataType = { kind: 'decimal', precision: 38, scale: 6 };
const SCHEMA = struct([
  ...OLD.fields,
  field('price', DECIMAL),
  field('at', 'timestamp'),
  field('raw', 'binary'),
  field('tags', { kind: 'array', element: primitive('string'), containsNull: true }),
  field('client', struct([field('name', 'string'), field('size', 'long')])),
  field('day', 'date'),
]);
const FILE_SCHEMA = struct(SCHEMA.fields.slice(0, -1));

type Row = Parameters<typeof columnsFromRows>[1][number];

/** A folder of its own, a query over a store, and a table of the given files in it. */
async function world(
  t: TestContext,
  kind: 'local' | 'remote',
): Promise<{
  readonly folder: string;
  readonly store: ObjectStore;
  readonly query: DuckDbLakeQuery;
  readonly put: (
    path: string,
    day: string | null,
    rows: readonly Row[],
    schema?: typeof OLD,
  ) => Promise<void>;
  readonly table: () => QueriedTable;
}> {
  const folder = await mkdtemp(join(tmpdir(), "tidemark-it's [a] "));
  const store =
    kind === 'local'
      ? await openFsObjectStore({
          path: join(folder, 'lake'),
          ambient: systemAmbient,
          logger: silentLogger,
        })
      : new MemoryObjectStore({ clock: systemAmbient.clock });
  const query = await DuckDbLakeQuery.open({
    store,
    ambient: systemAmbient,
    cacheFolder: join(folder, 'cache'),
  });
  t.after(async () => {
    await query.close();
    await store.close();
    await rm(folder, { recursive: true });
  });
  const files: { path: string; partitionValues: { day: string | null }; sizeBytes: number }[] = [];
  return {
    folder,
    store,
    query,
    async put(path, day, rows, schema = FILE_SCHEMA) {
      const bytes = codec.encode(columnsFromRows(schema, rows), { compression: 'zstd' });
      await store.put(`silver/t/${path}`, bytes);
      files.push({ path, partitionValues: { day }, sizeBytes: bytes.byteLength });
    },
    table: () => ({
      root: 'silver/t',
      schema: SCHEMA,
      partitionColumns: ['day'],
      files: [...files],
    }),
  };
}

const ROW: Row = {
  id: 'a',
  n: 9_223_372_036_854_775_807n,
  price: 123_456_789_012_345_678_901_234_567_890n,
  at: 1_764_000_000_123_456n,
  raw: Uint8Array.of(0, 255),
  tags: ['x', null],
  client: { name: 'cli', size: 2n ** 60n },
};

for (const kind of ['local', 'remote'] as const) {
  test(`values of a ${kind} table keep their exact type and value (Q4)`, async (t) => {
    const { query, put, table } = await world(t, kind);
    await put('day=1/f1.parquet', '2026-11-24', [ROW]);
    const rows = await queryRows(query, 'SELECT * FROM silver.t', new Map([['silver.t', table()]]));
    assert.deepEqual(rows, [
      {
        id: 'a',
        n: '9223372036854775807',
        price: '123456789012345678901234.567890',
        at: '2025-11-24T16:00:00.123456Z',
        raw: 'AP8=',
        tags: ['x', null],
        client: { name: 'cli', size: '1152921504606846976' },
        day: '2026-11-24',
      },
    ]);
  });
}

test('files that lack a column give null, and a null partition value is null (V1, V2)', async (t) => {
  const { query, put, table } = await world(t, 'local');
  await put('day=2020-01-01/old.parquet', null, [{ id: 'old', n: 1n }], OLD);
  await put('day=2020-01-01/new.parquet', '2026-11-24', [ROW]);
  const rows = await queryRows(
    query,
    'SELECT id, price IS NULL AS bare, client.name AS client, day FROM silver.t ORDER BY id DESC',
    new Map([['silver.t', table()]]),
  );
  assert.deepEqual(rows, [
    { id: 'old', bare: true, client: null, day: null },
    { id: 'a', bare: false, client: 'cli', day: '2026-11-24' },
  ]);
});

test('only old files: a column that no file has is typed and null (V2)', async (t) => {
  const { query, put, table } = await world(t, 'local');
  await put('old.parquet', '2026-11-24', [{ id: 'old', n: 1n }], OLD);
  const tables = new Map([['silver.t', table()]]);
  const rows = await queryRows(
    query,
    'SELECT sum(price) s, typeof(price) t FROM silver.t GROUP BY 2',
    tables,
  );
  assert.deepEqual(rows, [{ s: null, t: 'DECIMAL(38,6)' }]);
});

test('a table without files has its columns and no rows', async (t) => {
  const { query, table } = await world(t, 'local');
  const tables = new Map([['silver.t', table()]]);
  assert.deepEqual(await queryRows(query, 'SELECT count(*) c, max("at") m FROM silver.t', tables), [
    { c: '0', m: null },
  ]);
});

test('a file in the folder that the version does not have is not read (V1)', async (t) => {
  const { query, put, table } = await world(t, 'local');
  await put('f1.parquet', '2026-11-24', [ROW]);
  const before = table();
  await put('f2.parquet', '2026-11-24', [ROW]);
  const count = async (at: QueriedTable) =>
    (await queryRows(query, 'SELECT count(*) c FROM silver.t', new Map([['silver.t', at]])))[0]![
      'c'
    ];
  assert.equal(await count(before), '1');
  assert.equal(await count(table()), '2');
  assert.equal(await count(before), '1');
});

test('a query names its tables, also quoted and in subqueries', async (t) => {
  const { query } = await world(t, 'local');
  const names = query.tablesOf(
    'WITH x AS (FROM gold.g) SELECT * FROM x, silver."a-b" WHERE EXISTS (SELECT 1 FROM bronze.b)',
  );
  assert.deepEqual([...names].sort(), ['bronze.b', 'gold.g', 'silver.a-b']);
});

const REFUSED = [
  'CREATE TABLE x AS SELECT 1',
  'SELECT 1; SELECT 2',
  '',
  'SET threads = 1',
  'INSTALL httpfs',
  'LOAD httpfs',
  "ATTACH 'x.db'",
  "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
  "SELECT * FROM '/etc/passwd'",
  "SELECT * FROM read_text('/etc/passwd')",
  "SELECT * FROM read_csv('https://example.com/x.csv')",
  'SELEC 1',
  'SELECT nothing FROM silver.t',
];
for (const sql of REFUSED) {
  test(`refused as bad usage: ${sql || 'an empty text'} (Q1)`, async (t) => {
    const { query, table } = await world(t, 'local');
    await assert.rejects(
      queryRows(query, sql, new Map([['silver.t', table()]])),
      (thrown) => thrown instanceof PipelineError && thrown.kind === 'invalid',
    );
  });
}

test('nothing outside the lake can be written or read, even beside it (Q1)', async (t) => {
  const { query, folder } = await world(t, 'local');
  const secret = join(folder, 'secret.csv');
  await writeFile(secret, 'a\n1\n');
  for (const path of [secret, join(folder, 'lake', '..', 'secret.csv')]) {
    await assert.rejects(
      queryRows(query, `SELECT * FROM read_csv('${path.replaceAll("'", "''")}')`, new Map()),
      /Permission|permission|disabled/,
    );
  }
});

test('a data file that is gone or cut short is corruption, not bad usage', async (t) => {
  for (const kind of ['local', 'remote'] as const) {
    const { query, store, put, table } = await world(t, kind);
    await put('f1.parquet', '2026-11-24', [ROW]);
    await put('f2.parquet', '2026-11-24', [ROW]);
    const tables = new Map([['silver.t', table()]]);
    const read = () => queryRows(query, 'SELECT max(n) FROM silver.t', tables);
    const bytes = (await store.get('silver/t/f2.parquet'))!;
    await store.put('silver/t/f2.parquet', bytes.subarray(0, bytes.length - 30));
    await assert.rejects(read(), { kind: 'corrupt' }, kind);
    await store.delete('silver/t/f2.parquet');
    await assert.rejects(read(), { kind: 'corrupt', code: 'TM_OBJECT_MISSING' }, kind);
  }
});

for (const [when, signalOf] of [
  ['while it runs', () => AbortSignal.timeout(50)],
  ['before it starts', () => AbortSignal.abort()],
] as const) {
  test(`a query that is aborted ${when} ends`, async (t) => {
    const { query } = await world(t, 'local');
    const running = queryRows(
      query,
      'SELECT max(sin(range)) FROM range(1_000_000_000_000)',
      new Map(),
      { signal: signalOf() },
    );
    await assert.rejects(running, { code: 'TM_STOPPED' });
  });
}
