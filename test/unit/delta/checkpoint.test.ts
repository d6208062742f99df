/** Checkpoints: what is in them, when they are written, and what happens when they are bad (I11). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type DataType, field, struct } from '../../../src/pipeline/types.ts';
import {
  CHECKPOINT_READ_SCHEMA,
  checkpointColumns,
  checkpointEntry,
  entryFromCheckpoint,
} from '../../../src/storage/delta/checkpoint.ts';
import { DeltaTable, type Snapshot } from '../../../src/storage/delta/delta-table.ts';
import { schemaToJson } from '../../../src/storage/delta/schema-json.ts';
import { TableSnapshot } from '../../../src/storage/delta/snapshot.ts';
import {
  append,
  checkpointFile,
  codec,
  committed,
  DAY_MS,
  names,
  newFile,
  openTable,
  pathOf,
  ROOT,
  START_MS,
  utf8,
  versionKey,
  world,
} from './harness.ts';
import { columnsFromRows } from '../../../src/pipeline/column-builder.ts';

const HINT = `${ROOT}/_delta_log/_last_checkpoint`;

/** All a snapshot says, in comparable form; files are known from the checkpoint alone. */
function content(snapshot: Snapshot): unknown {
  const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);
  return {
    version: snapshot.version,
    timestampMs: snapshot.timestampMs,
    protocol: snapshot.protocol,
    metadata: snapshot.metadata,
    progress: Object.fromEntries(snapshot.progressEntries()),
    files: snapshot
      .files()
      .map((file) => ({ ...file, addedVersion: 0, dataChange: false }))
      .sort(byPath),
    tombstones: snapshot
      .tombstones()
      .map((file) => ({ ...file, dataChange: false }))
      .sort(byPath),
    totalBytes: snapshot.totalBytes,
  };
}

async function exists(
  store: { head(key: string): Promise<unknown> },
  key: string,
): Promise<boolean> {
  return (await store.head(key)) !== undefined;
}

describe('a checkpoint', () => {
  const text: DataType = { kind: 'primitive', name: 'string' };
  const nested = struct([
    field('tags', { kind: 'array', element: text, containsNull: true }),
    field(
      'client',
      struct([field('m', { kind: 'map', key: text, value: text, valueContainsNull: true })]),
    ),
    { ...field('ünï', 'string'), metadata: { note: 'π', big: 2n ** 60n } },
    field('p', 'string'),
  ]);
  const full = TableSnapshot.start(
    {
      version: 12,
      protocol: {
        minReaderVersion: 1,
        minWriterVersion: 2,
        readerFeatures: undefined,
        writerFeatures: undefined,
      },
      metadata: {
        id: 'guid',
        name: undefined,
        description: 'what it is for',
        format: { provider: 'parquet', options: {} },
        schemaString: schemaToJson(nested),
        partitionColumns: ['p'],
        configuration: { 'delta.appendOnly': 'true', 'x.y': '' },
        createdTimeMs: START_MS,
      },
      txns: [
        { appId: 'a:0', version: 2n ** 63n - 1n, lastUpdatedMs: 1 },
        { appId: 'b', version: 0n, lastUpdatedMs: undefined },
      ],
      adds: [
        {
          ...newFile('a', { partitionValues: { p: null }, tags: { k: 'v', ü: '' } }),
          encodedPath: undefined,
          addedVersion: undefined,
          dataChange: false,
        },
        {
          ...newFile('b', { partitionValues: { p: 'ä b' }, stats: undefined }),
          tags: undefined,
          path: 'p=ä b/b.parquet',
          encodedPath: 'p%3D%C3%A4%20b/b.parquet',
          sizeBytes: 2 ** 52,
          addedVersion: undefined,
          dataChange: false,
        },
      ],
      removes: [
        {
          path: 'gone.parquet',
          encodedPath: undefined,
          dataChange: false,
          deletionTimestampMs: 1_000,
          partitionValues: { p: null },
          sizeBytes: 5,
        },
        {
          path: 'bare.parquet',
          encodedPath: undefined,
          dataChange: false,
          deletionTimestampMs: 2_000,
          partitionValues: undefined,
          sizeBytes: undefined,
        },
      ],
    },
    77,
    'test',
  );

  it('gives back the snapshot through Parquet, values beyond 2^53 and nulls included (K1)', () => {
    const entry = checkpointEntry(full, 0);
    const bytes = codec.encode(checkpointColumns(entry), { compression: 'snappy' });
    const batch = codec.decode(bytes, CHECKPOINT_READ_SCHEMA);
    const back = TableSnapshot.start(entryFromCheckpoint(12, [batch], 'cp'), 77, 'cp');
    assert.deepEqual(content(back), content(full));
    assert.deepEqual(back.schema, nested);
  });

  it('leaves out expired removes, provenance and dataChange', () => {
    const entry = checkpointEntry(full, 1_500);
    assert.deepEqual(names(entry.removes), ['bare']);
    assert.equal(entry.commitInfo, undefined);
    assert.ok(entry.adds.every((file) => !file.dataChange));
  });

  it('has feature columns only where the table has features (K2)', () => {
    const protocolOf = (snapshot: TableSnapshot): unknown => {
      const columns = checkpointColumns(checkpointEntry(snapshot, 0));
      const { type } = columns.schema.fields.find((column) => column.name === 'protocol')!;
      return type.kind === 'struct' && type.fields.map((member) => member.name);
    };
    assert.deepEqual(protocolOf(full), ['minReaderVersion', 'minWriterVersion']);
    const protocol = { minReaderVersion: 1, minWriterVersion: 7, writerFeatures: ['appendOnly'] };
    const upgraded = full.apply({ version: 13, protocol, txns: [], adds: [], removes: [] }, 'x');
    assert.deepEqual(protocolOf(upgraded), [
      'minReaderVersion',
      'minWriterVersion',
      'readerFeatures',
      'writerFeatures',
    ]);
  });
});

