/** Restore: what comes back, what it excludes, and what it refuses. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import {
  type HousekeepingLake,
  openNamedTables,
} from '../../../src/operations/housekeeping/lake-tables.ts';
import { optimizeTable } from '../../../src/operations/housekeeping/optimize.ts';
import { restoreTable } from '../../../src/operations/housekeeping/restore.ts';
import { goldEditsAppId, silverAppId, silverEditsAppId } from '../../../src/pipeline/progress.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { covers, LakeFixture } from '../../support/lake-fixture.ts';

async function streamedLake(t: TestContext) {
  const fixture = await LakeFixture.open(t);
  for (const k of [0, 1, 2, 3]) {
    await fixture.bronze([{ offset: k, id: `e${k}` }], [covers(k, k + 1)], { 0: k + 1 });
    await fixture.silver([{ offset: k, id: `e${k}` }], k + 1, { silverRows: 1 });
    await fixture.gold(k + 1, k + 1);
  }
  const { store, codec, config } = fixture;
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const open = (root: string) => DeltaTable.open(delta, root);
  const lake: HousekeepingLake = { config, delta, open };
  const named = async (role: string) =>
    (await openNamedTables(lake)).find((table) => table.role === role)!;
  return { fixture, lake, named };
}

test('silver is restored as an edit; progress stays (RE1, RE3)', async (t) => {
  const { fixture, lake, named } = await streamedLake(t);
  const silver = await named('silver');
  const dry = await restoreTable(lake, silver, { version: 2, dryRun: true });
  assert.deepEqual([dry.filesAdded, dry.filesRemoved, dry.version], [0, 2, undefined]);
  const done = await restoreTable(lake, silver, { version: 2 });
  assert.equal(done.version, 5);
  assert.match(done.remedy, /tidemark replay/);
  const { snapshot } = await named('silver').then(({ table }) => table);
  assert.deepEqual(
    snapshot.files().map(({ path }) => path),
    (await silver.table.snapshotAt(2)).files().map(({ path }) => path),
  );
  const bronzeId = fixture.tables.bronze.tableId;
  assert.equal(snapshot.progress(silverAppId('usage', bronzeId, 0)), 4n);
  assert.equal(snapshot.progress(silverEditsAppId('usage', bronzeId)), 1n);
  const back = await restoreTable(lake, await named('silver'), { version: 4 });
  assert.deepEqual([back.filesAdded, back.filesRemoved], [2, 0]);
});

test('a restore that the stream overtakes takes in what came (RE3)', async (t) => {
  const { fixture, lake, named } = await streamedLake(t);
  const silver = await named('silver');
  const commit = silver.table.commit.bind(silver.table);
  let commits = 0;
  silver.table.commit = async (request) => {
    if (commits++ === 0) await fixture.silver([{ offset: 9, id: 'late' }], 5, { silverRows: 1 });
    return commit(request);
  };
  const { filesRemoved } = await restoreTable(lake, silver, { version: 1 });
  assert.deepEqual([commits, filesRemoved], [2, 4]);
  assert.equal((await named('silver')).table.snapshot.fileCount, 1);
});

test('gold counts the edit, for its writer to begin again (RE3)', async (t) => {
  const { fixture, lake, named } = await streamedLake(t);
  const done = await restoreTable(lake, await named('gold'), { version: 2 });
  assert.deepEqual([done.filesAdded, done.filesRemoved], [1, 1]);
  assert.match(done.remedy, /tidemark reconcile/);
  const { snapshot } = (await named('gold')).table;
  assert.equal(snapshot.progress(goldEditsAppId('usage', fixture.tables.silver.tableId)), 1n);
});

test('what nothing could bring back is not taken out (RE2)', async (t) => {
  const { fixture, lake, named } = await streamedLake(t);
  await fixture.deadLetters([{ offset: 4, id: undefined, flag: 'malformed_json' }], 4);
  for (const role of ['bronze', 'dead-letter']) {
    const restoring = restoreTable(lake, await named(role), { version: 0 });
    await assert.rejects(restoring, { kind: 'invalid', message: /would be lost for good/ });
  }
  assert.equal((await named('dead-letter')).table.snapshot.fileCount, 1);
});

test('nothing is restored while a file of then is gone (RE4)', async (t) => {
  const { fixture, lake, named } = await streamedLake(t);
  const gold = await named('gold');
  const [file] = (await gold.table.snapshotAt(2)).files();
  await fixture.store.delete(`${gold.table.root}/${file!.path}`);
  await assert.rejects(restoreTable(lake, gold, { version: 2 }), { code: 'TM_OBJECT_MISSING' });
  assert.equal((await named('gold')).table.snapshot.version, 4);
});

test('compaction rewrites what followers have read, row for row (OP1, OP2, CT1, CT2)', async (t) => {
  const { fixture, lake, named } = await streamedLake(t);
  // Not read by gold.
  await fixture.silver([{ offset: 9, id: 'new' }], 4, { silverRows: 1 });
  const silver = await named('silver');
  const before = silver.table.snapshot.files();
  const done = await optimizeTable(lake, silver, {
    target: { fileBytes: 2 ** 20, fileRows: 1_000 },
    ageMinMs: 0,
    filesMin: 2,
    share: 1,
  });
  assert.deepEqual([done.filesRemoved, done.filesAdded, done.rows], [4, 1, 4]);
  const after = (await named('silver')).table;
  const [commit] = await after.commits(after.snapshot.version - 1);
  assert.ok([...commit!.adds, ...commit!.removes].every(({ dataChange }) => !dataChange));
  const merged = commit!.adds[0]!;
  assert.ok(!before.some(({ path }) => path === merged.path));
  const key = `silver/usage/_dedup/${merged.path.replace('.parquet', '.fp')}`;
  assert.equal((await fixture.store.head(key))?.sizeBytes, 4 * 24);
  assert.equal(after.snapshot.fileCount, 2);
});
