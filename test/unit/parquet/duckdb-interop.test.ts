/** DuckDB's own Parquet reader and writer as the judge of ours. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import { columnsFromRows, rowsFromColumns } from '../../../src/pipeline/column-builder.ts';
import { type DataType, field, primitive, struct } from '../../../src/pipeline/types.ts';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';
import { anyBatch } from './column-arbitraries.ts';

const codec = createParquetCodec();
let folder: string;
let duckdb: DuckDBConnection;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-parquet-'));
  duckdb = await (await DuckDBInstance.create(':memory:')).connect();
  await duckdb.run("SET TimeZone = 'UTC'");
});
after(() => {
  duckdb.closeSync();
  rmSync(folder, { recursive: true });
});

test('rows of every type survive being read and written again by DuckDB', async () => {
  const ours = join(folder, 'ours.parquet');
  const theirs = join(folder, 'theirs.parquet');
  await fc.assert(
    fc.asyncProperty(
      anyBatch,
      fc.constantFrom('zstd', 'snappy', 'none'),
      async (batch, codecName) => {
        writeFileSync(ours, codec.encode(batch, { compression: codecName }));
        await duckdb.run(
          `COPY (SELECT * FROM read_parquet('${ours}')) TO '${theirs}' (FORMAT parquet)`,
        );
        const decoded = codec.decode(readFileSync(theirs), batch.schema);
        assert.deepEqual(rowsFromColumns(decoded), rowsFromColumns(batch));
      },
    ),
    { numRuns: 60 },
  );
});

test('DuckDB sees the types that the table declares, and the values', async () => {
  const decimal = (precision: number, scale: number): DataType => ({
    kind: 'decimal',
    precision,
    scale,
  });
  const schema = struct([
    field('s', 'string', false),
    field('bin', 'binary'),
    field('b', 'boolean'),
    field('l', 'long'),
    field('i', 'integer'),
    field('sh', 'short'),
    field('by', 'byte'),
    field('f', 'float'),
    field('d', 'double'),
    field('day', 'date'),
    field('ts', 'timestamp'),
    field('d9', decimal(9, 2)),
    field('d38', decimal(38, 10)),
    field('tags', { kind: 'array', element: primitive('string'), containsNull: true }),
    field('m', {
      kind: 'map',
      key: primitive('string'),
      value: primitive('long'),
      valueContainsNull: true,
    }),
    field('st', struct([field('x', 'integer')])),
  ]);
  const batch = columnsFromRows(schema, [
    {
      s: 'héllo',
      bin: new Uint8Array([1, 255]),
      b: true,
      l: 9007199254740993n,
      i: -5,
      sh: -7,
      by: -128,
      f: 1.5,
      d: -0.25,
      day: -1,
      ts: 1_795_395_723_456_789n,
      d9: -5n,
      d38: -12_345_678_901_234_567_890_123_456_789n,
      tags: ['a', null],
      m: new Map([['k', 1n]]),
      st: { x: 3 },
    },
  ]);
  const path = join(folder, 'types.parquet');
  writeFileSync(path, codec.encode(batch, { compression: 'snappy' }));
  const described = await duckdb.runAndReadAll(
    `SELECT column_name || ' ' || column_type FROM (DESCRIBE FROM read_parquet('${path}'))`,
  );
  assert.deepEqual(described.getRowsJson().flat(), [
    's VARCHAR',
    'bin BLOB',
    'b BOOLEAN',
    'l BIGINT',
    'i INTEGER',
    'sh SMALLINT',
    'by TINYINT',
    'f FLOAT',
    'd DOUBLE',
    'day DATE',
    'ts TIMESTAMP WITH TIME ZONE',
    'd9 DECIMAL(9,2)',
    'd38 DECIMAL(38,10)',
    'tags VARCHAR[]',
    'm MAP(VARCHAR, BIGINT)',
    'st STRUCT(x INTEGER)',
  ]);
  const read = await duckdb.runAndReadAll(
    `SELECT COLUMNS(*)::VARCHAR FROM read_parquet('${path}')`,
  );
  assert.deepEqual(read.getRowsJson(), [
    [
      'héllo',
      '\\x01\\xFF',
      'true',
      '9007199254740993',
      '-5',
      '-7',
      '-128',
      '1.5',
      '-0.25',
      '1969-12-31',
      '2026-11-23 01:02:03.456789+00',
      '-0.05',
      '-1234567890123456789.0123456789',
      '[a, NULL]',
      '{k=1}',
      "{'x': 3}",
    ],
  ]);
});

test('pages are version 1, times are INT64, plain columns have no dictionary', async () => {
  const schema = struct([
    field('raw', 'string'),
    field('city', 'string'),
    field('ts', 'timestamp'),
  ]);
  const rows = Array.from({ length: 100 }, (_, i) => ({ raw: `r${i}`, city: 'x', ts: BigInt(i) }));
  const path = join(folder, 'layout.parquet');
  const options = { compression: 'zstd', plainColumns: ['raw'] } as const;
  writeFileSync(path, codec.encode(columnsFromRows(schema, rows), options));
  const chunks = await duckdb.runAndReadAll(
    `SELECT path_in_schema AS name, type, encodings, compression FROM parquet_metadata('${path}')`,
  );
  assert.deepEqual(chunks.getRowObjectsJson(), [
    { name: 'raw', type: 'BYTE_ARRAY', encodings: 'PLAIN, RLE', compression: 'ZSTD' },
    {
      name: 'city',
      type: 'BYTE_ARRAY',
      encodings: 'PLAIN, RLE, RLE_DICTIONARY',
      compression: 'ZSTD',
    },
    { name: 'ts', type: 'INT64', encodings: 'PLAIN, RLE', compression: 'ZSTD' },
  ]);
  const file = await duckdb.runAndReadAll(
    `SELECT created_by LIKE 'tidemark version %', format_version::INTEGER
     FROM parquet_file_metadata('${path}')`,
  );
  assert.deepEqual(file.getRowsJson(), [[true, 1]]);
});
