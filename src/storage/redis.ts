/**
 * One Redis connection as the state store and the work queue use it: every call either answers
 * within a bounded time or fails as `unavailable`, nothing is queued for later, and the connection
 * comes back by itself.
 *
 * RD1 A call that was reported as failed is never sent afterwards: no offline queue, no resending.
 * RD2 A server that may evict keys, or that is a replica, is refused before anything relies on it.
 * RD3 No credentials in messages or log fields.
 *
 * Source: ioredis 6; https://redis.io/docs/latest/develop/reference/eviction/.
 */
import { Redis, type RedisOptions } from 'ioredis';
import type { Clock } from '../ambient.ts';
import { type ErrorCode, PipelineError } from '../errors.ts';
import type { Logger } from '../logger.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const COMMAND_TIMEOUT_MS = 5_000;
const RECONNECT_DELAY_MAX_MS = 2_000;

/** Oldest server whose scripts may call TIME before they write, and that BullMQ supports. */
const SERVER_VERSION_MIN = 5;

/** Where a link leads and how it speaks of failures. */
export interface RedisLinkOptions {
  /** `redis://` or `rediss://`, with credentials where needed. */
  readonly url: string;
  /** Code of the `unavailable` errors. */
  readonly unavailableCode: 'TM_STATE_UNAVAILABLE' | 'TM_QUEUE_UNAVAILABLE';
  /** Shown in CLIENT LIST. */
  readonly connectionName: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default 5 s; tests of dead servers take less. */
  readonly commandTimeoutMs?: number;
}

/**
 * Names a server without its credentials.
 * @throws PipelineError invalid when it is no redis:// URL
 */
export function describeRedisUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !['redis:', 'rediss:'].includes(parsed.protocol)) {
    throw new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      'the URL of Redis must look like redis://host:6379 or rediss://user:password@host:6380',
    );
  }
  return `${parsed.protocol}//${parsed.host}${parsed.pathname === '/' ? '' : parsed.pathname}`;
}

/** Options that all our connections share; reconnects for ever, within seconds. */
export function redisOptions(connectionName: string) {
  return {
    connectionName,
    connectTimeout: CONNECT_TIMEOUT_MS,
    keepAlive: 10_000,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 10), RECONNECT_DELAY_MAX_MS),
    // After a failover the address may lead to the new primary; the old one only answers READONLY.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  } satisfies RedisOptions;
}

/** Replies that mean "not now": the server is full, starting, failing over, or cannot persist. */
const NOT_NOW =
  /\b(OOM|READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|NOREPLICAS|UNBLOCKED)\b/;
/** Replies that no retry cures. */
const DENIED = /^(NOAUTH|WRONGPASS|NOPERM)\b|ERR (AUTH|invalid password)/;

/**
 * Turns what ioredis or a script threw into a PipelineError. Messages of the server are passed on:
 * they name commands and limits, never values.
 */
export function redisError(
  thrown: unknown,
  at: { readonly code: ErrorCode; readonly server: string },
): PipelineError {
  if (thrown instanceof PipelineError) return thrown;
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const options = { context: { server: at.server }, cause: thrown };
  const isReply = error.name === 'ReplyError' || /^[A-Z]{3,} /.test(error.message);
  if (!isReply || NOT_NOW.test(error.message)) {
    return new PipelineError(
      'unavailable',
      at.code,
      `Redis does not serve: ${error.message}`,
      options,
    );
  }
  if (DENIED.test(error.message)) {
    return new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      `Redis refuses this user: ${error.message}; check the credentials and rights in state.url`,
      options,
    );
  }
  if (error.message.startsWith('WRONGTYPE')) {
    return new PipelineError(
      'invalid',
      'TM_STATE_UNSAFE',
      'keys below the prefix hold something else; give this pipeline a prefix of its own',
      options,
    );
  }
  return new PipelineError('internal', 'TM_INTERNAL', `Redis: ${error.message}`, options);
}

/** A connection whose calls fail fast. */
export class RedisLink {
  readonly client: Redis;
  /** Without credentials. */
  readonly server: string;
  readonly #options: RedisLinkOptions;
  readonly #commandTimeoutMs: number;
  #isLost = false;
  /** Why the connection failed last, such as a wrong password; undefined while it works. */
  #connectionError: Error | undefined;
  /** The attempt under way, shared by all calls that wait for it. */
  #connecting: Promise<void> | undefined;

