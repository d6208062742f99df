/** When repeated jobs are due. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { msUntilDue } from '../../../src/storage/queue/rhythm.ts';

const at = (text: string): number => Date.parse(text);

test('a daily job is due at the next such time, in UTC, and never at once', () => {
  const twoOClock = { dailyAtMinute: 120 };
  assert.equal(msUntilDue(twoOClock, at('2026-11-22T00:00:00Z')), 2 * 3_600_000);
  assert.equal(msUntilDue(twoOClock, at('2026-11-22T01:59:59.999Z')), 1);
  assert.equal(msUntilDue(twoOClock, at('2026-11-22T02:00:00Z')), 86_400_000);
  assert.equal(msUntilDue(twoOClock, at('2026-11-22T23:00:00Z')), 3 * 3_600_000);
  assert.equal(msUntilDue({ dailyAtMinute: 0 }, at('2026-12-31T23:59:00Z')), 60_000);
});

test('a job of every so often is due after that long, and timers do not overflow', () => {
  assert.equal(msUntilDue({ everyMs: 500 }, at('2026-11-22T00:00:00Z')), 500);
  assert.equal(msUntilDue({ everyMs: 90 * 86_400_000 }, 0), 2 ** 31 - 1);
});
