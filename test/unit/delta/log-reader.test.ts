/** Reading logs as they should not be: gaps, stale listings, foreign and broken files (faults 74, 88, 91, 92). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import {
  append,
  checkpointFile,
  committed,
  names,
  openTable,
  ROOT,
  utf8,
  versionKey,
  world,
} from './harness.ts';

async function tableOf(commits: number) {
  const all = world();
  const table = await openTable(all.process().env);
  for (let k = 1; k <= commits; k++) committed(await table.commit(append(`f${k}`)));
  return { ...all, table };
}

describe('opening a log', () => {
  it('finds no table where there is none', async () => {
    const all = world();
    assert.equal(await DeltaTable.open(all.process().env, ROOT), undefined);
    await all.store.put(`${ROOT}/_delta_log/_last_checkpoint`, utf8('{"version":3}'));
    await all.store.put(`${ROOT}/data.parquet`, utf8('x'));
    assert.equal(await DeltaTable.open(all.process().env, ROOT), undefined);
  });

  it('ignores files it does not know (fault 88)', async () => {
    const all = await tableOf(3);
    for (const name of [
      '00000000000000000002.crc',
      '00000000000000000002.json.bak',
      '00000000000000000000.00000000000000000002.compacted.json',
      '00000000000000000003.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet',
      'notes.txt',
      '_commits/x.json',
    ]) {
      await all.store.put(`${ROOT}/_delta_log/${name}`, utf8('whatever'));
    }
    const table = await openTable(all.process().env);
    assert.deepEqual(names(table.snapshot.files()), ['f1', 'f2', 'f3']);
  });

  it('does not believe a listing that lacks the newest entries (fault 74)', async () => {
    const all = await tableOf(6);
    const { env, script, link } = all.process();
    script.next('list', { kind: 'stale-list', missing: 4 }, { times: 5 });
    const table = await DeltaTable.open(env, ROOT);
    assert.equal(table?.snapshot.version, 6);
    assert.ok(link.faultCount('stale-list') > 0);
  });

  it('finds a table whose only entry the listing lacks (R2)', async () => {
    const all = await tableOf(0);
    const { env, script } = all.process();
    script.next('list', { kind: 'stale-list', missing: 1 }, { times: 5 });
    assert.equal((await DeltaTable.open(env, ROOT))?.snapshot.version, 0);
  });

  it('asks for an entry by name that the listing lacks in the middle (R2)', async () => {
    const all = await tableOf(6);
    const { env, link } = all.process();
    const list = link.list.bind(link);
    link.list = async function* (prefix, options) {
      for await (const info of list(prefix, options)) {
        if (!info.key.endsWith('3.json')) yield info;
      }
    };
    assert.equal((await DeltaTable.open(env, ROOT))?.snapshot.version, 6);
  });

  it('names the entry that is missing (fault 92)', async () => {
    const all = await tableOf(6);
    await all.store.delete(versionKey(3));
    await assert.rejects(openTable(all.process().env), {
      kind: 'corrupt',
      code: 'TM_OBJECT_MISSING',
      message: new RegExp(versionKey(3)),
    });
  });

  it('names the checkpoints that it could not read when nothing else tells the beginning', async () => {
    const all = await tableOf(2);
    await all.store.delete(versionKey(0));
    await all.store.put(checkpointFile(1), utf8('PAR1'));
    await assert.rejects(openTable(all.process().env), {
      kind: 'corrupt',
      message: /0\.json is missing from the log, and unreadable are .*1\.checkpoint\.parquet/,
    });
  });

  it('refuses a log of which only a checkpoint of another format tells the beginning', async () => {
    const all = await tableOf(2);
    await all.store.delete(versionKey(0));
    const name = '.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json';
    await all.store.put(versionKey(1).replace('.json', name), utf8('{}'));
    await assert.rejects(openTable(all.process().env), {
      kind: 'invalid',
      message: /v2Checkpoint/,
    });
  });

  it('names the first entry when neither it nor a checkpoint is there', async () => {
    const all = await tableOf(3);
    await all.store.delete(versionKey(0));
    await assert.rejects(openTable(all.process().env), { message: new RegExp(versionKey(0)) });
  });

  const broken: Record<string, readonly [string, RegExp]> = {
    'half a line': ['{"add":{"path":"x"', /2\.json line 1/],
    nothing: ['', /2\.json/],
    'a schema that is none': [
      '{"metaData":{"id":"x","schemaString":"[]","partitionColumns":[]}}',
      /2\.json: the schema has no type/,
    ],
    garbage: ['<html>', /2\.json line 1/],
    'an unknown protocol': [
      '{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}',
      /2\.json: the table needs reader version 9/,
    ],
  };
  for (const [name, [text, message]] of Object.entries(broken)) {
    it(`stops at an entry that holds ${name}, also while following the log (fault 91)`, async () => {
      const all = await tableOf(1);
      await all.store.put(versionKey(2), utf8(text));
      await assert.rejects(openTable(all.process().env), { message });
      await assert.rejects(all.table.refresh(), { message });
      await assert.rejects(all.table.commit(append('x')), { message });
    });
  }

  it('gives an entry without a time that of its object', async () => {
    const all = await tableOf(1);
    all.ambient.advance(5_000);
    await all.store.put(versionKey(2), utf8('{"txn":{"appId":"foreign","version":3}}\n'));
    const snapshot = await all.table.refresh();
    assert.equal(snapshot.timestampMs, all.ambient.clock.nowMs());
    assert.equal((await all.table.commits(1))[0]!.timestampMs, all.ambient.clock.nowMs());
    assert.equal(snapshot.progress('foreign'), 3n);
  });
});

describe('following a log', () => {
  it('costs one GET when nothing is new', async () => {
    const all = await tableOf(2);
    const { env, link } = all.process();
    const table = await openTable(env);
    link.calls.length = 0;
    await table.refresh();
    assert.deepEqual(
      link.calls.map(({ operation, key }) => [operation, key]),
      [['get', versionKey(3)]],
    );
  });

  it('reads many new entries in a few rounds', async () => {
    const all = world();
    const { env, link } = all.process();
    const behind = await openTable(env);
    const ahead = await openTable(all.process().env);
    for (let k = 1; k <= 40; k++) await ahead.commit(append(`f${k}`));
    link.calls.length = 0;
    assert.equal((await behind.refresh()).version, 40);
    assert.ok(link.calls.length <= 40 + 32, 'no entry twice');
    assert.ok(link.calls.every(({ operation }) => operation === 'get'));
  });

  it('reads an entry that appears between two others late instead of calling it lost', async () => {
    const all = world();
    const { env, link } = all.process();
    const behind = await openTable(env);
    const ahead = await openTable(all.process().env);
    for (let k = 1; k <= 3; k++) await ahead.commit(append(`f${k}`));
    const hidden = (await all.store.get(versionKey(2)))!;
    await all.store.delete(versionKey(2));
    const get = link.get.bind(link);
    link.get = async (key, options) => {
      const found = await get(key, options);
      if (key === versionKey(2)) await all.store.put(versionKey(2), hidden);
      return found;
    };
    assert.equal((await behind.refresh()).version, 3);
  });

  it('names an entry that is missing between two others (fault 92)', async () => {
    const all = world();
    const behind = await openTable(all.process().env);
    const ahead = await openTable(all.process().env);
    for (let k = 1; k <= 4; k++) await ahead.commit(append(`f${k}`));
    await all.store.delete(versionKey(2));
    await assert.rejects(behind.refresh(), { message: new RegExp(versionKey(2)) });
  });
});
