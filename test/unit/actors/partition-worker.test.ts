import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type PartitionWorkerDependencies,
  partitionWorker,
} from '../../../src/actors/partition-worker/actor.ts';
import {
  decidePartition,
  type PartitionState,
  startPartition,
} from '../../../src/actors/partition-worker/behavior.ts';
import type { PartitionMessage } from '../../../src/actors/partition-worker/messages.ts';

function run(messages: readonly PartitionMessage[]): { state: PartitionState; effects: string[] } {
  let { state, effects } = startPartition();
  const kinds = effects.map(({ kind }) => kind as string);
  for (const message of messages) {
    ({ state, effects } = decidePartition(state, message));
    kinds.push(...effects.map(({ kind }) => kind));
  }
  return { state, effects: kinds };
}

const recovered = { kind: 'recovered', expected: 10n, next: 10n, latest: 50n } as const;
const fetched = {
  kind: 'fetched',
  latest: 50n,
  chunk: {
    chunkId: 1,
    partition: 0,
    from: 10n,
    next: 30n,
    rows: 20,
    bytes: 100,
    grant: { resize: () => {}, release: () => {} },
  },
} as const;

test('PW1 a partition attaches with bronze progress before it fetches', () => {
  assert.deepEqual(run([recovered]).effects, ['recover', 'attach', 'report', 'fetch']);
});

test('PW2 the next fetch starts where the chunk ended', () => {
  const { state } = run([recovered, fetched]);
  assert.ok(state.kind === 'running' && state.fetched === 30n && state.committed === 10n);
});

test('PW3 draining waits for the fetch under way and for the commit of all that was fetched', () => {
  const draining = [recovered, { kind: 'drain' }, fetched] as const;
  assert.equal(run(draining).state.kind, 'draining');
  assert.equal(
    run([...draining, { kind: 'committed', next: 29n, version: 2 }]).state.kind,
    'draining',
  );
  assert.equal(
    run([...draining, { kind: 'committed', next: 30n, version: 3 }]).state.kind,
    'drained',
  );
});

test('a paused partition keeps what it fetched and fetches again only when resumed', () => {
  const paused = run([recovered, { kind: 'pause' }, fetched]);
  assert.equal(paused.state.kind, 'paused');
  assert.equal(paused.effects.filter((kind) => kind === 'fetch').length, 1);
  const resumed = run([recovered, { kind: 'pause' }, fetched, { kind: 'resume' }]);
  assert.equal(resumed.effects.filter((kind) => kind === 'fetch').length, 2);
});

test('PW5 what was asked of a partition outlives a crash', () => {
  const after = (message: PartitionMessage) => startPartition(run([recovered, message]).state);
  assert.deepEqual(after({ kind: 'drain' }), {
    state: { kind: 'drained', committed: undefined },
    effects: [],
  });
  const paused = after({ kind: 'pause' }).state;
  assert.deepEqual(paused, { kind: 'recovering', resumeAs: 'paused' });
  assert.deepEqual(startPartition(paused).state, paused, 'also when it crashes again at once');
  assert.deepEqual(after(fetched).state, { kind: 'recovering', resumeAs: 'running' });
});

test('PW4 a pause is reported when the fetch under way has come back', () => {
  const reports = (effects: readonly string[]) =>
    effects.filter((kind) => kind === 'report').length;
  assert.equal(reports(run([recovered, { kind: 'pause' }]).effects), 1);
  assert.equal(reports(run([recovered, { kind: 'pause' }, fetched]).effects), 2);
});

test('resuming while the old fetch is still under way starts no second one', () => {
  const { effects } = run([recovered, { kind: 'pause' }, { kind: 'resume' }]);
  assert.equal(effects.filter((kind) => kind === 'fetch').length, 1);
});

test('a fenced partition ends for good, a rewound one begins again', () => {
  assert.throws(() => run([recovered, { kind: 'fenced' }]), { kind: 'fenced' });
  assert.throws(() => run([recovered, { kind: 'rewind' }]), { kind: 'unavailable' });
});

/** A worker whose table shows these progresses, one per look, while the source has [28, 50). */
function recovering(...progresses: readonly bigint[]) {
  let looks = 0;
  const told: PartitionMessage[] = [];
  const fakes: Partial<Record<keyof PartitionWorkerDependencies, unknown>> = {
    config: { name: 'usage', commit: { maxLatencyMs: 100 } },
    topic: { topic: 'usage', topicId: 't', partitionCount: 1 },
    partition: 0,
    table: {
      refresh: async () => {
        const progress = progresses[Math.min(looks++, progresses.length - 1)];
        return { progress: () => progress, progressEntries: () => [] };
      },
    },
    source: {
      offsets: async () => ({ earliest: 28n, latest: 50n }),
      openPartition: async () => ({}),
    },
  };
  const worker = partitionWorker(fakes as unknown as PartitionWorkerDependencies);
  const context = {
    tell: (message: PartitionMessage) => void told.push(message),
    signal: new AbortController().signal,
  };
  return { told, recover: async () => worker.perform({ kind: 'recover' }, context as never) };
}

test('P8 deleted offsets stop a partition, unless its last owner has committed them meanwhile', async () => {
  const lost = recovering(27n);
  await assert.rejects(lost.recover(), { code: 'TM_OFFSET_OUT_OF_RANGE' });
  assert.deepEqual(lost.told, []);
  const committed = recovering(27n, 28n);
  await committed.recover();
  assert.deepEqual(committed.told, [{ kind: 'recovered', expected: 28n, next: 28n, latest: 50n }]);
});
