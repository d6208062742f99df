/** Plain replay: what it puts back, and what it leaves alone while the stream goes on. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { rebuild } from '../../../src/operations/replay/rebuild.ts';
import { replay } from '../../../src/operations/replay/replay.ts';
import { WHOLE_RANGE } from '../../../src/operations/silver-edit/bronze-range.ts';
import { silverAppId } from '../../../src/pipeline/progress.ts';
import { openEditedLake } from '../../support/lake-operations.ts';
import { covers, LakeFixture } from '../../support/lake-fixture.ts';

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
