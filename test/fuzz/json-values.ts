/**
 * Decoding of events, on bytes: accepted and refused as JSON.parse does over strict UTF-8, and every
 * value the one that an independent decoder with exact numbers finds (silver-reference.ts).
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { RowValue } from '../../src/pipeline/column-builder.ts';
import type { EventConfig } from '../../src/pipeline/pipeline-config.ts';
import { MemoryDedupIndex } from '../../src/pipeline/silver/dedup-index.ts';
import { SilverDeriver } from '../../src/pipeline/silver/deriver.ts';
import {
  bronzeInput,
  deadRowsOf,
  LATE,
  recordsOf,
  silverRowsOf,
} from '../unit/silver/bronze-batches.ts';
import { eventConfig, eventText } from '../unit/silver/event-arbitraries.ts';
import { deriveByReference } from '../unit/silver/silver-reference.ts';
import { type FuzzTarget, property } from './fuzz-target.ts';
import { byteDamage, jsonDamage } from './mutation.ts';

const someEvents = eventConfig.chain((event) => {
  const text = eventText(event);
  const value = fc.oneof(
    text.map((whole) => Buffer.from(whole)),
    fc.tuple(text, byteDamage).map(([whole, damage]) => damage(Buffer.from(whole))),
    fc.tuple(text, jsonDamage).map(([whole, damage]) => Buffer.from(damage(whole))),
  );
  return fc.record({ event: fc.constant(event), values: fc.array(value, { maxLength: 8 }) });
});

const offsetOf = (row: RowValue): bigint => row['_kafka_offset'] as bigint;
const byOffset = (a: RowValue, b: RowValue): number => (offsetOf(a) < offsetOf(b) ? -1 : 1);

function isObject(value: Buffer): boolean {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value);
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
  } catch {
    return false;
  }
}

const UNREADABLE = ['invalid_utf8', 'invalid_json', 'not_an_object', 'empty', 'too_deep'];

async function holdsFor(given: { event: EventConfig; values: readonly Buffer[] }): Promise<void> {
  const records = recordsOf(given.values);
  const deriver = new SilverDeriver({ event: given.event, late: LATE }, new MemoryDedupIndex());
  const result = await deriver.derive([bronzeInput(records)]);
  const expected = deriveByReference(records, given.event, LATE);
  assert.deepEqual(
    silverRowsOf(result).toSorted(byOffset),
    [...expected.silver].toSorted(byOffset),
  );
  const dead = deadRowsOf(result).toSorted(byOffset);
  const flagsOf = (row: RowValue) => [offsetOf(row), row['_quality_flags']];
  assert.deepEqual(dead.map(flagsOf), [...expected.dead].toSorted(byOffset).map(flagsOf));
  // The reference shares no code with the decoder, but JSON.parse shares no author with either.
  for (const row of dead) {
    const record = records.find(({ offset }) => offset === offsetOf(row))!;
    const flags = row['_quality_flags'] as readonly string[];
    if (flags.includes('too_deep')) continue;
    const isRefused = flags.some((flag) => UNREADABLE.includes(flag));
    assert.equal(isRefused, !isObject(record.value as Buffer), flags.join());
  }
  for (const row of silverRowsOf(result)) {
    const record = records.find(({ offset }) => offset === offsetOf(row))!;
    assert.ok(isObject(record.value as Buffer));
  }
}

export const jsonValues: FuzzTarget = {
  name: 'json-values',
  runs: 600,
  open: () => ({ property: property(someEvents, holdsFor) }),
};