  /** Connects with the first call. @throws PipelineError invalid for a bad URL */
  constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.#commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
    this.server = describeRedisUrl(options.url);
    this.client = new Redis(options.url, {
      ...redisOptions(options.connectionName),
      lazyConnect: true,
      // RD1; the ready check before a connection counts as ready is not affected.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      commandTimeout: this.#commandTimeoutMs,
      // A server that went away without a word: drop the connection, or every call would wait.
      socketTimeout: this.#commandTimeoutMs,
    });
    const { logger } = options;
    this.client.on('error', (error) => {
      this.#connectionError = error;
    });
    this.client.on('close', () => {
      if (!this.#isLost) logger.warn('the connection to Redis is lost', { server: this.server });
      this.#isLost = true;
    });
    this.client.on('ready', () => {
      if (this.#isLost) logger.info('the connection to Redis is back', { server: this.server });
      this.#isLost = false;
      this.#connectionError = undefined;
    });
  }

  /**
   * Runs commands on the connection.
   * @throws PipelineError unavailable within the command timeout, or at once while the connection is
   *   known to be lost; see redisError for the rest
   */
  async run<T>(work: (client: Redis) => Promise<T>): Promise<T> {
    const { clock, unavailableCode: code } = this.#options;
    const tooLate = new Error(`no answer within ${this.#commandTimeoutMs} ms`);
    const timeout = Promise.withResolvers<never>();
    let isOver = false;
    const timer = clock.after(this.#commandTimeoutMs, () => {
      isOver = true;
      timeout.reject(tooLate);
    });
    const connectAndWork = async (): Promise<T> => {
      await this.#connected();
      if (isOver) throw tooLate; // RD1
      return work(this.client);
    };
    try {
      return await Promise.race([connectAndWork(), timeout.promise]);
    } catch (thrown) {
      throw redisError(thrown, { code, server: this.server });
    } finally {
      timer.cancel();
    }
  }

  /**
   * RD2: looks at role, eviction policy and version.
   * @returns warnings for the operator
   * @throws PipelineError unavailable | invalid (TM_STATE_UNSAFE)
   */
  async check(): Promise<readonly string[]> {
    const info = parseInfo(await this.run((client) => client.info()));
    return checkServer(info, this.server);
  }

  /** Ends the connection; calls in flight fail as unavailable. */
  close(): Promise<void> {
    this.#isLost = true; // The end is wanted: no warning.
    this.client.disconnect();
    return Promise.resolve();
  }

  #connected(): Promise<void> {
    const { client } = this;
    if (client.status === 'ready') return Promise.resolve();
    if (client.status === 'wait') client.connect().catch(() => undefined);
    // Between two attempts nothing is to be had: fail now, not after the timeout.
    if (client.status === 'reconnecting' || client.status === 'end') {
      return Promise.reject(this.#connectionError ?? new Error('not connected'));
    }
    this.#connecting ??= new Promise((resolve, reject) => {
      const settle = (): void => {
        client.off('ready', settle);
        client.off('close', settle);
        this.#connecting = undefined;
        if (client.status === 'ready') resolve();
        else reject(this.#connectionError ?? new Error('cannot connect'));
      };
      client.once('ready', settle);
      client.once('close', settle);
    });
    return this.#connecting;
  }
}

/** Fields of the INFO command's answer. */
export function parseInfo(text: string): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) {
      fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
    }
  }
  return fields;
}

/**
 * RD2, on the fields of INFO, which managed servers that forbid CONFIG still answer.
 * @throws PipelineError invalid
 */
export function checkServer(info: ReadonlyMap<string, string>, server: string): readonly string[] {
  const unsafe = (message: string): PipelineError =>
    new PipelineError('invalid', 'TM_STATE_UNSAFE', message, { context: { server } });
  if (info.get('role') === 'slave') {
    throw unsafe('this Redis is a replica and takes no writes; point state.url at the primary');
  }
  const version = info.get('redis_version');
  if (version !== undefined && Number.parseInt(version, 10) < SERVER_VERSION_MIN) {
    throw unsafe(`Redis ${version} is too old; ${SERVER_VERSION_MIN} is the oldest that works`);
  }
  const policy = info.get('maxmemory_policy');
  if (policy === undefined) {
    return ['Redis does not tell its maxmemory-policy; make sure that it is noeviction'];
  }
  if (policy !== 'noeviction') {
    throw unsafe(
      `Redis may evict keys (maxmemory-policy ${policy}); set maxmemory-policy noeviction`,
    );
  }
  return [];
}
