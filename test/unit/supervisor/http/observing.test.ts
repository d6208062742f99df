/** The small parts that make sense of repeated looks: lag clock, totals, questions, budgets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PipelineError } from '../../../../src/errors.ts';
import { CountTotals } from '../../../../src/supervisor/http/count-totals.ts';
import { LagClock } from '../../../../src/supervisor/http/lag-clock.ts';
import { RequestBudget } from '../../../../src/supervisor/http/request-budget.ts';
import { StandingQuestion } from '../../../../src/supervisor/http/standing-question.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

test('LC1 lag is the age of the first end that is not covered', () => {
  const clock = new LagClock();
  assert.equal(clock.observe(100n, 100n, 0), 0);
  assert.equal(clock.observe(150n, 100n, 2_000), 0);
  assert.equal(clock.observe(200n, 100n, 4_000), 2);
  assert.equal(clock.observe(200n, 120n, 6_000), 4, 'part of the first growth is still missing');
  assert.equal(clock.observe(200n, 150n, 8_000), 4, 'the second growth was seen at 4 s');
  assert.equal(clock.observe(200n, 200n, 9_000), 0);
  assert.equal(clock.observe(201n, 200n, 60_000), 0);
  assert.equal(clock.observe(201n, 200n, 61_000), 1);
});

test('LC1 a backlog is as old as the clock, however long it grows', () => {
  const clock = new LagClock();
  let seconds = 0;
  for (let step = 0; step <= 10_000; step += 1) {
    seconds = clock.observe(BigInt(1_000 + step), 0n, step * 1_000);
  }
  assert.equal(seconds, 10_000);
});

test('an end that shrinks is another log', () => {
  const clock = new LagClock();
  clock.observe(100n, 0n, 0);
  assert.equal(clock.observe(10n, 0n, 50_000), 0);
  assert.equal(clock.observe(10n, 0n, 51_000), 1);
});

test('totals go on growing when members end, come back and count anew', () => {
  const totals = new CountTotals();
  const member = (memberId: string, rows: number) => ({ memberId, restarts: 0, counts: { rows } });
  const after = (...members: ReturnType<typeof member>[]): number => {
    totals.update(members);
    return totals.of('rows');
  };
  assert.equal(after(member('a', 10), member('b', 5)), 15);
  assert.equal(after(member('a', 12), member('b', 5)), 17);
  assert.equal(after(member('b', 6)), 18, 'a ended');
  assert.equal(after(member('a', 2), member('b', 6)), 20, 'a began again');
  assert.equal(after(member('a', 2), member('b', 1)), 21, 'b counts anew');
  assert.equal(totals.of('nothing'), 0);
});

test('a question is not asked twice at a time, nor waited for longer than agreed', async () => {
  const clock = new ManualClock();
  const asked: ((value: number) => void)[] = [];
  const question = new StandingQuestion(
    clock,
    () => new Promise<number>((resolve) => asked.push(resolve)),
  );
  const first = question.ask(3_000);
  clock.advance(3_000);
  const late = await first;
  assert.equal(late.value, undefined);
  assert.match(late.failure?.message ?? '', /no answer within 3 s/);
  const second = question.ask(3_000);
  assert.equal(asked.length, 1, 'the first attempt is still on its way');
  asked[0]!(7);
  assert.deepEqual(await second, { value: 7, failure: undefined });
});

test('a failed question keeps its last answer beside the failure', async () => {
  let failure: PipelineError | undefined;
  const question = new StandingQuestion(new ManualClock(), async () => {
    if (failure) throw failure;
    return 'answer';
  });
  await question.ask(1_000);
  failure = new PipelineError('unavailable', 'TM_STATE_UNAVAILABLE', 'away');
  assert.deepEqual(await question.ask(1_000), { value: 'answer', failure });
});

test('a budget is used up by its key alone and comes back with time', () => {
  const clock = new ManualClock();
  const budget = new RequestBudget({ clock, burst: 2, perSecond: 1 });
  assert.deepEqual(
    [1, 2, 3].map(() => budget.take('a')),
    [true, true, false],
  );
  assert.ok(budget.take('b'));
  assert.ok(!budget.hasLeft('a'));
  clock.advance(1_000);
  assert.ok(budget.hasLeft('a'));
  assert.deepEqual(
    [1, 2].map(() => budget.take('a')),
    [true, false],
  );
});

test('a budget remembers a bounded number of keys', () => {
  const clock = new ManualClock();
  const budget = new RequestBudget({ clock, burst: 1, perSecond: 0 });
  for (let key = 0; key < 2_000; key += 1) assert.ok(budget.take(`key-${key}`));
  assert.ok(!budget.hasLeft('key-1999'));
  assert.ok(budget.hasLeft('key-0'), 'the oldest was forgotten');
});
