/** P5, V6: an event that comes before a schema change and again after it is one event. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EventConfig } from '../../../src/pipeline/pipeline-config.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import { SilverDeriver } from '../../../src/pipeline/silver/deriver.ts';
import { field, type StructField, struct } from '../../../src/pipeline/types.ts';
import { bronzeInput, eventOf, LATE, recordsOf } from './bronze-batches.ts';

const KEYS = [field('id', 'string', false), field('at', 'timestamp', false)];
const schema = (...fields: readonly StructField[]): EventConfig =>
  eventOf(struct([...KEYS, ...fields]));
const AT = '"at":"2026-11-22T10:00:00Z"';

/** Derives each value under its schema, in order, over one index; counts of the last. */
async function lastCounts(
  steps: readonly (readonly [EventConfig, string])[],
  known: readonly EventConfig[],
): Promise<{ duplicates: number; conflicts: number; silverRows: number }> {
  const index = new MemoryDedupIndex();
  let counts = { duplicates: 0, conflicts: 0, silverRows: 0 };
  for (const [i, [event, value]] of steps.entries()) {
    const otherEvents = known.filter((other) => other !== event);
    const deriver = new SilverDeriver({ event, late: LATE, otherEvents }, index);
    const result = await deriver.derive([
      bronzeInput(recordsOf([value], { bronzeVersion: i + 1 })),
    ]);
    const { duplicates, conflicts, silverRows } = result.counts;
    counts = { duplicates, conflicts, silverRows };
  }
  return counts;
}

const V1 = schema(field('size', 'integer'), field('region', 'string'));
const V2 = schema(field('size', 'integer'), field('plan', 'string'));
const VALUE = `{"id":"a",${AT},"size":1,"region":"eu","plan":"gold"}`;

test('a copy after a field was added and another removed is a duplicate', async () => {
  const steps = [
    [V1, VALUE],
    [V2, VALUE],
  ] as const;
  assert.equal((await lastCounts(steps, [])).conflicts, 1, 'the hash alone cannot tell');
  assert.deepEqual(await lastCounts(steps, [V1, V2]), {
    duplicates: 1,
    conflicts: 0,
    silverRows: 0,
  });
});

test('a copy that a producer with the older schema sends is a duplicate too', async () => {
  const steps = [
    [V2, VALUE],
    [V1, VALUE],
  ] as const;
  assert.equal((await lastCounts(steps, [V1, V2])).duplicates, 1);
});

test('a copy whose content differs stays a conflict under every schema', async () => {
  const steps = [
    [V1, VALUE],
    [V2, VALUE.replace('gold', 'free')],
  ] as const;
  assert.deepEqual(await lastCounts(steps, [V1, V2]), {
    duplicates: 0,
    conflicts: 1,
    silverRows: 0,
  });
});

test('copies from before a schema change are looked up together, once for each other schema', async () => {
  const values = Array.from({ length: 50 }, (_, i) => VALUE.replace('"a"', `"a${i}"`));
  const index = new MemoryDedupIndex();
  await new SilverDeriver({ event: V1, late: LATE }, index).derive([
    bronzeInput(recordsOf(values, { bronzeVersion: 1 })),
  ]);
  let lookups = 0;
  const lookupOrInsert = index.lookupOrInsert.bind(index);
  index.lookupOrInsert = (...call) => {
    lookups++;
    return lookupOrInsert(...call);
  };
  const V3 = schema(field('size', 'integer'));
  const deriver = new SilverDeriver({ event: V2, late: LATE, otherEvents: [V3, V1] }, index);
  const { counts } = await deriver.derive([bronzeInput(recordsOf(values, { bronzeVersion: 2 }))]);
  assert.equal(counts.duplicates, 50);
  assert.equal(lookups, 3);
});
