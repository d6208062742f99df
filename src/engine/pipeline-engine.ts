/**
 * All roles of one pipeline in one process: worker groups with their partitions, the silver writer
 * and the gold writer, wired through the queue and woken by timers.
 *
 * Invariants:
 * - EN1 Queues and wake-ups only save time: every writer also looks at its upstream's log on a timer.
 * - EN2 A partition that stops loudly (P8) leaves the others running; its reason stays visible.
 */
import { bronzeWriter } from '../actors/bronze-writer/actor.ts';
import type { BronzeState } from '../actors/bronze-writer/behavior.ts';
import type { BronzeThreadApi } from '../actors/bronze-writer/bronze-thread.ts';
import type { BronzeMessage } from '../actors/bronze-writer/messages.ts';
import { BatchCache } from '../actors/batch-cache.ts';
import { ByteBudget } from '../actors/byte-budget.ts';
import { type DerivedGold, goldWriter } from '../actors/gold-writer/actor.ts';
import { partitionWorker } from '../actors/partition-worker/actor.ts';
import type { PartitionState } from '../actors/partition-worker/behavior.ts';
import type { PartitionCommand, PartitionMessage } from '../actors/partition-worker/messages.ts';
import { type ActorRef, spawn, type StopReason } from '../actors/runtime/actor.ts';
import type { ComputeThread } from '../actors/runtime/compute-thread.ts';
import { type DerivedSilver, silverWriter } from '../actors/silver-writer/actor.ts';
import type { StageState } from '../actors/stage-writer/behavior.ts';
import type { StageMessage } from '../actors/stage-writer/messages.ts';
import type { Ambient, Timer } from '../ambient.ts';
import type { PipelineError } from '../errors.ts';
import { errorFields, type Logger } from '../logger.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import type { ObjectStore } from '../storage/object-store/object-store.ts';
import type { Consumer, Job, WorkQueue } from '../storage/queue/work-queue.ts';
import type { EventSource, TopicInfo } from '../storage/source/event-source.ts';
import type { StateStore } from '../storage/state/state-store.ts';
import { assignPartitions } from '../supervisor/assignment.ts';
import type { PipelineTables } from './tables.ts';

/** The adapters of one process. */
export interface Ports {
  readonly source: EventSource;
  readonly store: ObjectStore;
  readonly state: StateStore;
  readonly queue: WorkQueue;
}

export interface EngineOptions {
  readonly config: PipelineConfig;
  readonly ports: Ports;
  readonly tables: PipelineTables;
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Worker groups, each with its own bronze thread. */
  readonly workers: number;
  /** No more input will come: finish what is there without waiting for more. */
  readonly untilCaughtUp: boolean;
}

/** Counts since the engine started. */
export interface EngineCounts {
  bronzeRows: number;
  bronzeCommits: number;
  silverRows: number;
  duplicates: number;
  conflicts: number;
  deadLetters: number;
  late: number;
  silverCommits: number;
}

interface WorkerGroup {
  readonly workerId: string;
  readonly bronze: ActorRef<BronzeState, BronzeMessage>;
  readonly partitions: Map<number, ActorRef<PartitionState, PartitionMessage>>;
  readonly startPartition: (partition: number) => ActorRef<PartitionState, PartitionMessage>;
}

/** How often writers look at the log and the topic's shape is read, milliseconds. */
const LOOK_MS = 1_000;
const DESCRIBE_MS = 10_000;

export class PipelineEngine {
  readonly counts: EngineCounts = {
    bronzeRows: 0,
    bronzeCommits: 0,
    silverRows: 0,
    duplicates: 0,
    conflicts: 0,
    deadLetters: 0,
    late: 0,
    silverCommits: 0,
  };
  /** Settles when a role that the pipeline cannot do without has ended by itself. */
  readonly failed: Promise<PipelineError>;
  readonly #options: EngineOptions;
  readonly #groups: WorkerGroup[] = [];
  readonly #failures = new Map<number, PipelineError>();
  readonly #timers = new Map<string, Timer>();
  readonly #consumers: Consumer[] = [];
  readonly #silverWaiters = new VersionWaiters();
  readonly #goldWaiters = new VersionWaiters();
  #silver!: ActorRef<StageState<DerivedSilver>, StageMessage<DerivedSilver>>;
  #gold!: ActorRef<StageState<DerivedGold>, StageMessage<DerivedGold>>;
  #topic: TopicInfo;
  #fail: (error: PipelineError) => void = () => {};
  #stopping = false;

  /** Starts all roles. @throws PipelineError unavailable | invalid */
  static async start(options: EngineOptions): Promise<PipelineEngine> {
    const topic = await options.ports.source.describe();
    const engine = new PipelineEngine(options, topic);
    await engine.#start();
    return engine;
  }

