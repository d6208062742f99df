import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assignPartitions, movesBetween } from '../../../src/supervisor/assignment.ts';

const worlds = fc.record({
  partitionCount: fc.integer({ min: 0, max: 40 }),
  workers: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'), { minLength: 1 }),
  owners: fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', undefined), {
    maxLength: 40,
  }),
  lags: fc.array(fc.nat(1000), { maxLength: 40 }),
});

function inputOf(world: {
  partitionCount: number;
  workers: string[];
  owners: (string | undefined)[];
  lags: number[];
}) {
  const partitions = Array.from({ length: world.partitionCount }, (_, p) => p);
  const current = new Map<number, string>();
  for (const p of partitions) {
    const owner = world.owners[p];
    if (owner !== undefined) current.set(p, owner);
  }
  const lag = new Map(partitions.map((p) => [p, world.lags[p] ?? 0]));
  return { partitions, workers: world.workers, current, lag, strategy: 'sticky' as const };
}

const byPartition = (a: readonly [number, string], b: readonly [number, string]): number =>
  a[0] - b[0];

test('AS1 AS2 every partition has one worker and loads differ by at most one', () => {
  fc.assert(
    fc.property(worlds, fc.constantFrom('sticky', 'even'), (world, strategy) => {
      const input = { ...inputOf(world), strategy } as const;
      const plan = assignPartitions(input);
      assert.equal(plan.size, input.partitions.length);
      const loads = input.workers.map((w) => [...plan.values()].filter((o) => o === w).length);
      assert.ok(Math.max(...loads) - Math.min(...loads) <= 1);
    }),
  );
});

test('AS2 no balanced plan keeps more partitions where they are', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const input = inputOf(world);
      const plan = assignPartitions(input);
      const kept = input.partitions.length - movesBetween(input.current, plan).length;
      const floor = Math.floor(input.partitions.length / input.workers.length);
      let extras = input.partitions.length % input.workers.length;
      let keepable = 0;
      const owned = input.workers
        .map((w) => input.partitions.filter((p) => input.current.get(p) === w).length)
        .sort((a, b) => b - a);
      for (const count of owned) {
        const extra = count > floor && extras > 0 ? 1 : 0;
        extras -= extra;
        keepable += Math.min(count, floor + extra);
      }
      assert.equal(kept, keepable);
    }),
  );
});

test('AS2 a plan that is carried out already moves nothing', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const input = inputOf(world);
      const plan = assignPartitions(input);
      assert.deepEqual(movesBetween(plan, assignPartitions({ ...input, current: plan })), []);
    }),
  );
});

test('AS3 the order of workers and partitions does not matter', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const input = inputOf(world);
      const reversed = {
        ...input,
        workers: [...input.workers].reverse(),
        partitions: [...input.partitions].reverse(),
      };
      assert.deepEqual(
        new Map([...assignPartitions(input)].sort(byPartition)),
        new Map([...assignPartitions(reversed)].sort(byPartition)),
      );
    }),
  );
});
