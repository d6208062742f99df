import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseExactJson, stringifyExactJson } from '../../../src/storage/delta/exact-json.ts';

describe('exact JSON', () => {
  const cases: readonly (readonly [string, unknown])[] = [
    ['9007199254740991', 9007199254740991],
    ['9007199254740992', 9007199254740992n],
    ['9007199254740993', 9007199254740993n],
    ['-9223372036854775808', -9223372036854775808n],
    ['9223372036854775807', 9223372036854775807n],
    ['[1,{"a":12345678901234567890}]', [1, { a: 12345678901234567890n }]],
    ['"12345678901234567890"', '12345678901234567890'],
    ['1.5', 1.5],
    ['1e400', Infinity],
    ['{"a":1234567890123456.5}', { a: 1234567890123456.5 }],
  ];
  for (const [text, value] of cases) {
    it(`reads ${text} (J1)`, () => assert.deepEqual(parseExactJson(text), value));
  }

  it('gives back every 64-bit integer it wrote (J1, J2)', () => {
    fc.assert(
      fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (long) => {
        const text = stringifyExactJson({ a: [{ version: long }] });
        assert.equal(text, `{"a":[{"version":${long}}]}`);
        const back = parseExactJson(text) as { a: [{ version: number | bigint }] };
        assert.equal(BigInt(back.a[0].version), long);
      }),
    );
  });

  it('keeps a __proto__ member an ordinary one', () => {
    const parsed = parseExactJson('{"__proto__":{"x":12345678901234567}}') as object;
    assert.equal(Object.getPrototypeOf(parsed), Object.prototype);
    assert.equal(({} as { x?: unknown }).x, undefined);
  });
});
