/**
 * Which member runs which unit. Pure.
 *
 * Invariants:
 * - PL1 A unit goes to a live member with its role that is not draining, or to nobody.
 * - PL2 A unit placed by hand stays where it was put as long as that member may have it.
 * - PL3 Otherwise partitions follow assignment.ts: balanced, sticky, fewest moves; so do silver shards.
 */
import { assignPartitions } from './assignment.ts';
import type { Member } from './membership.ts';
import { type MemberRole, parseUnit, type Unit, unitsOf } from './units.ts';

export interface PlacementInput {
  readonly members: readonly Member[];
  readonly partitionCount: number;
  readonly silverShards: number;
  readonly current: ReadonlyMap<Unit, string>;
  /** Units placed by hand. */
  readonly pinned: ReadonlyMap<Unit, string>;
  /** Records behind, by partition. */
  readonly lag: ReadonlyMap<number, number>;
  readonly strategy: 'sticky' | 'even';
}

export type Placement = ReadonlyMap<Unit, string>;

/** Plans where every unit runs. */
export function placeUnits(input: PlacementInput): Placement {
  const idsWith = (role: MemberRole): string[] =>
    input.members
      .filter((member) => member.roles.includes(role) && !member.draining)
      .map(({ memberId }) => memberId);
  const workers = idsWith('worker');
  const writers = idsWith('writer');
  const plan = new Map<Unit, string>();
  const units = unitsOf(input);
  for (const [kind, members] of [
    ['partition', workers],
    ['silver', writers],
    ['gold', writers],
  ] as const) {
    const own = units.flatMap((unit) => {
      const parsed = parseUnit(unit)!;
      return parsed.kind === kind ? [parsed] : [];
    });
    const pinned = own.filter(({ unit }) => members.includes(input.pinned.get(unit) ?? ''));
    for (const { unit } of pinned) plan.set(unit, input.pinned.get(unit)!);
    const free = own.filter(({ unit }) => !plan.has(unit));
    const current = new Map<number, string>();
    for (const { unit, index } of free) {
      const owner = input.current.get(unit);
      if (owner !== undefined) current.set(index, owner);
    }
    const assigned = assignPartitions({
      partitions: free.map(({ index }) => index),
      workers: members,
      current,
      strategy: input.strategy,
      ...(kind === 'partition' ? { lag: input.lag } : {}),
    });
    for (const { unit, index } of free) {
      const owner = assigned.get(index);
      if (owner !== undefined) plan.set(unit, owner);
    }
  }
  return plan;
}

/** Units whose member changes, with the old and the new one. */
export function placementMoves(
  before: Placement,
  after: Placement,
): readonly {
  readonly unit: Unit;
  readonly from: string | undefined;
  readonly to: string | undefined;
}[] {
  const units = [...new Set([...before.keys(), ...after.keys()])];
  return units
    .map((unit) => ({ unit, from: before.get(unit), to: after.get(unit) }))
    .filter(({ from, to }) => from !== to);
}
