/** CL1, CL2, P6: watermarks of partitions, idle ones, and when a date is over. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  dateState,
  overallWatermark,
  type PartitionClock,
} from '../../../src/pipeline/gold/closing.ts';
import { dateDaysOf } from '../../../src/pipeline/gold/silver-files.ts';

const LATE = { afterMs: 7_200_000, futureToleranceMs: 300_000, idlePartitionMs: 60_000 };
const at = (text: string): number => Date.parse(text);
const micros = (text: string): bigint => BigInt(at(text)) * 1000n;
const NOW = at('2026-11-23T12:00:00Z');

function clock(
  partition: number,
  watermark: string | undefined,
  arrivedMsAgo: number | undefined,
): PartitionClock {
  return {
    partition,
    watermarkMicros: watermark === undefined ? undefined : micros(watermark),
    arrivedMs: arrivedMsAgo === undefined ? undefined : NOW - arrivedMsAgo,
    isAheadOfSilver: false,
  };
}

test('CL1 the slowest partition that gets records decides', () => {
  const clocks = [clock(0, '2026-11-23T11:59:00Z', 0), clock(1, '2026-11-23T11:30:00Z', 59_999)];
  assert.equal(overallWatermark(clocks, LATE, NOW), micros('2026-11-23T11:30:00Z'));
});

test('CL1 an idle partition does not hold the others back, from the very millisecond', () => {
  const clocks = [clock(0, '2026-11-23T11:59:00Z', 0), clock(1, '2026-11-20T00:00:00Z', 60_000)];
  assert.equal(overallWatermark(clocks, LATE, NOW), micros('2026-11-23T11:59:00Z'));
});

test('CL1 when all are idle the furthest counts, and a partition without events never does', () => {
  const idle = [
    clock(0, '2026-11-23T09:00:00Z', 90_000),
    clock(1, '2026-11-23T10:00:00Z', 80_000),
    clock(2, undefined, 10),
    clock(3, undefined, undefined),
  ];
  assert.equal(overallWatermark(idle, LATE, NOW), micros('2026-11-23T10:00:00Z'));
  assert.equal(overallWatermark([], LATE, NOW), undefined);
});

test('CL2 a date is open until late.after past its end by the wall clock', () => {
  const date = dateDaysOf('2026-11-22');
  const untilMs = at('2026-11-23T02:00:00Z');
  assert.deepEqual(dateState(date, [], LATE, untilMs - 1), { kind: 'open', untilMs });
  assert.deepEqual(dateState(date, [], LATE, untilMs), { kind: 'over' });
});

test('CL2 a watermark past it ends a date as well, for sources whose clock is ahead', () => {
  const date = dateDaysOf('2026-12-24');
  const before = [clock(0, '2026-12-25T01:59:59.999Z', 0)];
  const past = [clock(0, '2026-12-25T02:00:00Z', 0)];
  assert.equal(dateState(date, before, LATE, NOW).kind, 'open');
  assert.equal(dateState(date, past, LATE, NOW).kind, 'over');
});

test('CL2 a date that a partition is still working through is told apart', () => {
  const date = dateDaysOf('2026-11-20');
  const behind = [clock(0, '2026-11-23T11:00:00Z', 0), clock(1, '2026-11-20T23:59:59Z', 0)];
  assert.deepEqual(dateState(date, behind, LATE, NOW), { kind: 'arriving', partition: 1 });
  assert.equal(dateState(dateDaysOf('2026-11-19'), behind, LATE, NOW).kind, 'over');
});

test('CL1 a partition whose records are not all in silver is under way, however long it is quiet', () => {
  const date = dateDaysOf('2026-11-22');
  const ahead = (watermark: string | undefined): PartitionClock[] => [
    clock(0, '2026-11-23T11:00:00Z', 0),
    { ...clock(3, watermark, 40_000_000), isAheadOfSilver: true },
  ];
  const arriving = { kind: 'arriving', partition: 3 };
  assert.deepEqual(dateState(date, ahead('2026-11-22T22:00:00Z'), LATE, NOW), arriving);
  // What is on its way may be of the date, and in time.
  assert.deepEqual(dateState(date, ahead('2026-11-23T01:59:59.999Z'), LATE, NOW), arriving);
  assert.deepEqual(dateState(date, ahead(undefined), LATE, NOW), arriving);
  assert.deepEqual(dateState(date, ahead('2026-11-23T02:00:00Z'), LATE, NOW), { kind: 'over' });
});
