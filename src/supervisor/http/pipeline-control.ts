/**
 * The control of a running pipeline: reads it every few seconds, so that charts have a past when
 * somebody looks, and passes operators' wishes on through the state store.
 *
 * PC1 Wishes are kept, not carried out here: the leading supervisor and the nodes follow them, so every
 *     supervisor's API does the same.
 * PC2 History, listeners and readings under way are bounded (P10).
 * PC3 Who asked for a change and then reads sees it: an answer never rests on a reading begun before.
 */
import type { Ambient } from '../../ambient.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { instantText } from '../../pipeline/generator/instant-text.ts';
import { pinUnit, requestRebalance, setDraining, setPaused } from '../control.ts';
import type { Member } from '../membership.ts';
import { placementMoves } from '../placement.ts';
import type { Supervisor } from '../supervisor.ts';
import type { Unit } from '../units.ts';
import type {
  Assignments,
  Drained,
  PartitionDetail,
  Paused,
  Placed,
  Rebalance,
  Rebalanced,
  Reconciliation,
  Sample,
  StartReconciliation,
  Status,
  TableStatus,
  Totals,
  Workers,
} from './api-schemas.ts';
import { CountTotals } from './count-totals.ts';
import { LagClock } from './lag-clock.ts';
import { FactsReader, type FactsReaderOptions, type PipelineFacts } from './pipeline-facts.ts';
import { nextOffsets, type Observed, stageProgress, statusOf } from './status-view.ts';
import type { DurationCounts, Outcome, SupervisorControl } from './supervisor-control.ts';

/** What recomputes gold; absent where the process has none. */
export interface ReconciliationControl {
  list(): Promise<readonly Reconciliation[]>;
  start(request: StartReconciliation): Promise<Outcome<{ readonly dates: readonly string[] }>>;
}

export interface PipelineControlOptions {
  /** Config, ports and tables of the process: a PipelineProcess has them. */
  readonly pipeline: Pick<FactsReaderOptions, 'config' | 'ports' | 'tables' | 'delta'>;
  readonly supervisorId: string;
  readonly supervisor: Pick<Supervisor, 'isLeading' | 'topic' | 'plan' | 'rebalance'>;
  readonly reconciliation?: ReconciliationControl;
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Between two readings; default 2 s. */
  readonly intervalMs?: number;
}

const INTERVAL_MS = 2_000;
/** A reading younger than this answers a request. */
const FRESH_MS = 500;
/** A quarter of an hour at the default interval. */
const SAMPLES_MAX = 450;
/** For the leader and the nodes to follow a wish, before the outcome is read. */
const FOLLOW_MS = 400;
/** Rates are means over this span. */
const RATE_SPAN_MS = 10_000;

/** Starts reading. Close it before the ports. */
export function createSupervisorControl(options: PipelineControlOptions): SupervisorControl {
  return new PipelineControl(options);
}

interface Reading {
  readonly startedMs: number;
  readonly atMs: number;
  readonly facts: PipelineFacts;
  readonly status: Status;
}

interface RatePoint {
  readonly atMs: number;
  readonly bronzeRows: number;
  readonly silverRows: number;
}

class PipelineControl implements SupervisorControl {
  readonly #options: PipelineControlOptions;
  readonly #reader: FactsReader;
  readonly #totals = new CountTotals();
  readonly #partitionClocks = new Map<number, LagClock>();
  readonly #stageClocks = { silver: new LagClock(), gold: new LagClock() };
  readonly #listeners = new Set<(status: Status) => void>();
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #samples: Sample[] = [];
  #ratePoints: RatePoint[] = [];
  #reading: Reading | undefined;
  #pending: { readonly startedMs: number; readonly reading: Promise<Reading> } | undefined;
  #changedMs = Number.NEGATIVE_INFINITY;

