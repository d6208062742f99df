/** Vacuum and log clean-up: what goes, what stays, and what a reader finds afterwards. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { cleanUpLog } from '../../../src/storage/delta/log-cleanup.ts';
import { vacuum } from '../../../src/storage/delta/vacuum.ts';
import {
  append,
  checkpointFile,
  committed,
  DAY_MS,
  names,
  openTable,
  pathOf,
  ROOT,
  utf8,
  versionKey,
  world,
} from './harness.ts';

/** A commit a day with a checkpoint every five; from the second on each removes the file before. */
async function dailyTable(days: number, configuration: Readonly<Record<string, string>> = {}) {
  const all = world();
  const { env } = all.process({ checkpointInterval: 5 });
  const table = await openTable(env, ROOT, configuration);
  for (let day = 1; day <= days; day++) {
    all.ambient.advance(DAY_MS);
    await all.store.put(`${ROOT}/${pathOf(`f${day}`)}`, utf8('x'));
    const removes = day > 1 ? [pathOf(`f${day - 1}`)] : [];
    committed(await table.commit({ ...append(`f${day}`), removes }));
    await table.idle();
  }
  return { ...all, env, table };
}

const ofLog = { root: ROOT, retentionMs: 3 * DAY_MS, neededVersion: 1_000 };

async function logNames(store: { list(prefix: string): AsyncIterable<{ key: string }> }) {
  const found: string[] = [];
  for await (const { key } of store.list(`${ROOT}/_delta_log/0`)) found.push(key);
  return found;
}

describe('log clean-up', () => {
  it('keeps the newest checkpoint beyond the cutoff, its commit and what follows (LC1)', async () => {
    const { env, store, table } = await dailyTable(20);
    assert.equal((await cleanUpLog(env, ofLog)).firstVersion, 15);
    const left = await logNames(store);
    assert.equal(left[0], checkpointFile(15));
    assert.ok(left.includes(versionKey(15)) && left.includes(versionKey(20)));
    assert.equal(await store.head(versionKey(14)), undefined);
    const reopened = (await DeltaTable.open(env, ROOT))!;
    assert.deepEqual(names(reopened.snapshot.files()), names(table.snapshot.files()));
    assert.equal((await reopened.snapshotAt(16)).version, 16);
    await assert.rejects(reopened.commits(13, 16), { code: 'TM_OBJECT_MISSING' });
    assert.equal((await cleanUpLog(env, ofLog)).files, 0);
  });

  it('removes nothing without a checkpoint that can be read (LC1)', async () => {
    const { env, store } = await dailyTable(20);
    for (const version of [5, 10, 15]) await store.put(checkpointFile(version), utf8('broken'));
    const before = await logNames(store);
    assert.deepEqual(await cleanUpLog(env, ofLog), { firstVersion: undefined, files: 0 });
    assert.deepEqual(await logNames(store), before);
  });

  it('keeps what a reader still needs, whatever its age (LC2)', async () => {
    const { env, store } = await dailyTable(20);
    assert.equal((await cleanUpLog(env, { ...ofLog, neededVersion: 11 })).firstVersion, 10);
    assert.ok(await store.head(versionKey(10)));
  });

  it('stops at a young commit and tells in a dry run what it would remove (LC2)', async () => {
    const { env, store } = await dailyTable(20);
    const before = await logNames(store);
    const young = await cleanUpLog(env, { ...ofLog, retentionMs: 30 * DAY_MS });
    assert.deepEqual(young, { firstVersion: undefined, files: 0 });
    const { files } = await cleanUpLog(env, { ...ofLog, dryRun: true });
    assert.deepEqual(await logNames(store), before);
    assert.equal((await cleanUpLog(env, ofLog)).files, files);
  });

  it('that was interrupted leaves one contiguous log (LC3)', async () => {
    const all = await dailyTable(40);
    const { env, link } = all.process();
    const remove = link.delete.bind(link);
    let asked = 0;
    let done = 0;
    link.delete = async (key) => {
      // Of deletes under way at once, the later ones are done first.
      await env.ambient.clock.sleep(1_000 - asked++);
      if (done++ >= 40) throw new Error('killed');
      return remove(key);
    };
    await assert.rejects(cleanUpLog(env, ofLog));
    const versions = (await logNames(all.store)).map((key) => Number(/(\d{20})/.exec(key)![1]));
    const commits = [...new Set(versions)].toSorted((a, b) => a - b);
    assert.deepEqual(
      commits,
      Array.from({ length: commits.length }, (_, i) => commits[0]! + i),
    );
    assert.equal((await DeltaTable.open(all.env, ROOT))?.snapshot.version, 40);
  });
});

