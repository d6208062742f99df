/**
 * Kafka's error codes, by what a reader does about them. Pure.
 * Source: Kafka documentation, "Protocol Error Codes".
 */
import { PipelineError } from '../../errors.ts';

export const KAFKA_ERROR = {
  none: 0,
  offsetOutOfRange: 1,
  corruptMessage: 2,
  unknownTopicOrPartition: 3,
  invalidTopic: 17,
  topicAuthorizationFailed: 29,
  groupAuthorizationFailed: 30,
  clusterAuthorizationFailed: 31,
  unknownTopicId: 100,
} as const;

const DENIED: ReadonlySet<number> = new Set([
  KAFKA_ERROR.topicAuthorizationFailed,
  KAFKA_ERROR.groupAuthorizationFailed,
  KAFKA_ERROR.clusterAuthorizationFailed,
]);

/**
 * The failure that an error code stands for; whatever is not known to be final is worth a retry with
 * fresh metadata (leader moved, epoch fenced, replica behind, storage error, codes yet to come).
 */
export function kafkaFailure(
  code: number,
  what: string,
  context: { readonly topic: string; readonly partition?: number },
): PipelineError {
  const details = { context: { ...context, kafkaError: code } };
  if (DENIED.has(code)) {
    return new PipelineError('invalid', 'TM_SOURCE_DENIED', `${what}: not authorized`, details);
  }
  if (code === KAFKA_ERROR.invalidTopic) {
    return new PipelineError(
      'invalid',
      'TM_TOPIC_MISSING',
      `${what}: no valid topic name`,
      details,
    );
  }
  if (code === KAFKA_ERROR.corruptMessage) {
    const message = `${what}: the broker cannot read its own records`;
    return new PipelineError('corrupt', 'TM_RECORD_BATCH_CORRUPT', message, details);
  }
  const message = `${what}: the broker answered with an error`;
  return new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', message, details);
}

/** The topic is not there, and Tidemark makes none: how many partitions it has is not ours to say. */
export function topicMissing(topic: string): PipelineError {
  const message = `the topic ${topic} does not exist; create it first`;
  return new PipelineError('invalid', 'TM_TOPIC_MISSING', message, { context: { topic } });
}
