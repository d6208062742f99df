/**
 * Port: makes and removes a pipeline's topic, for drills on throw-away pipelines. The embedded log needs
 * none: its folder is its topic. Adapter: kafka-topic-admin.ts.
 */

export interface TopicAdmin {
  /** Addresses that the cluster's brokers advertise, `host:port`. */
  brokers(): Promise<readonly string[]>;
  /**
   * Makes the topic; returns when its partitions have leaders.
   * @throws PipelineError unavailable | invalid (it exists, or we may not)
   */
  create(partitionCount: number): Promise<void>;
  /** Removes the topic with its records, and the group under which we told our progress; fine when gone. */
  remove(): Promise<void>;
  close(): Promise<void>;
}
