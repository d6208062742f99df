/**
 * Keeps one node in step with the supervisor's plan: heartbeat, starting what was placed here, giving
 * back what was not.
 *
 * Invariants:
 * - NA1 A unit starts only under its lease, so that its old owner can first drain it; a dead owner's
 *   lease runs out. The lease only saves work: the table's txn fences whoever is late (P2).
 * - NA2 A node that could not renew its membership in time (it was stopped, or Redis was away) ends its
 *   units only when another member has taken their lease.
 * - NA4 A unit that was fenced or crashed too often is tried again after a pause, as long as it is placed
 *   here, and so is one whose rights or topic were missing; one that stopped because of its input or its
 *   tables stays stopped until it is moved (P8).
 * - NA3 Without the state store a node goes on with what it has: the logs decide, not Redis (P1).
 */
import type { Ambient } from '../ambient.ts';
import { crashPoint } from '../crash-points.ts';
import type { PipelineNode } from '../engine/node.ts';
import type { ErrorCode } from '../errors.ts';
import { errorFields, type Logger } from '../logger.ts';
import type { Lease, StateStore } from '../storage/state/state-store.ts';
import { readControl, readPlacement, toleratesOutage } from './control.ts';
import {
  announceMember,
  forgetMember,
  HEARTBEAT_MS,
  MEMBER_TTL_MS,
  memberLease,
} from './membership.ts';
import { OutageLog } from './outage-log.ts';
import type { MemberRole, Unit } from './units.ts';

/** What an agent needs of a node. */
export type AgentNode = Pick<
  PipelineNode,
  | 'nodeId'
  | 'units'
  | 'failures'
  | 'restarts'
  | 'start'
  | 'release'
  | 'abandon'
  | 'pause'
  | 'resume'
  | 'close'
>;

export interface NodeAgentOptions {
  readonly node: AgentNode;
  readonly state: StateStore;
  readonly roles: readonly MemberRole[];
  readonly process: { readonly host: string; readonly pid: number; memoryBytes(): number };
  /** What the member counted so far (Member.counts). */
  readonly counts: () => Readonly<Record<string, number>>;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/** How often a node compares what it runs with the plan, milliseconds. */
const STEP_MS = 250;
/** Pause before a failed unit is started again, milliseconds. */
const RETRY_MS = 5_000;
/** Pause before something is tried again that an operator has to allow or create, milliseconds. */
const RETRY_REFUSED_MS = 30_000;
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'TM_STORE_DENIED',
  'TM_SOURCE_DENIED',
  'TM_TOPIC_MISSING',
]);

export class NodeAgent {
  readonly #options: NodeAgentOptions;
  readonly #leases = new Map<Unit, Lease>();
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  readonly #startedAtMs: number;
  readonly #retryDueMs = new Map<Unit, number>();
  readonly #refusedAtMs = new Map<Unit, number>();
  #member: Lease | undefined;
  #paused = false;
  #draining = false;
  #heartbeatDueMs = 0;

  constructor(options: NodeAgentOptions) {
    this.#options = options;
    this.#startedAtMs = Math.round(options.ambient.clock.nowMs());
    this.#loop = this.#run();
  }