  constructor(options: PipelineControlOptions) {
    this.#options = options;
    const { pipeline, supervisor, ambient } = options;
    this.#reader = new FactsReader({
      config: pipeline.config,
      ports: pipeline.ports,
      tables: pipeline.tables,
      delta: pipeline.delta,
      topic: () => supervisor.topic,
      clock: ambient.clock,
    });
    this.#loop = this.#run();
  }

  get latest(): Status | undefined {
    return this.#reading?.status;
  }

  get history(): readonly Sample[] {
    return this.#samples;
  }

  get commitDurations(): ReadonlyMap<string, DurationCounts> {
    return durationsOf(this.#totals);
  }

  readiness(): { readonly isReady: boolean; readonly why: string | undefined } {
    if (this.#stop.signal.aborted) return { isReady: false, why: 'it is ending' };
    if (!this.#reading) return { isReady: false, why: 'the pipeline was not read yet' };
    const state = this.#reading.facts.silent.find(({ part }) => part === 'state store');
    if (state) return { isReady: false, why: 'the state store does not answer' };
    return { isReady: true, why: undefined };
  }

  async status(): Promise<Status> {
    return (await this.#fresh()).status;
  }

  async tables(): Promise<readonly TableStatus[]> {
    return (await this.status()).tables;
  }

  async workers(): Promise<Workers> {
    const { members, placement, pinned, control } = (await this.#fresh()).facts.coordination;
    return {
      workers: members.map((member) => ({
        id: member.memberId,
        roles: [...member.roles],
        host: member.host,
        pid: member.pid,
        startedAt: instantText(member.startedAtMs),
        heartbeatAt: instantText(member.heartbeatMs),
        isDraining: member.draining || control.draining.has(member.memberId),
        memoryBytes: member.memoryBytes,
        restarts: member.restarts,
        units: unitsOn(placement, member.memberId),
        pinned: unitsOn(pinned, member.memberId),
      })),
    };
  }

  async assignments(): Promise<Assignments> {
    const { placement, pinned, hints } = (await this.#fresh()).facts.coordination;
    const { state } = this.#options.pipeline.ports;
    const units = [...new Set([...placement.keys(), ...hints.keys()])].sort(byUnit);
    return {
      assignments: await Promise.all(
        units.map(async (unit) => {
          const lease = await state.leaseHolder(unit);
          return {
            unit,
            placedOn: placement.get(unit) ?? null,
            isPinned: pinned.has(unit),
            owner: lease?.owner ?? null,
            epoch: lease?.epoch ?? null,
          };
        }),
      ),
    };
  }

  async partition(partition: number): Promise<PartitionDetail | undefined> {
    const { facts, status } = await this.#fresh();
    const shown = status.partitions[partition];
    if (!shown) return undefined;
    const unit: Unit = `partition:${partition}`;
    const { placement, pinned, hints } = facts.coordination;
    const lease = await this.#options.pipeline.ports.state.leaseHolder(unit);
    const hint = hints.get(unit) ?? {};
    const committedAtMs = wholeNumber(hint['committedAtMs']);
    return {
      ...shown,
      placedOn: placement.get(unit) ?? null,
      isPinned: pinned.has(unit),
      epoch: lease?.epoch ?? null,
      bronzeVersion: wholeNumber(hint['bronzeVersion']),
      committedAt: committedAtMs === null ? null : instantText(committedAtMs),
    };
  }

  async reconciliations(): Promise<readonly Reconciliation[]> {
    return (await this.#options.reconciliation?.list()) ?? [];
  }

  async rebalance({ strategy, dryRun }: Rebalance): Promise<Rebalanced> {
    const { supervisor, pipeline } = this.#options;
    // PC1: a supervisor that stands by leaves the writing to the leader (SU1).
    const isOurs = !dryRun && supervisor.isLeading;
    const { before, after } = isOurs
      ? await supervisor.rebalance(strategy)
      : await supervisor.plan(strategy);
    if (!dryRun && !isOurs) await requestRebalance(pipeline.ports.state, strategy);
    if (!dryRun) this.#changed();
    const members = [...new Set([...before.values(), ...after.values()])].sort();
    return {
      strategy,
      outcome: dryRun ? 'planned' : isOurs ? 'carried out' : 'requested',
      moves: placementMoves(before, after).map(({ unit, from, to }) => ({
        unit,
        from: from ?? null,
        to: to ?? null,
      })),
      loads: members.map((worker) => ({
        worker,
        before: unitsOn(before, worker).length,
        after: unitsOn(after, worker).length,
      })),
    };
  }

  async place(partition: number, worker: string | undefined): Promise<Outcome<Placed>> {
    const { supervisor, pipeline } = this.#options;
    if (partition >= supervisor.topic.partitionCount) {
      return { kind: 'not-found', what: `partition ${partition}` };
    }
    if (worker !== undefined) {
      const refusal = whyNotOn(worker, (await this.#fresh()).facts);
      if (refusal !== undefined) return { kind: 'conflict', why: refusal };
    }
    await pinUnit(pipeline.ports.state, `partition:${partition}`, worker);
    this.#changed();
    return { kind: 'done', value: { partition, worker: worker ?? null } };
  }

  async drain(worker: string, draining: boolean): Promise<Outcome<Drained>> {
    const { members, placement } = (await this.#fresh()).facts.coordination;
    if (!members.some(({ memberId }) => memberId === worker)) {
      return { kind: 'not-found', what: `live worker ${worker}` };
    }
    await setDraining(this.#options.pipeline.ports.state, worker, draining);
    this.#changed();
    const units = unitsOn(placement, worker);
    return { kind: 'done', value: { worker, isDraining: draining, units } };
  }

  async setPaused(isPaused: boolean): Promise<Paused> {
    await setPaused(this.#options.pipeline.ports.state, isPaused);
    this.#changed();
    return { isPaused };
  }

  async startReconciliation(
    request: StartReconciliation,
  ): Promise<Outcome<{ readonly dates: readonly string[] }>> {
    const { reconciliation } = this.#options;
    if (reconciliation) return reconciliation.start(request);
    return {
      kind: 'not-supported',
      why: 'This process cannot reconcile; `tidemark reconcile` does it from the shell.',
    };
  }

  onStatus(listener: (status: Status) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#pending?.reading;
  }

  async #run(): Promise<void> {
    const { ambient, intervalMs = INTERVAL_MS } = this.#options;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#read();
      } catch (thrown) {
        // Parts that are away are facts, so this is a bug; the API outlives it.
        this.#options.logger.error('the pipeline cannot be shown', errorFields(thrown));
      }
      await ambient.clock.sleep(intervalMs, this.#stop.signal);
    }
  }

  /** PC3; and whoever watches sees what became of it without waiting for the next regular reading. */
  #changed(): void {
    const { clock } = this.#options.ambient;
    this.#changedMs = clock.monotonicMs();
    const read = (): void => {
      if (!this.#stop.signal.aborted) void this.#read().catch(() => undefined);
    };
    clock.after(FOLLOW_MS, read, { unref: true });
  }

  /** A reading that is at most a moment old, and younger than the last change (PC3). */
  async #fresh(): Promise<Reading> {
    const nowMs = this.#options.ambient.clock.monotonicMs();
    const reading = this.#reading;
    const isFresh =
      reading !== undefined &&
      nowMs - reading.atMs < FRESH_MS &&
      reading.startedMs > this.#changedMs;
    return isFresh ? reading : this.#read();
  }

  /** One reading at a time, shared by all who wait for it and asked for it after the last change. */
  #read(): Promise<Reading> {
    const before = this.#pending;
    if (before && before.startedMs > this.#changedMs) return before.reading;
    const startedMs = this.#options.ambient.clock.monotonicMs();
    const reading = Promise.allSettled([before?.reading])
      .then(() => this.#readNow(startedMs))
      .finally(() => {
        if (this.#pending?.reading === reading) this.#pending = undefined;
      });
    this.#pending = { startedMs, reading };
    return reading;
  }

  async #readNow(startedMs: number): Promise<Reading> {
    const { pipeline, supervisor, supervisorId, ambient } = this.#options;
    const facts = await this.#reader.read();
    const atMs = ambient.clock.monotonicMs();
    const observed = this.#observe(facts, atMs);
    const status = statusOf(
      pipeline.config,
      { id: supervisorId, isLeading: supervisor.isLeading },
      facts,
      observed,
    );
    this.#reading = { startedMs, atMs, facts, status };
    this.#addSample(status);
    for (const listener of this.#listeners) listener(status);
    return this.#reading;
  }

  #observe(facts: PipelineFacts, nowMs: number): Observed {
    const { config } = this.#options.pipeline;
    this.#totals.update(facts.coordination.members);
    const next = nextOffsets(config, facts);
    const lagSecondsOf = new Map<number, number>();
    for (const [partition, end] of facts.ends) {
      const clock = this.#partitionClocks.get(partition) ?? new LagClock();
      this.#partitionClocks.set(partition, clock);
      lagSecondsOf.set(partition, clock.observe(end, next.get(partition) ?? 0n, nowMs));
    }
    const stages = stageProgress(config, facts);
    const { silver, gold } = this.#stageClocks;
    return {
      lagSecondsOf,
      hopLagSeconds: {
        bronze: Math.max(0, ...lagSecondsOf.values()),
        silver: silver.observe(stages.silver.end, stages.silver.covered, nowMs),
        gold: gold.observe(stages.gold.end, stages.gold.covered, nowMs),
      },
      totals: totalsOf(this.#totals),
      rates: this.#rates(nowMs),
    };
  }

  #rates(nowMs: number): Status['rates'] {
    const point = {
      atMs: nowMs,
      bronzeRows: this.#totals.of('bronzeRows'),
      silverRows: this.#totals.of('silverRows'),
    };
    this.#ratePoints.push(point);
    // The oldest point within the span, but always one to compare with.
    while (this.#ratePoints.length > 2 && nowMs - this.#ratePoints[0]!.atMs > RATE_SPAN_MS) {
      this.#ratePoints.shift();
    }
    const first = this.#ratePoints[0]!;
    const seconds = (nowMs - first.atMs) / 1000;
    if (seconds <= 0) return { recordsPerSecond: 0, eventsPerSecond: 0 };
    return {
      recordsPerSecond: Math.round((point.bronzeRows - first.bronzeRows) / seconds),
      eventsPerSecond: Math.round((point.silverRows - first.silverRows) / seconds),
    };
  }

  #addSample(status: Status): void {
    const hop = Object.fromEntries(status.hops.map((one) => [one.stage, one]));
    const isEndKnown = status.partitions.every(({ lag }) => lag !== null);
    const { late, duplicates, deadLetters, restarts } = status.totals;
    const sample: Sample = {
      at: status.readAt,
      lag: isEndKnown ? Number(hop['bronze']?.behind ?? 0) : null,
      lagSeconds: Math.max(0, ...status.hops.map(({ lagSeconds }) => lagSeconds)),
      silverBehind: Number(hop['silver']?.behind ?? 0),
      goldBehind: Number(hop['gold']?.behind ?? 0),
      ...status.rates,
      queueJobs: status.queues.reduce((sum, q) => sum + q.waiting + q.active + q.delayed, 0),
      late,
      duplicates,
      deadLetters,
      restarts,
      memoryBytes: status.memory.processBytes,
    };
    // PC2.
    this.#samples = [...this.#samples.slice(1 - SAMPLES_MAX), sample];
  }
}

function whyNotOn(worker: string, facts: PipelineFacts): string | undefined {
  const { members, control } = facts.coordination;
  const member = members.find(({ memberId }): boolean => memberId === worker);
  if (!member) return `There is no live worker ${worker}.`;
  if (!member.roles.includes('worker')) return `${worker} takes no partitions.`;
  if (isDraining(member, control.draining)) return `${worker} is draining; end that first.`;
  return undefined;
}

function isDraining(member: Member, asked: ReadonlySet<string>): boolean {
  return member.draining || asked.has(member.memberId);
}

function unitsOn(placement: ReadonlyMap<Unit, string>, memberId: string): Unit[] {
  return [...placement].flatMap(([unit, on]) => (on === memberId ? [unit] : [])).sort(byUnit);
}

/** Partitions in the order of their numbers, then the writers. */
function byUnit(a: Unit, b: Unit): number {
  const rank = (unit: Unit): number =>
    unit.startsWith('partition:') ? 0 : unit.startsWith('silver:') ? 1 : 2;
  const index = (unit: Unit): number => Number(unit.split(':')[1] ?? 0);
  return rank(a) - rank(b) || index(a) - index(b);
}

function totalsOf(totals: CountTotals): Totals {
  return {
    bronzeRows: totals.of('bronzeRows'),
    silverRows: totals.of('silverRows'),
    duplicates: totals.of('duplicates'),
    conflicts: totals.of('conflicts'),
    deadLetters: totals.of('deadLetters'),
    late: totals.of('late'),
    restarts: totals.of('restarts'),
  };
}

/** A hint that should be a whole number. */
function wholeNumber(text: string | undefined): number | null {
  const number = Number(text);
  return text !== undefined && Number.isSafeInteger(number) && number >= 0 ? number : null;
}

const DURATION = /^commit:(\w+):(count|sum|[\d.]+)$/;

/** Histograms out of the flat counts that members announce (engine/commit-durations.ts). */
function durationsOf(totals: CountTotals): Map<string, DurationCounts> {
  const stages = new Map<string, { buckets: DurationCounts['buckets'][number][] }>();
  for (const name of totals.names('commit:')) {
    const [, stage, part] = DURATION.exec(name) ?? [];
    if (stage === undefined || part === undefined) continue;
    const known = stages.get(stage) ?? { buckets: [] };
    stages.set(stage, known);
    if (part !== 'count' && part !== 'sum') {
      known.buckets.push({ seconds: Number(part), count: totals.of(name) });
    }
  }
  return new Map(
    [...stages].map(([stage, { buckets }]) => [
      stage,
      {
        buckets: buckets.toSorted((a, b) => a.seconds - b.seconds),
        count: totals.of(`commit:${stage}:count`),
        sumSeconds: totals.of(`commit:${stage}:sum`),
      },
    ]),
  );
}