describe('vacuum', () => {
  const options = { retentionMs: 2 * DAY_MS, neededVersion: 1_000 };
  /** As the pipeline's tables have it: checkpoints forget tombstones long before vacuum may. */
  const forgetful = { 'delta.deletedFileRetentionDuration': 'interval 1 days' };

  /** Files that a version has and the store has not. */
  async function missingAt(
    { env, store }: Awaited<ReturnType<typeof dailyTable>>,
    version: number,
  ): Promise<string[]> {
    const then = await (await DeltaTable.open(env, ROOT))!.snapshotAt(version);
    const missing: { path: string }[] = [];
    for (const file of then.files()) {
      if (!(await store.head(`${ROOT}/${file.path}`))) missing.push(file);
    }
    return names(missing);
  }

  it('keeps every version of the retention whole, whose tombstones are forgotten (VA1)', async () => {
    const all = await dailyTable(1, forgetful);
    const { env, store, ambient } = all;
    for (let version = 2; version <= 25; version++) {
      ambient.advance(DAY_MS);
      await store.put(`${ROOT}/${pathOf(`f${version}`)}`, utf8('x'));
      // A file of the first day is replaced long after, as a rebuild does.
      const removes = version === 21 ? [pathOf('f1')] : [];
      committed(await all.table.commit({ ...append(`f${version}`), removes }));
      await all.table.idle();
    }
    const table = (await DeltaTable.open(env, ROOT))!;
    assert.equal(table.snapshot.tombstones().length, 0, 'the checkpoint forgot it');
    const ofWeek = { ...options, retentionMs: 7 * DAY_MS };
    assert.equal((await vacuum(env, table, ofWeek)).files, 0);
    assert.deepEqual(await missingAt(all, 18), []);
    ambient.advance(4 * DAY_MS);
    assert.equal((await vacuum(env, table, ofWeek)).files, 1);
    assert.deepEqual(await missingAt(all, 18), ['f1']);
    assert.deepEqual(await missingAt(all, 22), []);
  });

  it('keeps what a follower of the table has yet to read, whatever its age (VA4)', async () => {
    const all = await dailyTable(20, forgetful);
    const { env, store, table } = all;
    const { files } = await vacuum(env, table, { ...options, neededVersion: 12 });
    assert.equal(files, 10);
    for (let version = 12; version <= 20; version++) {
      assert.deepEqual(await missingAt(all, version), [], `version ${version}`);
    }
    assert.equal(await store.head(`${ROOT}/${pathOf('f10')}`), undefined);
  });

  it('keeps all that a log has which begins within the retention (VA1)', async () => {
    const all = await dailyTable(20, forgetful);
    const { env, table } = all;
    assert.equal((await cleanUpLog(env, ofLog)).firstVersion, 15);
    await vacuum(env, table, { ...options, retentionMs: 5 * DAY_MS });
    for (let version = 15; version <= 20; version++) {
      assert.deepEqual(await missingAt(all, version), [], `version ${version}`);
    }
    const whole = await vacuum(env, table, { ...options, retentionMs: 15 * DAY_MS });
    assert.equal(whole.files, 0);
  });

  it('removes files whose tombstone expired, and no others (VA1)', async () => {
    const { env, store, table } = await dailyTable(12);
    const { files } = await vacuum(env, table, options);
    const left = [];
    for await (const { key } of store.list(`${ROOT}/date=`)) left.push({ path: key });
    // Tombstones live a week, and f4 was removed that long ago.
    assert.deepEqual(names(left), ['f10', 'f11', 'f12', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9']);
    assert.equal(files, 3);
    assert.equal((await vacuum(env, table, options)).files, 0);
  });

  it('leaves a file that may still be committed, and takes it once it is old (VA2)', async () => {
    const { env, store, table, ambient } = await dailyTable(1);
    await store.put(`${ROOT}/${pathOf('orphan')}`, utf8('x'));
    assert.equal((await vacuum(env, table, options)).files, 0);
    ambient.advance(3 * DAY_MS);
    assert.equal((await vacuum(env, table, { ...options, dryRun: true })).files, 1);
    // Committed at the last moment by a writer of another process.
    const writer = (await DeltaTable.open(env, ROOT))!;
    committed(await writer.commit(append('orphan')));
    assert.equal((await vacuum(env, table, options)).files, 0);
  });

  it('touches neither the log nor hidden folders, but for companions (VA3)', async () => {
    const { env, store, table, ambient } = await dailyTable(2);
    const kept = ['_dedup/index/manifest.json', '_dedup/f2.fp', '_other/x', '_hidden', '.dot/y'];
    for (const name of [...kept, '_dedup/f1.fp', '_dedup/gone.fp']) {
      await store.put(`${ROOT}/${name}`, utf8('x'));
    }
    ambient.advance(20 * DAY_MS);
    const dataPath = (path: string) => {
      const name = /^_dedup\/(\w+)\.fp$/.exec(path)?.[1];
      return name === undefined ? undefined : pathOf(name);
    };
    const before = (await logNames(store)).length;
    const companions = { folder: '_dedup/', dataPath };
    // f1 with its companion, and a companion without a file.
    assert.equal((await vacuum(env, table, { ...options, companions })).files, 3);
    for (const name of kept) assert.ok(await store.head(`${ROOT}/${name}`), name);
    assert.equal((await logNames(store)).length, before);
  });

  it('refuses a retention that a paused writer could exceed', async () => {
    const { env, table } = await dailyTable(1);
    await assert.rejects(vacuum(env, table, { ...options, retentionMs: DAY_MS / 2 }), {
      code: 'TM_USAGE',
    });
  });
});