  /** Gives every unit back after draining it, leaves the membership, and ends. */
  async leave(): Promise<void> {
    const { node, state } = this.#options;
    this.#draining = true;
    try {
      await this.#announce();
    } catch (thrown) {
      toleratesOutage(thrown);
    }
    this.#stop.abort();
    await this.#loop;
    crashPoint('v.shutdown.drain');
    await node.close();
    try {
      await Promise.all([...this.#leases.values()].map((lease) => state.releaseLease(lease)));
      if (this.#member) await state.releaseLease(this.#member);
      await forgetMember(state, node.nodeId);
    } catch (thrown) {
      toleratesOutage(thrown);
    }
  }

  async #run(): Promise<void> {
    const { ambient, logger } = this.#options;
    const message = 'the state store is away; going on with the units that run';
    const outage = new OutageLog(message, { ...ambient, logger });
    while (!this.#stop.signal.aborted) {
      try {
        await this.#heartbeat();
        await this.#followPlan();
        outage.worked();
      } catch (thrown) {
        outage.failed(thrown);
      }
      await ambient.clock.sleep(STEP_MS, this.#stop.signal);
    }
  }

  async #heartbeat(): Promise<void> {
    const { node, state, ambient } = this.#options;
    const nowMs = ambient.clock.monotonicMs();
    if (nowMs < this.#heartbeatDueMs) return;
    const name = memberLease(node.nodeId);
    const renewed = this.#member ? await state.renewLease(this.#member, MEMBER_TTL_MS) : false;
    if (!renewed) this.#member = await state.acquireLease(name, node.nodeId, MEMBER_TTL_MS);
    // Leases first: a Redis that is full still prolongs them, but takes no announcement.
    await Promise.all(
      [...this.#leases].map(async ([unit, lease]) => {
        if (!(await state.renewLease(lease, MEMBER_TTL_MS))) await this.#regain(unit);
      }),
    );
    await this.#announce();
    this.#heartbeatDueMs = nowMs + HEARTBEAT_MS;
  }

  /** NA2 */
  async #regain(unit: Unit): Promise<void> {
    const { node, state, logger } = this.#options;
    const lease = await state.acquireLease(unit, node.nodeId, MEMBER_TTL_MS);
    if (lease) {
      this.#leases.set(unit, lease);
      return;
    }
    logger.warn('another member took the unit over', { unit, node: node.nodeId });
    this.#leases.delete(unit);
    await node.abandon(unit);
  }

  async #announce(): Promise<void> {
    const { node, state, roles, process, counts, ambient } = this.#options;
    await announceMember(state, {
      memberId: node.nodeId,
      roles,
      host: process.host,
      pid: process.pid,
      startedAtMs: this.#startedAtMs,
      heartbeatMs: Math.round(ambient.clock.nowMs()),
      draining: this.#draining,
      memoryBytes: process.memoryBytes(),
      restarts: node.restarts,
      counts: counts(),
    });
  }

  async #followPlan(): Promise<void> {
    const { node, state } = this.#options;
    const [placement, control] = await Promise.all([readPlacement(state), readControl(state)]);
    this.#draining = control.draining.has(node.nodeId);
    // An empty plan means that Redis lost it, not that nobody should work (NA3).
    if (placement.size > 0) {
      // A unit that ended here and waits to be tried again has only its lease left to give back.
      for (const unit of new Set([...node.units, ...this.#leases.keys()])) {
        if (placement.get(unit) !== node.nodeId) void this.#giveBack(unit);
      }
      await this.#endFailed();
      for (const [unit, memberId] of placement) {
        if (memberId === node.nodeId) await this.#take(unit);
      }
    }
    if (control.paused !== this.#paused) {
      this.#paused = control.paused;
      await (control.paused ? node.pause() : node.resume());
    }
  }

  /** NA4 */
  async #endFailed(): Promise<void> {
    const { node, ambient } = this.#options;
    const nowMs = ambient.clock.monotonicMs();
    for (const [unit, { kind, code }] of node.failures) {
      if (kind === 'fenced' || kind === 'internal') {
        this.#retryDueMs.set(unit, nowMs + RETRY_MS);
        await node.abandon(unit);
      } else if (REFUSALS.has(code)) {
        // Until it is due the unit stays, so that its reason is seen.
        const failedAtMs = this.#refusedAtMs.get(unit) ?? nowMs;
        this.#refusedAtMs.set(unit, failedAtMs);
        if (nowMs - failedAtMs < RETRY_REFUSED_MS) continue;
        this.#refusedAtMs.delete(unit);
        await node.abandon(unit);
      }
    }
  }

  /** NA1 */
  async #take(unit: Unit): Promise<void> {
    const { node, state, ambient } = this.#options;
    if (node.units.has(unit)) return;
    if (ambient.clock.monotonicMs() < (this.#retryDueMs.get(unit) ?? 0)) return;
    const lease = await state.acquireLease(unit, node.nodeId, MEMBER_TTL_MS);
    if (!lease) return;
    this.#leases.set(unit, lease);
    crashPoint('v.rebalance.assigned');
    node.start(unit);
    if (this.#paused) await node.pause();
  }

  async #giveBack(unit: Unit): Promise<void> {
    const { node, state, logger } = this.#options;
    await node.release(unit);
    crashPoint('v.rebalance.revoked');
    const lease = this.#leases.get(unit);
    this.#leases.delete(unit);
    try {
      if (lease) await state.releaseLease(lease);
    } catch (thrown) {
      logger.warn('a lease runs out by itself', { unit, ...errorFields(thrown) });
    }
  }
}
