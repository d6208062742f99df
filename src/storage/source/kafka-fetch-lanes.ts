/**
 * Fetches for many partitions of one broker over few connections.
 *
 * A broker answers a connection's requests one after another, so a partition that waits for data would
 * hold up all others behind it. One connection per partition avoids that, at one request per
 * partition and poll interval: 256 idle partitions cost hundreds of requests a second. Here the
 * partitions that are asked for at the same time share one Fetch request; a few connections ("lanes")
 * let busy partitions go on while idle ones wait. Measured with 128 idle partitions on a real broker: a
 * quarter of the processor time of a connection each.
 *
 * - L1 The last free lane waits only SHORT_WAIT_MS, so that no request waits longer for a lane.
 * - L2 A partition that got nothing keeps its place in front of those that were served, and so comes
 *   first in a later response, where the broker returns a whole batch whatever its size (KIP-74).
 * - L3 One response is at most RESPONSE_BYTES_MAX plus one batch; lanes bound the responses in memory.
 */
import { PipelineError } from '../../errors.ts';
import { fetchCall, type FetchedPartition } from './kafka-api.ts';
import { BrokerConnection } from './kafka-connection.ts';
import type { KafkaSourceConfig, SourceContext } from './source-context.ts';
import { KAFKA_ERROR } from './kafka-error-codes.ts';
import { stopped } from './source-context.ts';

const LANES = 4;
const SHORT_WAIT_MS = 20;
const RESPONSE_BYTES_MAX = 32 << 20;

/** What one partition asks for. */
export interface LaneRequest {
  readonly partition: number;
  readonly offset: bigint;
  readonly leaderEpoch: number;
  readonly lastFetchedEpoch: number;
  readonly maxBytes: number;
  /** On the monotonic clock: when to answer with nothing. */
  readonly deadlineMs: number;
  /** Any of them ends the wait. */
  readonly signals: readonly AbortSignal[];
}

interface Waiting {
  readonly request: LaneRequest;
  /** Idempotent. */
  resolve(fetched: FetchedPartition): void;
  reject(error: unknown): void;
  settled: boolean;
}

/** All fetches from one broker for one topic. */
export class FetchLanes {
  readonly #node: { readonly host: string; readonly port: number };
  readonly #topic: { readonly topic: string; readonly topicId: string };
  readonly #config: KafkaSourceConfig;
  readonly #context: SourceContext;
  /** Connections not in use; the most recently used last. */
  readonly #idle: (BrokerConnection | undefined)[] = Array.from({ length: LANES }, () => undefined);
  readonly #busy = new Set<BrokerConnection>();
  #waiting: Waiting[] = [];
  #pumping = false;
  #closed = false;

  constructor(
    node: { readonly host: string; readonly port: number },
    topic: { readonly topic: string; readonly topicId: string },
    config: KafkaSourceConfig,
    context: SourceContext,
  ) {
    this.#node = node;
    this.#topic = topic;
    this.#config = config;
    this.#context = context;
  }

  /**
   * Fetches one partition; the answer's `error` is for the caller to judge.
   * @throws PipelineError unavailable | invalid TM_SOURCE_DENIED; TM_STOPPED when a signal aborts
   */
  fetch(request: LaneRequest): Promise<FetchedPartition> {
    return new Promise((resolve, reject) => {
      const { signals } = request;
      const settle = (act: () => void): void => {
        if (waiting.settled) return;
        waiting.settled = true;
        for (const signal of signals) signal.removeEventListener('abort', onAbort);
        act();
      };
      const onAbort = (): void => waiting.reject(stopped());
      const waiting: Waiting = {
        request,
        settled: false,
        resolve: (fetched) => settle(() => resolve(fetched)),
        reject: (error) => settle(() => reject(error as Error)),
      };
      if (this.#closed || signals.some((signal) => signal.aborted))
        return waiting.reject(stopped());
      for (const signal of signals) signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiting);
      this.#pump();
    });
  }

