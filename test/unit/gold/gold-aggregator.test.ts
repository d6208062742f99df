import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GoldAggregator } from '../../../src/pipeline/gold/gold-aggregator.ts';
import { slotSpan } from '../../../src/pipeline/gold/slots.ts';
import type { AggregateConfig, MeasureConfig } from '../../../src/pipeline/pipeline-config.ts';
import { FIELD_NAMES, measuresOf, VALUES } from './event-arbitraries.ts';
import { batchOf, EVENT, type EventRow, rowsOf, type Value } from './event-batches.ts';
import { referenceGold } from './gold-reference.ts';

const HOUR = 3_600_000;
const META = { source: 'streaming', isFinal: false, revision: 0, silverVersion: 1n } as const;
const ROWS: MeasureConfig = { name: 'rows', fn: 'count', field: undefined };

function config(options: Partial<AggregateConfig> = {}): AggregateConfig {
  return { name: 'usage', windowMs: HOUR, groupBy: ['string'], measures: [ROWS], ...options };
}

/** An event of a group at a time in milliseconds. */
function event(timeMs: number, group: string | null = 'a'): EventRow {
  return { event_time: BigInt(timeMs) * 1000n, string: group };
}

test('many groups, windows and rows equal the reference across growth and runs', () => {
  const measures = [ROWS, ...FIELD_NAMES.flatMap(measuresOf)].filter(
    ({ name }) => name !== 'long_sum', // would overflow
  );
  const aggregate = config({ windowMs: 60_000, groupBy: ['string', 'short'], measures });
  const values = Object.fromEntries(FIELD_NAMES.map((name) => [name, VALUES[name]!]));
  const row = fc.record({
    ...(values as { long: fc.Arbitrary<Value> }),
    decimal: fc.bigInt(-(10n ** 30n), 10n ** 30n),
    short: fc.nat({ max: 40 }),
    string: fc.nat({ max: 40 }).map((n) => `customer-${n}`),
    event_time: fc.bigInt(0n, 7_200_000_000n),
  });
  const [sample] = fc.sample(fc.array(row, { minLength: 250, maxLength: 250, size: 'max' }), {
    numRuns: 1,
    seed: 1,
  });
  // Times spread the same rows over many windows; enough of them to need several runs.
  const events = Array.from({ length: 9000 }, (_, i) => {
    const drawn = sample![(i * 31) % 250]!;
    return {
      ...drawn,
      short: sample![(i * 17) % 250]!.short,
      event_time: (drawn.event_time + BigInt(i) * 1_999_999n) % 7_200_000_000n,
      string: i % 97 === 0 ? null : drawn.string,
      long: i % 89 === 0 ? null : drawn.long,
    };
  }) as EventRow[];
  const aggregator = new GoldAggregator(aggregate, EVENT);
  const batch = batchOf(events);
  for (const slot of aggregator.slotsTouched(batch)) aggregator.create(slot);
  aggregator.add(batch);
  const actual = [0, HOUR].flatMap((slot) => rowsOf(aggregator.rows(slot, META)));
  const meta = { _source: 'streaming', _is_final: false, _revision: 0, _silver_version: 1n };
  const expected = referenceGold(aggregate, events).map((gold) => ({ ...gold, ...meta }));
  assert.ok(expected.length > 4096);
  assert.deepStrictEqual(actual, expected);
});

test('text extremes replaced over and over stay right', () => {
  const measures: MeasureConfig[] = [
    { name: 'min', fn: 'min', field: 'string' },
    { name: 'max', fn: 'max', field: 'string' },
  ];
  const aggregate = config({ groupBy: ['byte'], measures });
  const events = Array.from({ length: 3000 }, (_, i) => ({
    event_time: 0n,
    byte: i % 7,
    string: `${String(10_000 + i)}${'x'.repeat((i * 13) % 50)}`,
  }));
  for (const order of [events, events.toReversed()]) {
    const aggregator = new GoldAggregator(aggregate, EVENT);
    aggregator.create(0);
    for (const row of order) aggregator.add(batchOf([row]));
    const bare = rowsOf(aggregator.rows(0, META)).map(({ byte, min, max }) => ({ byte, min, max }));
    const expected = referenceGold(aggregate, events);
    assert.deepEqual(
      bare,
      expected.map(({ byte, min, max }) => ({ byte, min, max })),
    );
  }
});

test('G12: a row whose slot is not resident is an error, and nothing is added', () => {
  const aggregator = new GoldAggregator(config(), EVENT);
  aggregator.create(0);
  const batch = batchOf([event(0), event(HOUR)]);
  assert.deepEqual(aggregator.slotsTouched(batch), [0, HOUR]);
  assert.throws(() => aggregator.add(batch), { kind: 'internal' });
  assert.equal(aggregator.groupCount(0), 0);
  assert.throws(() => aggregator.rows(HOUR, META), { kind: 'internal' });
});

