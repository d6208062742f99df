import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Member } from '../../../src/supervisor/membership.ts';
import {
  type PlacementInput,
  placementMoves,
  placeUnits,
} from '../../../src/supervisor/placement.ts';
import type { MemberRole, Unit } from '../../../src/supervisor/units.ts';

function member(memberId: string, roles: readonly MemberRole[], draining = false): Member {
  return {
    memberId,
    roles,
    draining,
    host: 'h',
    pid: 1,
    startedAtMs: 0,
    heartbeatMs: 0,
    memoryBytes: 0,
    restarts: 0,
    counts: {},
  };
}

function input(over: Partial<PlacementInput>): PlacementInput {
  return {
    members: [member('a', ['worker', 'writer'])],
    partitionCount: 4,
    silverShards: 1,
    current: new Map(),
    pinned: new Map(),
    lag: new Map(),
    strategy: 'sticky',
    ...over,
  };
}

test('PL1 partitions go to workers, silver and gold to writers, nothing to who drains', () => {
  const members = [
    member('w1', ['worker']),
    member('w2', ['worker'], true),
    member('x1', ['writer']),
  ];
  const plan = placeUnits(input({ members }));
  assert.deepEqual(
    [...plan].toSorted(([a], [b]) => (a < b ? -1 : 1)),
    [
      ['gold', 'x1'],
      ['partition:0', 'w1'],
      ['partition:1', 'w1'],
      ['partition:2', 'w1'],
      ['partition:3', 'w1'],
      ['silver:0', 'x1'],
    ],
  );
});

test('PL1 without a member of its role a unit has no place', () => {
  const plan = placeUnits(input({ members: [member('w1', ['worker'])] }));
  assert.equal(plan.get('gold'), undefined);
  assert.equal(plan.get('partition:0'), 'w1');
});

test('PL2 a unit placed by hand stays until its member is gone', () => {
  const members = [member('a', ['worker', 'writer']), member('b', ['worker', 'writer'])];
  const pinned = new Map<Unit, string>([
    ['partition:3', 'a'],
    ['partition:2', 'a'],
    ['partition:1', 'a'],
  ]);
  const plan = placeUnits(input({ members, pinned }));
  assert.equal(plan.get('partition:1'), 'a');
  assert.equal(plan.get('partition:3'), 'a');
  const after = placeUnits(input({ members: [member('b', ['worker', 'writer'])], pinned }));
  assert.equal(after.get('partition:3'), 'b');
});

test('PL3 a member that leaves moves only its own units; one that joins takes only its share', () => {
  const ids = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'), { minLength: 2 });
  fc.assert(
    fc.property(ids, fc.integer({ min: 1, max: 24 }), (names, partitionCount) => {
      const members = names.map((name) => member(name, ['worker', 'writer']));
      const before = placeUnits(input({ members, partitionCount }));
      const without = placeUnits(
        input({ members: members.slice(1), partitionCount, current: before }),
      );
      for (const { from } of placementMoves(before, without)) assert.equal(from, names[0]);
      const again = placeUnits(input({ members, partitionCount, current: without }));
      for (const { to } of placementMoves(without, again)) assert.equal(to, names[0]);
    }),
  );
});
