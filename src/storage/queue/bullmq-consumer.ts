/**
 * One consumer of a BullMQ queue: a BullMQ worker on connections of its own, and a watch over it.
 *
 * BC1 An outage is waited out however long (worker-connection.ts).
 * BC2 While jobs wait that this consumer has room for and takes none of, for `silentMs`, its worker and
 *     connections are replaced. BullMQ workers have been seen to fall silent after a failover.
 * BC3 A job's lock outlives pauses of the event loop of `lockMs`; a job whose worker died is given to
 *     another after at most lockMs + stalledCheckMs. It may then run twice: handlers must not care.
 * BC4 close() waits for the handlers that run, and not for a Redis that is away.
 */
import { type Job as BullJob, UnrecoverableError, Worker } from 'bullmq';
import type { Ambient, Timer } from '../../ambient.ts';
import { asPipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { parseJob } from './job-shape.ts';
import { type RetryDelays, retryDelayMs } from './retry-delay.ts';
import type { Consumer, Job } from './work-queue.ts';
import { WorkerConnection } from './worker-connection.ts';

/** All in milliseconds. */
export interface ConsumerTimings {
  readonly lockMs: number;
  readonly stalledCheckMs: number;
  readonly watchMs: number;
  readonly silentMs: number;
}

const DEFAULT_TIMINGS: ConsumerTimings = {
  lockMs: 60_000,
  stalledCheckMs: 30_000,
  watchMs: 10_000,
  silentMs: 30_000,
};

/** For marking the last jobs as done before the connections are cut (BC4). */
const CLOSE_GRACE_MS = 5_000;

/** What a consumer is made of. */
export interface BullmqConsumerOptions {
  readonly url: string;
  readonly prefix: string;
  readonly queue: string;
  readonly handler: (job: Job) => Promise<void>;
  readonly concurrency: number;
  readonly retryDelays: RetryDelays;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly timings?: Partial<ConsumerTimings>;
  /** Asked while this consumer is idle. May throw: then nothing is known. */
  readonly hasWork: () => Promise<boolean>;
  readonly onClosed: () => void;
}

interface RunningWorker {
  readonly worker: Worker;
  readonly connection: WorkerConnection;
}

/** @see Consumer */
export class BullmqConsumer implements Consumer {
  readonly #options: BullmqConsumerOptions;
  readonly #timings: ConsumerTimings;
  readonly #running = new Set<Promise<void>>();
  #current: RunningWorker;
  #watch: Timer | undefined;
  /** When it last had no reason to take a job, or took one. */
  #lastSignMs: number;
  #closing: Promise<void> | undefined;

  constructor(options: BullmqConsumerOptions) {
    this.#options = options;
    this.#timings = { ...DEFAULT_TIMINGS, ...options.timings };
    this.#lastSignMs = options.ambient.clock.monotonicMs();
    this.#current = this.#startWorker();
    this.#armWatch();
  }

  /** BC4. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#watch?.cancel();
    const { worker, connection } = this.#current;
    const closed = worker.close().catch(() => undefined);
    await Promise.all(this.#running);
    const inTime = new AbortController();
    const grace = this.#options.ambient.clock.sleep(CLOSE_GRACE_MS, inTime.signal);
    await Promise.race([closed, grace]);
    inTime.abort();
    connection.cut();
    this.#options.onClosed();
  }

  #startWorker(): RunningWorker {
    const { url, prefix, queue, concurrency, retryDelays, ambient, logger } = this.#options;
    const connection = new WorkerConnection(url, { connectionName: `${prefix}:${queue}` });
    const worker = new Worker(queue, (job: BullJob) => this.#handle(job), {
      connection,
      prefix,
      concurrency,
      lockDuration: this.#timings.lockMs,
      stalledInterval: this.#timings.stalledCheckMs,
      maxStalledCount: Number.MAX_SAFE_INTEGER, // BQ2
      settings: {
        backoffStrategy: (failures) => retryDelayMs(failures ?? 1, retryDelays, ambient.random),
      },
    });
    worker.on('error', (error) => {
      logger.debug('the queue worker met an error', { queue, error: error.message });
    });
    worker.on('stalled', (job) => {
      logger.warn('a job whose worker went silent is given out again', { queue, job });
    });
    return { worker, connection };
  }

  async #handle(bullJob: BullJob): Promise<void> {
    const { queue, handler, logger } = this.#options;
    const job = parseJob(bullJob.repeatJobKey ?? bullJob.id, bullJob.data);
    if (job === undefined) {
      logger.error('a job in the queue is none of ours and is set aside', { queue });
      throw new UnrecoverableError('not a job of this pipeline');
    }
    const run = (async () => handler(job))();
    const settled = run.catch(() => undefined);
    this.#running.add(settled);
    try {
      await run;
    } catch (thrown) {
      logger.warn('a job failed and will be tried again', {
        queue,
        job: job.id,
        failures: bullJob.attemptsMade + 1,
        ...errorFields(thrown),
      });
      // A plain error: BullMQ gives the names of some errors a meaning of its own.
      const { code, message } = asPipelineError(thrown);
      throw new Error(`${code} ${message}`, { cause: thrown });
    } finally {
      this.#running.delete(settled);
      this.#lastSignMs = this.#options.ambient.clock.monotonicMs();
    }
  }

  #armWatch(): void {
    this.#watch = this.#options.ambient.clock.after(
      this.#timings.watchMs,
      () => {
        void this.#look().finally(() => {
          if (this.#closing === undefined) this.#armWatch();
        });
      },
      { unref: true },
    );
  }

  /** BC2. */
  async #look(): Promise<void> {
    const { queue, hasWork, logger, ambient } = this.#options;
    const isIdleForNothing =
      this.#running.size === 0 && (await hasWork().catch(() => false)) && this.#running.size === 0;
    const nowMs = ambient.clock.monotonicMs();
    if (!isIdleForNothing) this.#lastSignMs = nowMs;
    const idleMs = nowMs - this.#lastSignMs;
    if (idleMs < this.#timings.silentMs || this.#closing !== undefined) return;
    logger.warn('a queue worker took no job although some wait; it is replaced', { queue, idleMs });
    const silent = this.#current;
    this.#current = this.#startWorker();
    this.#lastSignMs = nowMs;
    silent.worker.close(true).catch(() => undefined);
    silent.connection.cut();
  }
}
