/** J1 to J3: the scanner accepts what JSON.parse accepts, and nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  EVENT_EMPTY,
  EVENT_NOT_OBJECT,
  EVENT_OK,
  EventTokenizer,
} from '../../../src/pipeline/silver/event-tokenizer.ts';
import { JsonScanner, TokenTable } from '../../../src/pipeline/silver/json-scanner.ts';
import { mutated } from './event-arbitraries.ts';

const RUNS = { numRuns: Number(process.env['SILVER_RUNS'] ?? 2000) };

/** Reads `text` with bytes around it that would change the result if they were read. */
function statusOf(text: string): number {
  const bytes = Buffer.from(`"{[1${text}}]"`);
  const scanner = new JsonScanner();
  scanner.setData(bytes);
  scanner.end = bytes.length - 3;
  const tokenizer = new EventTokenizer(scanner, new TokenTable(2), ['a', 'b']);
  return tokenizer.read(0, 4);
}

function expectedOf(text: string): number | undefined {
  if (/^[ \t\n\r]*$/.test(text)) return EVENT_EMPTY;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? EVENT_OK
      : EVENT_NOT_OBJECT;
  } catch {
    return undefined;
  }
}

function agrees(text: string): void {
  const expected = expectedOf(text);
  const status = statusOf(text);
  if (expected === undefined) assert.ok(status !== EVENT_OK && status !== EVENT_NOT_OBJECT, text);
  else assert.equal(status, expected, text);
}

test('J1: valid JSON, and valid JSON with one character changed', () => {
  const text = fc.oneof(
    fc.json({ maxDepth: 4 }),
    fc.jsonValue().map((v) => JSON.stringify(v, null, 2)),
  );
  const object = fc.tuple(text, text).map(([a, b]) => `{"a" : ${a},"b":${b}, "c":[${a}]}`);
  fc.assert(fc.property(mutated(fc.oneof(text, object)), agrees), RUNS);
  fc.assert(fc.property(fc.oneof(text, object), agrees), RUNS);
});

test('J1: soups of JSON fragments', () => {
  const piece = fc.constantFrom(
    ...'{ } [ ] , : " "a" "\\ \\u00 41 - 0 1 . e E + true false null nul {"a": "b":'.split(' '),
    ' ',
    '\n',
    '\t',
    '\f',
    '\ud83d\ude00',
  );
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 10 }).map((pieces) => pieces.join('')),
      agrees,
    ),
    { numRuns: 10 * RUNS.numRuns },
  );
});
