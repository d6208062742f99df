/**
 * Queues in Redis by BullMQ. All of it may vanish, stall or come twice (P1); this adapter sees to it
 * that none of that lasts.
 *
 * BQ1 Adding fails fast: a producer never waits for a Redis that is away (RD1 of storage/redis.ts).
 * BQ2 Jobs are tried without end: no count of failures or of stalls moves one to `failed` for good.
 *     Only content that is no job of ours ends there, and is seen on the queue board.
 * BQ3 A finished job keeps its id for a while (the last 1,000 per queue, for the board). Adding that id
 *     again removes the finished job first. An id whose job ends while it is added again counts as
 *     running: the work was done then.
 * BQ4 A worker that falls silent is replaced (bullmq-consumer.ts).
 * BQ5 A repeated job is a job scheduler, named like the job; each of its jobs comes with that id.
 *
 * Source: BullMQ 6 (addStandardJob: an existing id is ignored, whatever its state).
 */
import { type JobsOptions, Queue } from 'bullmq';
import type { Ambient } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import { RedisLink } from '../redis.ts';
import { BullmqConsumer, type ConsumerTimings } from './bullmq-consumer.ts';
import { assertJob } from './job-shape.ts';
import { DEFAULT_RETRY_DELAYS, type RetryDelays } from './retry-delay.ts';
import type { Consumer, Job, QueueCounts, Rhythm, WorkQueue } from './work-queue.ts';

/** Where the queues lie, and how patient they are. */
export interface BullmqWorkQueueOptions {
  readonly url: string;
  /** Names this pipeline's keys; BullMQ's own prefix is `<prefix>:q`. */
  readonly prefix: string;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly retryDelays?: RetryDelays;
  readonly timings?: Partial<ConsumerTimings>;
  /** Of producers; default 5 s. */
  readonly commandTimeoutMs?: number;
}

const JOB_OPTIONS: JobsOptions = {
  attempts: Number.MAX_SAFE_INTEGER, // BQ2
  backoff: { type: 'capped' },
  removeOnComplete: { count: 1_000 },
  removeOnFail: false,
  stackTraceLimit: 1,
};

/** Entries of a queue's event stream, which only the board looks at. */
const EVENTS_MAX = 1_000;

/** @see WorkQueue */
export class BullmqWorkQueue implements WorkQueue {
  readonly description: string;
  /** BullMQ's prefix, for the queue board. */
  readonly bullmqPrefix: string;
  readonly #options: BullmqWorkQueueOptions;
  readonly #link: RedisLink;
  readonly #queues = new Map<string, Queue>();
  readonly #consumers = new Set<BullmqConsumer>();

  /** Connects with the first call. @throws PipelineError invalid for a bad URL */
  constructor(options: BullmqWorkQueueOptions) {
    this.#options = options;
    this.bullmqPrefix = `${options.prefix}:q`;
    this.#link = new RedisLink({
      ...options,
      clock: options.ambient.clock,
      unavailableCode: 'TM_QUEUE_UNAVAILABLE',
      connectionName: `${options.prefix}:queue`,
    });
    this.description = `${this.#link.server} (${this.bullmqPrefix})`;
  }

  check(): Promise<readonly string[]> {
    return this.#link.check();
  }

  async add(queue: string, job: Job): Promise<void> {
    assertJob(queue, job);
    await this.#with(queue, async (bull) => {
      const isFinished = await this.#link.client.hexists(bull.toKey(job.id), 'finishedOn');
      if (isFinished === 1) await bull.remove(job.id); // BQ3
      await bull.add(queue, job.data, { ...JOB_OPTIONS, jobId: job.id });
    });
  }

  /** BQ5 */
  async repeat(queue: string, job: Job, rhythm: Rhythm): Promise<void> {
    assertJob(queue, job);
    const wanted =
      'everyMs' in rhythm
        ? { every: rhythm.everyMs }
        : {
            pattern: `${rhythm.dailyAtMinute % 60} ${Math.floor(rhythm.dailyAtMinute / 60)} * * *`,
          };
    await this.#with(queue, async (bull) => {
      const known = await bull.getJobScheduler(job.id);
      // Saying the same again would put off a job that is due every so often.
      if (known && known.every === wanted.every && known.pattern === wanted.pattern) return;
      await bull.upsertJobScheduler(
        job.id,
        { ...wanted, tz: 'UTC' },
        { name: queue, data: job.data, opts: JOB_OPTIONS },
      );
    });
  }

  async consume(
    queue: string,
    handler: (job: Job) => Promise<void>,
    options: { readonly concurrency?: number } = {},
  ): Promise<Consumer> {
    const { url, ambient, logger, retryDelays = DEFAULT_RETRY_DELAYS, timings } = this.#options;
    const consumer = new BullmqConsumer({
      url,
      prefix: this.bullmqPrefix,
      queue,
      handler,
      concurrency: options.concurrency ?? 1,
      retryDelays,
      ambient,
      logger,
      ...(timings && { timings }),
      hasWork: () => this.#hasWork(queue),
      onClosed: () => this.#consumers.delete(consumer),
    });
    this.#consumers.add(consumer);
    return consumer;
  }

  counts(queue: string): Promise<QueueCounts> {
    return this.#with(queue, async (bull) => {
      const {
        wait = 0,
        prioritized = 0,
        ...counts
      } = await bull.getJobCounts(
        'wait',
        'prioritized',
        'active',
        'delayed',
        'completed',
        'failed',
      );
      const { active = 0, delayed = 0, completed = 0, failed = 0 } = counts;
      return { name: queue, waiting: wait + prioritized, active, delayed, completed, failed };
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()));
    // The queues share the link's connection; they have nothing else to close.
    this.#queues.clear();
    await this.#link.close();
  }

  /** Whether a consumer with nothing to do ought to have something: jobs wait, or are overdue. */
  #hasWork(queue: string): Promise<boolean> {
    return this.#with(queue, async (bull) => {
      if (await bull.isPaused()) return false;
      const { wait = 0, prioritized = 0 } = await bull.getJobCounts('wait', 'prioritized');
      if (wait + prioritized > 0) return true;
      const [, score] = await this.#link.client.zrange(
        bull.toKey('delayed'),
        '0',
        '0',
        'WITHSCORES',
      );
      // BullMQ keeps the due time in the score's upper bits, a counter in the lower twelve.
      return score !== undefined && Number(score) / 0x1000 < this.#options.ambient.clock.nowMs();
    });
  }

  /** BQ1. */
  #with<T>(name: string, work: (bull: Queue) => Promise<T>): Promise<T> {
    return this.#link.run(async () => {
      const bull = this.#queue(name);
      try {
        await bull.waitUntilReady();
      } catch (thrown) {
        // It would repeat this failure for ever; the next call makes another.
        this.#queues.delete(name);
        throw thrown;
      }
      return work(bull);
    });
  }

  #queue(name: string): Queue {
    let bull = this.#queues.get(name);
    if (bull === undefined) {
      bull = new Queue(name, {
        connection: this.#link.client,
        prefix: this.bullmqPrefix,
        streams: { events: { maxLen: EVENTS_MAX } },
      });
      bull.on('error', () => undefined); // Reported by the calls that fail.
      this.#queues.set(name, bull);
    }
    return bull;
  }
}
