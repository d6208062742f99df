import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type BronzeState,
  decideBronze,
  initialBronzeState,
} from '../../../src/actors/bronze-writer/behavior.ts';
import type {
  Batch,
  BronzeEffect,
  BronzeMessage,
  ChunkRef,
} from '../../../src/actors/bronze-writer/messages.ts';

const LIMITS = { rowsMax: 100, bytesMax: 10_000, sealedMax: 2 };

function chunk(partition: number, from: bigint, rows: number): ChunkRef {
  return {
    chunkId: Number(from) * 100 + partition,
    partition,
    from,
    next: from + BigInt(rows),
    rows,
    bytes: rows * 10,
    grant: { resize: () => {}, release: () => {} },
  };
}

function run(messages: readonly BronzeMessage[]): { state: BronzeState; effects: BronzeEffect[] } {
  let state = initialBronzeState();
  const effects: BronzeEffect[] = [];
  for (const message of messages) {
    const decision = decideBronze(state, message, LIMITS);
    state = decision.state;
    effects.push(...decision.effects);
  }
  return { state, effects };
}

const kinds = (effects: readonly BronzeEffect[]): string[] => effects.map(({ kind }) => kind);

test('the first chunk of a batch starts the latency timer and the timer seals the batch', () => {
  const { effects } = run([
    { kind: 'attach', partition: 0, expected: undefined },
    { kind: 'append', chunk: chunk(0, 0n, 5) },
    { kind: 'append', chunk: chunk(0, 5n, 5) },
    { kind: 'latency-elapsed', batchId: 1 },
  ]);
  assert.deepEqual(kinds(effects), ['start-latency', 'encode']);
  const batch = (effects[1] as { batch: Batch }).batch;
  assert.deepEqual(batch.progress, [{ partition: 0, expected: undefined, next: 10n }]);
});

test('BW1 a following batch expects the txn that the one before it sets, though it is not committed', () => {
  const { effects } = run([
    { kind: 'attach', partition: 3, expected: 7n },
    { kind: 'append', chunk: chunk(3, 7n, 100) },
    { kind: 'append', chunk: chunk(3, 107n, 100) },
  ]);
  const batches = effects.filter((e) => e.kind === 'encode').map((e) => e.batch.progress[0]);
  assert.deepEqual(batches, [
    { partition: 3, expected: 7n, next: 107n },
    { partition: 3, expected: 107n, next: 207n },
  ]);
});

test('BW1 a hole between chunks of a partition crashes the writer', () => {
  assert.throws(
    () =>
      run([
        { kind: 'attach', partition: 0, expected: 0n },
        { kind: 'append', chunk: chunk(0, 0n, 5) },
        { kind: 'append', chunk: chunk(0, 6n, 100) },
      ]),
    /contiguous/,
  );
});

test('BW2 the second batch waits for the first, though it was uploaded earlier', () => {
  const messages: BronzeMessage[] = [
    { kind: 'attach', partition: 0, expected: 0n },
    { kind: 'append', chunk: chunk(0, 0n, 100) },
    { kind: 'append', chunk: chunk(0, 100n, 100) },
    { kind: 'uploaded', batchId: 2, files: [] },
  ];
  assert.deepEqual(kinds(run(messages).effects).includes('commit'), false);
  messages.push({ kind: 'uploaded', batchId: 1, files: [] });
  const commits = run(messages).effects.filter((e) => e.kind === 'commit');
  assert.deepEqual(
    commits.map((e) => e.batch.batchId),
    [1],
  );
});

test('BW3 only a committed batch is acknowledged; an undecided one crashes the writer', () => {
  const before: BronzeMessage[] = [
    { kind: 'attach', partition: 0, expected: 0n },
    { kind: 'append', chunk: chunk(0, 0n, 100) },
    { kind: 'uploaded', batchId: 1, files: [] },
  ];
  const committed = run([
    ...before,
    {
      kind: 'commit-settled',
      batchId: 1,
      outcome: { kind: 'committed', version: 4, alreadyOurs: false },
      fencedPartition: undefined,
    },
  ]);
  assert.equal(kinds(committed.effects).at(-1), 'acknowledge');
  assert.throws(
    () =>
      run([
        ...before,
        {
          kind: 'commit-settled',
          batchId: 1,
          outcome: { kind: 'unknown', version: 4 },
          fencedPartition: undefined,
        },
      ]),
    /undecided/,
  );
});

