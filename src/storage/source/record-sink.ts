/**
 * Port: appends records to a topic, for `generate` and drills. Adapters stand beside those of the
 * event source; both keep the order of one key.
 */

/** A record to append. */
export interface NewRecord {
  readonly key: string | undefined;
  readonly value: Uint8Array | string;
  /** Record timestamp (CreateTime), milliseconds since the epoch. */
  readonly timestampMs: number;
}

export interface RecordSink {
  readonly description: string;
  /**
   * Appends records, durable when it returns. Records of one key keep their order.
   * @throws PipelineError unavailable | invalid
   */
  append(records: readonly NewRecord[]): Promise<void>;
  close(): Promise<void>;
}
