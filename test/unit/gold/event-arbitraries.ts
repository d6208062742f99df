/**
 * Random silver rows for properties: small domains, so that groups and values collide, mixed with
 * the extremes of every type.
 */
import fc from 'fast-check';
import type { AggregateConfig, MeasureConfig } from '../../../src/pipeline/pipeline-config.ts';
import type { EventRow, Value } from './event-batches.ts';

const INT64 = fc.oneof(
  fc.bigInt(-3n, 3n),
  fc.bigInt(-(2n ** 54n), 2n ** 54n),
  fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n, -(2n ** 53n), 2n ** 53n + 1n, 2n ** 32n),
);

const TEXT = fc.oneof(
  fc.constantFrom(
    '',
    'a',
    'ab',
    'abc',
    'abc\0',
    'abc\0\0',
    'abcd',
    '/v1/users',
    '/v1/user',
    'é',
    '𝒳',
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
);

/** Values of each type; floats are already rounded to float. */
export const VALUES: Readonly<Record<string, fc.Arbitrary<Value>>> = {
  string: TEXT,
  binary: fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes).toString('hex')),
  boolean: fc.boolean(),
  byte: fc.integer({ min: -128, max: 127 }),
  short: fc.oneof(fc.integer({ min: -2, max: 2 }), fc.integer({ min: -32768, max: 32767 })),
  integer: fc.oneof(fc.integer({ min: -2, max: 2 }), fc.integer()),
  long: INT64,
  float: fc.oneof(fc.constantFrom(0, -0, 1, 0.5, NaN), fc.float()),
  double: fc.oneof(
    fc.constantFrom(0, -0, 0.1, 0.2, 1e16, -1e16, 1e-300, 5e-324),
    fc.double({ noNaN: true, min: -1e6, max: 1e6 }),
    fc.double(),
  ),
  date: fc.oneof(fc.integer({ min: -2, max: 2 }), fc.integer({ min: -800_000, max: 2_900_000 })),
  timestamp: INT64,
  decimal: fc.oneof(
    fc.bigInt(-3_000_000n, 3_000_000n),
    fc.bigInt(-(10n ** 20n), 10n ** 20n),
    fc.bigInt(-(10n ** 38n) + 1n, 10n ** 38n - 1n),
  ),
};

export const FIELD_NAMES = Object.keys(VALUES);

const NUMERIC = ['byte', 'short', 'integer', 'long', 'float', 'double', 'decimal'];

/** Instants on either side of the epoch, and beyond the exact range of a double in microseconds. */
const BASE_TIMES = [0n, 1_700_000_000_000_000n, 253_402_000_000_000_000n, -62_000_000_000_000_000n];

/** Event times: within hours of one instant, or days, so that windows are shared and slots many. */
const TIMES: fc.Arbitrary<fc.Arbitrary<bigint>> = fc
  .record({
    base: fc.constantFrom(...BASE_TIMES),
    spread: fc.constantFrom(1n, 2_000_000n, 7_200_000_000n, 172_800_000_000n),
  })
  .map(({ base, spread }) =>
    fc.oneof(fc.bigInt(base - spread, base + spread), fc.constantFrom(base, base - 1n)),
  );

/** Values of a field that is grouped by: few, so that groups have several rows. */
function fewValues(name: string): fc.Arbitrary<fc.Arbitrary<Value>> {
  return fc
    .array(VALUES[name]!, { minLength: 1, maxLength: 3 })
    .map((pool) => fc.constantFrom<Value>(...pool, null));
}

/** Rows for an aggregate by `groupBy`, with the values of the `measured` fields drawn freely. */
function eventRows(
  groupBy: readonly string[],
  measured: readonly string[],
): fc.Arbitrary<EventRow[]> {
  return fc
    .record({
      event_time: TIMES,
      ...Object.fromEntries(
        measured.map((name) => [
          name,
          fc.constantFrom(fc.option(VALUES[name]!, { freq: 6, nil: null }), VALUES[name]!),
        ]),
      ),
      ...Object.fromEntries(groupBy.map((name) => [name, fewValues(name)])),
    })
    .chain((values) =>
      fc.array(fc.record(values as Record<string, fc.Arbitrary<Value>>), {
        maxLength: 80,
        size: 'max',
      }),
    );
}

/** Every measure that a field can have. */
export function measuresOf(name: string): MeasureConfig[] {
  const fns = NUMERIC.includes(name)
    ? (['count', 'sum', 'avg', 'min', 'max', 'countDistinct'] as const)
    : (['count', 'min', 'max', 'countDistinct'] as const);
  return fns.map((fn) => ({ name: `${name}_${fn}`, fn, field: name }));
}

/** An aggregate over the fields of EVENT, with rows that fit it. */
export const CASES: fc.Arbitrary<{ aggregate: AggregateConfig; events: EventRow[] }> = fc
  .record({
    windowMs: fc.constantFrom(
      1000,
      300_000,
      420_000,
      3_600_000,
      5_400_000,
      86_400_000,
      604_800_000,
    ),
    groupBy: fc.uniqueArray(fc.constantFrom(...FIELD_NAMES), { maxLength: 3 }),
    measured: fc.uniqueArray(fc.constantFrom(...FIELD_NAMES), { maxLength: 3 }),
  })
  .chain(({ windowMs, groupBy, measured }) => {
    const measures: MeasureConfig[] = [
      { name: 'rows', fn: 'count', field: undefined },
      ...measured.flatMap(measuresOf),
    ];
    const aggregateConstant = fc.constant({ name: 'test', windowMs, groupBy, measures });
    return fc.record({ aggregate: aggregateConstant, events: eventRows(groupBy, measured) });
  });
