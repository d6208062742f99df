/** Retention: what moves, what expires, and a crash at every step. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import {
  type HousekeepingLake,
  openNamedTables,
} from '../../../src/operations/housekeeping/lake-tables.ts';
import { optimizeTable } from '../../../src/operations/housekeeping/optimize.ts';
import { applyRetention } from '../../../src/operations/retention/archive-bronze.ts';
import { COVERAGE_TAG, parseCoverage } from '../../../src/pipeline/bronze.ts';
import { expiredAppId, expiredBeforeAppId, tableRoots } from '../../../src/pipeline/progress.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { numRecordsOf } from '../../../src/storage/delta/snapshot.ts';
import type { ObjectStore } from '../../../src/storage/object-store/object-store.ts';
import { FaultScript, FaultyObjectStore } from '../../support/faulty-object-store.ts';
import { covers, LakeFixture } from '../../support/lake-fixture.ts';

const DAY_MS = 86_400_000;
/** Days after the fixture's rows at which the hot span of 90 days, and the archive's, are over. */
const COLD_DAYS = 92;
const EXPIRED_DAYS = 7 * 365 + 2;

/** Three commits of bronze, all read by silver. */
async function coldLake(t: TestContext): Promise<LakeFixture> {
  const lake = await LakeFixture.open(t);
  for (const k of [0, 1, 2]) {
    const records = [
      { offset: 2 * k, id: `a${k}` },
      { offset: 2 * k + 1, id: `b${k}` },
    ];
    await lake.bronze(records, [covers(2 * k, 2 * k + 2)], { 0: 2 * k + 2 });
  }
  await lake.silver([], 3, {});
  return lake;
}

/** The lake `days` after its rows, through a link of its own. */
function daysLater(lake: LakeFixture, days: number, store: ObjectStore = lake.store) {
  const nowMs = Date.parse('2026-11-22T12:00:00Z') + days * DAY_MS;
  const clock = {
    nowMs: () => nowMs,
    monotonicMs: () => systemAmbient.clock.monotonicMs(),
    after: systemAmbient.clock.after.bind(systemAmbient.clock),
    sleep: async () => {},
    yieldTurn: () => systemAmbient.clock.yieldTurn(),
  };
  const delta = {
    store,
    codec: lake.codec,
    ambient: { ...systemAmbient, clock },
    logger: silentLogger,
  };
  const housekeeping: HousekeepingLake = {
    config: lake.config,
    delta,
    open: (root) => DeltaTable.open(delta, root),
  };
  return housekeeping;
}

/** Offsets stated by the coverage of both tables, and rows, by path so that none counts twice. */
async function records(lake: HousekeepingLake) {
  const roots = tableRoots(lake.config);
  const files = new Map(
    (await Promise.all([roots.archive, roots.bronze].map((root) => lake.open(root))))
      .flatMap((table) => table?.snapshot.files() ?? [])
      .map((file) => [file.path, file]),
  );
  const offsets = [...files.values()].flatMap(({ tags }) =>
    parseCoverage(tags?.[COVERAGE_TAG] ?? '[]').map(({ from, to }) => `${from}-${to}`),
  );
  const rows = [...files.values()].reduce((sum, { stats }) => sum + numRecordsOf(stats)!, 0);
  return { offsets: offsets.sort(), rows };
}

const ALL = { offsets: ['0-2', '2-4', '4-6'], rows: 6 };

async function filesOf(lake: HousekeepingLake, root: string): Promise<number | undefined> {
  return (await lake.open(root))?.snapshot.fileCount;
}

test('rows stay in bronze while they are hot', async (t) => {
  const lake = daysLater(await coldLake(t), 80);
  const { archived } = await applyRetention(lake);
  assert.equal(archived.files, 0);
  assert.equal(await filesOf(lake, tableRoots(lake.config).bronze), 3);
});

test('a dry run says what would move and writes nothing', async (t) => {
  const lake = daysLater(await coldLake(t), COLD_DAYS);
  const before = (await lake.open('bronze/usage'))!.snapshot.version;
  const { archived, archivedBefore } = await applyRetention(lake, { dryRun: true });
  assert.deepEqual([archived.files, archived.rows], [3, 6]);
  assert.equal(archivedBefore, '2026-11-24');
  assert.equal((await lake.open('bronze/usage'))!.snapshot.version, before);
  assert.equal(await filesOf(lake, tableRoots(lake.config).archive), undefined);
});

test('cold rows move with their coverage, and bronze is append-only again (RT1, RT4)', async (t) => {
  const lake = daysLater(await coldLake(t), COLD_DAYS);
  const roots = tableRoots(lake.config);
  assert.equal((await applyRetention(lake)).archived.files, 3);
  assert.deepEqual([await filesOf(lake, roots.bronze), await filesOf(lake, roots.archive)], [0, 3]);
  assert.deepEqual(await records(lake), ALL);
  const bronze = (await lake.open(roots.bronze))!;
  assert.equal(bronze.snapshot.configuration['delta.appendOnly'], 'true');
  assert.equal((await applyRetention(lake)).archived.files, 0);
  assert.equal((await lake.open(roots.bronze))!.snapshot.version, bronze.snapshot.version);
});

test('rows that silver has not read stay (RT3)', async (t) => {
  const fixture = await coldLake(t);
  await fixture.bronze([{ offset: 6, id: 'x' }], [covers(6, 7)], { 0: 7 });
  const lake = daysLater(fixture, COLD_DAYS);
  assert.equal((await applyRetention(lake)).archived.files, 3);
  assert.equal(await filesOf(lake, 'bronze/usage'), 1);
});