  private constructor(options: EngineOptions, topic: TopicInfo) {
    this.#options = options;
    this.#topic = topic;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  /** Partitions that stopped loudly, and why (P8). */
  get partitionFailures(): ReadonlyMap<number, PipelineError> {
    return this.#failures;
  }

  /** Times an actor of this process was restarted. */
  get restarts(): number {
    const actors = [
      this.#silver,
      this.#gold,
      ...this.#groups.flatMap((g) => [g.bronze, ...g.partitions.values()]),
    ];
    return actors.reduce((sum, actor) => sum + actor.restarts, 0);
  }

  /** Whether gold holds everything that the source holds now; partitions that stopped do not count. */
  async isCaughtUp(): Promise<boolean> {
    const { tables } = this.#options;
    if (!(await this.#isBronzeCaughtUp())) return false;
    const silver = this.#silver.state;
    if (silver.kind !== 'open' || silver.covered < tables.bronze.snapshot.version) return false;
    const gold = this.#gold.state;
    return gold.kind === 'open' && gold.covered >= tables.silver.snapshot.version;
  }

  /** Stops fetching, commits what was fetched, and ends every role; derived work is finished first. */
  async drain(): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#silverWaiters.abandon();
    this.#goldWaiters.abandon();
    await Promise.all(this.#consumers.map((consumer) => consumer.close()));
    const partitions = this.#groups.flatMap((group) => [...group.partitions.values()]);
    for (const partition of partitions) partition.tell({ kind: 'drain' });
    await Promise.all(partitions.map((partition) => partition.stopped));
    await Promise.all(this.#groups.map((group) => group.bronze.stop()));
    await Promise.all([this.#silver.stop(), this.#gold.stop()]);
  }

  async #start(): Promise<void> {
    const { config, ports, tables, ambient, logger, workers } = this.#options;
    const { limits } = config;
    const bronzeCache = new BatchCache(Math.floor((limits.batchCacheBytes * 3) / 4));
    const silverCache = new BatchCache(Math.floor(limits.batchCacheBytes / 4));
    const shared = { config, ambient, logger, store: ports.store };

    this.#gold = spawn(
      goldWriter({
        ...shared,
        silver: tables.silver,
        tables: tables.gold,
        cache: silverCache,
        onCovered: (version) => this.#goldWaiters.reached(version),
        isUpstreamDone: () => this.#options.untilCaughtUp && this.#isSilverDone(),
      }),
      { ambient, logger },
    );
    this.#silver = spawn(
      silverWriter({
        ...shared,
        topic: this.#topic,
        bronze: tables.bronze,
        silver: tables.silver,
        deadLetter: tables.deadLetter,
        state: ports.state,
        queue: ports.queue,
        cache: bronzeCache,
        onCovered: (version) => this.#silverWaiters.reached(version),
        onCommitted: (_version, counts) => this.#countSilver(counts),
      }),
      { ambient, logger },
    );
    this.#watch(this.#silver);
    this.#watch(this.#gold);
    for (let index = 0; index < workers; index += 1) {
      this.#groups.push(this.#startGroup(`worker-${index}`, bronzeCache));
    }
    this.#assign();
    this.#consumers.push(
      await ports.queue.consume('silver', (job) =>
        this.#follow(job, this.#silver, this.#silverWaiters),
      ),
      await ports.queue.consume('gold', (job) => this.#follow(job, this.#gold, this.#goldWaiters)),
    );
    this.#every('look', LOOK_MS, async () => {
      this.#silver.tell({ kind: 'wake' });
      this.#gold.tell({ kind: 'wake' });
    });
    this.#every('describe', DESCRIBE_MS, async () => {
      const topic = await ports.source.describe();
      if (
        topic.topicId === this.#topic.topicId &&
        topic.partitionCount > this.#topic.partitionCount
      ) {
        logger.info('the topic has new partitions', { partitions: topic.partitionCount });
        this.#topic = topic;
        this.#assign();
      }
    });
  }

  #startGroup(workerId: string, cache: BatchCache): WorkerGroup {
    const { config, ports, tables, ambient, logger } = this.#options;
    const partitions = new Map<number, ActorRef<PartitionState, PartitionMessage>>();
    let thread: ComputeThread<BronzeThreadApi> | undefined;
    let chunkId = 0;
    const bronze = spawn(
      bronzeWriter({
        workerId,
        config,
        topic: this.#topic,
        table: tables.bronze,
        ...ports,
        cache,
        ambient,
        logger,
        tellPartition: (partition, command) => partitions.get(partition)?.tell(command),
        tellAllPartitions: (command: PartitionCommand) => {
          for (const partition of partitions.values()) partition.tell(command);
        },
        onThread: (started) => {
          thread = started;
        },
        onCommitted: (_version, rows) => {
          this.counts.bronzeRows += rows;
          this.counts.bronzeCommits += 1;
          this.#silver.tell({ kind: 'wake' });
        },
      }),
      { ambient, logger },
    );
    this.#watch(bronze);
    const budget = new ByteBudget(config.limits.inFlightBytes);
    const startPartition = (partition: number): ActorRef<PartitionState, PartitionMessage> =>
      spawn(
        partitionWorker({
          workerId,
          partition,
          config,
          topic: this.#topic,
          table: tables.bronze,
          source: ports.source,
          state: ports.state,
          budget,
          ambient,
          logger,
          bronzeThread: () => thread!,
          tellBronze: (command) => bronze.tell(command),
          chunkIdNext: () => chunkId++,
        }),
        { ambient, logger },
      );
    return { workerId, bronze, partitions, startPartition };
  }

  /** Starts a worker for every partition that has none. */
  #assign(): void {
    const current = new Map<number, string>();
    for (const { workerId, partitions } of this.#groups) {
      for (const partition of partitions.keys()) current.set(partition, workerId);
    }
    const plan = assignPartitions({
      partitions: Array.from({ length: this.#topic.partitionCount }, (_, partition) => partition),
      workers: this.#groups.map(({ workerId }) => workerId),
      current,
      strategy: 'sticky',
    });
    for (const [partition, workerId] of plan) {
      if (current.has(partition)) continue;
      const group = this.#groups.find((one) => one.workerId === workerId)!;
      const worker = group.startPartition(partition);
      group.partitions.set(partition, worker);
      void worker.stopped.then((reason) => this.#partitionStopped(partition, reason));
    }
  }

  async #partitionStopped(partition: number, reason: StopReason): Promise<void> {
    if (reason.kind !== 'failed' && reason.kind !== 'escalated') return;
    this.#failures.set(partition, reason.error);
    const { ports, logger } = this.#options;
    try {
      await ports.state.setHash(`partition:${partition}`, {
        state: 'failed',
        reason: reason.error.message,
      });
    } catch (thrown) {
      logger.warn('a hint could not be saved', errorFields(thrown));
    }
  }

  #watch(actor: { readonly stopped: Promise<StopReason> }): void {
    void actor.stopped.then((reason) => {
      if (reason.kind === 'failed' || reason.kind === 'escalated') this.#fail(reason.error);
    });
  }

  #every(name: string, intervalMs: number, task: () => Promise<void>): void {
    const { clock } = this.#options.ambient;
    const run = async (): Promise<void> => {
      if (this.#stopping) return;
      try {
        await task();
      } catch (thrown) {
        this.#options.logger.warn('a periodic task failed', errorFields(thrown));
      }
      if (!this.#stopping)
        this.#timers.set(
          name,
          clock.after(intervalMs, () => void run()),
        );
    };
    this.#timers.set(
      name,
      clock.after(intervalMs, () => void run()),
    );
  }

  /** A job is done when the writer covers its version; whoever does the work. */
  async #follow(
    job: Job,
    writer: { tell(message: { readonly kind: 'wake' }): void },
    waiters: VersionWaiters,
  ): Promise<void> {
    const version = job.data['version'];
    if (typeof version !== 'number' || !Number.isSafeInteger(version)) {
      this.#options.logger.warn('a queue job without a version was ignored', { job: job.id });
      return;
    }
    writer.tell({ kind: 'wake' });
    await waiters.wait(version);
  }

  #countSilver(counts: Readonly<Record<string, number>>): void {
    this.counts.silverCommits += 1;
    this.counts.silverRows += counts['silverRows'] ?? 0;
    this.counts.duplicates += counts['duplicates'] ?? 0;
    this.counts.conflicts += counts['conflicts'] ?? 0;
    this.counts.deadLetters += counts['deadLetters'] ?? 0;
    this.counts.late += counts['late'] ?? 0;
    this.#gold.tell({ kind: 'wake' });
  }

  /** Bronze has what each partition had when it was last asked, and silver covers bronze. */
  #isSilverDone(): boolean {
    for (const { partitions } of this.#groups) {
      for (const [partition, { state }] of partitions) {
        if (this.#failures.has(partition)) continue;
        if (!('latest' in state) || state.committed < state.latest) return false;
      }
    }
    const silver = this.#silver.state;
    return silver.kind === 'open' && silver.covered >= this.#options.tables.bronze.snapshot.version;
  }

  async #isBronzeCaughtUp(): Promise<boolean> {
    for (const { partitions } of this.#groups) {
      for (const [partition, { state }] of partitions) {
        if (this.#failures.has(partition)) continue;
        if (!('committed' in state) || state.committed === undefined) return false;
        const { latest } = await this.#options.ports.source.offsets(partition);
        if (state.committed < latest) return false;
      }
    }
    return true;
  }
}

/** Promises that wait for a version to be covered, or for the end of waiting. */
class VersionWaiters {
  #covered = -1;
  readonly #waiting: { readonly version: number; readonly done: () => void }[] = [];

  wait(version: number): Promise<void> {
    if (version <= this.#covered) return Promise.resolve();
    return new Promise((done) => this.#waiting.push({ version, done }));
  }

  /** Lets everybody go: what is not covered is found again in the log. */
  abandon(): void {
    this.reached(Number.POSITIVE_INFINITY);
  }

  reached(version: number): void {
    this.#covered = Math.max(this.#covered, version);
    const ready = this.#waiting.filter((one) => one.version <= this.#covered);
    for (const one of ready) {
      this.#waiting.splice(this.#waiting.indexOf(one), 1);
      one.done();
    }
  }
}
