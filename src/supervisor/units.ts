/**
 * Units of work that the supervisor places on processes: partitions on workers, the silver and gold
 * writers on writers. Names are keys in the state store, so what is read back is checked.
 */

/** `partition:<p>`, `silver:<shard>` or `gold`. */
export type Unit = `partition:${number}` | `silver:${number}` | 'gold';

export type UnitKind = 'partition' | 'silver' | 'gold';

/** What a process offers to run. */
export type MemberRole = 'worker' | 'writer';

/** @returns undefined for anything that is no unit's name */
export function parseUnit(
  text: string,
): { readonly unit: Unit; readonly kind: UnitKind; readonly index: number } | undefined {
  if (text === 'gold') return { unit: 'gold', kind: 'gold', index: 0 };
  const match = /^(partition|silver):(\d{1,9})$/.exec(text);
  if (!match) return undefined;
  const kind = match[1] as 'partition' | 'silver';
  const index = Number(match[2]);
  return { unit: `${kind}:${index}`, kind, index };
}

/** The role that a unit needs. */
export function roleOf(unit: Unit): MemberRole {
  return unit.startsWith('partition:') ? 'worker' : 'writer';
}

/** Every unit of a pipeline. */
export function unitsOf(shape: {
  readonly partitionCount: number;
  readonly silverShards: number;
}): Unit[] {
  return [
    ...Array.from({ length: shape.partitionCount }, (_, p): Unit => `partition:${p}`),
    ...Array.from({ length: shape.silverShards }, (_, s): Unit => `silver:${s}`),
    'gold',
  ];
}
