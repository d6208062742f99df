/**
 * A node runs the units that were placed on it: partition workers with one bronze writer, silver
 * writers, the gold writer. A process has one node, or several on the embedded state.
 *
 * Invariants:
 * - ND1 Queues and wake-ups only save time: every writer also looks at its upstream's log on a timer.
 * - ND2 A unit that stops loudly (P8) leaves the others running; its reason stays visible until the
 *   unit is taken away from the node.
 * - ND3 A unit given up is drained: what it fetched is committed before the node lets go of it.
 */
import { bronzeWriter } from '../actors/bronze-writer/actor.ts';
import type { BronzeState } from '../actors/bronze-writer/behavior.ts';
import type { BronzeThreadApi } from '../actors/bronze-writer/bronze-thread.ts';
import type { BronzeMessage } from '../actors/bronze-writer/messages.ts';
import type { BatchCache } from '../actors/batch-cache.ts';
import { ByteBudget } from '../actors/byte-budget.ts';
import { goldWriter } from '../actors/gold-writer/actor.ts';
import { partitionWorker } from '../actors/partition-worker/actor.ts';
import type { PartitionState } from '../actors/partition-worker/behavior.ts';
import type { PartitionMessage } from '../actors/partition-worker/messages.ts';
import {
  type ActorOptions,
  type ActorRef,
  spawn,
  type StopReason,
} from '../actors/runtime/actor.ts';
import type { ComputeThread } from '../actors/runtime/compute-thread.ts';
import { silverWriter } from '../actors/silver-writer/actor.ts';
import { shardOf } from '../actors/silver-writer/shard.ts';
import { stageJob } from '../actors/stage-writer/stage-job.ts';
import type { Ambient, Timer } from '../ambient.ts';
import { crashPoint } from '../crash-points.ts';
import { type PipelineError } from '../errors.ts';
import { errorFields, type Logger } from '../logger.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import type { ObjectStore } from '../storage/object-store/object-store.ts';
import type { Consumer, Job, WorkQueue } from '../storage/queue/work-queue.ts';
import type { EventSource, TopicInfo } from '../storage/source/event-source.ts';
import type { StateStore } from '../storage/state/state-store.ts';
import { parseUnit, type Unit } from '../supervisor/units.ts';
import { restoreLostJob, type StagePosition } from './lost-jobs.ts';
import { NodeCounts } from './node-counts.ts';
import type { PipelineTables } from './tables.ts';
import { VersionWaiters } from './version-waiters.ts';

/** The adapters of one process. */
export interface Ports {
  readonly source: EventSource;
  readonly store: ObjectStore;
  readonly state: StateStore;
  readonly queue: WorkQueue;
}

export interface NodeOptions {
  readonly nodeId: string;
  readonly config: PipelineConfig;
  readonly ports: Ports;
  readonly tables: PipelineTables;
  readonly topic: TopicInfo;
  /** Shared by the nodes of a process. */
  readonly caches: { readonly bronze: BatchCache; readonly silver: BatchCache };
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Silver has everything that will come: gold need not wait for more. */
  readonly isUpstreamDone: () => boolean;
}

/** A unit on this node. */
interface RunningUnit {
  readonly actor: {
    readonly name: string;
    readonly stopped: Promise<StopReason>;
    readonly restarts: number;
    stop(): Promise<StopReason>;
  };
  drain(): Promise<void>;
  failure: PipelineError | undefined;
}

/** How often writers look at their upstream's log, milliseconds. */
const LOOK_MS = 1_000;
/** How often a stage that is behind looks for its job, milliseconds. */
const RESTORE_MS = 5_000;

export class PipelineNode {
  readonly nodeId: string;
  readonly counts = new NodeCounts();
  readonly #options: NodeOptions;
  readonly #logger: Logger;
  readonly #actorOptions: ActorOptions;
  readonly #units = new Map<Unit, RunningUnit>();
  readonly #draining = new Map<Unit, Promise<void>>();
  readonly #partitions = new Map<number, ActorRef<PartitionState, PartitionMessage>>();
  readonly #budget: ByteBudget;
  #bronze: ActorRef<BronzeState, BronzeMessage> | undefined;
  #bronzeThread: ComputeThread<BronzeThreadApi> | undefined;
  #chunkIdNext = 0;
  #restartsOfEnded = 0;

  constructor(options: NodeOptions) {
    const { nodeId, ambient, config } = options;
    this.nodeId = nodeId;
    this.#options = options;
    this.#logger = options.logger.child({ node: nodeId });
    this.#actorOptions = { ambient, logger: this.#logger };
    this.#budget = new ByteBudget(config.limits.inFlightBytes);
  }

