/**
 * State in Redis: hashes below `<prefix>:h:`, leases below `<prefix>:l:`. All of it may vanish at any
 * moment (P1).
 *
 * RS1 A lease is taken, prolonged and given back by one script each: owner and epoch are compared and
 *     changed in one step.
 * RS2 An epoch is never below the server's clock in milliseconds, so that epochs go on growing after
 *     the counter was lost with all other data.
 * RS3 Nothing is waited for longer than the connection's command timeout (RD1 of storage/redis.ts).
 */
import type { Clock } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import { RedisLink } from '../redis.ts';
import type { Lease, StateStore } from './state-store.ts';

/** RS1. A lease is a hash {owner, epoch} with a time to live; the counter of its epochs has none. */
const ACQUIRE = `
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return false end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not owner then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
  epoch = string.format('%.0f', math.max(now, last + 1))
  redis.call('SET', KEYS[2], epoch)
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', epoch)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return epoch`;

const RENEW = `
local lease = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])`;

const RELEASE = `
local lease = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return 0 end
return redis.call('DEL', KEYS[1])`;

/** Keys looked at per step of a scan. */
const SCAN_COUNT = 1_000;

/** Where the state lies. */
export interface RedisStateStoreOptions {
  readonly url: string;
  /** Names this pipeline's keys; another pipeline has another. */
  readonly prefix: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default 5 s. */
  readonly commandTimeoutMs?: number;
}

/** @see StateStore */
export class RedisStateStore implements StateStore {
  readonly description: string;
  readonly #link: RedisLink;
  readonly #prefix: string;

  /** Connects with the first call. @throws PipelineError invalid for a bad URL */
  constructor(options: RedisStateStoreOptions) {
    this.#prefix = options.prefix;
    this.#link = new RedisLink({
      ...options,
      unavailableCode: 'TM_STATE_UNAVAILABLE',
      connectionName: `${options.prefix}:state`,
    });
    this.description = `${this.#link.server} (${options.prefix})`;
  }

  check(): Promise<readonly string[]> {
    return this.#link.check();
  }

  getHash(key: string): Promise<Readonly<Record<string, string>>> {
    return this.#link.run((client) => client.hgetall(this.#hashKey(key)));
  }

  async setHash(key: string, fields: Readonly<Record<string, string>>): Promise<void> {
    const flat = Object.entries(fields).flat();
    if (flat.length === 0) return;
    await this.#link.run((client) => client.hset(this.#hashKey(key), ...flat));
  }

  async keys(prefix: string): Promise<readonly string[]> {
    const start = this.#hashKey('');
    const pattern = `${escapeGlob(start + prefix)}*`;
    // A scan may hand out a key more than once.
    const found = new Set<string>();
    let cursor = '0';
    do {
      const [next, page] = await this.#link.run((client) =>
        client.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_COUNT),
      );
      for (const key of page) found.add(key.slice(start.length));
      cursor = next;
    } while (cursor !== '0');
    return [...found];
  }

  async delete(key: string): Promise<void> {
    await this.#link.run((client) => client.del(this.#hashKey(key)));
  }

  async acquireLease(name: string, owner: string, ttlMs: number): Promise<Lease | undefined> {
    const leaseKey = this.#leaseKey(name);
    const epoch = await this.#link.run((client) =>
      client.eval(ACQUIRE, 2, leaseKey, `${leaseKey}:epoch`, owner, ttlMs),
    );
    return epoch === null ? undefined : { name, owner, epoch: Number(epoch) };
  }

  async renewLease(lease: Lease, ttlMs: number): Promise<boolean> {
    const { owner, epoch } = lease;
    const renewed = await this.#link.run((client) =>
      client.eval(RENEW, 1, this.#leaseKey(lease.name), owner, `${epoch}`, ttlMs),
    );
    return renewed === 1;
  }

  async releaseLease(lease: Lease): Promise<void> {
    const { owner, epoch } = lease;
    await this.#link.run((client) =>
      client.eval(RELEASE, 1, this.#leaseKey(lease.name), owner, `${epoch}`),
    );
  }

  async leaseHolder(
    name: string,
  ): Promise<{ readonly owner: string; readonly epoch: number } | undefined> {
    const [owner, epoch] = await this.#link.run((client) =>
      client.hmget(this.#leaseKey(name), 'owner', 'epoch'),
    );
    if (typeof owner !== 'string' || typeof epoch !== 'string') return undefined;
    return { owner, epoch: Number(epoch) };
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  #hashKey(key: string): string {
    return `${this.#prefix}:h:${key}`;
  }

  /** The braces keep lease and counter on one node of a cluster. */
  #leaseKey(name: string): string {
    return `${this.#prefix}:l:{${name}}`;
  }
}

/** Takes away the meaning that *, ?, [, ] and \ have in a pattern of Redis. */
export function escapeGlob(text: string): string {
  return text.replaceAll(/[*?[\]\\]/g, String.raw`\$&`);
}
