/**
 * The event source on Kafka: raw record batches of committed records, one reader per partition,
 * statically assigned, without a consumer group.
 * - F1 A reader reads the topic it was opened on or fails: by topic id in every fetch (Kafka 3.1 on), by
 *   the id in the metadata before that (P8).
 * - F2 Offsets out of range, a truncated log and a re-created topic end reading loudly; nothing ever
 *   jumps (P8).
 * - F3 Everything else that a broker may answer is worth one try with fresh metadata, then it is
 *   `unavailable`, and the caller backs off.
 * Connections and SASL are kafkajs's (kafka-connection.ts); requests are ours (kafka-api.ts); many
 * partitions share a Fetch request (kafka-fetch-lanes.ts).
 */
import { PipelineError } from '../../errors.ts';
import type {
  AbortedTransaction,
  EventSource,
  FetchResult,
  OffsetRange,
  PartitionReader,
  TopicInfo,
} from './event-source.ts';
import {
  type FetchedPartition,
  findCoordinatorCall,
  listOffsetsCall,
  offsetCommitCall,
} from './kafka-api.ts';
import { BrokerConnection } from './kafka-connection.ts';
import type { KafkaSourceConfig, SourceContext } from './source-context.ts';
import { KAFKA_ERROR, kafkaFailure } from './kafka-error-codes.ts';
import { FetchLanes } from './kafka-fetch-lanes.ts';
import { checkSecurity } from './kafka-security.ts';
import { stopped } from './source-context.ts';
import { KafkaTopic, type TopicView } from './kafka-topic.ts';
import { BATCH_HEADER_BYTES, batchSizeAt, readBatchHeader } from './record-batch-header.ts';

type FetchRequest = Parameters<PartitionReader['fetch']>[0];

/**
 * Opens a source; connects when first used.
 * @throws PipelineError invalid TM_CONFIG_INVALID
 */
export function createKafkaEventSource(
  config: KafkaSourceConfig,
  context: SourceContext,
): EventSource {
  checkSecurity(config.tls, config.sasl);
  return new KafkaEventSource(config, context);
}

class KafkaEventSource implements EventSource {
  readonly description: string;
  readonly #config: KafkaSourceConfig;
  readonly #context: SourceContext;
  readonly #topic: KafkaTopic;
  /** By `topic id host:port`: a broker that moved gets new connections. */
  readonly #lanes = new Map<string, FetchLanes>();
  /** For offsets, by `host:port`. */
  readonly #connections = new Map<string, Promise<BrokerConnection>>();
  #closed = false;

  constructor(config: KafkaSourceConfig, context: SourceContext) {
    this.description = `kafka ${config.brokers.join(',')} topic ${config.topic}`;
    this.#config = config;
    this.#context = context;
    this.#topic = new KafkaTopic(config, context);
  }

