/** Field type texts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatFieldType, parseFieldType } from '../../src/config/field-type.ts';
import { parseDurationMs, parseSizeBytes } from '../../src/config/quantity.ts';
import type { DataType, PrimitiveName } from '../../src/pipeline/types.ts';

const primitives: readonly PrimitiveName[] = [
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
];

const anyType = fc.letrec<{ type: DataType }>((tie) => ({
  type: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom(...primitives).map((name): DataType => ({ kind: 'primitive', name })),
    fc.tuple(fc.integer({ min: 1, max: 38 }), fc.nat(38)).map(
      ([precision, s]): DataType => ({
        kind: 'decimal',
        precision,
        scale: Math.min(s, precision),
      }),
    ),
    tie('type').map((element): DataType => ({ kind: 'array', element, containsNull: true })),
    tie('type').map(
      (value): DataType => ({
        kind: 'map',
        key: { kind: 'primitive', name: 'string' },
        value,
        valueContainsNull: true,
      }),
    ),
    fc
      .uniqueArray(fc.stringMatching(/^[a-z][a-z0-9_]{0,5}$/), { minLength: 1, maxLength: 3 })
      .chain((names) =>
        fc.tuple(...names.map(() => tie('type'))).map(
          (types): DataType => ({
            kind: 'struct',
            fields: names.map((name, i) => ({ name, type: types[i]!, nullable: true })),
          }),
        ),
      ),
  ),
})).type;

test('every type survives being written and read, with any spacing', () => {
  fc.assert(
    fc.property(anyType, fc.boolean(), (type, spaced) => {
      const text = formatFieldType(type);
      const read = parseFieldType(spaced ? text.replace(/[<>(),:]/g, ' $& ') : text);
      assert.deepEqual(read, { ok: true, type });
    }),
  );
});

test('int is integer, names ignore case, and backquotes hold odd member names', () => {
  assert.deepEqual(parseFieldType('INT'), {
    ok: true,
    type: { kind: 'primitive', name: 'integer' },
  });
  const read = parseFieldType('struct<`a.b:c`:int>');
  assert.ok(read.ok && read.type.kind === 'struct');
  assert.equal(read.type.fields[0]!.name, 'a.b:c');
});

const BROKEN: Readonly<Record<string, RegExp>> = {
  '': /lacks a type/,
  decimal: /lacks "\("/,
  'decimal(0,0)': /precision of 1 to 38/,
  'decimal(5,6)': /scale from 0/,
  'decimal(a,b)': /precision/,
  'array<string': /lacks ">" at its end/,
  'array<>': /lacks a type/,
  'map<long,string>': /map key/,
  'struct<a:string,A:long>': /two members/,
  'struct<a>': /lacks ":"/,
  'struct<a b:string>': /lacks ":"/,
  'struct<`a b`:string>': /characters/,
  'string string': /left over/,
  [`${'array<'.repeat(40)}string${'>'.repeat(40)}`]: /deeper/,
};

for (const [text, reason] of Object.entries(BROKEN)) {
  test(`the type text "${text.slice(0, 30)}" is refused with its reason`, () => {
    const read = parseFieldType(text);
    assert.ok(!read.ok);
    assert.match(read.reason, reason);
  });
}

test('durations and sizes have units, and nothing else is a quantity', () => {
  assert.equal(parseDurationMs('250ms'), 250);
  assert.equal(parseDurationMs('1.5h'), 5_400_000);
  assert.equal(parseDurationMs('7y'), 7 * 365 * 86_400_000);
  assert.equal(parseSizeBytes('64MiB'), 64 * 2 ** 20);
  assert.equal(parseSizeBytes('16KB'), 16_000);
  for (const text of ['', '5', '-5s', '5 s', '5S', '1e3s', '99999999999999y', 's']) {
    assert.equal(parseDurationMs(text), undefined, text);
  }
  for (const text of ['', '5', '5 B', '5kib', '-1B', '99999999999TiB']) {
    assert.equal(parseSizeBytes(text), undefined, text);
  }
});
