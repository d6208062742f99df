/** SP1, SP2: what a span of silver commits means for gold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AggregateProgress,
  planSpan,
  type SilverChange,
} from '../../../src/actors/gold-writer/span-plan.ts';
import { dateDaysOf, type SilverFile } from '../../../src/pipeline/gold/silver-files.ts';
import { TumblingWindows } from '../../../src/pipeline/gold/windows.ts';

const HOUR = 3_600_000_000;
const DATE = '2026-11-22';
const START = dateDaysOf(DATE) * 24 * HOUR;

const file = (path: string, fromHour: number, toHour: number, date = DATE): SilverFile => ({
  path,
  date,
  minMicros: START + fromHour * HOUR,
  maxMicros: START + toHour * HOUR - 1,
});

function aggregate(options: Partial<AggregateProgress> = {}): AggregateProgress {
  return {
    name: 'hourly',
    windows: new TumblingWindows(3_600_000),
    covered: 0,
    finalVersion: () => undefined,
    ...options,
  };
}

const added = (version: number, ...adds: SilverFile[]): SilverChange => ({
  version,
  adds,
  removes: [],
});

test('a file goes to the aggregates that do not cover it yet', () => {
  const daily = aggregate({ name: 'daily', covered: 1 });
  const plan = planSpan(
    [added(1, file('a', 0, 1)), added(2, file('b', 1, 2))],
    [aggregate(), daily],
  );
  assert.deepEqual(plan.inputs, [
    { path: 'a', aggregates: ['hourly'] },
    { path: 'b', aggregates: ['hourly', 'daily'] },
  ]);
  assert.deepEqual([plan.recompute, plan.marks], [[], []]);
});

test('SP1 slots that lost rows are computed again, each once, for every aggregate that follows', () => {
  const removes = [file('old', 2, 4), file('older', 3, 5)];
  const daily = aggregate({ name: 'daily', windows: new TumblingWindows(86_400_000) });
  const late = aggregate({ name: 'behind us', covered: 7 });
  const plan = planSpan([{ version: 7, adds: [], removes }], [aggregate(), daily, late]);
  assert.deepEqual(
    plan.recompute.map(({ aggregate: name, startMicros, endMicros }) => [
      name,
      (startMicros - START) / HOUR,
      (endMicros - START) / HOUR,
    ]),
    [
      ['hourly', 2, 3],
      ['hourly', 3, 4],
      ['hourly', 4, 5],
      ['daily', 0, 24],
    ],
  );
});

test('SP1 a removed file whose times nobody states touches its whole date', () => {
  const removes = [{ path: 'x', date: DATE, minMicros: START, maxMicros: START + 24 * HOUR - 1 }];
  const plan = planSpan([{ version: 1, adds: [], removes }], [aggregate()]);
  assert.equal(plan.recompute.length, 24);
});

test('SP2 a final date takes nothing in: rows after its version mark it, rows up to it are in it', () => {
  const final = aggregate({ finalVersion: (date) => (date === DATE ? 5 : undefined) });
  const other = file('other', 24, 25, '2026-11-23');
  const plan = planSpan(
    [
      added(5, file('in the batch', 0, 1)),
      added(6, file('late', 0, 1), other),
      { version: 8, adds: [], removes: [file('taken away', 0, 1)] },
    ],
    [final],
  );
  assert.deepEqual(plan.inputs, [
    { path: 'in the batch', aggregates: [] },
    { path: 'late', aggregates: [] },
    { path: 'other', aggregates: ['hourly'] },
  ]);
  assert.deepEqual(plan.recompute, []);
  assert.deepEqual(plan.marks, [{ aggregate: 'hourly', date: DATE, silverVersion: 8 }]);
});

test('SP2 what the batch has already is no reason to reconcile again', () => {
  const final = aggregate({ finalVersion: () => 9 });
  assert.deepEqual(planSpan([added(9, file('a', 0, 1))], [final]).marks, []);
});
