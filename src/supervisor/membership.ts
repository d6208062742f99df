/**
 * Processes of a pipeline as they announce themselves in the state store. A member lives as long as
 * its lease; what it says of itself is a hint (P1) and is checked when read.
 */
import type { StateStore } from '../storage/state/state-store.ts';
import type { MemberRole } from './units.ts';

/** How long a silent process keeps its place, and how often it speaks up, milliseconds. */
export const MEMBER_TTL_MS = 4_000;
export const HEARTBEAT_MS = 1_000;

export interface Member {
  readonly memberId: string;
  readonly roles: readonly MemberRole[];
  readonly host: string;
  readonly pid: number;
  readonly startedAtMs: number;
  readonly heartbeatMs: number;
  /** Gives its units back and takes no new ones. */
  readonly draining: boolean;
  readonly memoryBytes: number;
  readonly restarts: number;
  /** What it counted since it started, by name; only ever grows, but for `inFlightBytes`. */
  readonly counts: Readonly<Record<string, number>>;
}

const PREFIX = 'member:';

/** Name of the lease that shows that a member lives. */
export function memberLease(memberId: string): string {
  return `${PREFIX}${memberId}`;
}

/** Writes what a member says of itself. */
export async function announceMember(state: StateStore, member: Member): Promise<void> {
  await state.setHash(`${PREFIX}${member.memberId}`, {
    roles: member.roles.join(','),
    host: member.host,
    pid: String(member.pid),
    startedAtMs: String(member.startedAtMs),
    heartbeatMs: String(member.heartbeatMs),
    draining: String(member.draining),
    memoryBytes: String(member.memoryBytes),
    restarts: String(member.restarts),
    counts: JSON.stringify(member.counts),
  });
}

/** Members whose lease is alive, and the ids of those whose lease is gone. */
export async function readMembers(
  state: StateStore,
): Promise<{ readonly alive: readonly Member[]; readonly dead: readonly string[] }> {
  const ids = (await state.keys(PREFIX)).map((key) => key.slice(PREFIX.length)).sort();
  const read = await Promise.all(
    ids.map(async (memberId) => {
      const [holder, fields] = await Promise.all([
        state.leaseHolder(memberLease(memberId)),
        state.getHash(`${PREFIX}${memberId}`),
      ]);
      return { memberId, member: holder ? memberOf(memberId, fields) : undefined };
    }),
  );
  return {
    alive: read.flatMap(({ member }) => (member ? [member] : [])),
    dead: read.flatMap(({ memberId, member }) => (member ? [] : [memberId])),
  };
}

/** Forgets a member that is gone. */
export async function forgetMember(state: StateStore, memberId: string): Promise<void> {
  await state.delete(`${PREFIX}${memberId}`);
}

function memberOf(memberId: string, fields: Readonly<Record<string, string>>): Member | undefined {
  const roles = (fields['roles'] ?? '')
    .split(',')
    .filter((role) => role === 'worker' || role === 'writer');
  if (roles.length === 0) return undefined;
  const number = (name: string): number => Number(fields[name]) || 0;
  return {
    memberId,
    roles,
    host: fields['host'] ?? '',
    pid: number('pid'),
    startedAtMs: number('startedAtMs'),
    heartbeatMs: number('heartbeatMs'),
    draining: fields['draining'] === 'true',
    memoryBytes: number('memoryBytes'),
    restarts: number('restarts'),
    counts: countsOf(fields['counts']),
  };
}

/** Numbers of a JSON object; empty for anything else, since what is read back is a hint. */
function countsOf(text: string | undefined): Record<string, number> {
  try {
    const parsed: unknown = JSON.parse(text ?? '{}');
    if (typeof parsed !== 'object' || parsed === null) return {};
    const numbers = Object.entries(parsed).filter(
      (entry): entry is [string, number] => typeof entry[1] === 'number' && entry[1] >= 0,
    );
    return Object.fromEntries(numbers);
  } catch {
    return {};
  }
}
