/**
 * The Redis connection of a BullMQ worker: waits out every outage, and ends when it is told to.
 *
 * WC1 disconnect() between two attempts ends the connection with the next attempt. ioredis alone would
 *     stop trying without ever reaching `end`, and whoever waits for that (BullMQ closing a worker)
 *     or for a command in the queue would wait for ever.
 * WC2 The copies that BullMQ makes are of the same kind and are known, so that all can be cut.
 */
import { Redis, type RedisOptions } from 'ioredis';
import { redisOptions } from '../redis.ts';

/** A worker's blocking read lasts at most 10 s; a socket silent for longer than this is dead. */
const SOCKET_TIMEOUT_MS = 30_000;

type WorkerConnectionOptions = RedisOptions & { replyMapping?: 'legacy' };

/** @see Redis */
export class WorkerConnection extends Redis {
  readonly #url: string;
  readonly #copies: WorkerConnection[] = [];
  #isEnding = false;

  /** Connects at once. */
  constructor(url: string, options: WorkerConnectionOptions) {
    const base = redisOptions(options.connectionName ?? 'tidemark');
    super(url, {
      ...options,
      ...base,
      maxRetriesPerRequest: null,
      socketTimeout: SOCKET_TIMEOUT_MS,
    });
    this.#url = url;
    this.options.retryStrategy = (attempt) => (this.#isEnding ? null : base.retryStrategy(attempt));
    this.on('error', () => undefined); // The producer's connection logs the state of the server.
    this.on('end', () => {
      this.#isEnding = false;
    });
    this.on('ready', () => {
      if (this.#isEnding) this.disconnect();
    });
  }

  /** WC1. */
  override disconnect(reconnect = false): void {
    if (reconnect || this.status !== 'reconnecting') return super.disconnect(reconnect);
    this.#isEnding = true;
  }

  /** WC2. */
  override duplicate<O extends Partial<RedisOptions> | undefined = undefined>(
    override?: O,
  ): ReturnType<typeof Redis.prototype.duplicate<O>> {
    const options = { ...this.options, ...override } as WorkerConnectionOptions;
    const copy = new WorkerConnection(this.#url, options);
    this.#copies.push(copy);
    return copy as unknown as ReturnType<typeof Redis.prototype.duplicate<O>>;
  }

  /** Ends this connection and its copies; commands that wait for an answer fail. */
  cut(): void {
    for (const connection of [this, ...this.#copies]) {
      // Ending twice would leave a timer of ioredis that holds up the end of the process.
      if (connection.status !== 'end') connection.disconnect();
    }
  }
}