  /** Units on this node, those that are being drained included. */
  get units(): ReadonlySet<Unit> {
    return new Set([...this.#units.keys(), ...this.#draining.keys()]);
  }

  /** Units that stopped loudly, and why (P8). */
  get failures(): ReadonlyMap<Unit, PipelineError> {
    const failed = [...this.#units].flatMap(([unit, { failure }]): [Unit, PipelineError][] =>
      failure ? [[unit, failure]] : [],
    );
    return new Map(failed);
  }

  /** Times an actor of this node was restarted. */
  get restarts(): number {
    const live = [...this.#units.values()].reduce((sum, { actor }) => sum + actor.restarts, 0);
    return live + (this.#bronze?.restarts ?? 0) + this.#restartsOfEnded;
  }

  /** Raw bytes fetched and not yet committed to bronze (P10). */
  get inFlightBytes(): number {
    return this.#budget.grantedBytes;
  }

  /** Starts a unit unless it runs here already. */
  start(unit: Unit): void {
    if (this.#units.has(unit) || this.#draining.has(unit)) return;
    const parsed = parseUnit(unit)!;
    const running =
      parsed.kind === 'partition'
        ? this.#startPartition(parsed.index)
        : this.#startWriter(parsed.kind, parsed.index);
    this.#units.set(unit, running);
    this.#logger.info('unit started', { unit });
    // A partition's worker speaks for itself; a writer's last words may be an earlier failure.
    if (parsed.kind !== 'partition') void this.#hint(`writer:${unit}`, { state: 'running' });
    void running.actor.stopped.then((reason) => this.#stopped(unit, running, reason));
  }

  /** Drains a unit and lets go of it (ND3). */
  release(unit: Unit): Promise<void> {
    const running = this.#units.get(unit);
    if (!running) return this.#draining.get(unit) ?? Promise.resolve();
    this.#units.delete(unit);
    const drained = running.drain().then(() => {
      this.#restartsOfEnded += running.actor.restarts;
      this.#draining.delete(unit);
      this.#logger.info('unit released', { unit });
    });
    this.#draining.set(unit, drained);
    return drained;
  }

  /** Ends a unit at once: it lost its right to the work. */
  async abandon(unit: Unit): Promise<void> {
    const running = this.#units.get(unit);
    if (!running) return;
    this.#units.delete(unit);
    await running.actor.stop();
    this.#restartsOfEnded += running.actor.restarts;
  }

  async pause(): Promise<void> {
    for (const partition of this.#partitions.values()) partition.tell({ kind: 'pause' });
  }

  async resume(): Promise<void> {
    for (const partition of this.#partitions.values()) partition.tell({ kind: 'resume' });
  }

  /** Drains every unit, partitions first, and ends the node. */
  async close(): Promise<void> {
    const partitions = [...this.#units.keys()].filter((unit) => unit.startsWith('partition:'));
    await Promise.all(partitions.map((unit) => this.release(unit)));
    await Promise.all(this.#draining.values());
    await Promise.all([...this.#units.keys()].map((unit) => this.release(unit)));
    await this.#bronze?.stop();
  }

  #startPartition(partition: number): RunningUnit {
    const { config, ports, tables, topic, ambient } = this.#options;
    const bronze = this.#runningBronze();
    const actor = spawn(
      partitionWorker({
        workerId: this.nodeId,
        partition,
        config,
        topic,
        table: tables.bronze,
        source: ports.source,
        state: ports.state,
        budget: this.#budget,
        ambient,
        logger: this.#logger,
        bronzeThread: () => this.#bronzeThread!,
        tellBronze: (command) => bronze.tell(command),
        chunkIdNext: () => this.#chunkIdNext++,
      }),
      this.#actorOptions,
    );
    this.#partitions.set(partition, actor);
    return {
      actor,
      failure: undefined,
      drain: async () => {
        actor.tell({ kind: 'drain' });
        await actor.stopped;
        if (this.#partitions.get(partition) === actor) this.#partitions.delete(partition);
      },
    };
  }

  #runningBronze(): ActorRef<BronzeState, BronzeMessage> {
    if (this.#bronze) return this.#bronze;
    const { config, ports, tables, topic, caches, ambient } = this.#options;
    const bronze = spawn(
      bronzeWriter({
        workerId: this.nodeId,
        config,
        topic,
        table: tables.bronze,
        ...ports,
        cache: caches.bronze,
        ambient,
        logger: this.#logger,
        tellPartition: (partition, command) => this.#partitions.get(partition)?.tell(command),
        tellAllPartitions: (command) => {
          for (const partition of this.#partitions.values()) partition.tell(command);
        },
        onThread: (thread) => {
          this.#bronzeThread = thread;
        },
        onCommitted: (_version, rows) => this.counts.addBronze(rows),
      }),
      this.#actorOptions,
    );
    this.#bronze = bronze;
    void bronze.stopped.then((reason) => this.#bronzeStopped(bronze, reason));
    return bronze;
  }

  /** Without its bronze writer no partition can go on: they all fail with its reason. */
  #bronzeStopped(bronze: ActorRef<BronzeState, BronzeMessage>, reason: StopReason): void {
    this.#bronze = undefined;
    this.#restartsOfEnded += bronze.restarts;
    if (reason.kind !== 'failed' && reason.kind !== 'escalated') return;
    for (const [unit, running] of this.#units) {
      if (!unit.startsWith('partition:')) continue;
      running.failure ??= reason.error;
      void running.actor.stop();
    }
  }

  #startWriter(kind: 'silver' | 'gold', index: number): RunningUnit {
    const { config, ports, tables, topic, caches, ambient } = this.#options;
    const waiters = new VersionWaiters();
    const shared = {
      config,
      store: ports.store,
      ambient,
      logger: this.#logger,
      onCovered: (version: number) => waiters.reached(version),
    };
    const actor =
      kind === 'silver'
        ? spawn(
            silverWriter({
              ...shared,
              shard: shardOf(index, config.silverWriters, config.dedupBuckets),
              topic,
              bronze: tables.bronze,
              silver: tables.silver,
              deadLetter: tables.deadLetter,
              state: ports.state,
              queue: ports.queue,
              cache: caches.bronze,
              goldCache: caches.silver,
              onCommitted: (_version, counts) => this.counts.addSilver(counts),
            }),
            this.#actorOptions,
          )
        : spawn(
            goldWriter({
              ...shared,
              silver: tables.silver,
              tables: tables.gold,
              cache: caches.silver,
              isUpstreamDone: this.#options.isUpstreamDone,
            }),
            this.#actorOptions,
          );
    const wake = (): void => actor.tell({ kind: 'wake' });
    const ticker = this.#every(LOOK_MS, wake);
    const upstream = kind === 'silver' ? tables.bronze : tables.silver;
    const restorer = this.#every(RESTORE_MS, () => {
      const position = { head: upstream.snapshot.version, covered: waiters.covered };
      void this.#restoreLostJob(kind, position);
    });
    const consumer = this.#consume(kind, wake, waiters);
    const detach = async (): Promise<void> => {
      ticker.cancel();
      restorer.cancel();
      waiters.abandon();
      await (await consumer)?.close();
    };
    void actor.stopped.then(detach);
    return {
      actor,
      failure: undefined,
      drain: async () => {
        await actor.stop();
        await detach();
      },
    };
  }

  /** A job is done when the writer covers its version, whoever did the work. */
  async #consume(
    queue: string,
    wake: () => void,
    waiters: VersionWaiters,
  ): Promise<Consumer | undefined> {
    const follow = async (job: Job): Promise<void> => {
      const version = job.data['version'];
      if (typeof version !== 'number' || !Number.isSafeInteger(version)) {
        this.#logger.warn('a queue job without a version was ignored', { job: job.id });
        return;
      }
      crashPoint(queue === 'gold' ? 'g.job.taken' : 's.job.taken');
      wake();
      await waiters.wait(version);
      crashPoint(queue === 'gold' ? 'g.job.completed' : 's.job.completed');
    };
    try {
      return await this.#options.ports.queue.consume(queue, follow);
    } catch (thrown) {
      // ND1: the timer does the queue's work until the unit is started again.
      this.#logger.error('the queue cannot be consumed', { queue, ...errorFields(thrown) });
      return undefined;
    }
  }

  async #restoreLostJob(queue: 'silver' | 'gold', position: StagePosition): Promise<void> {
    const { config, ports } = this.#options;
    const upstream = queue === 'silver' ? 'bronze' : 'silver';
    try {
      const job = (version: number): Job => stageJob(config.tableName, upstream, version);
      if (await restoreLostJob(ports.queue, queue, position, job)) {
        this.#logger.info('a lost job was added again', { queue, version: position.head });
      }
    } catch (thrown) {
      this.#logger.info('whether a job is missing is not known', errorFields(thrown));
    }
  }

  async #stopped(unit: Unit, running: RunningUnit, reason: StopReason): Promise<void> {
    if (reason.kind !== 'failed' && reason.kind !== 'escalated') return;
    // ND2: the unit stays on the node as failed.
    running.failure ??= reason.error;
    const parsed = parseUnit(unit)!;
    const key = parsed.kind === 'partition' ? `partition:${parsed.index}` : `writer:${unit}`;
    await this.#hint(key, { state: 'failed', reason: reason.error.message });
  }

  async #hint(key: string, fields: Readonly<Record<string, string>>): Promise<void> {
    try {
      await this.#options.ports.state.setHash(key, { worker: this.nodeId, ...fields });
    } catch (thrown) {
      this.#logger.warn('a hint could not be saved', errorFields(thrown));
    }
  }

  #every(intervalMs: number, task: () => void): Timer {
    const { clock } = this.#options.ambient;
    let timer: Timer;
    const arm = (): void => {
      timer = clock.after(intervalMs, () => {
        task();
        arm();
      });
    };
    arm();
    return { cancel: () => timer.cancel() };
  }
}
