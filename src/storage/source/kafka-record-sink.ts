/** The record sink on Kafka: kafkajs's idempotent producer with Java's partitioner. */
import { type Message, Partitioners } from 'kafkajs';
import { createKafkaClient } from './kafka-client.ts';
import { sourceError } from './kafka-connection.ts';
import { topicMissing } from './kafka-error-codes.ts';
import type { RecordSink } from './record-sink.ts';
import type { KafkaSourceConfig, SourceContext } from './source-context.ts';

/** kafkajs builds one request of all that it is given. */
const RECORDS_PER_REQUEST = 5000;

/**
 * Connects a producer.
 * @throws PipelineError unavailable | invalid
 */
export async function openKafkaRecordSink(
  config: KafkaSourceConfig,
  context: SourceContext,
): Promise<RecordSink> {
  const { topic } = config;
  const address = config.brokers.join(',');
  const client = await createKafkaClient(config, context);
  const producer = client.producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    allowAutoTopicCreation: false,
    idempotent: true,
    // More than one request under way may reorder the records of a key when one is retried.
    maxInFlightRequests: 1,
  });
  try {
    await producer.connect();
  } catch (thrown) {
    throw sourceError(thrown, address);
  }
  return {
    description: `kafka ${address} topic ${topic}`,
    async append(records) {
      for (let from = 0; from < records.length; from += RECORDS_PER_REQUEST) {
        const messages = records.slice(from, from + RECORDS_PER_REQUEST).map(
          ({ key, value, timestampMs }): Message => ({
            key: key ?? null,
            value: typeof value === 'string' ? value : Buffer.from(value),
            timestamp: String(timestampMs),
          }),
        );
        try {
          await producer.send({ topic, messages, acks: -1 });
        } catch (thrown) {
          throw isTopicMissing(thrown) ? topicMissing(topic) : sourceError(thrown, address);
        }
      }
    },
    close: () => producer.disconnect(),
  };
}

/** kafkajs wraps the last of its tries. */
function isTopicMissing(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  const { type, cause } = thrown as Error & { readonly type?: string };
  return type === 'UNKNOWN_TOPIC_OR_PARTITION' || isTopicMissing(cause);
}
