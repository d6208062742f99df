import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../../src/logger.ts';
import { MemoryStateStore } from '../../../../src/storage/state/memory-state-store.ts';
import { ActivityLog } from '../../../../src/supervisor/http/activity-log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const change = (action: string) => ({
  subject: 'ops',
  remoteAddress: '127.0.0.1',
  action,
  request: undefined,
  status: 200,
  problem: undefined,
});

function world() {
  const clock = new ManualClock();
  const state = new MemoryStateStore({ clock });
  const newLog = () => new ActivityLog({ clock, logger: silentLogger, state });
  return { clock, state, newLog };
}

test('AL1 changes outlive the process, in their order and bounded in number', async () => {
  const { clock, state, newLog } = world();
  const first = newLog();
  for (let index = 0; index < 250; index += 1) {
    clock.advance(1_000);
    first.recordChange(change(`POST /v1/change-${index}`));
  }
  assert.equal(Object.keys(await state.getHash('audit')).length, 200);
  const second = newLog();
  await second.load();
  const texts = second.after(0).map(({ activity }) => activity.text);
  assert.equal(texts.length, 200);
  assert.equal(texts[0], 'POST /v1/change-50');
  assert.equal(texts.at(-1), 'POST /v1/change-249');
  clock.advance(1_000);
  second.recordChange(change('POST /v1/pause'));
  const third = newLog();
  await third.load();
  assert.equal(third.after(0).at(-1)?.activity.text, 'POST /v1/pause');
});

test('what somebody else wrote into the state store is left out', async () => {
  const { state, newLog } = world();
  await state.setHash('audit', { '0': 'no json', '1': '{"seq": -1}', '2': '[]' });
  const log = newLog();
  await log.load();
  assert.deepEqual(log.after(0), []);
});

test('ids grow over restarts, so that nobody who comes back misses anything', () => {
  const { clock, newLog } = world();
  const first = newLog();
  for (let index = 0; index < 10; index += 1) first.recordChange(change(`POST /${index}`));
  const lastId = first.after(0).at(-1)!.id;
  clock.advance(1_000);
  const second = newLog();
  second.recordChange(change('POST /after'));
  assert.equal(second.after(lastId).length, 1);
});

test('memory holds the newest only, and every listener hears each once', () => {
  const { newLog } = world();
  const log = newLog();
  const heard: string[] = [];
  const end = log.subscribe(({ activity }) => heard.push(activity.text));
  for (let index = 0; index < 600; index += 1) {
    log.onSupervisorEvent({ kind: 'member-joined', memberId: `worker-${index}` });
  }
  end();
  log.onSupervisorEvent({ kind: 'member-lost', memberId: 'worker-0' });
  assert.equal(heard.length, 600);
  assert.equal(log.after(0).length, 500);
});
