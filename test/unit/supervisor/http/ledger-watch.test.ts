/** The ledger beside the running pipeline: what it says, when, and how often it looks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allTables } from '../../../../src/supervisor/http/pipeline-facts.ts';
import { LedgerWatch } from '../../../../src/supervisor/http/ledger-watch.ts';
import { covers, LakeFixture } from '../../../support/lake-fixture.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const LOOK_MS = 10_000;

test('LW1 a violation counts once it was found twice in a row; LW2 looks are paced', async (t) => {
  const lake = await LakeFixture.open(t);
  const clock = new ManualClock();
  const watch = new LedgerWatch(lake.config, allTables(lake.tables), clock);
  await lake.bronze([{ offset: 0, id: 'a' }], [covers(0, 1)], { 0: 1 });
  await lake.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  await lake.gold(1, 1);
  const first = await watch.look();
  assert.deepEqual([first.violations, first.stages.silverRows], [[], 1n]);

  await lake.gold(2, 1);
  assert.equal(await watch.look(), first, 'it does not look again at once');
  clock.advance(LOOK_MS);
  assert.deepEqual((await watch.look()).violations, [], 'once is not enough');
  clock.advance(LOOK_MS);
  const [violation] = (await watch.look()).violations;
  assert.deepEqual([violation?.kind, violation?.table], ['gold-mismatch', 'gold.hourly']);

  await lake.gold(1, 1);
  clock.advance(LOOK_MS);
  assert.deepEqual((await watch.look()).violations, []);
});
