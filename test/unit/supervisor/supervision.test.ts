import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { type ErrorKind, PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import { MemoryStateStore } from '../../../src/storage/state/memory-state-store.ts';
import type { StateStore } from '../../../src/storage/state/state-store.ts';
import {
  readPlacement,
  setDraining,
  setPaused,
  writePlacement,
} from '../../../src/supervisor/control.ts';
import { announceMember, HEARTBEAT_MS, memberLease } from '../../../src/supervisor/membership.ts';
import { type AgentNode, NodeAgent } from '../../../src/supervisor/node-agent.ts';
import { Supervisor, type SupervisorEvent } from '../../../src/supervisor/supervisor.ts';
import type { Unit } from '../../../src/supervisor/units.ts';
import { eventually } from '../../support/eventually.ts';

const { clock } = systemAmbient;
const context = { ambient: systemAmbient, logger: silentLogger };

/** A node that only remembers what it was told; draining takes `drainMs`. */
class FakeNode implements AgentNode {
  readonly nodeId: string;
  readonly units = new Set<Unit>();
  readonly failures = new Map<Unit, PipelineError>();
  readonly restarts = 0;
  readonly history: string[] = [];
  drainMs = 0;

  constructor(nodeId: string) {
    this.nodeId = nodeId;
  }

  start(unit: Unit): void {
    this.history.push(`start ${unit}`);
    this.units.add(unit);
  }

  async release(unit: Unit): Promise<void> {
    if (!this.units.has(unit)) return;
    await clock.sleep(this.drainMs);
    this.units.delete(unit);
    this.history.push(`release ${unit}`);
  }

  async abandon(unit: Unit): Promise<void> {
    this.units.delete(unit);
    this.failures.delete(unit);
    this.history.push(`abandon ${unit}`);
  }

  async pause(): Promise<void> {
    this.history.push('pause');
  }

  async resume(): Promise<void> {
    this.history.push('resume');
  }

  async close(): Promise<void> {
    this.units.clear();
  }

  fail(unit: Unit, kind: ErrorKind): void {
    this.failures.set(unit, new PipelineError(kind, 'TM_INTERNAL', 'on purpose'));
  }
}

function world(t: TestContext) {
  const state: StateStore = new MemoryStateStore({ clock });
  const events: SupervisorEvent[] = [];
  let partitionCount = 4;
  let describes = 0;
  let describing: Promise<void> | undefined;
  const deadPids = new Set<number>();
  const supervise = (supervisorId: string): Supervisor => {
    const supervisor = new Supervisor({
      supervisorId,
      state,
      source: {
        description: 'fake',
        describe: async () => {
          describes += 1;
          await describing;
          return { topic: 't', topicId: 'i', partitionCount };
        },
        offsets: () => assert.fail(),
        openPartition: () => assert.fail(),
        reportProgress: () => assert.fail(),
        close: async () => {},
      },
      topic: { topic: 't', topicId: 'i', partitionCount },
      silverShards: 1,
      processes: { host: 'here', isAlive: (pid) => !deadPids.has(pid) },
      onEvent: (event) => events.push(event),
      ...context,
    });
    t.after(() => supervisor.close());
    return supervisor;
  };
  const join = (nodeId: string, pid = 1): { node: FakeNode; agent: NodeAgent } => {
    const node = new FakeNode(nodeId);
    const agent = new NodeAgent({
      node,
      state,
      roles: ['worker', 'writer'],
      process: { host: 'elsewhere', pid, memoryBytes: () => 0 },
      counts: () => ({}),
      ...context,
    });
    t.after(() => agent.leave());
    return { node, agent };
  };
  return {
    state,
    events,
    supervise,
    join,
    deadPids,
    grow: (count: number) => (partitionCount = count),
    /** From now on the source answers no more. @returns whether it was asked since */
    hangSource: (): (() => boolean) => {
      const before = describes;
      describing = new Promise(() => {});
      return () => describes > before;
    },
  };
}

test('NA1 a unit starts at its new owner only after the old one has drained it', async (t) => {
  const { supervise, join } = world(t);
  supervise('s');
  const first = join('a');
  await eventually(() => first.node.units.size === 6);
  first.node.drainMs = 600;
  const second = join('b');
  await eventually(() => second.node.units.size > 0, { withinMs: 10_000 });
  for (const unit of second.node.units) {
    assert.ok(first.node.history.includes(`release ${unit}`), unit);
    assert.ok(!first.node.units.has(unit), unit);
  }
});

test('a member that leaves gives its units to the others at once', async (t) => {
  const { supervise, join } = world(t);
  supervise('s');
  const first = join('a');
  const second = join('b');
  await eventually(() => first.node.units.size + second.node.units.size === 6);
  await second.agent.leave();
  await eventually(() => first.node.units.size === 6);
});

test('SU2 a process of this machine that has ended loses its units without waiting for its lease', async (t) => {
  const { state, supervise, join, deadPids } = world(t);
  await state.acquireLease(memberLease('dead'), 'dead', 60_000);
  await announceMember(state, {
    memberId: 'dead',
    roles: ['worker', 'writer'],
    host: 'here',
    pid: 4242,
    startedAtMs: 0,
    heartbeatMs: 0,
    draining: false,
    memoryBytes: 0,
    restarts: 0,
    counts: {},
  });
  supervise('s');
  await eventually(async () => [...(await readPlacement(state)).values()].includes('dead'));
  await state.acquireLease('partition:0', 'dead', 60_000);
  deadPids.add(4242);
  const { node } = join('a');
  await eventually(() => node.units.size === 6);
});

test('SU1 one of two supervisors leads and the other takes over when it ends', async (t) => {
  const { supervise, events } = world(t);
  const first = supervise('one');
  await eventually(() => first.isLeading);
  const second = supervise('two');
  await clock.sleep(600);
  assert.equal(second.isLeading, false);
  await first.close();
  await eventually(() => second.isLeading);
  const leading = events.filter((event) => event.kind === 'leading');
  assert.deepEqual(
    leading.map((event) => event.supervisorId),
    ['one', 'two'],
  );
  assert.ok(leading[1]!.epoch > leading[0]!.epoch);
});

test('NA3 SU3 a state store that lost everything costs no unit its node', async (t) => {
  const { state, supervise, join } = world(t);
  supervise('s');
  const { node } = join('a');
  await eventually(() => node.units.size === 6);
  for (const key of await state.keys('')) await state.delete(key);
  await eventually(async () => (await readPlacement(state)).size === 6);
  assert.deepEqual(
    node.history.filter((line) => !line.startsWith('start')),
    [],
  );
});

test('SU3 members that were there are awaited before a lost plan is made anew', async (t) => {
  const { state, supervise, join } = world(t);
  supervise('s');
  const first = join('a').node;
  // Half a heartbeat later: for that long the other is the only one that is back.
  await clock.sleep(HEARTBEAT_MS / 2);
  const nodes = [first, join('b').node];
  await eventually(() => nodes.every(({ units }) => units.size > 0));
  await eventually(() => nodes[0]!.units.size + nodes[1]!.units.size === 6);
  const before = nodes.map(({ history }) => history.length);
  // As FLUSHALL does, leases included.
  for (const unit of [...nodes[0]!.units, ...nodes[1]!.units, memberLease('a'), memberLease('b')]) {
    const holder = await state.leaseHolder(unit);
    if (holder) await state.releaseLease({ name: unit, ...holder });
  }
  for (const key of await state.keys('')) await state.delete(key);
  await eventually(async () => (await readPlacement(state)).size === 6);
  await clock.sleep(1_000);
  const moved = nodes.map(({ history }, i) => history.slice(before[i]));
  assert.deepEqual(moved, [[], []]);
});

test('SU4 a source that does not answer holds up no supervision', async (t) => {
  const { supervise, join, hangSource } = world(t);
  supervise('s');
  const wasAsked = hangSource();
  const first = join('a');
  await eventually(wasAsked);
  const second = join('b');
  await eventually(() => second.node.units.size > 0);
  await second.agent.leave();
  await eventually(() => first.node.units.size === 6);
});

test('NA2 a node whose unit was taken by another ends it', async (t) => {
  const { state, supervise, join } = world(t);
  supervise('s');
  const { node } = join('a');
  await eventually(() => node.units.size === 6);
  const holder = (await state.leaseHolder('gold'))!;
  await state.releaseLease({ name: 'gold', ...holder });
  await state.acquireLease('gold', 'thief', 60_000);
  await eventually(() => node.history.includes('abandon gold'));
});

test('NA4 a fenced unit is tried again, a corrupt one stays stopped', async (t) => {
  const { supervise, join } = world(t);
  supervise('s');
  const { node } = join('a');
  await eventually(() => node.units.size === 6);
  node.fail('partition:1', 'corrupt');
  node.fail('partition:0', 'fenced');
  await eventually(() => node.history.includes('abandon partition:0'));
  await eventually(() => node.history.filter((line) => line === 'start partition:0').length === 2, {
    withinMs: 15_000,
  });
  assert.ok(!node.history.includes('abandon partition:1'));
});

test('new partitions are placed while running, draining and pausing reach the node', async (t) => {
  const { state, supervise, join, grow } = world(t);
  supervise('s');
  const first = join('a');
  await eventually(() => first.node.units.size === 6);
  grow(6);
  await eventually(() => first.node.units.size === 8, { withinMs: 15_000 });
  await setPaused(state, true);
  await eventually(() => first.node.history.includes('pause'));
  await setPaused(state, false);
  await eventually(() => first.node.history.includes('resume'));
  const second = join('b');
  await eventually(() => second.node.units.size > 0, { withinMs: 10_000 });
  await setDraining(state, 'a', true);
  await eventually(() => first.node.units.size === 0 && second.node.units.size === 8, {
    withinMs: 15_000,
  });
});

test('NA1 a unit that failed here and was moved meanwhile gives its lease back', async (t) => {
  const { state, join } = world(t);
  const first = join('a');
  const toFirst = new Map<Unit, string>([['partition:0', 'a']]);
  const toSecond = new Map<Unit, string>([['partition:0', 'b']]);
  await writePlacement(state, new Map(), toFirst);
  await eventually(() => first.node.units.has('partition:0'));
  first.node.fail('partition:0', 'fenced');
  await eventually(() => first.node.history.includes('abandon partition:0'));
  const second = join('b');
  await writePlacement(state, toFirst, toSecond);
  await eventually(() => second.node.units.has('partition:0'));
});
