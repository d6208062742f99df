/** Edits of silver, one at a time: what they change, and what they leave alone while the stream goes on. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { retryDeadLetters } from '../../../src/operations/dead-letters/retry.ts';
import { commitFailed, openNamedTables } from '../../../src/operations/housekeeping/lake-tables.ts';
import { restoreTable } from '../../../src/operations/housekeeping/restore.ts';
import { readLakeState } from '../../../src/operations/ledger/lake-state.ts';
import { statedEvidence } from '../../../src/operations/ledger/statements.ts';
import { rebuild } from '../../../src/operations/replay/rebuild.ts';
import { replay } from '../../../src/operations/replay/replay.ts';
import { parseRange, WHOLE_RANGE } from '../../../src/operations/silver-edit/bronze-range.ts';
import { rowsFromColumns } from '../../../src/pipeline/column-builder.ts';
import { buildLedger } from '../../../src/pipeline/ledger/ledger.ts';
import { silverAppId } from '../../../src/pipeline/progress.ts';
import { field, struct } from '../../../src/pipeline/types.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { openEditedLake } from '../../support/lake-operations.ts';
import { covers, DAY_MICROS, LakeFixture } from '../../support/lake-fixture.ts';

const REPLAY = { dryRun: false };

/** Silver covers the record of `a` and has it. */
async function streamedLake(t: TestContext) {
  const fixture = await LakeFixture.open(t);
  await fixture.bronze([{ offset: 0, id: 'a' }], [covers(0, 1)], { 0: 1 });
  await fixture.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  const streamDeadLetter = async (): Promise<void> => {
    const version = await fixture.bronze([{ offset: 1, id: 'b' }], [covers(1, 2)], { 0: 2 });
    await fixture.deadLetters([{ offset: 1, id: 'b', flag: 'missing_field' }], version);
    await fixture.silver([], version, { deadLetters: 1 });
  };
  return { fixture, lake: await openEditedLake(t, fixture.config), streamDeadLetter };
}

test('a dead letter stays one, though it would be an event now (RP1)', async (t) => {
  const { fixture, lake, streamDeadLetter } = await streamedLake(t);
  await streamDeadLetter();
  const { bronzeRows, added } = await replay(lake, WHOLE_RANGE, REPLAY);
  assert.deepEqual([bronzeRows, added], [1, 0]);
  assert.equal((await fixture.tables.silver.refresh()).numRecords(), 1);
});

test('a dead letter that the stream commits meanwhile stays one (RP1)', async (t) => {
  const { fixture, lake, streamDeadLetter } = await streamedLake(t);
  const { deadLetter } = lake;
  const refresh = deadLetter.refresh.bind(deadLetter);
  let isStreamed = false;
  deadLetter.refresh = async () => {
    const snapshot = await refresh();
    if (!isStreamed) await streamDeadLetter();
    isStreamed = true;
    return snapshot;
  };
  const { added } = await replay(lake, WHOLE_RANGE, REPLAY);
  assert.deepEqual([isStreamed, added], [true, 0]);
  assert.equal((await fixture.tables.silver.refresh()).numRecords(), 1);
});

test('a date is rebuilt while one silver writer is ahead of another (RB1)', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  const { bronze, silver } = fixture.tables;
  await fixture.bronze([{ offset: 1, id: 'b' }], [covers(1, 2)], { 0: 2 });
  await fixture.silver([{ offset: 1, id: 'b' }], 1, { silverRows: 1 });
  const appId = silverAppId(fixture.config.name, bronze.tableId, 1);
  await silver.commit({
    operation: 'STREAMING UPDATE',
    adds: [],
    progress: [{ appId, expected: 1n, next: 2n }],
  });
  const [date] = await rebuild(lake, { kind: 'date', date: '2026-11-22' }, REPLAY);
  assert.deepEqual([date!.state, date!.reason, date!.rows], ['rebuilt', undefined, 2]);
  assert.equal((await silver.refresh()).numRecords(), 2);
});

