import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { field, type StructType, struct } from '../../../src/pipeline/types.ts';
import { DeltaTable, type NewTable } from '../../../src/storage/delta/delta-table.ts';
import { intervalMs } from '../../../src/storage/delta/table-properties.ts';
import {
  append,
  committed,
  DAY_MS,
  names,
  openTable,
  ROOT,
  SCHEMA,
  START_MS,
  versionKey,
  world,
} from './harness.ts';

const wanted = (more: Partial<NewTable> = {}): NewTable => ({
  root: ROOT,
  schema: SCHEMA,
  partitionColumns: ['_event_date'],
  configuration: { 'delta.appendOnly': 'true' },
  description: 'events',
  ...more,
});

describe('creating a table', () => {
  it('writes version 0 with commitInfo, protocol and metaData', async () => {
    const all = world();
    const { snapshot } = await DeltaTable.create(all.process().env, wanted());
    const text = new TextDecoder().decode(await all.store.get(versionKey(0)));
    const [info, protocol, metadata] = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, Record<string, unknown>>);
    assert.equal(info!['commitInfo']!['operation'], 'CREATE TABLE');
    assert.deepEqual(protocol, { protocol: { minReaderVersion: 1, minWriterVersion: 2 } });
    assert.equal(metadata!['metaData']!['id'], snapshot.tableId);
    assert.match(snapshot.tableId, /^[0-9a-f-]{36}$/);
    assert.deepEqual(snapshot.schema, SCHEMA);
    assert.deepEqual(snapshot.configuration, { 'delta.appendOnly': 'true' });
    assert.equal(snapshot.description, 'events');
    assert.equal(snapshot.createdTimeMs, START_MS);
  });

  it('gives all of many creators the same table', async () => {
    const all = world();
    const tables = await Promise.all(
      Array.from({ length: 8 }, () => DeltaTable.create(all.process().env, wanted())),
    );
    assert.equal(new Set(tables.map((table) => table.tableId)).size, 1);
    assert.deepEqual([...new Set(tables.map((table) => table.snapshot.version))], [0]);
  });

  it('survives a lost response', async () => {
    const all = world();
    const { env, script } = all.process();
    script.next('createIfAbsent', { kind: 'lost-response' });
    const table = await DeltaTable.create(env, wanted());
    assert.equal((await DeltaTable.open(all.process().env, ROOT))?.tableId, table.tableId);
  });

  it('opens a table that has more columns than asked for', async () => {
    const all = world();
    const schema = struct([...SCHEMA.fields, field('foreign', 'string')]);
    await DeltaTable.create(all.process().env, wanted({ schema }));
    const table = await DeltaTable.create(all.process().env, wanted());
    assert.deepEqual(table.snapshot.schema, schema);
  });

  const misfits: Record<string, readonly [Partial<NewTable>, RegExp]> = {
    'lacks a column': [
      { schema: struct([...SCHEMA.fields, field('x', 'long')]) },
      /events exists and does not fit: the table has no column x; see `tidemark schema check/,
    ],
    'has a column of another type': [
      { schema: retyped('amount', 'string') },
      /column amount is long, not string/,
    ],
    'is partitioned otherwise': [
      { partitionColumns: [] },
      /partitioned by _event_date, not by nothing/,
    ],
  };
  for (const [name, [change, message]] of Object.entries(misfits)) {
    it(`refuses one that is there and ${name} (fault 124)`, async () => {
      const all = world();
      await DeltaTable.create(all.process().env, wanted());
      await assert.rejects(DeltaTable.create(all.process().env, wanted(change)), {
        kind: 'invalid',
        code: 'TM_SCHEMA_MISMATCH',
        message,
      });
    });
  }

  const senseless: Record<string, Partial<NewTable>> = {
    'a partition column that is none': { partitionColumns: ['nope'] },
    'two columns of one name': { schema: struct([...SCHEMA.fields, field('AMOUNT', 'long')]) },
  };
  for (const [name, change] of Object.entries(senseless)) {
    it(`refuses ${name} and writes nothing`, async () => {
      const all = world();
      await assert.rejects(DeltaTable.create(all.process().env, wanted(change)), {
        kind: 'invalid',
      });
      assert.equal(await all.store.get(versionKey(0)), undefined);
    });
  }
});

function retyped(name: string, type: 'string' | 'long'): StructType {
  return struct(SCHEMA.fields.map((f) => (f.name === name ? field(name, type) : f)));
}

/** Commit k happens k days after the start and adds file fk. */
async function history(commits: number) {
  const all = world();
  const table = await openTable(all.process().env);
  for (let k = 1; k <= commits; k++) {
    all.ambient.advance(DAY_MS);
    const expected = k === 1 ? undefined : BigInt(k - 1);
    committed(await table.commit(append(`f${k}`, { appId: 'p', expected, next: BigInt(k) })));
  }
  return { ...all, table, other: await openTable(all.process().env) };
}

describe('time travel', () => {
  it('gives any version, from memory or from the log', async () => {
    const { table, other } = await history(6);
    for (const from of [table, other]) {
      for (const version of [0, 3, 6]) {
        const snapshot = await from.snapshotAt(version);
        assert.equal(snapshot.version, version);
        assert.deepEqual(
          names(snapshot.files()),
          Array.from({ length: version }, (_, i) => `f${i + 1}`),
        );
        assert.equal(snapshot.progress('p'), version === 0 ? undefined : BigInt(version));
        assert.equal(snapshot.timestampMs, START_MS + version * DAY_MS);
      }
    }
  });

  it('sees a version that another process just wrote', async () => {
    const { table, other } = await history(2);
    await table.commit(append('new'));
    assert.equal((await other.snapshotAt(3)).version, 3);
  });

  for (const version of [7, -1, 1.5]) {
    it(`refuses version ${version}, which is not there`, async () => {
      const { other } = await history(6);
      await assert.rejects(other.snapshotAt(version), { kind: 'invalid' });
    });
  }

  const times: readonly (readonly [number, number | undefined])[] = [
    [-1, undefined],
    [0, 0],
    [1, 1],
    [3.5, 3],
    [6, 6],
    [99, 6],
  ];
  for (const [day, version] of times) {
    it(`finds version ${version} as that of day ${day}`, async () => {
      const { other } = await history(6);
      assert.equal(await other.versionAtTimestamp(START_MS + day * DAY_MS), version);
    });
  }

  it('finds nothing older than the log that was kept', async () => {
    const { table, store } = await history(6);
    await table.checkpoint();
    for (const version of [0, 1, 2, 3]) await store.delete(versionKey(version));
    assert.equal(await table.versionAtTimestamp(START_MS + 2 * DAY_MS), undefined);
    assert.equal(await table.versionAtTimestamp(START_MS + 4 * DAY_MS), 4);
  });
});

describe('the tail of the log', () => {
  it('is the same from memory and from the store', async () => {
    const { table, other } = await history(6);
    const inMemory = await table.commits(0);
    assert.deepEqual(await other.commits(0), inMemory);
    assert.deepEqual(
      inMemory.map(({ version, adds, progress, operation }) => ({
        version,
        adds: names(adds),
        progress: [...progress],
        operation,
      })),
      Array.from({ length: 6 }, (_, i) => ({
        version: i + 1,
        adds: [`f${i + 1}`],
        progress: [['p', BigInt(i + 1)]],
        operation: 'WRITE',
      })),
    );
    assert.ok(inMemory.every(({ adds, version }) => adds[0]!.addedVersion === version));
  });

  const ranges: readonly (readonly [number, number | undefined, number[]])[] = [
    [-1, undefined, [0, 1, 2, 3, 4, 5, 6]],
    [4, undefined, [5, 6]],
    [2, 4, [3, 4]],
    [6, undefined, []],
    [4, 99, [5, 6]],
    [9, 99, []],
    [4, 2, []],
  ];
  for (const [after, upTo, expected] of ranges) {
    it(`after ${after} up to ${upTo ?? 'the head'} is ${expected.join(' ') || 'nothing'}`, async () => {
      const { table, other } = await history(6);
      for (const from of [table, other]) {
        const commits = await from.commits(after, upTo);
        assert.deepEqual(
          commits.map(({ version }) => version),
          expected,
        );
      }
    });
  }

  it('is not read again by who follows it', async () => {
    const all = world();
    const { env, link } = all.process();
    const reader = await openTable(env);
    const writer = await openTable(all.process().env);
    for (let k = 1; k <= 5; k++) {
      await writer.commit(append(`f${k}`));
      await reader.refresh();
    }
    link.calls.length = 0;
    assert.equal((await reader.commits(0)).length, 5);
    assert.deepEqual(link.calls, []);
  });

  it('tells what each commit was', async () => {
    const { table, other } = await history(1);
    await table.commit({
      operation: 'OPTIMIZE',
      adds: [],
      removes: [...table.snapshot.files()].map((file) => file.path),
      dataChange: false,
      progress: [],
      lineage: { big: 2n ** 60n },
      metadata: { configuration: { x: '1' } },
    });
    const [commit] = await other.commits(1, 2);
    assert.deepEqual(commit!.removes, [{ path: 'date=2026-11-23/f1.parquet', dataChange: false }]);
    assert.deepEqual(commit!.lineage, { big: 2n ** 60n });
    assert.equal(commit!.metadataChanged, true);
    assert.equal((await other.refresh()).configuration['x'], '1');
  });
});

describe('clocks', () => {
  it('that go back do not take the table with them (fault 101, I21)', async () => {
    const { table, ambient } = await history(2);
    const before = table.snapshot.timestampMs;
    ambient.advance(-DAY_MS);
    await table.commit(append('early'));
    assert.equal(table.snapshot.timestampMs, before);
    ambient.advance(3 * DAY_MS);
    await table.commit(append('later'));
    assert.ok(table.snapshot.timestampMs > before);
  });

  const intervals: Record<string, number | undefined> = {
    'interval 1 week': 7 * DAY_MS,
    'interval 30 days': 30 * DAY_MS,
    'INTERVAL 2 days 3 hours': 2 * DAY_MS + 3 * 3_600_000,
    '168 hours': 7 * DAY_MS,
    'interval 1 month': undefined,
    interval: undefined,
    'one week': undefined,
    '': undefined,
  };
  for (const [text, expected] of Object.entries(intervals)) {
    it(`read "${text}" as ${expected} ms`, () => assert.equal(intervalMs(text), expected));
  }
});
