/** The topic admin on Kafka, by kafkajs. */
import { PipelineError } from '../../errors.ts';
import { createKafkaClient } from './kafka-client.ts';
import { sourceError } from './kafka-connection.ts';
import type { KafkaSourceConfig, SourceContext } from './source-context.ts';
import type { TopicAdmin } from './topic-admin.ts';

/**
 * Connects an administrator for the topic that `config` names.
 * @throws PipelineError unavailable | invalid
 */
export async function openKafkaTopicAdmin(
  config: KafkaSourceConfig,
  context: SourceContext,
): Promise<TopicAdmin> {
  const { topic, clientId } = config;
  const admin = (await createKafkaClient(config, context)).admin();
  const ask = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (thrown) {
      throw refusal(thrown, topic) ?? sourceError(thrown, config.brokers.join(','));
    }
  };
  await ask(() => admin.connect());
  return {
    brokers: async () => {
      const { brokers } = await ask(() => admin.describeCluster());
      return brokers.map(({ host, port }) => `${host}:${port}`);
    },
    create: async (partitionCount) => {
      const topics = [{ topic, numPartitions: partitionCount, replicationFactor: -1 }];
      const isNew = await ask(() => admin.createTopics({ topics, waitForLeaders: true }));
      if (!isNew) throw invalid(`the topic ${topic} is there already`, topic);
    },
    remove: async () => {
      await ask(() => admin.deleteTopics({ topics: [topic] })).catch(unlessGone);
      await ask(() => admin.deleteGroups([`tidemark-${clientId}`])).catch(unlessGone);
    },
    close: () => admin.disconnect(),
  };
}

/** A protocol error of kafkajs. */
interface Refusal {
  readonly type?: string;
  readonly retriable?: boolean;
  readonly message: string;
}

const GONE = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'GROUP_ID_NOT_FOUND']);

/** What the broker answered; kafkajs gives one error per topic or group, and wraps the last of its retries. */
function refusalsOf(thrown: unknown): readonly Refusal[] {
  if (!(thrown instanceof Error)) return [];
  const { errors, groups, type, cause } = thrown as Error & {
    readonly errors?: readonly Refusal[];
    readonly groups?: readonly { readonly error?: Refusal }[];
    readonly type?: string;
  };
  if (groups) return groups.flatMap(({ error }) => error ?? []);
  if (errors) return errors;
  return type === undefined ? refusalsOf(cause) : [thrown as Refusal & Error];
}

function unlessGone(thrown: unknown): void {
  const refusals = refusalsOf(thrown);
  if (refusals.length === 0 || refusals.some(({ type }) => !GONE.has(type ?? ''))) throw thrown;
}

/** What no retry cures, such as a missing right. */
function refusal(thrown: unknown, topic: string): PipelineError | undefined {
  const final = refusalsOf(thrown).find(({ retriable }) => retriable !== true);
  return final && invalid(`Kafka refuses: ${final.message}`, topic, thrown);
}

function invalid(message: string, topic: string, cause?: unknown): PipelineError {
  return new PipelineError('invalid', 'TM_SOURCE_DENIED', message, { context: { topic }, cause });
}
