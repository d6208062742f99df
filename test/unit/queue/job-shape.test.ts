/** Jobs as they come out of a queue that anybody may have written to, and when they are tried again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseJob } from '../../../src/storage/queue/job-shape.ts';
import { retryDelayMs } from '../../../src/storage/queue/retry-delay.ts';

test('a flat record under a proper id is a job', () => {
  const data = { table: 'bronze/api_usage', version: 12, full: false, '': '' };
  assert.deepEqual(parseJob('api_usage-bronze-v12', data), { id: 'api_usage-bronze-v12', data });
  assert.deepEqual(parseJob('a.b_c-1', {}), { id: 'a.b_c-1', data: {} });
});

test('anything else is none', () => {
  const badIds = [undefined, null, 7, '', '7', '../x', 'a/b', 'a b', 'a:b', 'ä', 'x'.repeat(257)];
  for (const id of badIds) assert.equal(parseJob(id, {}), undefined, String(id));
  const badData: unknown[] = [
    undefined,
    null,
    'text',
    [],
    { nested: {} },
    { list: [] },
    { none: null },
    { gone: undefined },
    { nan: Number.NaN },
    { inf: Number.POSITIVE_INFINITY },
    { long: 'x'.repeat(1_025) },
    JSON.parse('{"__proto__": "x"}'),
    Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`f${i}`, i])),
  ];
  for (const data of badData) assert.equal(parseJob('id', data), undefined, JSON.stringify(data));
});

test('waits between tries double up to the limit, with jitter of half a step', () => {
  const delays = { baseMs: 100, maxMs: 1_000 };
  const at = (failures: number, random: number): number =>
    retryDelayMs(failures, delays, { next: () => random });
  assert.deepEqual(
    [1, 2, 3, 4, 5, 1e9].map((failures) => at(failures, 0)),
    [50, 100, 200, 400, 500, 500],
  );
  assert.deepEqual(
    [1, 2, 3, 4, 5, 1e9].map((failures) => at(failures, 0.999_999)),
    [100, 200, 400, 800, 1_000, 1_000],
  );
});