test('the stream commits across a retention run as if nothing had happened (RT4)', async (t) => {
  const fixture = await coldLake(t);
  const base = fixture.tables.bronze.snapshot;
  await applyRetention(daysLater(fixture, COLD_DAYS));
  const file = base.files()[0]!;
  const outcome = await fixture.tables.bronze.commit({
    operation: 'STREAMING UPDATE',
    adds: [{ ...file, path: `${file.path}.new` }],
    progress: [],
    basedOn: base,
  });
  assert.equal(outcome.kind, 'committed');
});

test('compaction leaves the dates of the archive alone, and is fenced by the line (RT2)', async (t) => {
  const fixture = await coldLake(t);
  const lake = daysLater(fixture, COLD_DAYS);
  const [bronze] = await openNamedTables(lake);
  const stale = { ...bronze!, table: (await lake.open('bronze/usage'))! };
  const optimize = () =>
    optimizeTable(lake, stale, {
      target: { fileBytes: 2 ** 20, fileRows: 1_000 },
      ageMinMs: 0,
      filesMin: 2,
      share: 1,
    });
  // The line moves between compaction's look at the table and its commit.
  const commit = stale.table.commit.bind(stale.table);
  let isMoved = false;
  stale.table.commit = async (request) => {
    if (!isMoved) await applyRetention(lake);
    isMoved = true;
    return commit(request);
  };
  const fenced = await optimize();
  assert.deepEqual([isMoved, fenced.conflicts, fenced.filesAdded], [true, 1, 0]);
  assert.deepEqual(await records(lake), ALL);
  assert.equal((await optimize()).filesRemoved, 0);
});

test('a crash at any step loses nothing, and the next run finishes (RT1)', async (t) => {
  const steps = [
    ['createIfAbsent', /^bronze\/usage\/_delta_log/],
    ['put', /^archive\/.*parquet$/],
    ['createIfAbsent', /^archive\/.*_delta_log/],
  ] as const;
  let crashes = 0;
  for (const [operation, key] of steps) {
    for (let nth = 0; ; nth++) {
      const fixture = await coldLake(t);
      const calm = daysLater(fixture, COLD_DAYS);
      const script = new FaultScript();
      let seen = 0;
      const link = new FaultyObjectStore(fixture.store, {
        clock: systemAmbient.clock,
        // From the nth such write on, the process is as good as dead.
        plan: (what, where) => {
          if (what === operation && key.test(where)) seen++;
          const isDead = seen > nth && (what === 'createIfAbsent' || what === 'put');
          return isDead ? { kind: 'unavailable' } : script.plan(what, where);
        },
      });
      const run = applyRetention(daysLater(fixture, COLD_DAYS, link));
      if (
        await run.then(
          () => true,
          () => false,
        )
      ) {
        assert.ok(nth > 0, `${operation} ${key}`);
        break;
      }
      crashes++;
      assert.deepEqual(await records(calm), ALL, `${operation} ${nth}`);
      await applyRetention(calm);
      assert.deepEqual(await records(calm), ALL, `${operation} ${nth}, repaired`);
      assert.equal(await filesOf(calm, 'bronze/usage'), 0);
      const { configuration } = (await calm.open('bronze/usage'))!.snapshot;
      assert.equal(configuration['delta.appendOnly'], 'true');
    }
  }
  // The line, the removal and the closing of bronze; three copies; the archive's two commits.
  assert.equal(crashes, 3 + 3 + 2);
});

test('a run that is told to stop leaves bronze append-only (RT4)', async (t) => {
  const fixture = await coldLake(t);
  const stop = new AbortController();
  const link = new FaultyObjectStore(fixture.store, {
    clock: systemAmbient.clock,
    plan: (what, key) => {
      // The commit that takes the moved files out; the line was drawn by the one before.
      if (what === 'createIfAbsent' && key.endsWith('5.json') && key.startsWith('bronze/')) {
        stop.abort();
      }
      return new FaultScript().plan(what, key);
    },
  });
  const lake = daysLater(fixture, COLD_DAYS, link);
  await applyRetention(lake, { signal: stop.signal });
  assert.equal(stop.signal.aborted, true);
  assert.equal(await filesOf(lake, 'bronze/usage'), 0);
  const { configuration } = (await lake.open('bronze/usage'))!.snapshot;
  assert.equal(configuration['delta.appendOnly'], 'true');
});

test('what expires is counted where it was (RT5)', async (t) => {
  const fixture = await coldLake(t);
  await applyRetention(daysLater(fixture, COLD_DAYS));
  const lake = daysLater(fixture, EXPIRED_DAYS);
  const { expired } = await applyRetention(lake);
  assert.deepEqual([expired.files, expired.rows], [3, 6]);
  const { snapshot } = (await lake.open(tableRoots(lake.config).archive))!;
  assert.equal(snapshot.fileCount, 0);
  assert.equal(snapshot.progress(expiredAppId('usage', 'rows')), 6n);
  assert.equal(snapshot.progress(expiredAppId('usage', 'coveredRows')), 6n);
  assert.equal(snapshot.progress(expiredBeforeAppId('usage', 0)), 6n);
  assert.equal((await applyRetention(lake)).expired.files, 0);
});
