/**
 * What the supervisor keeps in the state store for the nodes, and operators' wishes for the
 * supervisor. Hints all of it: lost, the plan is made anew and wishes have their defaults.
 */
import { asPipelineError, PipelineError } from '../errors.ts';
import type { StateStore } from '../storage/state/state-store.ts';
import type { Placement } from './placement.ts';
import { parseUnit, type Unit } from './units.ts';

const PLACEMENT = 'placement';
const CONTROL = 'control';
const PINNED = 'pinned';

export interface Control {
  readonly paused: boolean;
  /** Members that operators asked to give everything back. */
  readonly draining: ReadonlySet<string>;
}

/** Where every unit runs, as last planned. */
export async function readPlacement(state: StateStore): Promise<Map<Unit, string>> {
  return unitMap(await state.getHash(PLACEMENT));
}

/** Keeps a plan; units that it leaves out lose their member. */
export async function writePlacement(
  state: StateStore,
  before: Placement,
  after: Placement,
): Promise<void> {
  const fields: Record<string, string> = {};
  for (const unit of before.keys()) if (!after.has(unit)) fields[unit] = '';
  for (const [unit, memberId] of after) fields[unit] = memberId;
  await state.setHash(PLACEMENT, fields);
}

/** Units that operators placed by hand. */
export async function readPinned(state: StateStore): Promise<Map<Unit, string>> {
  return unitMap(await state.getHash(PINNED));
}

/** @param memberId undefined lets the supervisor place the unit again */
export async function pinUnit(
  state: StateStore,
  unit: Unit,
  memberId: string | undefined,
): Promise<void> {
  await state.setHash(PINNED, { [unit]: memberId ?? '' });
}

/** Lets the supervisor place every unit again. */
export async function clearPinned(state: StateStore): Promise<void> {
  await state.delete(PINNED);
}

/** What operators asked for. */
export async function readControl(state: StateStore): Promise<Control> {
  const fields = await state.getHash(CONTROL);
  const draining = Object.entries(fields).flatMap(([name, value]) =>
    name.startsWith('drain:') && value === 'true' ? [name.slice('drain:'.length)] : [],
  );
  return { paused: fields['paused'] === 'true', draining: new Set(draining) };
}

/** Stops or continues all fetching. */
export async function setPaused(state: StateStore, paused: boolean): Promise<void> {
  await state.setHash(CONTROL, { paused: String(paused) });
}

/** Asks a member to give everything back, or lets it work again. */
export async function setDraining(
  state: StateStore,
  memberId: string,
  draining: boolean,
): Promise<void> {
  await state.setHash(CONTROL, { [`drain:${memberId}`]: String(draining) });
}

/** Asks the leader to rebalance, from a supervisor that stands by. */
export async function requestRebalance(
  state: StateStore,
  strategy: 'sticky' | 'even',
): Promise<void> {
  await state.setHash(CONTROL, { rebalance: strategy });
}

/** The rebalance that was asked for, if any; it is asked for no more. */
export async function takeRebalanceRequest(
  state: StateStore,
): Promise<'sticky' | 'even' | undefined> {
  const { rebalance } = await state.getHash(CONTROL);
  if (rebalance !== 'sticky' && rebalance !== 'even') return undefined;
  await state.setHash(CONTROL, { rebalance: '' });
  return rebalance;
}

/** Rethrows anything but an outage of the state store, which callers wait out. */
export function toleratesOutage(thrown: unknown): PipelineError {
  const error = asPipelineError(thrown);
  if (error.kind !== 'unavailable') throw error;
  return error;
}

/** An empty value is a removed field: hashes of the port only set. */
function unitMap(fields: Readonly<Record<string, string>>): Map<Unit, string> {
  const map = new Map<Unit, string>();
  for (const [name, memberId] of Object.entries(fields)) {
    const parsed = parseUnit(name);
    if (parsed && memberId !== '') map.set(parsed.unit, memberId);
  }
  return map;
}