/** A table with checkpoints every 5 commits; commit k adds file fk and every third removes one. */
async function tableWithCheckpoints(commits: number) {
  const all = world();
  const process = all.process({ checkpointInterval: 5 });
  const table = await openTable(process.env);
  for (let k = 1; k <= commits; k++) {
    const expected = k === 1 ? undefined : 2n ** 60n + BigInt(k - 1);
    const request = append(`f${k}`, { appId: 'p', expected, next: 2n ** 60n + BigInt(k) });
    const removes = k % 3 === 0 ? [pathOf(`f${k - 1}`)] : [];
    committed(await table.commit({ ...request, removes }));
    await table.idle();
  }
  return { ...all, ...process, table };
}

/** Opens the table and gives what was read for it. */
async function reopen(all: Awaited<ReturnType<typeof tableWithCheckpoints>>) {
  const { env, link } = all.process();
  const table = await DeltaTable.open(env, ROOT);
  const read = link.calls
    .filter((call) => call.operation === 'get')
    .map((call) => call.key.replace(/^.*_delta_log\/0*/, ''));
  return { table: table!, read };
}

describe('checkpoints', () => {
  it('are written every interval and spare the reader the entries before (I11)', async () => {
    const all = await tableWithCheckpoints(12);
    assert.ok(await exists(all.store, checkpointFile(5)));
    assert.ok(await exists(all.store, checkpointFile(10)));
    const hint = JSON.parse(new TextDecoder().decode(await all.store.get(HINT))) as object;
    const sizeInBytes = (await all.store.head(checkpointFile(10)))!.sizeBytes;
    assert.deepEqual(hint, { version: 10, size: 13, sizeInBytes, numOfAddFiles: 7 });
    const { table, read } = await reopen(all);
    assert.deepEqual(content(table.snapshot), content(all.table.snapshot));
    assert.deepEqual(
      read.filter((name) => name.endsWith('.json')).sort(),
      ['10.json', '11.json', '12.json', '13.json'],
      'the entries after it, its own for the time, and the one that is not there',
    );
  });

  it('equal the replay of all entries at every version (I11)', async () => {
    const all = await tableWithCheckpoints(15);
    const at = await Promise.all([3, 5, 10, 15].map((v) => all.table.snapshotAt(v)));
    for (const v of [5, 10, 15]) await all.store.delete(checkpointFile(v));
    await all.store.delete(HINT);
    for (const snapshot of at) {
      const { table } = await reopen(all);
      assert.deepEqual(content(await table.snapshotAt(snapshot.version)), content(snapshot));
    }
  });

  it('alone are enough once the entries are cleaned up (fault 99)', async () => {
    const all = await tableWithCheckpoints(10);
    for (let v = 0; v <= 10; v++) await all.store.delete(versionKey(v));
    const { table } = await reopen(all);
    assert.equal(table.snapshot.version, 10);
    assert.deepEqual(names(table.snapshot.files()), names(all.table.snapshot.files()));
    assert.equal(committed(await table.commit(append('next'))), 11);
  });

  const damaged: Record<string, (body: Uint8Array) => Uint8Array> = {
    truncated: (body) => body.slice(0, body.length - 40),
    'cut to nothing': () => new Uint8Array(),
    'overwritten in the middle': (body) =>
      body.map((byte, i) => (i < body.length - 500 ? 0 : byte)),
    'of another schema': () =>
      codec.encode(columnsFromRows(struct([field('add', 'long')]), [{ add: 1n }]), {
        compression: 'none',
      }),
    'without protocol and metaData': () =>
      codec.encode(
        columnsFromRows(
          struct([field('txn', struct([field('appId', 'string'), field('version', 'long')]))]),
          [{ txn: { appId: 'a', version: 1n } }],
        ),
        { compression: 'none' },
      ),
  };
  for (const [name, damage] of Object.entries(damaged)) {
    it(`that are ${name} are passed over for an older one, then for the entries (R1, fault 94)`, async () => {
      const all = await tableWithCheckpoints(12);
      const broken = damage((await all.store.get(checkpointFile(10)))!);
      await all.store.put(checkpointFile(10), broken);
      const first = await reopen(all);
      assert.deepEqual(content(first.table.snapshot), content(all.table.snapshot));
      assert.ok(first.read.includes('5.checkpoint.parquet'));
      await all.store.put(checkpointFile(5), broken);
      const second = await reopen(all);
      assert.deepEqual(content(second.table.snapshot), content(all.table.snapshot));
      assert.ok(second.read.includes('1.json'));
    });
  }

  const hints: Record<string, string | undefined> = {
    absent: undefined,
    garbage: '{"version":',
    empty: '',
    'of another type': '[10]',
    'without a checkpoint there': '{"version":7,"size":1}',
    'ahead of the log': '{"version":4000,"size":1}',
    behind: '{"version":5,"size":1}',
    negative: '{"version":-1,"size":1}',
  };
  for (const [name, hint] of Object.entries(hints)) {
    it(`are found when _last_checkpoint is ${name} (R1, fault 95)`, async () => {
      const all = await tableWithCheckpoints(12);
      if (hint === undefined) await all.store.delete(HINT);
      else await all.store.put(HINT, utf8(hint));
      const { table, read } = await reopen(all);
      assert.deepEqual(content(table.snapshot), content(all.table.snapshot));
      // A hint that is only a little behind costs less than looking for a newer checkpoint (R3).
      const used = name === 'behind' ? '5.checkpoint.parquet' : '10.checkpoint.parquet';
      assert.ok(read.includes(used), used);
    });
  }

  it('that contradict their version checksum are passed over (R4)', async () => {
    const all = await tableWithCheckpoints(12);
    const key = checkpointFile(10).replace('.checkpoint.parquet', '.crc');
    const checksum = JSON.parse(Buffer.from((await all.store.get(key))!).toString()) as {
      readonly numFiles: number;
    };
    await all.store.put(
      key,
      utf8(JSON.stringify({ ...checksum, numFiles: checksum.numFiles + 1 })),
    );
    const { table, read } = await reopen(all);
    assert.deepEqual(content(table.snapshot), content(all.table.snapshot));
    assert.ok(read.includes('5.checkpoint.parquet'));
  });

  it('are believed when their version checksum holds nonsense (R1)', async () => {
    const all = await tableWithCheckpoints(12);
    const key = checkpointFile(10).replace('.checkpoint.parquet', '.crc');
    const txns = [null, 1, {}, { appId: 'other', version: 'x' }];
    await all.store.put(key, utf8(JSON.stringify({ numFiles: 'many', setTransactions: txns })));
    const { table, read } = await reopen(all);
    assert.deepEqual(content(table.snapshot), content(all.table.snapshot));
    assert.ok(read.includes('10.checkpoint.parquet'));
  });

  it('are found by name, without a listing of the log (R3)', async () => {
    const all = await tableWithCheckpoints(12);
    const { script, env, link } = all.process();
    script.next('list', { kind: 'unavailable' }, { times: 100 });
    assert.equal((await DeltaTable.open(env, ROOT))?.snapshot.version, 12);
    assert.deepEqual(
      link.calls.filter(({ operation }) => operation === 'list'),
      [],
    );
  });

  it('in several parts are read when complete and passed over when not (fault 100)', async () => {
    const all = await tableWithCheckpoints(10);
    const whole = codec.decode((await all.store.get(checkpointFile(10)))!, CHECKPOINT_READ_SCHEMA);
    const expected = content(all.table.snapshot);
    const entry = entryFromCheckpoint(10, [whole], 'x');
    const encode = (part: Partial<typeof entry>): Uint8Array =>
      codec.encode(checkpointColumns({ version: 10, txns: [], adds: [], removes: [], ...part }), {
        compression: 'none',
      });
    const { adds, ...rest } = entry;
    const part = (n: number): string =>
      checkpointFile(10).replace('.parquet', `.000000000${n}.0000000002.parquet`);
    await all.store.delete(checkpointFile(10));
    await all.store.put(part(1), encode(rest));
    assert.ok((await reopen(all)).read.includes('5.checkpoint.parquet'));
    await all.store.put(part(2), encode({ adds }));
    const { table, read } = await reopen(all);
    assert.deepEqual(content(table.snapshot), expected);
    assert.ok(read.includes('10.checkpoint.0000000002.0000000002.parquet'));
  });

  it('never lower the announced version (W2)', async () => {
    const all = await tableWithCheckpoints(9);
    await all.store.put(HINT, utf8('{"version":20,"size":1}'));
    await all.table.checkpoint();
    assert.equal(new TextDecoder().decode(await all.store.get(HINT)), '{"version":20,"size":1}');
  });

  it('that were stored damaged are removed and never announced (W1)', async () => {
    const all = await tableWithCheckpoints(4);
    const put = all.link.put.bind(all.link);
    all.link.put = (key, body) => put(key, key.endsWith('.parquet') ? body.slice(0, -9) : body);
    await assert.rejects(all.table.checkpoint(), { code: 'TM_CHECKPOINT_CORRUPT' });
    assert.equal(await exists(all.store, checkpointFile(4)), false);
    assert.equal(await exists(all.store, HINT), false);
  });

  it('that do not decode to the snapshot are not even stored (W1)', async () => {
    const all = world();
    const decode: typeof codec.decode = (bytes, schema) => {
      const batch = codec.decode(bytes, schema);
      return { ...batch, length: batch.length - 1 };
    };
    const { env } = all.process({ codec: { ...codec, decode } });
    const table = await openTable(env);
    await table.commit(append('a'));
    await assert.rejects(table.checkpoint(), { code: 'TM_CHECKPOINT_CORRUPT' });
    assert.equal(await exists(all.store, checkpointFile(1)), false);
  });

  it('that fail in the background only leave a warning (D5)', async () => {
    const warnings: string[] = [];
    const all = world();
    const process = all.process({ checkpointInterval: 1 });
    const logger = { ...process.env.logger, warn: (message: string) => warnings.push(message) };
    const table = await openTable({ ...process.env, logger });
    process.script.next('put', { kind: 'unavailable' }, { key: /parquet/ });
    assert.equal(committed(await table.commit(append('a'))), 1);
    await table.idle();
    assert.deepEqual(warnings, ['checkpoint failed; the log is complete without it']);
    assert.equal(committed(await table.commit(append('b'))), 2);
    await table.idle();
    assert.ok(await exists(all.store, checkpointFile(2)));
  });

  it('delay no commit (D5)', async () => {
    const all = world();
    const { env, script } = all.process({ checkpointInterval: 1 });
    const table = await openTable(env);
    let release = (): void => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    script.next('put', { kind: 'held', until, landsFirst: false }, { key: /1\.checkpoint/ });
    for (const name of ['a', 'b', 'c']) await table.commit(append(name));
    assert.equal(await exists(all.store, checkpointFile(1)), false);
    release();
    await table.idle();
    const { version, size } = JSON.parse(new TextDecoder().decode(await all.store.get(HINT))) as {
      version: number;
      size: number;
    };
    assert.deepEqual({ version, size }, { version: 1, size: 3 }, 'of the snapshot it began with');
  });

  it('are caught up on when the writer that hits the multiples does none', async () => {
    const all = world();
    const idle = await openTable(all.process({ checkpointInterval: 1_000 }).env);
    const busy = await openTable(all.process({ checkpointInterval: 4 }).env);
    for (let i = 0; i < 12; i++) {
      await (i % 4 === 3 ? idle : busy).commit(append(`f${i}`));
      await busy.idle();
    }
    assert.ok(await exists(all.store, HINT));
  });

  it('drop tombstones only after their retention', async () => {
    const all = await tableWithCheckpoints(4);
    const { table, ambient } = all;
    assert.deepEqual(names(table.snapshot.tombstones()), ['f2']);
    ambient.advance(6 * DAY_MS);
    await table.checkpoint();
    assert.deepEqual(names(table.snapshot.tombstones()), ['f2']);
    await table.commit(append('more'));
    await table.idle();
    ambient.advance(2 * DAY_MS);
    await table.commit(append('other'));
    await table.checkpoint();
    assert.deepEqual(table.snapshot.tombstones(), []);
    assert.deepEqual((await reopen(all)).table.snapshot.tombstones(), []);
  });
});
