/**
 * Every poison form of faults.md 109 to 122 that a record's value can take, and where it ends up.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RowValue } from '../../../src/pipeline/column-builder.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import type { SilverResult } from '../../../src/pipeline/silver/derivation.ts';
import { SilverDeriver } from '../../../src/pipeline/silver/deriver.ts';
import { type DataType, field, primitive, struct } from '../../../src/pipeline/types.ts';
import {
  bronzeInput,
  deadRowsOf,
  eventOf,
  LATE,
  recordsOf,
  silverRowsOf,
} from './bronze-batches.ts';

const PRICE: DataType = { kind: 'decimal', precision: 18, scale: 6 };
const TAGS: DataType = { kind: 'array', element: primitive('string'), containsNull: true };
const CLIENT = struct([field('name', 'string'), field('version', 'string')]);

const EVENT = eventOf(
  struct([
    field('id', 'string', false),
    field('at', 'timestamp', false),
    field('n', 'long'),
    field('small', 'integer'),
    field('x', 'double'),
    field('price', PRICE),
    field('ok', 'boolean'),
    field('s', 'string'),
    field('day', 'date'),
    field('tags', TAGS),
    field('client', CLIENT),
  ]),
);

async function derive(
  values: readonly (string | Uint8Array | null | number)[],
  event = EVENT,
): Promise<SilverResult> {
  const deriver = new SilverDeriver({ event, late: LATE }, new MemoryDedupIndex());
  return await deriver.derive([bronzeInput(recordsOf(values))]);
}

/** The single silver row of an event with these further members. */
async function silverRow(members: string): Promise<RowValue> {
  const result = await derive([`{"id":"e","at":"2025-11-22T09:59:59Z"${members}}`]);
  assert.equal(result.counts.silverRows, 1, JSON.stringify(deadRowsOf(result)[0]?.['_error']));
  return silverRowsOf(result)[0]!;
}