test('onlySlots leaves the rows of other slots out', () => {
  const aggregator = new GoldAggregator(config(), EVENT);
  aggregator.create(0);
  aggregator.create(HOUR);
  aggregator.add(batchOf([event(0), event(HOUR), event(2 * HOUR)]), {
    onlySlots: new Set([HOUR]),
  });
  assert.equal(aggregator.groupCount(0), 0);
  assert.equal(aggregator.groupCount(HOUR), 1);
});

test('P10: resident bytes follow the state, and the idlest slot is named first', () => {
  const aggregator = new GoldAggregator(config(), EVENT);
  assert.equal(aggregator.residentBytes, 0);
  assert.equal(aggregator.leastRecentlyUsed(), undefined);
  for (const slot of [0, HOUR, 2 * HOUR]) aggregator.create(slot);
  const empty = aggregator.residentBytes;
  aggregator.add(batchOf(Array.from({ length: 1000 }, (_, i) => event(0, `group ${i}`))));
  aggregator.rows(HOUR, META);
  assert.deepEqual(aggregator.residentSlots(), [2 * HOUR, 0, HOUR]);
  assert.equal(aggregator.leastRecentlyUsed(), 2 * HOUR);
  assert.ok(aggregator.residentBytes > empty + 1000 * 20);
  aggregator.drop(0);
  assert.equal(aggregator.isResident(0), false);
  assert.ok(aggregator.residentBytes < empty);
  aggregator.drop(HOUR);
  aggregator.drop(2 * HOUR);
  assert.equal(aggregator.residentBytes, 0);
});

test('a sum that exceeds its column names the measure and the window', () => {
  const measures: MeasureConfig[] = [{ name: 'bytes', fn: 'sum', field: 'long' }];
  const aggregator = new GoldAggregator(config({ windowMs: 900_000, measures }), EVENT);
  aggregator.create(0);
  const row = { ...event(900_000), long: 2n ** 62n };
  aggregator.add(batchOf([row, row]));
  assert.throws(() => aggregator.rows(0, META), {
    kind: 'invalid',
    code: 'TM_MEASURE_OVERFLOW',
    context: { aggregate: 'usage', measure: 'bytes', windowStartMs: 900_000 },
  });
  aggregator.add(batchOf([{ ...row, long: -1n }])); // order does not matter: the sum fits again
  assert.equal(rowsOf(aggregator.rows(0, META))[0]!['bytes'], 2n ** 63n - 1n);
});

test('the range of a slot is whole windows, even where the hour is no multiple', () => {
  const aggregator = new GoldAggregator(config({ windowMs: 2_700_000 }), EVENT);
  const { startMicros, endMicros } = slotSpan('usage', aggregator.windows, HOUR);
  assert.deepEqual([startMicros, endMicros], [5_400_000_000, 8_100_000_000]);
  assert.equal(aggregator.slotOf(BigInt(startMicros)), HOUR);
  assert.equal(aggregator.slotOf(BigInt(endMicros) - 1n), HOUR);
  assert.throws(() => aggregator.create(HOUR + 1), { kind: 'internal' });
});

test('a batch that does not fit the event is refused', () => {
  const aggregator = new GoldAggregator(config(), EVENT);
  const batch = batchOf([event(0)]);
  const without = (name: string) => {
    const kept = batch.schema.fields.flatMap((f, i) => (f.name === name ? [] : [i]));
    return {
      ...batch,
      schema: { ...batch.schema, fields: kept.map((i) => batch.schema.fields[i]!) },
      columns: kept.map((i) => batch.columns[i]!),
    };
  };
  assert.throws(() => aggregator.add(without('string')), { kind: 'corrupt' });
  assert.throws(() => aggregator.slotsTouched(without('event_time')), { kind: 'corrupt' });
  const untimed = batchOf([{ string: 'a' }]);
  assert.throws(() => aggregator.slotsTouched(untimed), { kind: 'corrupt' });
  const other = { ...EVENT, schema: { ...EVENT.schema, fields: EVENT.schema.fields.toReversed() } };
  const retyped = {
    ...other,
    schema: {
      ...other.schema,
      fields: other.schema.fields.map((f) =>
        f.name === 'string' ? { ...f, type: { kind: 'primitive', name: 'long' } as const } : f,
      ),
    },
  };
  assert.throws(() => new GoldAggregator(config(), retyped).add(batch), { kind: 'corrupt' });
});

test('a slot without rows gives an empty batch', () => {
  const aggregator = new GoldAggregator(config(), EVENT);
  aggregator.create(0);
  aggregator.add(batchOf([]));
  assert.equal(aggregator.rows(0, META).length, 0);
});
