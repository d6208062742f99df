/** Plain replay: what it puts back, and what it leaves alone while the stream goes on. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { replay } from '../../../src/operations/replay/replay.ts';
import { WHOLE_RANGE } from '../../../src/operations/silver-edit/bronze-range.ts';
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
