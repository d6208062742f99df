/**
 * One topic as its cluster describes it: id, partitions, leaders, kept until something contradicts it.
 * - T1 `view` is bound to the topic id seen first, by `refresh` too: another id under the same name is a re-created
 *   topic, whose offsets mean other records (P8).
 * - T2 A topic that was there is believed to be gone only after it stayed missing for a while: a broker
 *   that just started may not know of it yet.
 * Source: KIP-516.
 */
import { PipelineError } from '../../errors.ts';
import { parseBrokerAddress } from './kafka-addresses.ts';
import { type BrokerNode, metadataCall, NO_TOPIC_ID } from './kafka-api.ts';
import { BrokerConnection } from './kafka-connection.ts';
import { type KafkaSourceConfig, type SourceContext, stopped } from './source-context.ts';
import { KAFKA_ERROR, kafkaFailure, topicMissing } from './kafka-error-codes.ts';

/** Partition leaders at one moment. */
export interface TopicView {
  readonly topicId: string;
  readonly partitionCount: number;
  /** Undefined while a partition has no leader. */
  leaderOf(
    partition: number,
  ): { readonly node: BrokerNode; readonly leaderEpoch: number } | undefined;
}

/** Cached metadata is believed this long without being asked for anew. */
const METADATA_AGE_MAX_MS = 60_000;
/** T2. */
const MISSING_GRACE_MS = 5000;

/** The topic of one source. */
export class KafkaTopic {
  readonly #config: KafkaSourceConfig;
  readonly #context: SourceContext;
  readonly #seeds: readonly { readonly host: string; readonly port: number }[];
  /** Nodes seen so far, to be asked when all seeds are down. */
  #known: readonly BrokerNode[] = [];
  #connection: BrokerConnection | undefined;
  #cached: { readonly view: TopicView; readonly atMs: number } | undefined;
  #refresh: Promise<TopicView> | undefined;
  #boundTopicId: string | undefined;
  #missingSinceMs: number | undefined;
  #closed = false;

  constructor(config: KafkaSourceConfig, context: SourceContext) {
    this.#config = config;
    this.#context = context;
    this.#seeds = config.brokers.map(parseBrokerAddress);
  }

  /**
   * The topic with the id that this view is bound to, from the cache when it is fresh.
   * @throws PipelineError unavailable | invalid TM_TOPIC_MISSING, TM_TOPIC_RECREATED, TM_SOURCE_DENIED
   */
  async view(): Promise<TopicView> {
    const fresh =
      this.#cached &&
      this.#context.ambient.clock.monotonicMs() < this.#cached.atMs + METADATA_AGE_MAX_MS;
    const view = fresh ? this.#cached!.view : await this.refresh();
    const bound = this.#boundTopicId ?? view.topicId;
    if (view.topicId !== bound) throw recreated(this.#config.topic, bound, view);
    return view;
  }

  /** The topic as it is now, whatever its id. Concurrent callers share one request. */
  refresh(): Promise<TopicView> {
    this.#refresh ??= this.#load().finally(() => {
      this.#refresh = undefined;
    });
    return this.#refresh;
  }

  /** Something contradicted the cached view: the next `view` asks anew. */
  invalidate(): void {
    this.#cached = undefined;
  }

  close(): void {
    this.#closed = true;
    this.#connection?.close();
  }

  async #load(): Promise<TopicView> {
    const { topic } = this.#config;
    const { clock } = this.#context.ambient;
    const connection = await this.#connect();
    const answer = await connection.request(metadataCall(connection.versionOf('metadata'), topic));
    if (answer.brokers.length > 0) this.#known = answer.brokers;
    const found = answer.topic;
    const error = found?.error ?? KAFKA_ERROR.unknownTopicOrPartition;
    if (error === KAFKA_ERROR.unknownTopicOrPartition) {
      this.#missingSinceMs ??= clock.monotonicMs();
      const certain =
        this.#boundTopicId === undefined ||
        clock.monotonicMs() - this.#missingSinceMs >= MISSING_GRACE_MS;
      throw missing(topic, certain);
    }
    if (!found || error !== KAFKA_ERROR.none) throw kafkaFailure(error, 'metadata', { topic });
    this.#missingSinceMs = undefined;
    if (found.topicId === NO_TOPIC_ID) {
      this.#context.logger.warn('brokers without topic ids: a re-created topic goes unnoticed', {
        topic,
      });
    }
    const nodes = new Map(answer.brokers.map((node) => [node.nodeId, node]));
    const leaders = new Map(found.partitions.map((one) => [one.partition, one]));
    const view: TopicView = {
      topicId: found.topicId,
      partitionCount: found.partitions.length,
      leaderOf(partition) {
        const leader = leaders.get(partition);
        const node = leader && nodes.get(leader.leader);
        return node && { node, leaderEpoch: leader.leaderEpoch };
      },
    };
    this.#boundTopicId ??= view.topicId;
    this.#cached = { view, atMs: clock.monotonicMs() };
    return view;
  }

  /** Any broker will do; the last one that answered is tried first. */
  async #connect(): Promise<BrokerConnection> {
    if (this.#connection?.isOpen) return this.#connection;
    const { random } = this.#context.ambient;
    const start = Math.floor(random.next() * this.#seeds.length);
    const seeds = [...this.#seeds.slice(start), ...this.#seeds.slice(0, start)];
    let failure: unknown;
    for (const address of [...seeds, ...this.#known]) {
      if (this.#closed) throw stopped();
      try {
        this.#connection = await BrokerConnection.open(
          { host: address.host, port: address.port },
          this.#config,
          this.#context,
        );
        if (this.#closed) this.#connection.close();
        return this.#connection;
      } catch (thrown) {
        failure = thrown;
      }
    }
    throw failure;
  }
}

function missing(topic: string, certain: boolean): PipelineError {
  if (certain) return topicMissing(topic);
  const message = 'the topic is not known right now';
  return new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', message, { context: { topic } });
}

function recreated(topic: string, topicId: string, view: TopicView): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_TOPIC_RECREATED',
    'the topic was deleted and created again; its offsets mean other records now',
    { context: { topic, topicId, topicIdNow: view.topicId } },
  );
}