const GOOD = '{"id":"e","at":"2025-11-22T09:59:59Z"}';
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('P6: what is no event is a dead letter with its reason', () => {
  const cases: [what: string, value: string | Uint8Array | null | number, RegExp, string][] = [
    ['tombstone', null, /tombstone/, 'tombstone'],
    ['value above the size limit', 20_000_000, /20000000 bytes/, 'too_large'],
    ['no bytes', '', /no bytes/, 'empty'],
    ['white space', ' \r\n\t', /white space/, 'empty'],
    ['text', 'not json at all #7', /byte 0/, 'invalid_json'],
    ['object cut off', GOOD.slice(0, 30), /ends too early at byte 30/, 'invalid_json'],
    ['missing last bracket', GOOD.slice(0, -1), /ends too early/, 'invalid_json'],
    ['bare word', '{"id":oops}', /expected a value at byte 6/, 'invalid_json'],
    ['trailing comma', '{"id":"e",}', /member name.* at byte 10/, 'invalid_json'],
    ['comma in an array', '{"tags":[1,]}', /expected a value at byte 11/, 'invalid_json'],
    ['single quotes', "{'id':1}", /member name/, 'invalid_json'],
    ['no colon', '{"id" 1}', /":"/, 'invalid_json'],
    ['no comma', '{"id":1 "n":2}', /","/, 'invalid_json'],
    ['wrong bracket', '{"tags":[1}', /closing bracket at byte 10/, 'invalid_json'],
    ['text after the value', `${GOOD} x`, /goes on/, 'invalid_json'],
    ['two values', `${GOOD}${GOOD}`, /goes on/, 'invalid_json'],
    ['comment', '{/**/}', /member name/, 'invalid_json'],
    ['NaN', '{"x":NaN}', /expected a value/, 'invalid_json'],
    ['Infinity', '{"x":-Infinity}', /digit/, 'invalid_json'],
    ['leading zero', '{"n":012}', /","/, 'invalid_json'],
    ['leading plus', '{"n":+1}', /value/, 'invalid_json'],
    ['bare point', '{"n":1.}', /digit/, 'invalid_json'],
    ['bare exponent', '{"n":1e}', /digit/, 'invalid_json'],
    ['hexadecimal', '{"n":0x1}', /","/, 'invalid_json'],
    ['raw control character', '{"s":"a\nb"}', /control character.* at byte 7/, 'invalid_json'],
    ['raw NUL', '{"s":"\u0000"}', /control character/, 'invalid_json'],
    ['unknown escape', '{"s":"\\x41"}', /escape/, 'invalid_json'],
    ['short unicode escape', '{"s":"\\u12"}', /escape/, 'invalid_json'],
    ['byte order mark', `\ufeff${GOOD}`, /byte order mark/, 'invalid_json'],
    ['UTF-16 of ASCII', Buffer.from(GOOD, 'utf16le'), /byte 1/, 'invalid_json'],
    ['no-break space', `\u00a0${GOOD}`, /byte 0/, 'invalid_json'],
    ['invalid UTF-8', bytes(0x7b, 0xff, 0x7d), /UTF-8 at byte 1/, 'invalid_utf8'],
    ['overlong UTF-8', bytes(0x22, 0xc0, 0xaf, 0x22), /UTF-8 at byte 1/, 'invalid_utf8'],
    ['UTF-8 surrogate', bytes(0x22, 0xed, 0xa0, 0x80, 0x22), /UTF-8 at byte 1/, 'invalid_utf8'],
    ['UTF-8 cut off', bytes(0x22, 0xf0, 0x9f, 0x98), /UTF-8 at byte 1/, 'invalid_utf8'],
    ['UTF-16 with mark', Buffer.from(`\ufeff${GOOD}`, 'utf16le'), /byte 0/, 'invalid_utf8'],
    ['null', 'null', /no object/, 'not_an_object'],
    ['scalar', ' 12 ', /no object/, 'not_an_object'],
    ['string', '"{}"', /no object/, 'not_an_object'],
    ['array of events', `[${GOOD}]`, /no object/, 'not_an_object'],
    ['array cut off', '[1,2', /ends too early/, 'invalid_json'],
    ['65 brackets', nested(65), /64 brackets are open at byte 64/, 'too_deep'],
    ['65 brackets in a field', `{"tags":${nested(64)}}`, /nested too deeply/, 'too_deep'],
    ['a million brackets', '['.repeat(1_000_000), /64 brackets/, 'too_deep'],
    ['a million objects', '{"a":'.repeat(1_000_000), /64 brackets/, 'too_deep'],
    ['no id', '{"at":"2025-11-22T09:59:59Z"}', /id is missing/, 'missing_id'],
    ['null id', '{"id":null,"at":"2025-11-22T09:59:59Z"}', /id is null at byte 6/, 'missing_id'],
    ['empty id', '{"id":"","at":"2025-11-22T09:59:59Z"}', /id is empty/, 'missing_id'],
    ['numeric id', '{"id":7,"at":"2025-11-22T09:59:59Z"}', /id is .*number/, 'missing_id'],
    ['case variant', '{"ID":"e","at":"2025-11-22T09:59:59Z"}', /id is missing/, 'missing_id'],
    ['half a surrogate', '{"id":"\\ud800","at":"2025-11-22T09:59:59Z"}', /half/, 'missing_id'],
    ['no time', '{"id":"e"}', /at is missing/, 'missing_time'],
    ['epoch time', '{"id":"e","at":1763805600}', /at is .*number at byte 15/, 'invalid_time'],
    ['no zone', '{"id":"e","at":"2025-11-22T09:59:59"}', /at is no valid/, 'invalid_time'],
    ['Feb 30', '{"id":"e","at":"2026-02-30T00:00:00Z"}', /at is no valid/, 'invalid_time'],
    ['year 0', '{"id":"e","at":"0000-01-01T00:00:00Z"}', /at is no valid/, 'invalid_time'],
    ['year 275760', '{"id":"e","at":"275760-09-13T00:00:00Z"}', /valid/, 'invalid_time'],
    ['negative year', '{"id":"e","at":"-0001-01-01T00:00:00Z"}', /valid/, 'invalid_time'],
    ['hour 24', '{"id":"e","at":"2026-02-03T24:00:00Z"}', /valid/, 'invalid_time'],
  ];
  for (const [what, value, error, flag] of cases) {
    test(`${what} is ${flag}`, async () => {
      const result = await derive([value]);
      assert.deepEqual(
        { ...result.counts },
        { ...result.counts, bronzeRows: 1, silverRows: 0, deadLetters: 1 },
      );
      const [dead] = deadRowsOf(result);
      assert.deepEqual(dead!['_quality_flags'], [flag]);
      assert.match(dead!['_error'] as string, error);
      assert.deepEqual(result.countsByFlag, { [flag]: 1 });
      assert.deepEqual(Buffer.from(dead!['_kafka_key'] as Uint8Array).toString(), 'key-0');
    });
  }

  test('a dead letter names all that is missing', async () => {
    const event = eventOf(
      struct([
        field('id', 'string', false),
        field('at', 'timestamp', false),
        field('n', 'long', false),
        field('s', 'string', false),
      ]),
    );
    const [dead] = deadRowsOf(await derive(['{"n":"1","s":null,"extra":1}'], event));
    assert.deepEqual(dead!['_quality_flags'], [
      'missing_id',
      'missing_time',
      'missing_required:n',
      'missing_required:s',
    ]);
    assert.equal(
      dead!['_error'],
      'The event cannot be used: id is missing; at is missing; ' +
        'n is no valid long but a string at byte 5; s is null at byte 13.',
    );
  });
});

