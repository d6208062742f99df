/** The ledger beside the running pipeline: what it says, when, and how often it looks. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Clock, systemAmbient } from '../../../../src/ambient.ts';
import { applyRetention } from '../../../../src/operations/retention/archive-bronze.ts';
import { DeltaTable } from '../../../../src/storage/delta/delta-table.ts';
import { LakeCatalog } from '../../../../src/storage/query/lake-catalog.ts';
import { LedgerWatch } from '../../../../src/supervisor/http/ledger-watch.ts';
import { covers, DAY_MICROS, LakeFixture } from '../../../support/lake-fixture.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const LOOK_MS = 10_000;

async function world(t: TestContext) {
  const lake = await LakeFixture.open(t);
  const clock = new ManualClock();
  const catalog = new LakeCatalog(lake.delta);
  const watch = new LedgerWatch(lake.config, (root) => catalog.table(root), clock);
  await lake.bronze([{ offset: 0, id: 'a' }], [covers(0, 1)], { 0: 1 });
  await lake.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  await lake.gold(1, 1);
  return { lake, clock, watch };
}

test('LW1 a violation counts once it was found twice in a row; LW2 looks are paced', async (t) => {
  const { lake, clock, watch } = await world(t);
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

test('rows that retention moved to the archive are still counted', async (t) => {
  const { lake, clock, watch } = await world(t);
  const nowMs = Number(DAY_MICROS / 1000n) + 100 * 86_400_000;
  const later = Object.assign(Object.create(systemAmbient.clock) as Clock, { nowMs: () => nowMs });
  const delta = { ...lake.delta, ambient: { ...systemAmbient, clock: later } };
  const { archived } = await applyRetention({
    config: lake.config,
    delta,
    open: (root) => DeltaTable.open(delta, root),
  });
  assert.equal(archived.rows, 1);
  for (let look = 0; look < 2; look++) {
    const { violations, stages } = await watch.look();
    assert.deepEqual([violations, stages.bronzeRows], [[], 1n]);
    clock.advance(LOOK_MS);
  }
});

test('a log that cannot be read is a violation, not an error', async (t) => {
  const { lake, clock, watch } = await world(t);
  await watch.look();
  await lake.store.put(`gold/hourly/_delta_log/${'2'.padStart(20, '0')}.json`, Buffer.from('{'));
  for (let look = 0; look < 2; look++) {
    clock.advance(LOOK_MS);
    await watch.look();
  }
  const { violations } = await watch.look();
  assert.deepEqual(
    violations.map(({ kind, table }) => [kind, table]),
    [['unreadable', 'gold.hourly']],
  );
});
