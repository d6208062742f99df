/**
 * The supervisor: one of possibly several leads, watches the members and decides where units run.
 *
 *   standby ──(lease free)──► leading ──(lease lost)──► standby
 *
 * Invariants:
 * - SU1 Only the leader writes the placement; two leaders for a moment cost moves, never data (P2).
 * - SU2 A member whose lease is gone loses its units at once; they go where balance wants them.
 * - SU3 The plan is made from what the stores say now. A lost one is made anew from the leases, once the
 *   members that were there had time to come back: units stay where they run.
 * - SU4 Supervision never waits for the source: members come and go while Kafka does not answer.
 */
import type { Ambient } from '../ambient.ts';
import { crashPoint } from '../crash-points.ts';
import { errorFields, type Logger } from '../logger.ts';
import type { EventSource, TopicInfo } from '../storage/source/event-source.ts';
import type { Lease, StateStore } from '../storage/state/state-store.ts';
import {
  readControl,
  readPinned,
  readPlacement,
  setDraining,
  takeRebalanceRequest,
  writePlacement,
} from './control.ts';
import {
  forgetMember,
  MEMBER_TTL_MS,
  type Member,
  memberLease,
  readMembers,
} from './membership.ts';
import { OutageLog } from './outage-log.ts';
import { type Placement, placementMoves, placeUnits } from './placement.ts';
import { parseUnit, type Unit, unitsOf } from './units.ts';

export interface SupervisorOptions {
  readonly supervisorId: string;
  readonly state: StateStore;
  readonly source: EventSource;
  readonly topic: TopicInfo;
  readonly silverShards: number;
  /** Knows at once that a process of this machine has ended; others are known by their lease. */
  readonly processes: LocalProcesses;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly onEvent?: (event: SupervisorEvent) => void;
}

/** Tells whether processes of this machine live. */
export interface LocalProcesses {
  readonly host: string;
  isAlive(pid: number): boolean;
}

/** What the supervisor noticed or decided; shown live and kept for a while. */
export type SupervisorEvent =
  | { readonly kind: 'leading'; readonly supervisorId: string; readonly epoch: number }
  | { readonly kind: 'standby'; readonly supervisorId: string }
  | { readonly kind: 'member-joined'; readonly memberId: string }
  | { readonly kind: 'member-lost'; readonly memberId: string }
  | {
      readonly kind: 'unit-moved';
      readonly unit: string;
      readonly from: string | undefined;
      readonly to: string | undefined;
    }
  | { readonly kind: 'partitions-added'; readonly partitionCount: number };