describe('P6: what does not fit its column is null, flagged and kept raw', () => {
  type Expected = Readonly<Record<string, unknown>>;
  const cases: [what: string, members: string, Expected, string[] | null, string | null][] = [
    ['plain event', '', { n: null, tags: null, client: null }, null, null],
    ['explicit null', ',"n":null', { n: null }, null, null],
    ['int64 limits', ',"n":9223372036854775807', { n: 9223372036854775807n }, null, null],
    ['int64 minimum', ',"n":-9223372036854775808', { n: -9223372036854775808n }, null, null],
    ['2^53 + 1', ',"n":9007199254740993', { n: 9007199254740993n }, null, null],
    [
      '2^63',
      ',"n":9223372036854775808',
      { n: null },
      ['out_of_range:n'],
      '{"n":9223372036854775808}',
    ],
    [
      '-2^63 - 1',
      ',"n":-9223372036854775809',
      { n: null },
      ['out_of_range:n'],
      '{"n":-9223372036854775809}',
    ],
    [
      '20 digits',
      ',"n":12345678901234567890',
      { n: null },
      ['out_of_range:n'],
      '{"n":12345678901234567890}',
    ],
    ['integral forms', ',"n":1.0,"small":1e3', { n: 1n, small: 1000 }, null, null],
    ['fraction in a long', ',"n":1.5', { n: null }, ['type_mismatch:n'], '{"n":1.5}'],
    [
      '2^31 in an integer',
      ',"small":2147483648',
      { small: null },
      ['out_of_range:small'],
      '{"small":2147483648}',
    ],
    ['1e400 in a double', ',"x":1e400', { x: null }, ['out_of_range:x'], '{"x":1e400}'],
    ['-0 in a double', ',"x":-0', { x: -0 }, null, null],
    ['17 digits in a double', ',"x":0.30000000000000004', { x: 0.30000000000000004 }, null, null],
    [
      '30 digits in a double',
      ',"x":0.123456789012345678901234567890',
      { x: 0.12345678901234568 },
      null,
      null,
    ],
    ['exact decimal', ',"price":123456789012.345678', { price: 123456789012345678n }, null, null],
    [
      '30 digit decimal',
      ',"price":0.123456789012345678901234567890',
      { price: null },
      ['out_of_range:price'],
      '{"price":0.123456789012345678901234567890}',
    ],
    ['decimal with spare zeros', ',"price":1.50000000000', { price: 1500000n }, null, null],
    [
      'decimal above precision',
      ',"price":1e12',
      { price: null },
      ['out_of_range:price'],
      '{"price":1e12}',
    ],
    ['number for string', ',"s":12', { s: null }, ['type_mismatch:s'], '{"s":12}'],
    ['string for number', ',"n":"12"', { n: null }, ['type_mismatch:n'], '{"n":"12"}'],
    ['object for scalar', ',"n":{ "a": 1 }', { n: null }, ['type_mismatch:n'], '{"n":{ "a": 1 }}'],
    [
      'scalar for object',
      ',"client":"curl"',
      { client: null },
      ['type_mismatch:client'],
      '{"client":"curl"}',
    ],
    ['mixed array', ',"tags":["a",1]', { tags: null }, ['type_mismatch:tags'], '{"tags":["a",1]}'],
    ['null in an array', ',"tags":["a",null]', { tags: ['a', null] }, null, null],
    ['boolean as text', ',"ok":"true"', { ok: null }, ['type_mismatch:ok'], '{"ok":"true"}'],
    ['boolean as number', ',"ok":1', { ok: null }, ['type_mismatch:ok'], '{"ok":1}'],
    [
      'impossible date',
      ',"day":"2026-02-30"',
      { day: null },
      ['type_mismatch:day'],
      '{"day":"2026-02-30"}',
    ],
    ['leap day', ',"day":"2024-02-29"', { day: 19782 }, null, null],
    ['escapes', ',"s":"\\u00e9\\ud83d\\ude00\\n\\u0000"', { s: 'é😀\n\0' }, null, null],
    ['lone surrogate', ',"s":"a\\ud800"', { s: null }, ['type_mismatch:s'], '{"s":"a\\ud800"}'],
    ['escaped name', ',"\\u006e":5', { n: 5n }, null, null],
    ['duplicate key', ',"n":1,"n":2', { n: 2n }, ['duplicate_keys'], null],
    ['duplicate key by escape', ',"n":1,"\\u006e":2', { n: 2n }, ['duplicate_keys'], null],
    ['unknown field', ',"who":{"a":[1, 2]}', {}, ['unknown_fields'], '{"who":{"a":[1, 2]}}'],
    ['unknown twice', ',"u":1,"u":2', {}, ['unknown_fields', 'duplicate_keys'], '{"u":2}'],
    ['case variant', ',"N":5', { n: null }, ['unknown_fields'], '{"N":5}'],
    [
      'odd names',
      ',"a.b":1,"c d":2,"x=":3,"":4',
      {},
      ['unknown_fields'],
      '{"a.b":1,"c d":2,"x=":3,"":4}',
    ],
    [
      'prototype names',
      ',"__proto__":{"p":1},"constructor":2,"toString":3',
      {},
      ['unknown_fields'],
      '{"__proto__":{"p":1},"constructor":2,"toString":3}',
    ],
    [
      'unknown member',
      ',"client":{"name":"curl","os":"x"}',
      { client: { name: 'curl', version: null } },
      ['unknown_fields'],
      '{"client.os":"x"}',
    ],
    [
      'mistyped member',
      ',"client":{"name":1,"os":"x"}',
      { client: null },
      ['type_mismatch:client'],
      '{"client":{"name":1,"os":"x"}}',
    ],
    ['64 brackets', `,"deep":${nested(63)}`, {}, ['unknown_fields'], `{"deep":${nested(63)}}`],
    [
      'spaces everywhere',
      ' , "n" : 5 , "tags" : [ "a" , "b" ] ',
      { n: 5n, tags: ['a', 'b'] },
      null,
      null,
    ],
  ];
  for (const [what, members, expected, flags, rescued] of cases) {
    test(what, async () => {
      const row = await silverRow(members);
      for (const [name, value] of Object.entries(expected)) {
        assert.deepEqual(row[name], value, name);
      }
      assert.deepEqual(row['_quality_flags'], flags);
      assert.equal(row['_rescued'], rescued);
      assert.equal((Object.prototype as Record<string, unknown>)['p'], undefined);
    });
  }
});

