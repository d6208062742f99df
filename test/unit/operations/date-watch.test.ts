/** RC1, RC2: which commits changed rows of a date. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DateWatch } from '../../../src/operations/reconcile/date-watch.ts';
import { dateOf } from '../../../src/operations/reconcile/lake-view.ts';
import { SilverLake } from '../../support/silver-lake.ts';

const DATE = '2026-11-22';

test('commits of other dates and mere rearrangements are no changes; each commit is read once', async (t) => {
  const lake = await SilverLake.open();
  const { silver } = lake.tables;
  const [first] = await lake.write([{ at: `${DATE}T08:00:00Z` }]);
  const { version } = silver.snapshot;
  const files = silver.snapshot.files().filter((file) => dateOf(file) === DATE);
  const watch = new DateWatch(silver, DATE, { version, files });
  const read = t.mock.method(silver, 'commits');

  await lake.write([{ at: '2026-11-21T08:00:00Z' }]);
  const path = `${DATE}/moved.parquet`;
  const moved = await silver.commit({
    operation: 'OPTIMIZE',
    adds: [{ ...first!, path }],
    removes: [first!.path],
    dataChange: false,
    progress: [],
  });
  assert.equal(moved.kind, 'committed');
  assert.deepEqual(await watch.changesUpTo(silver.snapshot.version), []);

  await lake.write([{ at: `${DATE}T09:00:00Z` }]);
  const added = silver.snapshot.version;
  // What the rearranged file held is of the date, though no commit of the stream brought that file.
  await lake.write([], { removes: [path], editAs: 'REBUILD' });
  const removed = silver.snapshot.version;
  const versions = async (upTo: number): Promise<number[]> =>
    (await watch.changesUpTo(upTo)).map((commit) => commit.version);
  assert.deepEqual(await versions(removed), [added, removed]);
  assert.deepEqual(await versions(added), [added]);
  assert.deepEqual(
    read.mock.calls.map((call) => call.arguments),
    [
      [version, added - 1],
      [added - 1, removed],
    ],
  );
});