/** Kinds of what `verify` finds, and its counts. */
async function ledgerOf({ config, store, codec }: LakeFixture) {
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const state = await readLakeState(config, (root) => DeltaTable.open(delta, root));
  const report = buildLedger(await statedEvidence(config, state));
  const kinds = report.violations.map(({ kind }) => kind);
  return { kinds: kinds.filter((kind) => kind !== 'gold-mismatch'), stages: report.stages };
}

async function restoreSilver({ config, store, codec, tables }: LakeFixture, version: number) {
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const lake = { config, delta, open: (root: string) => DeltaTable.open(delta, root) };
  const silver = (await openNamedTables(lake)).find(({ role }) => role === 'silver')!;
  await restoreTable(lake, silver, { version });
  await tables.silver.refresh();
}

test('what a restore took out is owed until a replay has put it back (RE4, RP2)', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  await restoreSilver(fixture, 0);
  assert.deepEqual((await ledgerOf(fixture)).kinds, ['lost-events']);
  assert.equal((await replay(lake, WHOLE_RANGE, REPLAY)).added, 1);
  assert.deepEqual((await ledgerOf(fixture)).kinds, []);
  const { version } = await fixture.tables.silver.refresh();
  await restoreSilver(fixture, 1);
  assert.deepEqual((await ledgerOf(fixture)).kinds, [], 'the rows of then are the same ones');
  assert.deepEqual((await replay(lake, WHOLE_RANGE, REPLAY)).versions, []);
  assert.equal((await fixture.tables.silver.refresh()).version, version + 1);
});

test('a row that a restore took out is a duplicate once a copy has its place (RE4, RP2)', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  await fixture.bronze([{ offset: 1, id: 'b' }], [covers(1, 2)], { 0: 2 });
  await fixture.silver([{ offset: 1, id: 'b' }], 2, { silverRows: 1 });
  await restoreSilver(fixture, 1);
  await fixture.bronze([{ offset: 2, id: 'b' }], [covers(2, 3)], { 0: 3 });
  await fixture.silver([{ offset: 2, id: 'b' }], 3, { silverRows: 1 });
  assert.deepEqual((await ledgerOf(fixture)).kinds, ['lost-events']);
  const part = parseRange({ startingOffsets: '{"0":1}' });
  assert.deepEqual(
    (await replay(lake, part, REPLAY)).versions,
    [],
    'not all records were looked at',
  );
  assert.deepEqual((await ledgerOf(fixture)).kinds, ['lost-events']);
  const { added, versions } = await replay(lake, WHOLE_RANGE, REPLAY);
  assert.deepEqual([added, versions.length], [0, 1]);
  const { kinds, stages } = await ledgerOf(fixture);
  assert.deepEqual(kinds, []);
  assert.deepEqual([stages.bronzeRows, stages.silverRows, stages.duplicates], [3n, 2n, 1n]);
  assert.deepEqual((await replay(lake, WHOLE_RANGE, REPLAY)).versions, []);
});

test('a dry run counts each lost event and each date once, in however many parts (RP3)', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  for (const [offset, id] of [
    [1, 'lost'],
    [2, 'lost'],
    [3, 'gone'],
  ] as const) {
    await fixture.bronze([{ offset, id }], [covers(offset, offset + 1)], { 0: offset + 1 });
  }
  await fixture.silver([], 4, {});
  const whole = await replay(lake, WHOLE_RANGE, { dryRun: true });
  assert.deepEqual(whole.addedByDate, { '2026-11-22': 2 });
  const total = (n: bigint) => [{ aggregate: 'hourly', date: '2026-11-22', values: { n } }];
  assert.deepEqual(whole.totals, { before: total(1n), after: total(3n) });
  const inParts = await replay(lake, WHOLE_RANGE, { dryRun: true, partRows: 1 });
  assert.deepEqual(inParts, whole);
});

