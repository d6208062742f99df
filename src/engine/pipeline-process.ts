/**
 * What one process of a pipeline holds: adapters, tables, the topic's shape, and the nodes with their
 * agents. The commands `run`, `supervisor`, `worker` and `writer` are this with different parts.
 */
import { BatchCache } from '../actors/batch-cache.ts';
import type { Ambient } from '../ambient.ts';
import type { Adapters } from '../cli/context.ts';
import type { Logger } from '../logger.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import type { DeltaEnvironment } from '../storage/delta/delta-table.ts';
import { probeConditionalCreate } from '../storage/object-store/probe.ts';
import type { TopicInfo } from '../storage/source/event-source.ts';
import { NodeAgent } from '../supervisor/node-agent.ts';
import { Supervisor, type SupervisorEvent } from '../supervisor/supervisor.ts';
import type { MemberRole } from '../supervisor/units.ts';
import { CommitDurations } from './commit-durations.ts';
import { PipelineNode, type Ports } from './node.ts';
import { openTables, type PipelineTables } from './tables.ts';

export interface ProcessOptions {
  readonly config: PipelineConfig;
  readonly adapters: Adapters;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly process: HostProcess;
  /** Commits between checkpoints of a table; default: the tables' own. */
  readonly checkpointInterval?: number;
}

/** The operating system's process around a pipeline. */
export interface HostProcess {
  readonly host: string;
  readonly pid: number;
  memoryBytes(): number;
  /** Whether a process of this machine lives. */
  isAlive(pid: number): boolean;
}

export class PipelineProcess {
  readonly config: PipelineConfig;
  /** For tables that are opened besides `tables`. */
  readonly delta: DeltaEnvironment;
  readonly ports: Ports;
  readonly tables: PipelineTables;
  /** As it was at the start. */
  readonly topic: TopicInfo;
  readonly nodes: PipelineNode[] = [];
  /** Set once nothing more will come: gold then finishes without waiting for more. */
  isUpstreamDone = false;
  readonly #options: ProcessOptions;
  readonly #agents: NodeAgent[] = [];
  readonly #supervisors: Supervisor[] = [];
  #drained: Promise<void> | undefined;
  readonly #commitDurations: CommitDurations;
  readonly #caches: { readonly bronze: BatchCache; readonly silver: BatchCache };

  /**
   * Opens adapters and tables and checks that they keep their promises.
   * @param warn takes remarks of the services to the operator
   * @throws PipelineError unavailable | invalid
   */
  static async open(
    options: ProcessOptions,
    warn: (remark: string) => void,
  ): Promise<PipelineProcess> {
    const { config, adapters, ambient, logger } = options;
    const opened: { close(): Promise<void> }[] = [];
    const keep = <Port extends { close(): Promise<void> }>(port: Port): Port => {
      opened.push(port);
      return port;
    };
    try {
      const store = keep(await adapters.openStore(config));
      const state = keep(await adapters.openState(config));
      const queue = keep(await adapters.openQueue(config));
      const source = keep(await adapters.openSource(config));
      for (const remark of [...(await state.check()), ...(await queue.check())]) warn(remark);
      await probeConditionalCreate(store, ambient.ids);
      const topic = await source.describe();
      const codec = await adapters.openCodec();
      const commitDurations = new CommitDurations();
      const onCommitted = commitDurations.add;
      const { checkpointInterval } = options;
      const delta = {
        store,
        codec,
        ambient,
        logger,
        onCommitted,
        ...(checkpointInterval === undefined ? {} : { checkpointInterval }),
      };
      const tables = await openTables(delta, config);
      const ports = { source, store, state, queue };
      return new PipelineProcess(options, { delta, ports, tables, topic, commitDurations });
    } catch (thrown) {
      await Promise.allSettled(opened.map((port) => port.close()));
      throw thrown;
    }
  }

  private constructor(
    options: ProcessOptions,
    opened: {
      readonly delta: DeltaEnvironment;
      readonly ports: Ports;
      readonly tables: PipelineTables;
      readonly topic: TopicInfo;
      readonly commitDurations: CommitDurations;
    },
  ) {
    this.#commitDurations = opened.commitDurations;
    this.config = options.config;
    this.#options = options;
    this.delta = opened.delta;
    this.ports = opened.ports;
    this.tables = opened.tables;
    this.topic = opened.topic;
    const { batchCacheBytes } = options.config.limits;
    this.#caches = {
      bronze: new BatchCache(Math.floor((batchCacheBytes * 3) / 4)),
      silver: new BatchCache(Math.floor(batchCacheBytes / 4)),
    };
  }

  /** Starts a node and the agent that keeps it in step with the plan. */
  startNode(nodeId: string, roles: readonly MemberRole[]): PipelineNode {
    const { config, ambient, logger, process } = this.#options;
    const node = new PipelineNode({
      nodeId,
      config,
      ports: this.ports,
      tables: this.tables,
      topic: this.topic,
      caches: this.#caches,
      ambient,
      logger,
      isUpstreamDone: () => this.isUpstreamDone,
    });
    // Commits are timed per process: its first node speaks for all of them.
    const commitDurations = this.nodes.length === 0 ? this.#commitDurations : undefined;
    const counts = (): Readonly<Record<string, number>> => ({
      ...node.counts.toRecord(),
      inFlightBytes: node.inFlightBytes,
      ...commitDurations?.toRecord(),
    });
    this.nodes.push(node);
    this.#agents.push(
      new NodeAgent({ node, state: this.ports.state, roles, process, counts, ambient, logger }),
    );
    return node;
  }

  /** Whether a supervisor runs in this process. */
  get hasSupervisor(): boolean {
    return this.#supervisors.length > 0;
  }

  /** The topic as its supervisor knows it: partitions may have been added since the start. */
  get topicNow(): TopicInfo {
    return this.#supervisors[0]?.topic ?? this.topic;
  }

  /** Starts a supervisor; it leads as soon as no other does. */
  startSupervisor(supervisorId: string, onEvent?: (event: SupervisorEvent) => void): Supervisor {
    const { ambient, logger, process } = this.#options;
    const supervisor = new Supervisor({
      supervisorId,
      state: this.ports.state,
      source: this.ports.source,
      topic: this.topic,
      silverShards: this.config.silverWriters,
      processes: process,
      ambient,
      logger,
      ...(onEvent ? { onEvent } : {}),
    });
    this.#supervisors.push(supervisor);
    return supervisor;
  }

  /** Ends the supervisors, drains the nodes and gives leases back. */
  drain(): Promise<void> {
    this.#drained ??= this.#drain();
    return this.#drained;
  }

  async #drain(): Promise<void> {
    await Promise.all(this.#supervisors.map((supervisor) => supervisor.close()));
    await Promise.all(this.#agents.map((agent) => agent.leave()));
  }

  /** Drains, and closes the adapters. */
  async close(): Promise<void> {
    await this.drain();
    const { bronze, deadLetter, silver, gold } = this.tables;
    // A checkpoint that is being written needs the store.
    await Promise.all([bronze, deadLetter, silver, ...gold.values()].map((table) => table.idle()));
    const { source, queue, state, store } = this.ports;
    await queue.close();
    await source.close();
    await state.close();
    await store.close();
  }
}