test('BW4 a third batch is not sealed while two are uncommitted', () => {
  const { state, effects } = run([
    { kind: 'attach', partition: 0, expected: 0n },
    { kind: 'append', chunk: chunk(0, 0n, 100) },
    { kind: 'append', chunk: chunk(0, 100n, 100) },
    { kind: 'append', chunk: chunk(0, 200n, 100) },
  ]);
  assert.equal(effects.filter((e) => e.kind === 'encode').length, 2);
  assert.equal(state.open.length, 1);
});

test('BW5 a fenced partition leaves the batch and the others are encoded again', () => {
  const { state, effects } = run([
    { kind: 'attach', partition: 0, expected: 0n },
    { kind: 'attach', partition: 1, expected: 0n },
    { kind: 'append', chunk: chunk(0, 0n, 50) },
    { kind: 'append', chunk: chunk(1, 0n, 50) },
    { kind: 'uploaded', batchId: 1, files: [] },
    {
      kind: 'commit-settled',
      batchId: 1,
      outcome: { kind: 'fenced', appId: 'x', expected: 0n, actual: 9n },
      fencedPartition: 1,
    },
  ]);
  assert.deepEqual(kinds(effects).slice(-3), ['fence', 'drop', 'encode']);
  assert.deepEqual(
    state.sealed[0]?.batch.progress.map(({ partition }) => partition),
    [0],
  );
});

test('an attach drops what the partition had in the open batch', () => {
  const { state, effects } = run([
    { kind: 'attach', partition: 0, expected: 0n },
    { kind: 'append', chunk: chunk(0, 0n, 5) },
    { kind: 'attach', partition: 0, expected: 0n },
  ]);
  assert.equal(state.open.length, 0);
  assert.equal(kinds(effects).at(-1), 'drop');
});

test('BW1 to BW4 hold for any interleaving: every offset is committed once, in order', () => {
  const step = fc.constantFrom('append', 'flush', 'upload', 'settle');
  fc.assert(
    fc.property(
      fc.array(fc.tuple(step, fc.nat(2), fc.integer({ min: 1, max: 60 })), { maxLength: 80 }),
      (steps) => {
        let state = initialBronzeState();
        const pending: BronzeEffect[] = [];
        const next = [0n, 0n, 0n];
        const committed = [0n, 0n, 0n];
        let version = 0;
        const tell = (message: BronzeMessage): void => {
          const decision = decideBronze(state, message, LIMITS);
          state = decision.state;
          pending.push(...decision.effects);
          assert.ok(state.sealed.length <= LIMITS.sealedMax);
        };
        for (const partition of [0, 1, 2]) tell({ kind: 'attach', partition, expected: 0n });
        for (const [kind, partition, rows] of steps) {
          if (kind === 'append') {
            tell({ kind: 'append', chunk: chunk(partition, next[partition]!, rows) });
            next[partition]! += BigInt(rows);
          } else if (kind === 'flush') tell({ kind: 'flush' });
          else if (kind === 'upload') {
            const at = pending.findLastIndex((e) => e.kind === 'encode');
            if (at < 0) continue;
            const [effect] = pending.splice(at, 1) as [Extract<BronzeEffect, { kind: 'encode' }>];
            tell({ kind: 'uploaded', batchId: effect.batch.batchId, files: [] });
          } else {
            const at = pending.findIndex((e) => e.kind === 'commit');
            if (at < 0) continue;
            const [effect] = pending.splice(at, 1) as [Extract<BronzeEffect, { kind: 'commit' }>];
            for (const one of effect.batch.progress) {
              assert.equal(one.expected, committed[one.partition]);
              committed[one.partition] = one.next;
            }
            version += 1;
            tell({
              kind: 'commit-settled',
              batchId: effect.batch.batchId,
              outcome: { kind: 'committed', version, alreadyOurs: false },
              fencedPartition: undefined,
            });
          }
        }
      },
    ),
  );
});
