/** H1 to H3, D1: hashes against published values, and the index against a Map. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type CellValue, columnsFromRows } from '../../../src/pipeline/column-builder.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import {
  bytesOfWords,
  FINGERPRINT_WORDS,
  fingerprintsOf,
  wordsOfBytes,
} from '../../../src/pipeline/silver/fingerprints.ts';
import { murmur128, viewOf } from '../../../src/pipeline/silver/murmur.ts';
import { hashRows } from '../../../src/pipeline/silver/payload-hash.ts';
import { type DataType, field, primitive, struct } from '../../../src/pipeline/types.ts';
import { eventOf } from './bronze-batches.ts';

test('murmur128 has the verification value of SMHasher', () => {
  const hashes = new Uint32Array(4 * 256);
  const key = new Uint8Array(256);
  for (let length = 0; length < 256; length++) {
    key[length] = length;
    murmur128(256 - length, viewOf(key), 0, length, hashes, 4 * length);
  }
  const final = new Uint32Array(4);
  murmur128(0, viewOf(bytesOfWords(hashes)), 0, 4 * 4 * 256, final, 0);
  assert.equal(final[0], 0xb3ece62a);
});

function payloadOf(fields: readonly [string, DataType, CellValue][]): string {
  const schema = struct(fields.map(([name, type]) => field(name, type)));
  const row = Object.fromEntries(fields.map(([name, , cell]) => [name, cell]));
  return hashRows(
    columnsFromRows(schema, [row]),
    fields.map(([name]) => name),
  ).join();
}

test('H2: order of fields, and fields that are null, do not change the payload', () => {
  const a: [string, DataType, CellValue] = ['a', primitive('string'), 'x'];
  const b: [string, DataType, CellValue] = ['b', primitive('long'), 5n];
  const c: [string, DataType, CellValue] = ['c', primitive('double'), null];
  assert.equal(payloadOf([a, b]), payloadOf([b, c, a]));
  assert.equal(payloadOf([b]), payloadOf([['b', primitive('integer'), 5]]));
});

test('H2: any other difference changes it', () => {
  const text = primitive('string');
  const list: DataType = { kind: 'array', element: text, containsNull: true };
  const map: DataType = { kind: 'map', key: text, value: text, valueContainsNull: true };
  const pair = struct([field('k', text), field('v', text)]);
  const hashes = [
    payloadOf([['a', text, '']]),
    payloadOf([['a', text, null]]),
    payloadOf([['a', text, 'x']]),
    payloadOf([['b', text, 'x']]),
    payloadOf([['a', text, 'x\0']]),
    payloadOf([['a', text, 'x\0\0\0']]),
    payloadOf([['a', list, []]]),
    payloadOf([['a', list, ['x']]]),
    payloadOf([['a', list, [null]]]),
    payloadOf([['a', list, ['x', null]]]),
    payloadOf([['a', list, [null, 'x']]]),
    payloadOf([['a', list, ['x', 'y']]]),
    payloadOf([['a', list, ['xy']]]),
    payloadOf([['a', map, { x: 'y' }]]),
    payloadOf([['a', map, { y: 'x' }]]),
    payloadOf([['a', map, { x: null }]]),
    payloadOf([['a', pair, { k: 'x', v: 'y' }]]),
    payloadOf([['a', pair, { k: 'y', v: 'x' }]]),
    payloadOf([['a', pair, {}]]),
    payloadOf([['a', primitive('boolean'), false]]),
    payloadOf([['a', primitive('boolean'), true]]),
    payloadOf([['a', primitive('double'), 0]]),
    payloadOf([['a', primitive('double'), -0]]),
    payloadOf([['a', primitive('double'), 1]]),
  ];
  assert.equal(new Set(hashes).size, hashes.length);
});

test('H2: every byte of a text counts, at any length', () => {
  const seen = new Set<string>();
  let texts = 0;
  for (let length = 0; length <= 33; length++) {
    for (let at = -1; at < length; at++) {
      const text = Array.from({ length }, (_, i) => (i === at ? 'b' : 'a')).join('');
      seen.add(payloadOf([['a', primitive('string'), text]]));
      texts++;
    }
  }
  assert.equal(seen.size, texts);
});

test('H3: entries of a map count in any order, elements of an array in theirs', () => {
  const text = primitive('string');
  const map: DataType = { kind: 'map', key: text, value: text, valueContainsNull: true };
  const list: DataType = { kind: 'array', element: text, containsNull: true };
  assert.equal(
    payloadOf([['a', map, { x: '1', y: '2' }]]),
    payloadOf([['a', map, { y: '2', x: '1' }]]),
  );
  assert.notEqual(
    payloadOf([['a', map, { x: '1', y: '2' }]]),
    payloadOf([['a', map, { x: '2', y: '1' }]]),
  );
  assert.notEqual(payloadOf([['a', list, ['x', 'y']]]), payloadOf([['a', list, ['y', 'x']]]));
});

test('H1: the id hash of a type and of the wider one agree; text and number do not', () => {
  const wordsFor = (type: DataType, id: CellValue): string => {
    const schema = struct([field('id', type), field('at', 'timestamp')]);
    const batch = columnsFromRows(schema, [{ id, at: 0n }]);
    return wordsOfBytes(fingerprintsOf(batch, eventOf(schema)))
      .slice(0, 4)
      .join();
  };
  assert.equal(wordsFor(primitive('byte'), -7), wordsFor(primitive('long'), -7n));
  assert.equal(wordsFor(primitive('float'), 1.5), wordsFor(primitive('double'), 1.5));
  assert.notEqual(wordsFor(primitive('long'), 7n), wordsFor(primitive('string'), '7'));
});

test('D1: the index answers like a map, through growth, rebuild and any cut of calls', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(40), fc.nat(2)), { minLength: 1, maxLength: 200 }),
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 0, max: 200 }),
      async (rows, cut, rebuiltRows) => {
        // Ids of one shard that differ in one word only, the first word being 0 at times.
        const words = new Uint32Array(rows.length * FINGERPRINT_WORDS);
        rows.forEach(([id, payload], row) => {
          const idWords = [(id & 1) * 2, (id >> 1) & 3, (id >> 3) & 1, (id >> 4) << 8];
          words.set([...idWords, payload & 1, payload >> 1], row * FINGERPRINT_WORDS);
        });
        const index = new MemoryDedupIndex();
        const kept = new Map<number, number>();
        const expected = rows.map(([id, payload]) => {
          const first = kept.get(id);
          if (first === undefined) kept.set(id, payload);
          return first === undefined ? 0 : first === payload ? 1 : 2;
        });
        const rebuilt = Math.min(rebuiltRows, rows.length);
        index.insertFingerprints(bytesOfWords(words.slice(0, rebuilt * FINGERPRINT_WORDS)));
        const actual: number[] = [];
        for (let from = rebuilt; from < rows.length; from += cut) {
          const to = Math.min(rows.length, from + cut);
          const verdicts = new Uint8Array(to - from);
          const slice = words.slice(from * FINGERPRINT_WORDS, to * FINGERPRINT_WORDS);
          await index.lookupOrInsert(slice, to - from, verdicts);
          actual.push(...verdicts);
        }
        assert.deepEqual(actual, expected.slice(rebuilt));
        assert.equal(index.size, kept.size);
      },
    ),
    { numRuns: 300 },
  );
});
