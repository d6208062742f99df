/**
 * State in this process's memory: for tests, and the core of the embedded store. Leases live as long
 * as the process and exclude each other only within it.
 *
 * MS1 An epoch is never below the clock in milliseconds, so that epochs grow over restarts too.
 */
import type { Clock } from '../../ambient.ts';
import type { Lease, StateStore } from './state-store.ts';

interface HeldLease {
  readonly owner: string;
  readonly epoch: number;
  /** On the monotonic clock: a step of the wall clock neither ends nor prolongs a lease. */
  readonly untilMonotonicMs: number;
}

/** All hashes, as JSON-safe data. */
export type StateData = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** @see StateStore */
export class MemoryStateStore implements StateStore {
  readonly description: string = 'memory';
  readonly #clock: Clock;
  readonly #hashes = new Map<string, Map<string, string>>();
  readonly #leases = new Map<string, HeldLease>();
  readonly #epochs = new Map<string, number>();

  constructor(options: { readonly clock: Clock; readonly data?: StateData }) {
    this.#clock = options.clock;
    for (const [key, fields] of Object.entries(options.data ?? {})) {
      this.#hashes.set(key, new Map(Object.entries(fields)));
    }
  }

  check(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  getHash(key: string): Promise<Readonly<Record<string, string>>> {
    return Promise.resolve(Object.fromEntries(this.#hashes.get(key) ?? []));
  }

  setHash(key: string, fields: Readonly<Record<string, string>>): Promise<void> {
    const entries = Object.entries(fields);
    if (entries.length > 0) {
      const hash = this.#hashes.get(key) ?? new Map<string, string>();
      for (const [field, value] of entries) hash.set(field, value);
      this.#hashes.set(key, hash);
    }
    return Promise.resolve();
  }

  keys(prefix: string): Promise<readonly string[]> {
    return Promise.resolve([...this.#hashes.keys()].filter((key) => key.startsWith(prefix)));
  }

  delete(key: string): Promise<void> {
    this.#hashes.delete(key);
    return Promise.resolve();
  }

  acquireLease(name: string, owner: string, ttlMs: number): Promise<Lease | undefined> {
    const held = this.#held(name);
    if (held !== undefined && held.owner !== owner) return Promise.resolve(undefined);
    const epoch = held?.epoch ?? this.#nextEpoch(name);
    this.#hold({ name, owner, epoch }, ttlMs);
    return Promise.resolve({ name, owner, epoch });
  }

  renewLease(lease: Lease, ttlMs: number): Promise<boolean> {
    const isOurs = this.#isHeldAs(lease);
    if (isOurs) this.#hold(lease, ttlMs);
    return Promise.resolve(isOurs);
  }

  releaseLease(lease: Lease): Promise<void> {
    if (this.#isHeldAs(lease)) this.#leases.delete(lease.name);
    return Promise.resolve();
  }

  leaseHolder(
    name: string,
  ): Promise<{ readonly owner: string; readonly epoch: number } | undefined> {
    const held = this.#held(name);
    return Promise.resolve(held && { owner: held.owner, epoch: held.epoch });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** A copy of all hashes. */
  data(): StateData {
    return Object.fromEntries(
      [...this.#hashes].map(([key, fields]) => [key, Object.fromEntries(fields)]),
    );
  }

  #hold(lease: Lease, ttlMs: number): void {
    const untilMonotonicMs = this.#clock.monotonicMs() + ttlMs;
    this.#leases.set(lease.name, { owner: lease.owner, epoch: lease.epoch, untilMonotonicMs });
  }

  #held(name: string): HeldLease | undefined {
    const held = this.#leases.get(name);
    return held && held.untilMonotonicMs > this.#clock.monotonicMs() ? held : undefined;
  }

  #isHeldAs(lease: Lease): boolean {
    const held = this.#held(lease.name);
    return held?.owner === lease.owner && held.epoch === lease.epoch;
  }

  #nextEpoch(name: string): number {
    const epoch = Math.max(Math.floor(this.#clock.nowMs()), (this.#epochs.get(name) ?? 0) + 1);
    this.#epochs.set(name, epoch);
    return epoch;
  }
}
