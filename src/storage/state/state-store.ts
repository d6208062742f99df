/**
 * Port: hints that make recovery fast and leases that save work. Never the truth (P1): every value
 * may be lost, stale or from the future, and readers must cope.
 * Adapters: redis-state-store.ts (ioredis), embedded-state-store.ts (memory over disk); contract
 * suite in test/contract/state-store.contract.ts.
 */

/** A lease that was granted: `epoch` grows with every change of owner while the store keeps its data. */
export interface Lease {
  readonly name: string;
  readonly owner: string;
  readonly epoch: number;
}

/** Hashes of strings, and leases. Methods throw PipelineError unavailable | invalid. */
export interface StateStore {
  /** Names the store in messages, without credentials. */
  readonly description: string;

  /**
   * Checks that the store is usable (reachable; Redis: `noeviction`, not a replica).
   * @returns warnings for the operator, empty when all is well
   * @throws PipelineError unavailable | invalid
   */
  check(): Promise<readonly string[]>;

  /** All fields of a hash; empty when there is none. */
  getHash(key: string): Promise<Readonly<Record<string, string>>>;
  /** Sets the given fields of a hash, in one atomic step. */
  setHash(key: string, fields: Readonly<Record<string, string>>): Promise<void>;
  /** Keys that start with `prefix`, in any order. */
  keys(prefix: string): Promise<readonly string[]>;
  delete(key: string): Promise<void>;

  /**
   * Takes the lease `name` for `ttlMs` if nobody holds it or `owner` holds it already.
   * @returns undefined when another owner holds it
   */
  acquireLease(name: string, owner: string, ttlMs: number): Promise<Lease | undefined>;
  /** Prolongs a lease. @returns false when it is no longer ours */
  renewLease(lease: Lease, ttlMs: number): Promise<boolean>;
  /** Gives a lease back if it is still ours. */
  releaseLease(lease: Lease): Promise<void>;
  /** Current holder, if any. */
  leaseHolder(
    name: string,
  ): Promise<{ readonly owner: string; readonly epoch: number } | undefined>;

  close(): Promise<void>;
}
