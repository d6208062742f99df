import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { checkKey, compareKeys, lowerBound } from '../../../src/storage/object-store/object-key.ts';

const anyText = fc.string({ unit: 'binary', maxLength: 6 });
const utf8Order = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

it('K3 keys are ordered as their UTF-8 bytes', () => {
  fc.assert(
    fc.property(anyText, anyText, (a, b) => {
      assert.equal(Math.sign(compareKeys(a, b)), utf8Order(a, b));
    }),
    {
      examples: [
        ['\u{1f600}', '\u{ffff}'],
        ['a', 'a\u{1f600}'],
        ['\u{1f600}', '\u{1f601}'],
      ],
    },
  );
});

it('K3 lowerBound finds the first key at or behind a bound', () => {
  fc.assert(
    fc.property(fc.uniqueArray(anyText), anyText, fc.boolean(), (texts, bound, exclusive) => {
      const keys = texts.toSorted(utf8Order);
      const expected = keys.filter((key) => utf8Order(key, bound) < (exclusive ? 1 : 0)).length;
      assert.equal(lowerBound(keys, bound, exclusive), expected);
    }),
  );
});

it('K1 a legal key joined to a root stays below the root', () => {
  const awkward = fc.array(fc.constantFrom('..', '.', '/', '\\', '\0', 'a', 'é', '.tmp-', ''), {
    maxLength: 8,
  });
  fc.assert(
    fc.property(awkward, (pieces) => {
      const key = pieces.join('');
      try {
        checkKey(key);
      } catch {
        return;
      }
      assert.equal(new URL(encodeURI(`file:///root/${key}`)).pathname, encodeURI(`/root/${key}`));
    }),
    { numRuns: 1000 },
  );
});
