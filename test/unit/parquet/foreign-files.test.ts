/** Files that Spark, delta-rs and pyarrow wrote (fixtures/make-fixtures.py), decoded by us. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { PipelineError } from '../../../src/errors.ts';
import { rowsFromColumns } from '../../../src/pipeline/column-builder.ts';
import { type DataType, field, primitive, struct } from '../../../src/pipeline/types.ts';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';

const codec = createParquetCodec();

const decimal = (precision: number, scale: number): DataType => ({
  kind: 'decimal',
  precision,
  scale,
});
const listOf = (element: DataType): DataType => ({ kind: 'array', element, containsNull: true });

const schema = struct([
  field('s', 'string'),
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
  field('d18', decimal(18, 6)),
  field('d38', decimal(38, 10)),
  field('tags', listOf(primitive('string'))),
  field('counts', {
    kind: 'map',
    key: primitive('string'),
    value: primitive('long'),
    valueContainsNull: true,
  }),
  field(
    'client',
    struct([field('name', 'string'), field('tags', listOf(struct([field('z', 'string')])))]),
  ),
]);

const rows = [
  {
    s: 'héllo',
    bin: new Uint8Array([0, 255]),
    b: true,
    l: 9007199254740993n,
    i: -5,
    sh: 7,
    by: -128,
    f: 1.5,
    d: -0.25,
    day: -1,
    ts: 1_795_395_723_456_789n,
    d9: -5n,
    d18: 1_234_567_890_123_456n,
    d38: -12_345_678_901_234_567_890_123_456_789n,
    tags: ['a', null, 'c'],
    counts: new Map<string, bigint | null>([
      ['k', 1n],
      ['q', null],
    ]),
    client: { name: 'cli', tags: [{ z: 'q' }, { z: null }] },
  },
  Object.fromEntries(schema.fields.map(({ name }) => [name, null])),
  {
    s: '',
    bin: new Uint8Array(0),
    b: false,
    l: -1n,
    i: 0,
    sh: 0,
    by: 0,
    f: 0,
    d: 0,
    day: 20_780,
    ts: -315_619_200_000_000n,
    d9: 0n,
    d18: 0n,
    d38: 0n,
    tags: [],
    counts: new Map(),
    client: { name: null, tags: null },
  },
];

const fixture = (name: string): Uint8Array =>
  readFileSync(new URL(`./fixtures/${name}.parquet`, import.meta.url));

for (const name of [
  'spark',
  'spark-legacy',
  'delta-rs',
  'arrow-large',
  'arrow-view',
  'arrow-dictionary',
]) {
  test(`a file of ${name} decodes to the rows that were written (J2)`, () => {
    assert.deepEqual(rowsFromColumns(codec.decode(fixture(name), schema)), rows);
  });
}

for (const name of ['spark-int96', 'arrow-nanos']) {
  test(`timestamps of ${name} are refused, for they are no microseconds`, () => {
    assert.throws(
      () => codec.decode(fixture(name), struct([field('ts', 'timestamp')])),
      (error) => error instanceof PipelineError && error.code === 'TM_SCHEMA_MISMATCH',
    );
  });
}
