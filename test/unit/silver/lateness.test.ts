/** P6, V5: lateness, the future, watermarks, and the dates that rows are filed under. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import type { SilverResult } from '../../../src/pipeline/silver/derivation.ts';
import { SilverDeriver } from '../../../src/pipeline/silver/deriver.ts';
import { field, struct } from '../../../src/pipeline/types.ts';
import {
  bronzeInput,
  eventOf,
  LATE,
  recordsOf,
  silverRowsOf,
  type TestRecord,
} from './bronze-batches.ts';

const FIELDS = struct([field('id', 'string', false), field('at', 'timestamp', false)]);
const ARRIVAL = BigInt(Date.parse('2026-11-22T10:00:00Z')) * 1000n;

async function derive(
  times: readonly string[],
  unit: 'rfc3339' | 's' | 'ms' | 'us' = 'rfc3339',
  records = (values: string[]): TestRecord[] => recordsOf(values, { timestamp: ARRIVAL }),
): Promise<SilverResult> {
  const deriver = new SilverDeriver(
    { event: eventOf(FIELDS, unit), late: LATE },
    new MemoryDedupIndex(),
  );
  const values = times.map((time, i) => `{"id":"e${i}","at":${time}}`);
  return await deriver.derive([bronzeInput(records(values))]);
}

test('late begins exactly at the threshold', async () => {
  const result = await derive([
    '"2026-11-22T08:00:00.000001Z"',
    '"2026-11-22T08:00:00Z"',
    '"2026-11-22T07:59:59.999999Z"',
  ]);
  const rows = silverRowsOf(result);
  assert.deepEqual(
    rows.map((row) => row['_is_late_arriving']),
    [false, true, true],
  );
  assert.deepEqual(
    rows.map((row) => row['_arrival_delay_seconds']),
    [7199.999999, 7200, 7200.000001],
  );
  assert.equal(result.counts.late, 2);
});

test('the future begins after the tolerance, and does not move the watermark', async () => {
  const result = await derive([
    '"2026-11-22T10:05:00Z"',
    '"2026-11-22T10:05:00.000001Z"',
    '"9999-12-31T23:59:59.999999Z"',
  ]);
  assert.deepEqual(
    silverRowsOf(result).map((row) => row['_quality_flags']),
    [null, ['future_event_time'], ['future_event_time']],
  );
  assert.equal(result.counts.future, 2);
  assert.deepEqual(
    [...result.watermarksMicros],
    [[0, BigInt(Date.parse('2026-11-22T10:05:00Z')) * 1000n]],
  );
});

test('rows are filed by the UTC date of their own time, exact at both ends of a day', async () => {
  const result = await derive([
    '"2026-11-21T23:59:59.999999Z"',
    '"2026-11-22T00:00:00Z"',
    '"2026-11-22T01:30:00+05:45"',
    '"1969-12-31T23:59:59.999999Z"',
    '"0001-01-01T00:00:00Z"',
    '"2016-12-31T23:59:60Z"',
  ]);
  const date = (text: string): number => Date.parse(text) / 86_400_000;
  assert.deepEqual(
    silverRowsOf(result).map((row) => row['_event_date']),
    ['2026-11-21', '2026-11-22', '2026-11-21', '1969-12-31', '0001-01-01', '2017-01-01'].map(date),
  );
  const dates = result.silver.map(({ dateDays }) => dateDays);
  assert.deepEqual(
    dates,
    [...new Set(dates)].sort((a, b) => a - b),
  );
});

test('epoch numbers are read in their unit, to the microsecond and rounded down', async () => {
  const at = async (unit: 's' | 'ms' | 'us', text: string): Promise<unknown> =>
    silverRowsOf(await derive([text], unit))[0]?.['at'];
  assert.equal(await at('s', '1700000000'), 1_700_000_000_000_000n);
  assert.equal(await at('s', '1700000000.1234567'), 1_700_000_000_123_456n);
  assert.equal(await at('ms', '1700000000123'), 1_700_000_000_123_000n);
  assert.equal(await at('ms', '1.7e12'), 1_700_000_000_000_000n);
  assert.equal(await at('us', '1700000000123456'), 1_700_000_000_123_456n);
  assert.equal(await at('us', '-1'), -1n);
  assert.equal(await at('s', '-0.0000001'), -1n);
  assert.equal(await at('us', '1700000000123456789'), undefined);
  assert.equal(await at('s', '253402300799.999999'), 253_402_300_799_999_999n);
  assert.equal(await at('s', '253402300800'), undefined);
  assert.equal(await at('s', '1e999999999'), undefined);
  assert.equal(await at('s', '"1700000000"'), undefined);
});

test('V5: events before 1970 are rows without a watermark', async () => {
  const records = recordsOf(
    ['{"id":"a","at":"1969-12-31T23:59:59.999999Z"}', '{"id":"b","at":"0001-01-01T00:00:00Z"}'],
    { timestamp: ARRIVAL },
  );
  const deriver = new SilverDeriver({ event: eventOf(FIELDS), late: LATE }, new MemoryDedupIndex());
  const { watermarksMicros, counts } = await deriver.derive([bronzeInput(records)]);
  assert.equal(counts.silverRows, 2);
  assert.equal(watermarksMicros.size, 0);
});

test('a partition has its own watermark, and a duplicate can raise it', async () => {
  const base = recordsOf(
    ['{"id":"a","at":"2026-11-22T09:00:00Z"}', '{"id":"a","at":"2026-11-22T09:00:00Z"}'],
    { timestamp: ARRIVAL },
  );
  const records = [base[0]!, { ...base[1]!, partition: 1 }];
  const deriver = new SilverDeriver({ event: eventOf(FIELDS), late: LATE }, new MemoryDedupIndex());
  const { watermarksMicros, counts } = await deriver.derive([bronzeInput(records)]);
  assert.equal(counts.duplicates, 1);
  const nine = BigInt(Date.parse('2026-11-22T09:00:00Z')) * 1000n;
  assert.deepEqual(
    [...watermarksMicros],
    [
      [0, nine],
      [1, nine],
    ],
  );
});
