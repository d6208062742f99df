/** The whole pipeline over simulated services, seed by seed: whatever fails, the tables are right. */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { NEMESES } from './faults.ts';
import { replayCommand, runSeeds, Totals } from './seed-pool.ts';

/** `A..B` in TIDEMARK_SIMULATION_SEEDS runs other seeds than the usual ones. */
const [FIRST, LAST] = (process.env['TIDEMARK_SIMULATION_SEEDS'] ?? '1..2000')
  .split('..')
  .map(Number) as [number, number];
const FAILURES_MAX = 3;

test('I1 to I24 hold in every seed, and every tenth seed has the same trace twice', async () => {
  const totals = new Totals();
  await runSeeds({
    jobs: Math.max(2, availableParallelism()),
    seeds: Array.from({ length: LAST - FIRST + 1 }, (_, i) => FIRST + i),
    twiceEvery: 10,
    onReport: (report) => totals.add(report),
    isEnough: () => totals.failures.length >= FAILURES_MAX,
  });
  const failures = totals.failures.map(
    ({ seed, violation }) => `${violation}\n  ${replayCommand(seed)}`,
  );
  assert.deepEqual(failures, []);
  assert.equal(totals.seeds, LAST - FIRST + 1);
  if (totals.seeds < 500) return;
  const unmet = NEMESES.filter((kind) => !totals.counts.has(kind));
  assert.deepEqual(unmet, [], 'every kind of fault is met by some seed');
  // I17: zombies and second owners did try.
  assert.ok((totals.counts.get('TM_COMMIT_FENCED') ?? 0) > 0, 'some commits lost their fence');
});
