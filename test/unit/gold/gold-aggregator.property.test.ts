import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PipelineError } from '../../../src/errors.ts';
import { GoldAggregator } from '../../../src/pipeline/gold/gold-aggregator.ts';
import { goldFileSchema } from '../../../src/pipeline/gold/gold-schema.ts';
import type { GoldRowsMeta } from '../../../src/pipeline/gold/slot-state.ts';
import type { AggregateConfig } from '../../../src/pipeline/pipeline-config.ts';
import { CASES } from './event-arbitraries.ts';
import { batchOf, buffersOf, EVENT, type EventRow, rowsOf } from './event-batches.ts';
import { OVERFLOW, referenceGold } from './gold-reference.ts';

const META: GoldRowsMeta = {
  source: 'batch',
  isFinal: true,
  revision: 3,
  silverVersion: 7n,
};

/** A failing case is shrunk for so long at most. */
const BOUNDED = { interruptAfterTimeLimit: 30_000 };

/** Adds each batch in turn, creating slots as they are met and reading all rows after each. */
function aggregate(
  config: AggregateConfig,
  batches: readonly (readonly EventRow[])[],
): GoldAggregator {
  const aggregator = new GoldAggregator(config, EVENT);
  for (const rows of batches) {
    const batch = batchOf(rows);
    for (const slot of aggregator.slotsTouched(batch)) {
      if (!aggregator.isResident(slot)) aggregator.create(slot);
    }
    aggregator.add(batch);
    contentOf(aggregator);
  }
  return aggregator;
}

function residentSlots(aggregator: GoldAggregator): number[] {
  return aggregator.residentSlots().toSorted((a, b) => a - b);
}

/** The buffers of every slot, or the window of the sum that overflows. */
function contentOf(aggregator: GoldAggregator): unknown {
  try {
    return residentSlots(aggregator).map((slot) => [slot, buffersOf(aggregator.rows(slot, META))]);
  } catch (thrown) {
    assert.ok(thrown instanceof PipelineError && thrown.code === 'TM_MEASURE_OVERFLOW');
    return 'overflow';
  }
}

/** Events in another order, cut into other batches. */
function shuffledCuts(events: readonly EventRow[]): fc.Arbitrary<EventRow[][]> {
  const cuts = fc.array(fc.nat({ max: events.length }), { maxLength: 5 });
  return fc
    .tuple(fc.shuffledSubarray([...events], { minLength: events.length }), cuts)
    .map(([shuffled, at]) => {
      const sorted = [0, ...at.toSorted((a, b) => a - b), shuffled.length];
      return sorted.slice(1).map((to, i) => shuffled.slice(sorted[i], to));
    });
}

test('P9: rows equal an exact reference for every type, measure and window', () => {
  fc.assert(
    fc.property(CASES, ({ aggregate: config, events }) => {
      const expected = referenceGold(config, events);
      const overflow = expected.some((row) => Object.values(row).includes(OVERFLOW));
      const aggregator = aggregate(config, [events]);
      if (overflow) {
        assert.equal(contentOf(aggregator), 'overflow');
        return;
      }
      const actual = residentSlots(aggregator).flatMap((slot) => {
        const rows = aggregator.rows(slot, META);
        assert.deepEqual(rows.schema, goldFileSchema(config, EVENT));
        assert.equal(aggregator.groupCount(slot), rows.length);
        return rowsOf(rows);
      });
      const meta = { _source: 'batch', _is_final: true, _revision: 3, _silver_version: 7n };
      assert.deepStrictEqual(
        actual,
        expected.map((row) => ({ ...row, ...meta })),
      );
    }),
    { ...BOUNDED, numRuns: 600 },
  );
});

test('P7, P9: any order and any batch cuts give the same rows bit for bit', () => {
  const cases = CASES.chain((drawn) =>
    fc.record({ ...constants(drawn), batches: shuffledCuts(drawn.events) }),
  );
  fc.assert(
    fc.property(cases, ({ aggregate: config, events, batches }) => {
      assert.deepEqual(
        contentOf(aggregate(config, batches)),
        contentOf(aggregate(config, [events])),
      );
    }),
    { ...BOUNDED, numRuns: 300 },
  );
});

test('P9: a slot that was dropped and loaded again from its silver rows has the same rows', () => {
  const cases = CASES.chain((drawn) =>
    fc.record({ ...constants(drawn), batches: shuffledCuts(drawn.events) }),
  );
  fc.assert(
    fc.property(cases, ({ aggregate: config, events, batches }) => {
      const streamed = new GoldAggregator(config, EVENT);
      const silver: EventRow[] = [];
      for (const rows of batches) {
        const batch = batchOf(rows);
        for (const slot of streamed.slotsTouched(batch)) {
          if (streamed.isResident(slot)) continue;
          streamed.create(slot);
          streamed.add(batchOf(silver), { onlySlots: new Set([slot]) });
        }
        streamed.add(batch);
        silver.push(...rows);
        const idle = streamed.leastRecentlyUsed();
        if (idle !== undefined) streamed.drop(idle);
      }
      for (const slot of new GoldAggregator(config, EVENT).slotsTouched(batchOf(events))) {
        if (streamed.isResident(slot)) continue;
        streamed.create(slot);
        streamed.add(batchOf(silver), { onlySlots: new Set([slot]) });
      }
      assert.deepEqual(contentOf(streamed), contentOf(aggregate(config, [events])));
    }),
    { ...BOUNDED, numRuns: 150 },
  );
});

function constants<T extends object>(values: T): { [K in keyof T]: fc.Arbitrary<T[K]> } {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, fc.constant(value)]),
  ) as { [K in keyof T]: fc.Arbitrary<T[K]> };
}
