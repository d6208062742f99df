/** A gold table that begins late, over a silver whose log was cleaned up (GW6). */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { followedUpTo } from '../../../src/operations/housekeeping/lake-tables.ts';
import { readLakeState } from '../../../src/operations/ledger/lake-state.ts';
import { statedEvidence } from '../../../src/operations/ledger/statements.ts';
import { goldAppId } from '../../../src/pipeline/progress.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { SilverLake } from '../../support/silver-lake.ts';

/** Gold covers silver; then `daily` is taken away, and all of silver's log that no reader needs. */
async function lakeWithNewAggregate(t: TestContext) {
  const lake = await SilverLake.open();
  const first = await lake.write([
    { at: '2026-11-20T01:00:00Z', bytes: 1 },
    { at: '2026-11-21T01:00:00Z', bytes: 2 },
  ]);
  await lake.write([{ at: '2026-11-20T01:30:00Z', bytes: 4 }]);
  await lake.write([{ at: '2026-11-20T02:00:00Z', bytes: 8 }], {
    removes: [first[0]!.path],
    editAs: 'REBUILD',
  });
  await lake.stream(t);
  const { silver } = lake.tables;
  const daily = lake.tables.gold.get('daily')!;
  const before = { hourly: await lake.gold('hourly'), daily: await lake.gold('daily') };
  await silver.checkpoint();
  for (let version = 0; version < silver.snapshot.version; version++) {
    await lake.store.delete(`${silver.root}/_delta_log/${String(version).padStart(20, '0')}.json`);
  }
  for await (const { key } of lake.store.list(`${daily.root}/`)) await lake.store.delete(key);
  const reopened = await lake.elsewhere();
  Object.assign(lake.tables, { silver: reopened.silver, gold: reopened.gold });
  return { lake, before, reopened };
}

test('begins with the newest silver in one commit, and goes on from there (GW6)', async (t) => {
  const { lake, before } = await lakeWithNewAggregate(t);
  await lake.stream(t);
  const daily = lake.tables.gold.get('daily')!;
  assert.equal((await daily.refresh()).version, 1);
  assert.deepEqual(
    (await lake.gold('daily')).map((row) => row['n']),
    before.daily.map((row) => row['n']),
  );
  assert.deepEqual(await lake.gold('hourly'), before.hourly, 'the others are left alone');
  await lake.write([{ at: '2026-11-20T03:00:00Z' }]);
  await lake.stream(t);
  assert.deepEqual(
    (await lake.gold('daily')).map((row) => row['n']),
    [3n, 1n],
  );
});

test('nobody is held up by a table that covers nothing yet (GW6)', async (t) => {
  const { lake, reopened } = await lakeWithNewAggregate(t);
  const { config, delta, silver } = reopened;
  const open = (root: string) => DeltaTable.open(delta, root);
  const named = { name: 'silver.usage', role: 'silver' as const, table: silver };
  const covered = lake.tables.gold
    .get('hourly')!
    .snapshot.progress(goldAppId(config.name, silver.tableId));
  assert.equal(await followedUpTo({ config, delta, open }, named), Number(covered));
  const { gold } = await statedEvidence(config, await readLakeState(config, open));
  assert.deepEqual(
    gold.map(({ table }) => table),
    ['gold.hourly'],
  );
});
