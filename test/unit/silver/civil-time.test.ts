/** T1 to T3, and the arithmetic on two words: against the host's calendar and BigInt. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dateOf, isAfter, microsBetween } from '../../../src/pipeline/silver/arrival.ts';
import { InstantParser } from '../../../src/pipeline/silver/civil-time.ts';
import { instantText, mutated } from './event-arbitraries.ts';
import { instantOf } from './silver-reference.ts';

function parse(text: string): bigint | undefined {
  const bytes = Buffer.from(`9${text}9`);
  const parser = new InstantParser();
  if (!parser.parseRfc3339(bytes, 1, bytes.length - 1)) return undefined;
  return (BigInt(parser.high) << 32n) | BigInt(parser.low >>> 0);
}

const micros = (text: string): bigint => BigInt(Date.parse(text)) * 1000n;

test('T3: a leap second is the second after it, wherever its zone puts it', () => {
  const next = micros('2017-01-01T00:00:00Z');
  assert.equal(parse('2016-12-31T23:59:60Z'), next);
  assert.equal(parse('2016-12-31T18:59:60.25-05:00'), next + 250_000n);
  assert.equal(parse('2017-01-01T00:59:60+01:00'), next);
  assert.equal(parse('2017-01-01T05:44:60+05:45'), next);
  assert.equal(parse('2016-12-31T12:00:60Z'), undefined);
  assert.equal(parse('2016-12-31T23:59:61Z'), undefined);
  assert.equal(parse('9999-12-31T23:59:60Z'), undefined);
});

test('T1 T2: years 0001 to 9999 in UTC, what is finer than a microsecond is dropped', () => {
  assert.equal(parse('0001-01-01T00:00:00Z'), micros('0001-01-01T00:00:00Z'));
  assert.equal(parse('0001-01-01T00:00:00+00:01'), undefined);
  assert.equal(parse('9999-12-31T23:59:59.9999999Z'), micros('9999-12-31T23:59:59Z') + 999_999n);
  assert.equal(parse('1969-12-31T23:59:59.9999999Z'), -1n);
  assert.equal(parse('2026-11-22T10:00:00.1Z'), micros('2026-11-22T10:00:00.100Z'));
});

test('T1: every text reads as the reference reads it', () => {
  fc.assert(
    fc.property(fc.oneof(instantText, mutated(instantText)), (text) => {
      assert.equal(parse(text), instantOf(text), text);
    }),
    { numRuns: 3000 },
  );
});

const MICROS_PER_DAY = 86_400_000_000n;
const FIRST = micros('0001-01-01T00:00:00Z');
const LAST = micros('9999-12-31T23:59:59Z');
const instant = fc.oneof(
  fc.bigInt({ min: FIRST, max: LAST }),
  // Around midnight.
  fc
    .tuple(
      fc.bigInt({ min: FIRST / MICROS_PER_DAY, max: LAST / MICROS_PER_DAY }),
      fc.integer({ min: -1, max: 1 }),
    )
    .map(([days, step]) => days * MICROS_PER_DAY + BigInt(step)),
);
const words = (value: bigint): [number, number] => [
  Number(BigInt.asIntN(32, value)),
  Number(value >> 32n),
];

test('dates and delays are those of BigInt arithmetic', () => {
  fc.assert(
    fc.property(instant, instant, (a, b) => {
      const rest = ((a % MICROS_PER_DAY) + MICROS_PER_DAY) % MICROS_PER_DAY;
      assert.equal(dateOf(...words(a)), Number((a - rest) / MICROS_PER_DAY));
      assert.equal(microsBetween(...words(a), ...words(b)), Number(b - a));
      assert.equal(isAfter(...words(a), ...words(b)), a > b);
    }),
    { numRuns: 5000 },
  );
});