const LEADER_LEASE = 'supervisor';
const LEADER_TTL_MS = 4_000;
const STEP_MS = 250;
/** How often the topic's shape is read, milliseconds. */
const DESCRIBE_MS = 5_000;
/** Within this every living member, a slow one too, is back after the state store lost it. */
const RETURN_MS = MEMBER_TTL_MS;
/** How long a member that is gone is still remembered as one to be drained: it may only be restarted. */
const DRAIN_KEPT_MS = 10 * 60_000;

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #lease: Lease | undefined;
  #renewDueMs = 0;
  #describeDueMs = 0;
  #describing = false;
  #topic: TopicInfo;
  #known = new Set<string>();
  /** Members that the last plan gave units. */
  #planned: ReadonlySet<string> = new Set();
  /** Members that had units when the state store lost the plan, and until when they are awaited. */
  #awaited: { readonly members: ReadonlySet<string>; readonly untilMs: number } | undefined;
  /** Since when members that are to be drained are gone, monotonic. */
  readonly #drainGoneMs = new Map<string, number>();
  readonly #topicOutage: OutageLog;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#topic = options.topic;
    const { ambient, logger } = options;
    this.#topicOutage = new OutageLog('the topic cannot be looked at', { ...ambient, logger });
    this.#describeDueMs = ambient.clock.monotonicMs() + DESCRIBE_MS;
    this.#loop = this.#run();
  }

  get isLeading(): boolean {
    return this.#lease !== undefined;
  }

  get epoch(): number | undefined {
    return this.#lease?.epoch;
  }

  get topic(): TopicInfo {
    return this.#topic;
  }

  /** Plans without carrying out: what a rebalance would move. */
  async plan(
    strategy: 'sticky' | 'even',
  ): Promise<{ readonly before: Placement; readonly after: Placement }> {
    const { alive } = await this.#members();
    return this.#planWith(alive, strategy);
  }

  /** Plans and writes the plan; nodes follow it within moments. */
  async rebalance(
    strategy: 'sticky' | 'even',
  ): Promise<{ readonly before: Placement; readonly after: Placement }> {
    const planned = await this.plan(strategy);
    await this.#carryOut(planned.before, planned.after);
    return planned;
  }

  /** Gives the lead back and ends. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    try {
      if (this.#lease) await this.#options.state.releaseLease(this.#lease);
    } catch (thrown) {
      this.#options.logger.warn('the lead runs out by itself', errorFields(thrown));
    }
  }

  async #run(): Promise<void> {
    const { ambient, logger } = this.#options;
    const outage = new OutageLog('supervision waits for a service', { ...ambient, logger });
    while (!this.#stop.signal.aborted) {
      try {
        if (await this.#leads()) await this.#lead();
        outage.worked();
      } catch (thrown) {
        outage.failed(thrown);
      }
      await ambient.clock.sleep(STEP_MS, this.#stop.signal);
    }
  }

  async #leads(): Promise<boolean> {
    const { supervisorId, state, ambient } = this.#options;
    const nowMs = ambient.clock.monotonicMs();
    if (this.#lease && nowMs < this.#renewDueMs) return true;
    if (this.#lease && !(await state.renewLease(this.#lease, LEADER_TTL_MS))) {
      this.#lease = undefined;
      this.#emit({ kind: 'standby', supervisorId });
    }
    if (!this.#lease) {
      this.#lease = await state.acquireLease(LEADER_LEASE, supervisorId, LEADER_TTL_MS);
      if (this.#lease) crashPoint('v.lease.taken');
      if (this.#lease) this.#emit({ kind: 'leading', supervisorId, epoch: this.#lease.epoch });
    }
    this.#renewDueMs = nowMs + LEADER_TTL_MS / 4;
    return this.#lease !== undefined;
  }

  async #lead(): Promise<void> {
    const { state } = this.#options;
    const { alive, dead } = await this.#members();
    for (const memberId of dead) {
      await forgetMember(state, memberId);
      if (this.#known.has(memberId)) this.#emit({ kind: 'member-lost', memberId });
    }
    for (const { memberId } of alive) {
      if (!this.#known.has(memberId)) this.#emit({ kind: 'member-joined', memberId });
    }
    this.#known = new Set(alive.map(({ memberId }) => memberId));
    void this.#watchTopic();
    if (alive.length === 0 || (await this.#awaitsMembers())) return;
    await this.#forgetDrains();
    const strategy = (await takeRebalanceRequest(state)) ?? 'sticky';
    const { before, after } = await this.#planWith(alive, strategy);
    await this.#carryOut(before, after);
    this.#planned = new Set(after.values());
  }

  /** SU3 */
  async #awaitsMembers(): Promise<boolean> {
    const { state, ambient } = this.#options;
    const nowMs = ambient.clock.monotonicMs();
    if (this.#planned.size > 0 && (await readPlacement(state)).size === 0) {
      this.#awaited = { members: this.#planned, untilMs: nowMs + RETURN_MS };
      this.#planned = new Set();
    }
    if (!this.#awaited) return false;
    const { members, untilMs } = this.#awaited;
    const isOver = nowMs >= untilMs;
    const areBack = [...members].every((memberId) => this.#known.has(memberId));
    if (isOver || areBack) this.#awaited = undefined;
    return this.#awaited !== undefined;
  }

  /** SU4. Never rejects. */
  async #watchTopic(): Promise<void> {
    const { source, ambient, logger } = this.#options;
    if (this.#describing || ambient.clock.monotonicMs() < this.#describeDueMs) return;
    this.#describing = true;
    try {
      const topic = await source.describe();
      this.#topicOutage.worked();
      if (topic.topicId !== this.#topic.topicId) {
        logger.error('the topic was deleted and created again', { topic: topic.topic });
      } else if (topic.partitionCount > this.#topic.partitionCount) {
        this.#topic = topic;
        this.#emit({ kind: 'partitions-added', partitionCount: topic.partitionCount });
      }
    } catch (thrown) {
      if (!this.#stop.signal.aborted) this.#topicOutage.failed(thrown);
    }
    this.#describing = false;
    this.#describeDueMs = ambient.clock.monotonicMs() + DESCRIBE_MS;
  }

  /** Drops wishes to drain members that are gone for good: their ids mean nobody any more. */
  async #forgetDrains(): Promise<void> {
    const { state, ambient } = this.#options;
    const { draining } = await readControl(state);
    const nowMs = ambient.clock.monotonicMs();
    for (const memberId of this.#drainGoneMs.keys()) {
      if (this.#known.has(memberId) || !draining.has(memberId)) this.#drainGoneMs.delete(memberId);
    }
    for (const memberId of draining) {
      if (this.#known.has(memberId)) continue;
      const goneMs = this.#drainGoneMs.get(memberId) ?? nowMs;
      this.#drainGoneMs.set(memberId, goneMs);
      if (nowMs - goneMs >= DRAIN_KEPT_MS) await setDraining(state, memberId, false);
    }
  }

  /** SU2: a process of this machine that has ended loses its leases without waiting for their end. */
  async #members(): Promise<{
    readonly alive: readonly Member[];
    readonly dead: readonly string[];
  }> {
    const { state, processes } = this.#options;
    const { alive, dead } = await readMembers(state);
    const ended = alive.filter(
      ({ host, pid }) => host === processes.host && !processes.isAlive(pid),
    );
    if (ended.length === 0) return { alive, dead };
    const endedIds = new Set(ended.map(({ memberId }) => memberId));
    const placement = await readPlacement(state);
    const units = [...placement].filter(([, memberId]) => endedIds.has(memberId));
    const leases = [...units.map(([unit]) => unit as string), ...[...endedIds].map(memberLease)];
    for (const name of leases) {
      const holder = await state.leaseHolder(name);
      if (holder && endedIds.has(holder.owner)) await state.releaseLease({ name, ...holder });
    }
    return {
      alive: alive.filter(({ memberId }) => !endedIds.has(memberId)),
      dead: [...dead, ...endedIds],
    };
  }

  /** SU3 */
  async #planWith(
    members: readonly Member[],
    strategy: 'sticky' | 'even',
  ): Promise<{ readonly before: Placement; readonly after: Placement }> {
    const { state, silverShards } = this.#options;
    const [before, pinned, control] = await Promise.all([
      readPlacement(state),
      readPinned(state),
      readControl(state),
    ]);
    const after = placeUnits({
      members: members.map((member) => ({
        ...member,
        draining: member.draining || control.draining.has(member.memberId),
      })),
      partitionCount: this.#topic.partitionCount,
      silverShards,
      current: before.size > 0 ? before : await this.#heldUnits(),
      pinned,
      lag: strategy === 'even' ? await this.#lags() : new Map(),
      strategy,
    });
    return { before, after };
  }

  /** SU3: without a plan, units stay with whoever holds their leases. */
  async #heldUnits(): Promise<Map<Unit, string>> {
    const { state, silverShards } = this.#options;
    const units = unitsOf({ partitionCount: this.#topic.partitionCount, silverShards });
    const held = new Map<Unit, string>();
    for (const unit of units) {
      const holder = await state.leaseHolder(unit);
      if (holder) held.set(unit, holder.owner);
    }
    return held;
  }

  /** Records behind, by partition, from the nodes' hints. */
  async #lags(): Promise<Map<number, number>> {
    const { state } = this.#options;
    const keys = await state.keys('partition:');
    const lags = new Map<number, number>();
    for (const key of keys) {
      const parsed = parseUnit(key);
      const { endOffset, nextOffset } = await state.getHash(key);
      const lag = Number(endOffset) - Number(nextOffset);
      if (parsed?.kind === 'partition' && Number.isFinite(lag))
        lags.set(parsed.index, Math.max(0, lag));
    }
    return lags;
  }

  async #carryOut(before: Placement, after: Placement): Promise<void> {
    const moves = placementMoves(before, after);
    if (moves.length === 0) return;
    await writePlacement(this.#options.state, before, after);
    crashPoint('v.assign.saved');
    for (const move of moves) this.#emit({ kind: 'unit-moved', ...move });
  }

  #emit(event: SupervisorEvent): void {
    const { kind, ...fields } = event;
    this.#options.logger.info(`supervisor: ${kind}`, fields);
    this.#options.onEvent?.(event);
  }
}

/** How long a dead member's units may stay where they are: its lease plus one step. */
export const DETECTION_MS = MEMBER_TTL_MS + STEP_MS;
