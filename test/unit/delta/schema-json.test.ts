import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type DataType, field, type StructType, struct } from '../../../src/pipeline/types.ts';
import {
  ambiguousColumn,
  schemaFromJson,
  schemaMisfit,
  schemaToJson,
} from '../../../src/storage/delta/schema-json.ts';

const array = (element: DataType, containsNull = true): DataType => ({
  kind: 'array',
  element,
  containsNull,
});
const long: DataType = { kind: 'primitive', name: 'long' };
const text: DataType = { kind: 'primitive', name: 'string' };

const EVERYTHING: StructType = struct([
  ...(
    [
      'string',
      'long',
      'integer',
      'short',
      'byte',
      'float',
      'double',
      'boolean',
      'binary',
      'date',
      'timestamp',
    ] as const
  ).map((name) => field(name, name, name !== 'long')),
  field('decimal', { kind: 'decimal', precision: 38, scale: 18 }),
  field('array', array(array(long, false))),
  field('struct', struct([field('inner', struct([field('leaf', 'date', false)]))])),
  field('map', {
    kind: 'map',
    key: text,
    value: struct([field('v', array(text))]),
    valueContainsNull: false,
  }),
  { ...field('noted', 'string'), metadata: { comment: 'ünï', big: 9007199254740993n, n: null } },
]);

const column = (type: unknown): string =>
  JSON.stringify({
    type: 'struct',
    fields: [{ name: 'c', type, nullable: true, metadata: {} }],
  });

describe('schemaString', () => {
  it('round-trips every type and the metadata of columns (H1)', () => {
    assert.deepEqual(schemaFromJson(schemaToJson(EVERYTHING)), EVERYTHING);
  });

  it('has the form of the protocol', () => {
    const schema = struct([
      field('a', 'long', false),
      field('b', array({ kind: 'decimal', precision: 10, scale: 2 }, false)),
    ]);
    assert.equal(
      schemaToJson(schema),
      '{"type":"struct","fields":[{"name":"a","type":"long","nullable":false,"metadata":{}},' +
        '{"name":"b","type":{"type":"array","elementType":"decimal(10,2)","containsNull":false},' +
        '"nullable":true,"metadata":{}}]}',
    );
  });

  const unsupported: readonly unknown[] = [
    'timestamp_ntz',
    'variant',
    'void',
    'decimal(39,0)',
    'decimal(5,6)',
    { type: 'udt' },
    { type: 'array', elementType: 'interval day' },
  ];
  for (const type of unsupported) {
    it(`refuses ${JSON.stringify(type)} by name (H2)`, () => {
      assert.throws(() => schemaFromJson(column(type)), {
        kind: 'invalid',
        code: 'TM_LOG_UNSUPPORTED',
        message: /column c/,
      });
    });
  }

  const nested = `${'{"type":"array","elementType":'.repeat(5_000)}"long"${'}'.repeat(5_000)}`;
  const corrupt: Record<string, string> = {
    'half a text': '{"type":"struct"',
    'a plain type': '"long"',
    'a struct without fields': '{"type":"struct"}',
    'a field without a name': '{"type":"struct","fields":[{"type":"long"}]}',
    'a field without a type': '{"type":"struct","fields":[{"name":"a"}]}',
    'nesting without end': `{"type":"struct","fields":[{"name":"a","type":${nested}}]}`,
  };
  for (const [name, json] of Object.entries(corrupt)) {
    it(`calls ${name} corrupt`, () => {
      assert.throws(() => schemaFromJson(json), { kind: 'corrupt', code: 'TM_LOG_CORRUPT' });
    });
  }
});

describe('schemaMisfit', () => {
  const table = struct([field('a', 'long', false), field('b', 'string'), field('c', array(long))]);
  const cases: Record<string, readonly [StructType, RegExp | undefined]> = {
    'the same schema': [table, undefined],
    'other order and metadata': [
      struct([{ ...field('b', 'string'), metadata: { x: 1 } }, field('a', 'long', false)]),
      undefined,
    ],
    'a column more': [struct([...table.fields, field('d', 'long')]), /no column d/],
    'another type': [struct([field('a', 'integer', false)]), /a is long, not integer/],
    'another element type': [
      struct([field('a', 'long', false), field('c', array(text))]),
      /c is array<long>, not array<string>/,
    ],
    'another case': [struct([field('A', 'long', false)]), /no column A/],
    'nulls where the table has none': [struct([field('a', 'long')]), /a must not be null/],
    'a required column left out': [struct([field('b', 'string')]), /a must not be null/],
  };
  for (const [name, [rows, expected]] of Object.entries(cases)) {
    it(name, () => {
      const misfit = schemaMisfit(table, rows);
      if (expected) assert.match(misfit ?? '', expected);
      else assert.equal(misfit, undefined);
    });
  }

  it('finds names that differ only in case', () => {
    assert.equal(ambiguousColumn(struct([field('Id', 'long'), field('id', 'long')])), 'id');
    assert.equal(ambiguousColumn(EVERYTHING), undefined);
  });
});
