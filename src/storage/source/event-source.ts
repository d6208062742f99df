/**
 * Port: a partitioned, replayable log of records. Both adapters hand out raw Kafka record batches
 * (magic 2), so one decoder serves both and bytes reach columns without an object per record.
 * Adapters: kafka-event-source.ts (kafkajs connections, own fetch loop), embedded-event-source.ts
 * (segments on disk); contract suite in test/contract/event-source.contract.ts.
 */

/** Identity and shape of the topic. A re-created topic has another `topicId`. */
export interface TopicInfo {
  readonly topic: string;
  /** Kafka's topic id (UUID), or the embedded log's own. */
  readonly topicId: string;
  /** Number of partitions; ids are 0 to partitionCount - 1. */
  readonly partitionCount: number;
}

/** `earliest` inclusive; `latest` exclusive: last stable offset, the offset after the last readable record. */
export interface OffsetRange {
  readonly earliest: bigint;
  readonly latest: bigint;
}

/** A producer's transaction that was aborted, by the offset of its first record. */
export interface AbortedTransaction {
  readonly producerId: bigint;
  readonly firstOffset: bigint;
}

export type FetchResult =
  | {
      readonly kind: 'records';
      /**
       * Raw record batches, one after another, exactly as the broker stores them. The first may begin
       * before the offset asked for (drop records below it); the last may be cut off (ignore it).
       * Empty when nothing came within maxWaitMs. Owns its ArrayBuffer: may be transferred.
       */
      readonly bytes: Uint8Array;
      /** Transactions aborted within the fetched range (Fetch response, KIP-98). */
      readonly aborted: readonly AbortedTransaction[];
      /** Exclusive end of what may be read now. */
      readonly latest: bigint;
      readonly earliest: bigint;
    }
  /** The offset is below `earliest` or above the log's end: a loud stop (P8), never a jump. */
  | { readonly kind: 'out-of-range'; readonly earliest: bigint; readonly latest: bigint };

/** Reads one partition; one fetch at a time. */
export interface PartitionReader {
  readonly partition: number;
  /**
   * Fetches from `offset` on. Waits up to `maxWaitMs` for the first byte.
   * A batch larger than `maxBytes` comes whole. When `signal` aborts, a wait ends with no bytes.
   * @throws PipelineError unavailable (retry with backoff) | corrupt | invalid (denied, topic gone or re-created);
   *   TM_STOPPED when the reader is or was closed
   */
  fetch(request: {
    readonly offset: bigint;
    readonly maxBytes: number;
    readonly maxWaitMs: number;
    readonly signal?: AbortSignal;
  }): Promise<FetchResult>;
  close(): Promise<void>;
}

/** A topic to read from. Bound to the topic that it saw first: see TM_TOPIC_RECREATED. */
export interface EventSource {
  readonly description: string;
  /** @throws PipelineError unavailable | invalid */
  describe(): Promise<TopicInfo>;
  offsets(partition: number): Promise<OffsetRange>;
  openPartition(partition: number): Promise<PartitionReader>;
  /** Tells the outside how far we are (Kafka group offsets, for lag tools only). Failure is only logged by callers. */
  reportProgress(offsets: ReadonlyMap<number, bigint>): Promise<void>;
  close(): Promise<void>;
}