  close(): void {
    this.#closed = true;
    for (const waiting of this.#waiting) waiting.reject(stopped());
    this.#waiting = [];
    for (const connection of this.#busy) connection.close();
    for (const connection of this.#idle) connection?.close();
  }

  /** Starts a lane in a later turn, so that requests made in this one share it. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    void this.#context.ambient.clock.yieldTurn().then(() => {
      this.#pumping = false;
      this.#waiting = this.#waiting.filter((waiting) => !waiting.settled);
      if (this.#waiting.length === 0 || this.#idle.length === 0 || this.#closed) return;
      const group = this.#waiting;
      this.#waiting = [];
      const connection = this.#idle.pop();
      const waitMaxMs = this.#idle.length === 0 ? SHORT_WAIT_MS : Number.POSITIVE_INFINITY;
      void this.#runLane(connection, group, waitMaxMs);
    });
  }

  /** One Fetch request over one lane. Never rejects: failures go to those who wait. */
  async #runLane(
    previous: BrokerConnection | undefined,
    group: readonly Waiting[],
    waitMaxMs: number,
  ): Promise<void> {
    let connection: BrokerConnection | undefined;
    try {
      connection = previous?.isOpen ? previous : await this.#open();
      this.#busy.add(connection);
      const fetched = await this.#fetchGroup(connection, group, waitMaxMs);
      this.#waiting = [...this.#settle(group, fetched), ...this.#waiting];
    } catch (thrown) {
      for (const waiting of group) waiting.reject(thrown);
    } finally {
      if (connection) this.#busy.delete(connection);
      if (this.#closed) connection?.close();
      this.#idle.push(connection);
      if (this.#waiting.length > 0) this.#pump();
    }
  }

  async #open(): Promise<BrokerConnection> {
    return BrokerConnection.open(
      { host: this.#node.host, port: this.#node.port },
      this.#config,
      this.#context,
    );
  }

  async #fetchGroup(
    connection: BrokerConnection,
    group: readonly Waiting[],
    waitMaxMs: number,
  ): Promise<readonly FetchedPartition[]> {
    const nowMs = this.#context.ambient.clock.monotonicMs();
    const deadlineMs = Math.min(...group.map(({ request }) => request.deadlineMs));
    const maxWaitMs = Math.ceil(Math.max(0, Math.min(deadlineMs - nowMs, waitMaxMs)));
    const bytes = group.reduce((sum, { request }) => sum + request.maxBytes, 0);
    const call = fetchCall(connection.versionOf('fetch'), {
      ...this.#topic,
      maxWaitMs,
      maxBytes: Math.min(bytes, RESPONSE_BYTES_MAX),
      partitions: group.map(({ request }) => request),
    });
    const response = await connection.request(call, maxWaitMs);
    connection.throttle(response.throttleMs);
    if (response.error !== KAFKA_ERROR.none) {
      throw new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', 'Kafka refused a fetch', {
        context: { kafkaError: response.error, broker: connection.address },
      });
    }
    return response.partitions;
  }

  /**
   * Hands out what came.
   * @returns those who go on waiting, in their order
   */
  #settle(group: readonly Waiting[], response: readonly FetchedPartition[]): readonly Waiting[] {
    const fetched = new Map(response.map((one) => [one.partition, one]));
    const nowMs = this.#context.ambient.clock.monotonicMs();
    return group.filter((waiting, index) => {
      if (waiting.settled) return false;
      const { request } = waiting;
      const one = fetched.get(request.partition);
      if (!one) {
        waiting.reject(
          new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', 'Kafka left out a partition', {
            context: { partition: request.partition },
          }),
        );
        return false;
      }
      const expired = nowMs >= request.deadlineMs;
      // L2: with readable data it got nothing for want of room, unless it came first.
      const crowdedOut = index > 0 && one.lastStableOffset > request.offset;
      const nothing = one.error === KAFKA_ERROR.none && one.records.length === 0;
      if (nothing && one.divergedAt === undefined && (!expired || crowdedOut)) return true;
      waiting.resolve(one);
      return false;
    });
  }
}
