/**
 * Port: a flat key space of immutable objects. Keys are `/`-separated UTF-8 without a leading slash
 * (object-key.ts says which are legal); no key may continue another one's with a slash.
 * Adapters: fs-object-store.ts, s3-object-store.ts, memory-object-store.ts; one contract suite runs
 * on all of them (test/contract/object-store.contract.ts).
 */

/** Result of a create-if-absent (P3). `unknown`: the response was lost; the object may exist or may still appear. */
export type CreateOutcome = 'created' | 'exists' | 'unknown';

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** Store's clock, milliseconds since the epoch. */
  readonly modifiedMs: number;
}

export interface ObjectStore {
  /** Names the store in messages, without credentials: `s3://bucket/prefix` or a folder. */
  readonly description: string;

  /**
   * Reads a whole object, or `range` of it (start inclusive, end exclusive, bytes; at least one byte,
   * clamped to the object).
   * @returns undefined when there is no such object; else bytes that own their buffer
   * @throws PipelineError unavailable | invalid (denied)
   */
  get(
    key: string,
    options?: { readonly range?: { readonly start: number; readonly end: number } },
  ): Promise<Uint8Array | undefined>;

  /** @returns undefined when there is no such object */
  head(key: string): Promise<ObjectInfo | undefined>;

  /**
   * Writes an object durably (fsync, or the store's 200 after a checksum), replacing any of that name.
   * Only for uniquely named data files and for hints. Retries internally; safe to call again.
   * @throws PipelineError unavailable | invalid
   */
  put(key: string, body: Uint8Array): Promise<void>;

  /**
   * Creates `key` atomically unless it exists. One attempt; never retried inside, so that `exists`
   * is never the echo of our own lost success unless an earlier call returned `unknown`.
   * 409 and failures certain to have left nothing are thrown as `unavailable`.
   * @throws PipelineError unavailable | invalid
   */
  createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome>;

  /**
   * Objects whose key starts with `prefix`, ascending by UTF-8 bytes, only keys > `startAfter`.
   * Temporary files of the adapter itself are never listed.
   */
  list(prefix: string, options?: { readonly startAfter?: string }): AsyncIterable<ObjectInfo>;

  /** Removes an object; fine when it is not there. */
  delete(key: string): Promise<void>;

  /**
   * Path of a local file with the object's bytes, when the adapter has one (file system).
   * @returns undefined when bytes are elsewhere
   */
  localPath(key: string): string | undefined;

  close(): Promise<void>;
}