test('K1: a refused event leaves nothing behind for the next one', async () => {
  const result = await derive(['{"u":1,"n":"x","n":2,', GOOD]);
  const [row] = silverRowsOf(result);
  assert.equal(row!['_quality_flags'], null);
  assert.equal(row!['_rescued'], null);
});

test('116: a megabyte key, 100000 fields and a long string pass in linear time', async () => {
  const many = Array.from({ length: 100_000 }, (_, i) => `,"f${i}":${i}`).join('');
  const wide = await silverRow(many);
  assert.equal(Object.keys(JSON.parse(wide['_rescued'] as string)).length, 100_000);
  const key = 'k'.repeat(1 << 20);
  assert.equal((await silverRow(`,"${key}":1`))['_rescued'], `{"${key}":1}`);
  assert.equal((await silverRow(`,"s":"${key}"`))['s'], key);
});

describe('120: events that come again', () => {
  const event = (id: string, n: number | string): string =>
    `{"id":"${id}","at":"2025-11-22T09:59:59Z","n":${n}}`;

  test('the same payload is a duplicate, whatever its spelling', async () => {
    const again = '{ "n":7.0, "at":"2025-11-22T10:59:59+01:00", "\\u0069d":"\\u0061" }';
    const result = await derive([event('a', 7), event('a', 7), again]);
    assert.equal(result.counts.silverRows, 1);
    assert.equal(result.counts.duplicates, 2);
  });

  test('another payload is a conflict, and the first stays', async () => {
    const result = await derive([event('a', 1), event('a', 2), event('a', 1), event('b', 2)]);
    const { silverRows, duplicates, conflicts, deadLetters } = result.counts;
    assert.deepEqual([silverRows, duplicates, conflicts, deadLetters], [2, 1, 1, 0]);
    assert.deepEqual(
      silverRowsOf(result).map((row) => row['n']),
      [1n, 2n],
    );
    const [dead] = deadRowsOf(result);
    assert.deepEqual(dead!['_quality_flags'], ['conflicting_duplicate']);
    assert.equal(dead!['_kafka_offset'], 1n);
  });

  test('values that differ only out of range or unknown are another payload', async () => {
    const result = await derive([event('a', '1e30'), event('a', '1e31'), event('a', '1,"u":1')]);
    assert.equal(result.counts.conflicts, 2);
  });

  test('an event that is refused does not claim its id', async () => {
    const result = await derive(['{"id":"a","at":"nonsense"}', event('a', 1)]);
    assert.equal(result.counts.silverRows, 1);
  });
});