/** Offsets of silver's rows, in order. */
async function offsetsInSilver({ tables, store, codec }: LakeFixture): Promise<number[]> {
  const { root } = tables.silver;
  const schema = struct([field('_kafka_offset', 'long')]);
  const offsets: number[] = [];
  for (const { path } of (await tables.silver.refresh()).files()) {
    const batch = codec.decode((await store.get(`${root}/${path}`))!, schema);
    offsets.push(...rowsFromColumns(batch).map((row) => Number(row['_kafka_offset'])));
  }
  return offsets.sort((a, b) => a - b);
}

test('the record that came first is put back, whatever files its copies lie in (RP4)', async (t) => {
  for (const partRows of [1, 2, 100]) {
    const fixture = await LakeFixture.open(t);
    // What a commit over midnight leaves: two files of one time, here the later date's first.
    await fixture.bronze([{ offset: 1, id: 'a', ingestedMs: 5 }], [covers(0, 2)], { 0: 2 });
    await fixture.bronze([{ offset: 0, id: 'a', ingestedMs: 5 }], [], {});
    // What compaction leaves: one file spans another.
    const spanning = [
      { offset: 2, id: 'b', ingestedMs: 6 },
      { offset: 5, id: 'c', ingestedMs: 9 },
    ];
    await fixture.bronze(spanning, [covers(2, 6)], { 0: 6 });
    const spanned = [
      { offset: 3, id: 'c', ingestedMs: 7 },
      { offset: 4, id: 'b', ingestedMs: 8 },
    ];
    await fixture.bronze(spanned, [], {});
    await fixture.silver([], 4, {});
    const lake = await openEditedLake(t, fixture.config);
    const { added, bronzeRows } = await replay(lake, WHOLE_RANGE, { dryRun: false, partRows });
    assert.deepEqual([added, bronzeRows], [3, 6]);
    assert.deepEqual(await offsetsInSilver(fixture), [0, 2, 3]);
    assert.deepEqual((await replay(lake, WHOLE_RANGE, REPLAY)).versions, []);
  }
});

test('an edit that the stream overtakes looks again at what silver has (SE2)', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  await fixture.bronze([{ offset: 1, id: 'lost' }], [covers(1, 2)], { 0: 2 });
  await fixture.silver([], 2, {});
  const { silver } = lake;
  const commit = silver.commit.bind(silver);
  let commits = 0;
  silver.commit = async (request) => {
    if (commits++ === 0) {
      await fixture.bronze([{ offset: 2, id: 'lost' }], [covers(2, 3)], { 0: 3 });
      await fixture.silver([{ offset: 2, id: 'lost' }], 3, { silverRows: 1 });
    }
    return commit(request);
  };
  const { added, versions } = await replay(lake, WHOLE_RANGE, REPLAY);
  assert.deepEqual([commits, added, versions], [1, 0, []]);
  assert.equal((await fixture.tables.silver.refresh()).numRecords(), 2);
});

test('letters of records that silver has not counted are not retried (DR3)', async (t) => {
  const { fixture, lake, streamDeadLetter } = await streamedLake(t);
  await streamDeadLetter();
  const ahead = await fixture.bronze([{ offset: 2, id: 'c' }], [covers(2, 3)], { 0: 3 });
  await fixture.deadLetters([{ offset: 2, id: 'c', flag: 'missing_field' }], ahead);
  const all = { flag: undefined, date: undefined, dryRun: false };
  assert.equal((await retryDeadLetters(lake, all)).looked, 1);
});

test('a commit of unknown fate is told with what to do about it', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  await fixture.bronze([{ offset: 1, id: 'lost' }], [covers(1, 2)], { 0: 2 });
  await fixture.silver([], 2, {});
  lake.silver.commit = async () => ({ kind: 'unknown', version: 9 });
  await assert.rejects(replay(lake, WHOLE_RANGE, REPLAY), {
    code: 'TM_COMMIT_UNKNOWN',
    message: /version 9 of silver\/usage .* run the command again/,
  });
  const fenced = { kind: 'fenced', appId: 'a', expected: 1n, actual: 2n } as const;
  assert.match(commitFailed(lake.silver, fenced).message, /another program .* nothing is lost/);
});