  async describe(): Promise<TopicInfo> {
    const { topicId, partitionCount } = await this.#topic.refresh();
    return { topic: this.#config.topic, topicId, partitionCount };
  }

  async offsets(partition: number): Promise<OffsetRange> {
    return this.#withLeader(partition, async (leader) => {
      const connection = await this.#connectionTo(leader.node);
      const list = async (at: 'earliest' | 'latest'): Promise<bigint> => {
        const { topic } = this.#config;
        const version = connection.versionOf('listOffsets');
        const { leaderEpoch } = leader;
        const listed = await connection.request(
          listOffsetsCall(version, { topic, partition, leaderEpoch, at }),
        );
        if (listed.error !== KAFKA_ERROR.none) {
          throw kafkaFailure(listed.error, 'list offsets', { topic, partition });
        }
        return listed.offset;
      };
      // In this order, so that earliest <= latest also while retention is at work.
      const earliest = await list('earliest');
      const latest = await list('latest');
      return { earliest, latest: latest < earliest ? earliest : latest };
    });
  }

  async openPartition(partition: number): Promise<PartitionReader> {
    const { topicId } = await this.#topic.view();
    const { topic } = this.#config;
    const ended = new AbortController();
    // Of the records handed out last, and where the next fetch continues them.
    let last: { readonly nextOffset: bigint; readonly leaderEpoch: number } | undefined;
    let range: OffsetRange | undefined;
    const answer = (
      records: Buffer,
      aborted: readonly AbortedTransaction[],
      known: OffsetRange,
    ) => {
      // Always a copy: the connection keeps a view of the response's memory and joins what comes next
      // to it, which fails once that memory was transferred to a thread.
      const bytes = new Uint8Array(records);
      return { kind: 'records', bytes, aborted, ...known } satisfies FetchResult;
    };
    const fetch = async (request: FetchRequest): Promise<FetchResult> => {
      const { offset, signal } = request;
      const signals = signal ? [ended.signal, signal] : [ended.signal];
      const lastFetchedEpoch = last?.nextOffset === offset ? last.leaderEpoch : -1;
      let fetched: FetchedPartition;
      try {
        fetched = await this.#fetch(topicId, partition, request, signals, lastFetchedEpoch);
      } catch (thrown) {
        if (!signal?.aborted || ended.signal.aborted) throw thrown;
        return answer(Buffer.alloc(0), [], range ?? { earliest: offset, latest: offset });
      }
      if (fetched.divergedAt !== undefined) throw truncated(topic, partition, offset, fetched);
      if (fetched.error === KAFKA_ERROR.offsetOutOfRange) {
        return { kind: 'out-of-range', ...(await this.offsets(partition)) };
      }
      range = { earliest: fetched.logStartOffset, latest: fetched.lastStableOffset };
      const result = answer(fetched.records, fetched.aborted, range);
      last = lastBatchOf(result.bytes) ?? last;
      return result;
    };
    return { partition, fetch, close: async () => ended.abort() };
  }

  async reportProgress(offsets: ReadonlyMap<number, bigint>): Promise<void> {
    if (offsets.size === 0) return;
    const { topic } = this.#config;
    const group = `tidemark-${this.#config.clientId}`;
    const view = await this.#topic.view();
    const anyPartition = offsets.keys().next().value ?? 0;
    const node = view.leaderOf(anyPartition)?.node;
    if (!node) throw leaderless(topic, anyPartition);
    const asked = await this.#connectionTo(node);
    const coordinator = await asked.request(
      findCoordinatorCall(asked.versionOf('findCoordinator'), group),
    );
    if (coordinator.error !== KAFKA_ERROR.none) {
      throw kafkaFailure(coordinator.error, 'find the group coordinator', { topic });
    }
    const connection = await this.#connectionTo(coordinator);
    const version = connection.versionOf('offsetCommit');
    const errors = await connection.request(offsetCommitCall(version, { group, topic, offsets }));
    const error = errors.find((code) => code !== KAFKA_ERROR.none);
    if (error !== undefined) throw kafkaFailure(error, 'commit group offsets', { topic });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#topic.close();
    for (const lanes of this.#lanes.values()) lanes.close();
    for (const opening of this.#connections.values()) {
      opening.then(
        (connection) => connection.close(),
        () => {},
      );
    }
  }

  async #fetch(
    topicId: string,
    partition: number,
    request: FetchRequest,
    signals: readonly AbortSignal[],
    lastFetchedEpoch: number,
  ): Promise<FetchedPartition> {
    const { offset, maxBytes } = request;
    const { topic } = this.#config;
    const deadlineMs = this.#context.ambient.clock.monotonicMs() + request.maxWaitMs;
    return this.#withLeader(partition, async ({ node, leaderEpoch }) => {
      const fetched = await this.#lanesTo(node, topicId).fetch({
        partition,
        offset,
        leaderEpoch,
        lastFetchedEpoch,
        maxBytes,
        deadlineMs,
        signals,
      });
      const { error } = fetched;
      if (error === KAFKA_ERROR.none || error === KAFKA_ERROR.offsetOutOfRange) return fetched;
      throw kafkaFailure(error, 'fetch', { topic, partition });
    });
  }

  /** Runs `work` against a partition's leader; once more with fresh metadata if it fails (F3). */
  async #withLeader<T>(
    partition: number,
    work: (leader: NonNullable<ReturnType<TopicView['leaderOf']>>) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      if (this.#closed) throw stopped();
      const leader = (await this.#topic.view()).leaderOf(partition);
      try {
        if (!leader) throw leaderless(this.#config.topic, partition);
        return await work(leader);
      } catch (thrown) {
        const retry = thrown instanceof PipelineError && thrown.kind === 'unavailable';
        if (!retry || thrown.code === 'TM_STOPPED') throw thrown;
        this.#topic.invalidate();
        if (attempt === 2) throw thrown;
      }
    }
  }

  #lanesTo(node: { readonly host: string; readonly port: number }, topicId: string): FetchLanes {
    const key = `${topicId} ${node.host}:${node.port}`;
    let lanes = this.#lanes.get(key);
    if (!lanes) {
      const topic = { topic: this.#config.topic, topicId };
      lanes = new FetchLanes(node, topic, this.#config, this.#context);
      this.#lanes.set(key, lanes);
    }
    return lanes;
  }

  async #connectionTo(node: {
    readonly host: string;
    readonly port: number;
  }): Promise<BrokerConnection> {
    const key = `${node.host}:${node.port}`;
    const existing = this.#connections.get(key);
    const open = await existing?.catch(() => undefined);
    if (open?.isOpen) return open;
    // Another caller may have replaced it meanwhile: then wait for that one.
    if (this.#connections.get(key) !== existing) return this.#connectionTo(node);
    const opening = BrokerConnection.open(
      { host: node.host, port: node.port },
      this.#config,
      this.#context,
    );
    this.#connections.set(key, opening);
    const connection = await opening;
    if (this.#closed) {
      connection.close();
      throw stopped();
    }
    return connection;
  }
}

/** Leader epoch of the last whole batch, and the offset behind it. */
function lastBatchOf(
  bytes: Uint8Array,
): { readonly nextOffset: bigint; readonly leaderEpoch: number } | undefined {
  const view = new DataView(bytes.buffer);
  let start = -1;
  for (let at = 0; ; ) {
    const size = batchSizeAt(view, at);
    if (size === undefined || size < BATCH_HEADER_BYTES || at + size > bytes.length) break;
    start = at;
    at += size;
  }
  if (start < 0) return undefined;
  const { offsetLast, leaderEpoch } = readBatchHeader(view, start);
  return { nextOffset: offsetLast + 1n, leaderEpoch };
}

function leaderless(topic: string, partition: number): PipelineError {
  return new PipelineError(
    'unavailable',
    'TM_SOURCE_UNAVAILABLE',
    'the partition has no leader now',
    {
      context: { topic, partition },
    },
  );
}

/** The log lost records that were handed out before: an unclean leader election (KIP-320). */
function truncated(
  topic: string,
  partition: number,
  offset: bigint,
  fetched: FetchedPartition,
): PipelineError {
  return new PipelineError(
    'corrupt',
    'TM_OFFSET_OUT_OF_RANGE',
    'the partition lost records that were read before; its log was truncated',
    { context: { topic, partition, offset, divergedAt: fetched.divergedAt } },
  );
}
