import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TumblingWindows } from '../../../src/pipeline/gold/windows.ts';

const HOUR = 3_600_000;
const DAY = 86_400_000;

const WINDOWS = fc.oneof(
  fc.constantFrom(1, 1000, 60_000, 420_000, HOUR, 5_400_000, DAY, 7 * DAY),
  fc.integer({ min: 1, max: 10 * DAY }),
);
const MICROS = fc.oneof(
  fc.bigInt(-10_000_000_000n, 10_000_000_000n),
  fc.bigInt(-8_000_000_000_000_000_000n, 8_000_000_000_000_000_000n),
);

function startOf(windows: TumblingWindows, micros: bigint): number {
  return windows.windowStartMs(Number(micros >> 32n), Number(BigInt.asIntN(32, micros)));
}

test('a window is aligned to the epoch and contains its instant, before the epoch too', () => {
  fc.assert(
    fc.property(WINDOWS, MICROS, (windowMs, micros) => {
      const start = BigInt(startOf(new TumblingWindows(windowMs), micros));
      assert.equal(start % BigInt(windowMs), 0n);
      assert.ok(start * 1000n <= micros && micros < (start + BigInt(windowMs)) * 1000n);
    }),
  );
});

test('the last microsecond before a window belongs to the window before', () => {
  const windows = new TumblingWindows(HOUR);
  assert.equal(startOf(windows, 0n), 0);
  assert.equal(startOf(windows, -1n), -HOUR);
  assert.equal(startOf(windows, -3_600_000_000n), -HOUR);
  assert.equal(startOf(windows, 3_599_999_999n), 0);
  const year9999 = 253_402_300_800_000_000n;
  assert.equal(startOf(windows, year9999 - 1n), Number(year9999 / 1000n) - HOUR);
});

test('a slot holds whole windows of one UTC date and knows its span', () => {
  fc.assert(
    fc.property(WINDOWS, MICROS, (windowMs, micros) => {
      const windows = new TumblingWindows(windowMs);
      const slot = windows.slotOf(micros);
      const { fromMs, toMs } = windows.spanOfSlot(slot);
      assert.ok(BigInt(fromMs) * 1000n <= micros && micros < BigInt(toMs) * 1000n);
      assert.equal((toMs - fromMs) % windowMs, 0);
      assert.equal(windows.slotOf(BigInt(fromMs) * 1000n), slot);
      assert.equal(windows.slotOf(BigInt(toMs) * 1000n - 1n), slot);
      assert.notEqual(windows.slotOf(BigInt(toMs) * 1000n), slot);
      assert.notEqual(windows.slotOf(BigInt(fromMs) * 1000n - 1n), slot);
      const lastWindow = toMs - windowMs;
      assert.equal(windows.dateOfSlot(slot), Math.floor(fromMs / DAY));
      assert.equal(windows.dateOfSlot(slot), Math.floor(lastWindow / DAY));
      assert.ok(windows.slotsOfDate(windows.dateOfSlot(slot)).includes(slot));
    }),
  );
});

test('the slots of a date cover the date without overlap, for every window that divides a day', () => {
  const window = fc.constantFrom(1000, 60_000, 2_700_000, HOUR, 5_400_000, 6 * HOUR, DAY);
  fc.assert(
    fc.property(window, fc.integer({ min: -800_000, max: 2_900_000 }), (windowMs, date) => {
      const windows = new TumblingWindows(windowMs);
      let at = date * DAY;
      for (const slot of windows.slotsOfDate(date)) {
        assert.equal(windows.dateOfSlot(slot), date);
        assert.equal(windows.spanOfSlot(slot).fromMs, at);
        at = windows.spanOfSlot(slot).toMs;
      }
      assert.equal(at, (date + 1) * DAY);
    }),
  );
});

test('an instant beyond the range of dates is refused', () => {
  assert.throws(() => new TumblingWindows(HOUR).slotOf(2n ** 63n - 1n), { kind: 'invalid' });
});
