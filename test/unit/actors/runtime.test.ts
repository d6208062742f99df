import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ActorDefinition, spawn } from '../../../src/actors/runtime/actor.ts';
import { Mailbox } from '../../../src/actors/runtime/mailbox.ts';
import {
  DEFAULT_RESTART_POLICY,
  NO_CRASHES,
  superviseCrash,
} from '../../../src/actors/runtime/supervision.ts';
import { systemAmbient } from '../../../src/ambient.ts';
import { type ErrorKind, PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';

const options = {
  ambient: systemAmbient,
  logger: silentLogger,
  policy: { ...DEFAULT_RESTART_POLICY, backoffMinMs: 1, backoffMaxMs: 2 },
};

type Message = { readonly kind: 'crash'; readonly error: ErrorKind } | { readonly kind: 'finish' };

function crashing(starts: number[]): ActorDefinition<string, Message, ErrorKind> {
  return {
    name: 'crashing',
    start: () => {
      starts.push(starts.length);
      return { state: 'live', effects: [] };
    },
    decide: (state, message) =>
      message.kind === 'finish'
        ? { state: 'done', effects: [] }
        : { state, effects: [message.error] },
    perform: async (kind) => {
      throw new PipelineError(kind, 'TM_INTERNAL', 'on purpose');
    },
    isDone: (state) => state === 'done',
  };
}

test('SV1 a fenced, corrupt or invalid actor stops for good and tells why', async () => {
  for (const kind of ['fenced', 'corrupt', 'invalid'] as const) {
    const starts: number[] = [];
    const actor = spawn(crashing(starts), options);
    actor.tell({ kind: 'crash', error: kind });
    const reason = await actor.stopped;
    assert.ok(reason.kind === 'failed' && reason.error.kind === kind);
    assert.equal(starts.length, 1);
  }
});

test('SV2 an unavailable service restarts the actor as often as it takes', async () => {
  const starts: number[] = [];
  const actor = spawn(crashing(starts), options);
  for (let times = 1; times <= 8; times += 1) {
    actor.tell({ kind: 'crash', error: 'unavailable' });
    while (starts.length <= times) await systemAmbient.clock.sleep(1);
  }
  actor.tell({ kind: 'finish' });
  assert.deepEqual(await actor.stopped, { kind: 'done' });
  assert.equal(actor.restarts, 8);
});

test('SV3 too many bugs in a time span escalate', async () => {
  const starts: number[] = [];
  const actor = spawn(crashing(starts), options);
  for (let times = 1; times <= 6; times += 1) {
    actor.tell({ kind: 'crash', error: 'internal' });
    if (times < 6) while (starts.length <= times) await systemAmbient.clock.sleep(1);
  }
  assert.equal((await actor.stopped).kind, 'escalated');
});

test('SV3 crashes outside the time span are forgotten', () => {
  let history = NO_CRASHES;
  for (let crash = 0; crash < 20; crash += 1) {
    const directive = superviseCrash(
      'internal',
      history,
      DEFAULT_RESTART_POLICY,
      crash * 61_000,
      0,
    );
    assert.equal(directive.kind, 'restart');
    if (directive.kind === 'restart') history = directive.history;
  }
});

test('SV4 delays grow while lives are short and begin anew after a long one', () => {
  const policy = { ...DEFAULT_RESTART_POLICY, jitter: 0 };
  let nowMs = 0;
  let history = NO_CRASHES;
  const crashAfter = (livedMs: number): number => {
    nowMs += livedMs;
    const directive = superviseCrash('unavailable', history, policy, nowMs, 0);
    assert.ok(directive.kind === 'restart');
    ({ history } = directive);
    nowMs += directive.delayMs;
    return directive.delayMs;
  };
  const short = Array.from({ length: 9 }, () => crashAfter(1));
  assert.deepEqual(short, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
  assert.equal(crashAfter(policy.stableMs - 1), 10_000);
  assert.equal(crashAfter(policy.stableMs), 100);
});

test('an actor that has nothing to do after a restart is done', async () => {
  const states = ['live', 'done'];
  const actor = spawn<string, string, string>(
    {
      name: 'brief',
      start: () => ({ state: states.shift()!, effects: [] }),
      decide: () => {
        throw new PipelineError('unavailable', 'TM_INTERNAL', 'on purpose');
      },
      perform: () => {},
      isDone: (state) => state === 'done',
    },
    options,
  );
  actor.tell('crash');
  assert.deepEqual(await actor.stopped, { kind: 'done' });
});

test('A1 A2 what an ended incarnation still sends is dropped', async () => {
  const seen: string[] = [];
  const late: (() => void)[] = [];
  const actor = spawn<string, string, string>(
    {
      name: 'late',
      start: () => ({ state: 'live', effects: ['slow'] }),
      decide: (state, message) => {
        seen.push(message);
        return { state, effects: message === 'crash' ? ['throw'] : [] };
      },
      perform: (effect, context) => {
        if (effect === 'throw') throw new PipelineError('unavailable', 'TM_INTERNAL', 'on purpose');
        late.push(() => context.tell(`from incarnation ${context.incarnation}`));
      },
    },
    options,
  );
  actor.tell('crash');
  while (late.length < 2) await systemAmbient.clock.sleep(1);
  for (const send of late) send();
  await systemAmbient.clock.sleep(1);
  assert.deepEqual(seen, ['crash', 'from incarnation 2']);
  assert.deepEqual(await actor.stop(), { kind: 'stopped' });
});

test('A4 stopping waits for effects under way and disposes of what the incarnation held', async () => {
  const order: string[] = [];
  const actor = spawn<string, string, string>(
    {
      name: 'holding',
      start: () => ({ state: 'live', effects: ['wait'] }),
      decide: (state) => ({ state, effects: [] }),
      perform: async (_effect, { signal }) => {
        await systemAmbient.clock.sleep(60_000, signal);
        order.push('effect ended');
      },
      dispose: () => {
        order.push('disposed');
      },
    },
    options,
  );
  await actor.stop();
  assert.deepEqual(order, ['effect ended', 'disposed']);
  assert.equal(await actor.offer('too late'), false);
});

test('a full mailbox makes senders wait in order until there is room', async () => {
  const mailbox = new Mailbox<number>(1);
  const accepted: number[] = [];
  await mailbox.offer(1);
  const two = mailbox.offer(2).then(() => accepted.push(2));
  const three = mailbox.offer(3).then(() => accepted.push(3));
  assert.equal(mailbox.take(), 1);
  await two;
  assert.deepEqual(accepted, [2]);
  assert.equal(mailbox.take(), 2);
  await three;
  assert.equal(mailbox.take(), 3);
});
