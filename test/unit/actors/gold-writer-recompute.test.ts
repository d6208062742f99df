/** Slots that are computed again: with bounded memory, and beside rows that are added (GW7, GT1). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SilverLake } from '../../support/silver-lake.ts';

const DATES = ['2026-11-19', '2026-11-20', '2026-11-21'];

test('a rebuild of several dates is computed and stored a date at a time (GW7)', async (t) => {
  const lake = await SilverLake.open();
  await lake.write(DATES.map((date) => ({ at: `${date}T01:00:00Z` })));
  await lake.stream(t);
  const removes = lake.tables.silver.snapshot.files().map(({ path }) => path);
  await lake.write(
    DATES.map((date) => ({ at: `${date}T01:30:00Z`, bytes: 5 })),
    { removes, editAs: 'REBUILD' },
  );
  const { store } = lake;
  const steps: string[] = [];
  const put = store.put.bind(store);
  t.mock.method(store, 'put', (key: string, body: Uint8Array) => {
    const date = /^gold\/hourly\/([-\d]+)\//.exec(key)?.[1];
    if (date !== undefined) steps.push(`put ${date}`);
    return put(key, body);
  });
  const get = store.get.bind(store);
  t.mock.method(store, 'get', (...call: Parameters<typeof get>) => {
    const date = /^silver\/usage\/([-\d]+)\//.exec(call[0])?.[1];
    if (date !== undefined) steps.push(`get ${date}`);
    return get(...call);
  });
  await lake.stream(t);
  // The rebuild's files are read once as what it brought, then date by date as what silver has.
  const again = steps.slice(DATES.length);
  assert.deepEqual(
    again,
    DATES.flatMap((date) => [`get ${date}`, `put ${date}`]),
  );
  assert.deepEqual(
    (await lake.gold()).map((row) => [row['n'], row['bytes']]),
    DATES.map(() => [1n, 5n]),
  );
});

test('rows that came in the span of a rebuild count once, in what was rebuilt and beside it (GT1)', async (t) => {
  const lake = await SilverLake.open();
  await lake.write([{ at: '2026-11-20T01:00:00Z' }, { at: '2026-11-21T01:00:00Z' }]);
  await lake.stream(t);
  const removes = lake.tables.silver.snapshot
    .files()
    .map(({ path }) => path)
    .filter((path) => path.startsWith('2026-11-20'));
  await lake.write([{ at: '2026-11-20T01:30:00Z', bytes: 3 }], { removes, editAs: 'REBUILD' });
  await lake.write([
    { at: '2026-11-20T01:40:00Z', bytes: 10 },
    { at: '2026-11-21T01:40:00Z', bytes: 20 },
  ]);
  await lake.stream(t);
  assert.deepEqual(
    (await lake.gold()).map((row) => [row['n'], row['bytes']]),
    [
      [2n, 13n],
      [2n, 21n],
    ],
  );
});