/** A row of the dead letters; their Kafka timestamps ascend with their offsets. */
function letter(offset: number, value: string) {
  return {
    _raw_value: value,
    _kafka_topic: 'usage',
    _kafka_partition: 0,
    _kafka_offset: BigInt(offset),
    _kafka_timestamp: DAY_MICROS + BigInt(offset) * 1000n,
    _quality_flags: ['missing_field'],
  };
}

const LETTERS = { progress: [], lineage: { stage: 'dead-letter' } };
const VALID = JSON.stringify({ id: 'b', at: '2026-11-22T00:00:00Z' });

test('of letters with one id the one that came first becomes the row (DR5)', async (t) => {
  for (const partRows of [1, 100]) {
    const { fixture, lake } = await streamedLake(t);
    const { deadLetter } = fixture.tables;
    await fixture.commit(deadLetter, [letter(4, VALID), letter(2, VALID)], LETTERS);
    await fixture.commit(deadLetter, [letter(1, VALID), letter(3, 'poison')], LETTERS);
    const all = { flag: undefined, date: undefined, dryRun: false };
    const { silverRows, duplicates, unchanged } = await retryDeadLetters(lake, all, partRows);
    assert.deepEqual([silverRows, duplicates, unchanged], [1, 2, 1]);
    assert.deepEqual(await offsetsInSilver(fixture), [0, 1]);
  }
});

test('a retry that begins anew counts what it looked at once', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  const { deadLetter } = fixture.tables;
  await fixture.commit(deadLetter, [letter(1, VALID), letter(2, 'poison')], LETTERS);
  await fixture.commit(deadLetter, [letter(3, 'poison')], LETTERS);
  const [, last] = (await deadLetter.refresh()).files();
  const commit = lake.silver.commit.bind(lake.silver);
  lake.silver.commit = async (request) => {
    const outcome = await commit(request);
    // Another program rewrites the file of the next part.
    const path = last!.path.replace('.parquet', '-again.parquet');
    const bytes = await fixture.store.get(`${deadLetter.root}/${last!.path}`);
    await fixture.store.put(`${deadLetter.root}/${path}`, bytes!);
    await deadLetter.commit({
      operation: 'OPTIMIZE',
      adds: [{ ...last!, path }],
      removes: [last!.path],
      dataChange: false,
      progress: [],
    });
    return outcome;
  };
  const all = { flag: undefined, date: undefined, dryRun: false };
  const { looked, silverRows, unchanged } = await retryDeadLetters(lake, all, 1);
  assert.deepEqual([looked, silverRows, unchanged], [3, 1, 2]);
});

test('a date is rebuilt whole in however many slices (RB1, RB4)', async (t) => {
  const { fixture, lake } = await streamedLake(t);
  const records = [1, 4_096, 8_192, 12_289].map((offset) => ({ offset, id: `id${offset}` }));
  await fixture.bronze(records, [covers(1, 12_290)], { 0: 12_290 });
  await fixture.silver(records, 2, { silverRows: 4 });
  const selection = { kind: 'date', date: '2026-11-22' } as const;
  const [whole] = await rebuild(lake, selection, { dryRun: true });
  const [dry] = await rebuild(lake, selection, { dryRun: true, sliceRows: 2 });
  assert.deepEqual(dry, whole);
  const [date] = await rebuild(lake, selection, { dryRun: false, sliceRows: 2 });
  assert.deepEqual([date!.state, date!.reason, date!.rows], ['rebuilt', undefined, 5]);
  assert.equal((await fixture.tables.silver.refresh()).numRecords(), 5);
});
