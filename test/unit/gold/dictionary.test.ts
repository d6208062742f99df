import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Vector } from '../../../src/pipeline/columns.ts';
import { viewOf } from '../../../src/pipeline/gold/buffers.ts';
import { createDictionary, type Dictionary } from '../../../src/pipeline/gold/dictionary.ts';
import { hashBytes } from '../../../src/pipeline/gold/hash.ts';
import { VALUES } from './event-arbitraries.ts';
import { typeOf, type Value, valueAt, vectorOf } from './event-batches.ts';
import { compareValues } from './gold-reference.ts';

function encode(dictionary: Dictionary, vector: Vector): Int32Array {
  const rows = Int32Array.from({ length: vector.length }, (_, row) => row);
  const codes = new Int32Array(vector.length);
  dictionary.encode(vector, rows, codes, 1, 0, new Int32Array(4 * vector.length));
  return codes;
}

test('G4: distinct texts whose hashes collide have distinct codes', () => {
  const numbers = Array.from({ length: 120_000 }, (_, i) => (i * 7919).toString(36));
  const texts = [
    ...numbers.map((number) => `${number}@customers.example`),
    ...numbers.map((number) => `/customers/${number}`),
  ];
  const vector = vectorOf(typeOf('string'), texts);
  const bytes = viewOf(vector.data!);
  const hashes = texts.map((_, i) =>
    hashBytes(bytes, vector.offsets![i]!, vector.offsets![i + 1]!),
  );
  assert.ok(new Set(hashes).size < texts.length, 'some hashes collide');
  const dictionary = createDictionary(typeOf('string'));
  assert.equal(new Set(encode(dictionary, vector)).size, texts.length);
  assert.equal(dictionary.size, texts.length);
});

for (const [name, values] of Object.entries(VALUES)) {
  test(`G5: codes of ${name} give the values back, and ranks are their order`, () => {
    const column = fc.array(fc.oneof(values, fc.constant(null)), { maxLength: 150, size: 'max' });
    fc.assert(
      fc.property(column, (drawn) => {
        const dictionary = createDictionary(typeOf(name));
        const codes = encode(dictionary, vectorOf(typeOf(name), drawn));
        const back = dictionary.vector(codes);
        const normal = drawn.map((value) => (typeof value === 'number' ? value + 0 : value));
        assert.deepStrictEqual(
          normal.map((_, row) => valueAt(back, row)),
          normal,
        );
        const ranks = dictionary.ranks();
        const byRank = [...normal.keys()].toSorted((a, b) => ranks[codes[a]!]! - ranks[codes[b]!]!);
        assert.deepStrictEqual(
          byRank.map((i) => normal[i]),
          normal.toSorted(compareValues),
        );
      }),
      { numRuns: 60 },
    );
  });
}

test('texts with long shared prefixes and trailing NULs are ranked by bytes', () => {
  const texts: Value[] = [];
  for (let i = 0; i < 400; i++) {
    texts.push(`${'/v1/customers/'.repeat(20)}${i}`, 'a'.repeat(i), `x${'\0'.repeat(i)}`);
  }
  const distinct = [...new Set(texts)];
  const dictionary = createDictionary(typeOf('string'));
  const codes = encode(dictionary, vectorOf(typeOf('string'), distinct));
  const ranks = dictionary.ranks();
  const ranked: Value[] = [];
  distinct.forEach((text, i) => {
    ranked[ranks[codes[i]!]! - 1] = text;
  });
  assert.deepEqual(ranked, distinct.toSorted(compareValues));
});

test('G3: every NaN is one value, whatever its bits', () => {
  const words = new BigInt64Array([0x7ff8000000000000n, 0x7ff8000000000001n, -1n]);
  const vector = {
    type: typeOf('double'),
    length: 3,
    nullCount: 0,
    values: new Float64Array(words.buffer),
  };
  assert.deepEqual([...encode(createDictionary(typeOf('double')), vector)], [1, 1, 1]);
  const floats = new Int32Array([0x7fc00000, 0x7fc00001, -1]);
  const narrow = {
    type: typeOf('float'),
    length: 3,
    nullCount: 0,
    values: new Float32Array(floats.buffer),
  };
  assert.deepEqual([...encode(createDictionary(typeOf('float')), narrow)], [1, 1, 1]);
});
