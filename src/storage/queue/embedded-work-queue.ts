/**
 * Queues in this process, for pipelines that run in one. Jobs end with the process: writers find what
 * they missed in the logs (P1).
 *
 * EQ1 An id is in a queue once: waiting, running, or put off. When its work is done it may be added
 *     again.
 * EQ2 A queue holds a bounded number of jobs; what exceeds it is refused as unavailable, like by a
 *     full Redis.
 * EQ3 Handlers run in turns of their own, never inside add().
 */
import type { Ambient, Timer } from '../../ambient.ts';
import { asPipelineError, PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { assertJob } from './job-shape.ts';
import { DEFAULT_RETRY_DELAYS, type RetryDelays, retryDelayMs } from './retry-delay.ts';
import { msUntilDue, rhythmOf } from './rhythm.ts';
import type { Consumer, Job, QueueCounts, Rhythm, WorkQueue } from './work-queue.ts';

const JOBS_MAX = 10_000;

/** What the queues need, and their bounds. */
export interface EmbeddedWorkQueueOptions {
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly retryDelays?: RetryDelays;
  /** Of each queue; default 10,000. */
  readonly jobsMax?: number;
}

interface QueuedJob {
  readonly job: Job;
  failures: number;
}

/** @see WorkQueue */
export class EmbeddedWorkQueue implements WorkQueue {
  readonly description = 'in process';
  readonly #options: EmbeddedWorkQueueOptions;
  readonly #queues = new Map<string, InProcessQueue>();
  #isClosed = false;

  constructor(options: EmbeddedWorkQueueOptions) {
    this.#options = options;
  }

  check(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async add(queue: string, job: Job): Promise<void> {
    assertJob(queue, job);
    this.#assertOpen();
    this.#queue(queue).add(job);
  }

  async repeat(queue: string, job: Job, rhythm: Rhythm): Promise<void> {
    assertJob(queue, job);
    this.#assertOpen();
    this.#queue(queue).repeat(job, rhythm);
  }

  async consume(
    queue: string,
    handler: (job: Job) => Promise<void>,
    options: { readonly concurrency?: number } = {},
  ): Promise<Consumer> {
    this.#assertOpen();
    return this.#queue(queue).consume(handler, options.concurrency ?? 1);
  }

  counts(queue: string): Promise<QueueCounts> {
    return Promise.resolve(this.#queue(queue).counts());
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  #assertOpen(): void {
    if (this.#isClosed) {
      throw new PipelineError('unavailable', 'TM_QUEUE_UNAVAILABLE', 'the queue is closed');
    }
  }

  #queue(name: string): InProcessQueue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new InProcessQueue(name, this.#options);
      this.#queues.set(name, queue);
    }
    return queue;
  }
}

class InProcessQueue {
  readonly #name: string;
  readonly #options: EmbeddedWorkQueueOptions;
  /** EQ1: everything that waits, runs or is put off. */
  readonly #jobs = new Map<string, QueuedJob>();
  readonly #putOff = new Map<QueuedJob, Timer>();
  readonly #consumers = new Set<InProcessConsumer>();
  /** Repeated jobs, each with the timer of its next time. */
  readonly #repeated = new Map<string, { readonly rhythm: string; timer: Timer }>();
  /** In order of arrival; a Set, so that taking the first does not move the others. */
  readonly #waiting = new Set<QueuedJob>();
  #completed = 0;

  constructor(name: string, options: EmbeddedWorkQueueOptions) {
    this.#name = name;
    this.#options = options;
  }

  add(job: Job): void {
    if (this.#jobs.has(job.id)) return;
    if (this.#jobs.size >= (this.#options.jobsMax ?? JOBS_MAX)) {
      throw new PipelineError('unavailable', 'TM_QUEUE_UNAVAILABLE', 'the queue is full', {
        context: { queue: this.#name, jobs: this.#jobs.size },
      });
    }
    const queued = { job: { id: job.id, data: { ...job.data } }, failures: 0 };
    this.#jobs.set(job.id, queued);
    this.#wait(queued);
  }

  repeat(job: Job, rhythm: Rhythm): void {
    const { clock } = this.#options.ambient;
    const text = JSON.stringify(rhythmOf(rhythm));
    const known = this.#repeated.get(job.id);
    if (known?.rhythm === text) return;
    known?.timer.cancel();
    const arm = (): Timer =>
      clock.after(
        msUntilDue(rhythm, clock.nowMs()),
        () => {
          this.#repeated.set(job.id, { rhythm: text, timer: arm() });
          if (this.#jobs.size < (this.#options.jobsMax ?? JOBS_MAX)) this.add(job);
        },
        { unref: true },
      );
    this.#repeated.set(job.id, { rhythm: text, timer: arm() });
  }

  consume(handler: (job: Job) => Promise<void>, concurrency: number): Consumer {
    const consumer = new InProcessConsumer({
      concurrency,
      take: () => this.#take(),
      run: (queued) => this.#run(queued, handler),
      closed: () => this.#consumers.delete(consumer),
    });
    this.#consumers.add(consumer);
    consumer.wake();
    return consumer;
  }

  counts(): QueueCounts {
    const delayed = this.#putOff.size;
    const waiting = this.#waiting.size;
    const active = this.#jobs.size - waiting - delayed;
    return { name: this.#name, waiting, active, delayed, completed: this.#completed, failed: 0 };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()));
    for (const timer of this.#putOff.values()) timer.cancel();
    for (const { timer } of this.#repeated.values()) timer.cancel();
    this.#repeated.clear();
    this.#putOff.clear();
    this.#jobs.clear();
    this.#waiting.clear();
  }

  #wait(queued: QueuedJob): void {
    this.#waiting.add(queued);
    for (const consumer of this.#consumers) consumer.wake();
  }

  #take(): QueuedJob | undefined {
    const [first] = this.#waiting;
    if (first !== undefined) this.#waiting.delete(first);
    return first;
  }

  async #run(queued: QueuedJob, handler: (job: Job) => Promise<void>): Promise<void> {
    try {
      await handler(queued.job);
    } catch (thrown) {
      this.#putOffAfter(queued, thrown);
      return;
    }
    this.#jobs.delete(queued.job.id);
    this.#completed += 1;
  }

  #putOffAfter(queued: QueuedJob, thrown: unknown): void {
    const { ambient, logger, retryDelays = DEFAULT_RETRY_DELAYS } = this.#options;
    queued.failures += 1;
    const delayMs = retryDelayMs(queued.failures, retryDelays, ambient.random);
    logger.warn('a job failed and will be tried again', {
      queue: this.#name,
      job: queued.job.id,
      failures: queued.failures,
      delayMs,
      ...errorFields(asPipelineError(thrown)),
    });
    const timer = ambient.clock.after(delayMs, () => {
      this.#putOff.delete(queued);
      this.#wait(queued);
    });
    this.#putOff.set(queued, timer);
  }
}

interface InProcessConsumerOptions {
  readonly concurrency: number;
  readonly take: () => QueuedJob | undefined;
  readonly run: (queued: QueuedJob) => Promise<void>;
  readonly closed: () => void;
}

class InProcessConsumer implements Consumer {
  readonly #options: InProcessConsumerOptions;
  readonly #running = new Set<Promise<void>>();
  #isWoken = false;
  #isClosed = false;

  constructor(options: InProcessConsumerOptions) {
    this.#options = options;
  }

  /** EQ3: takes what waits, in a later turn. */
  wake(): void {
    if (this.#isWoken || this.#isClosed) return;
    this.#isWoken = true;
    queueMicrotask(() => {
      this.#isWoken = false;
      this.#takeJobs();
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#running);
    this.#options.closed();
  }

  #takeJobs(): void {
    while (!this.#isClosed && this.#running.size < this.#options.concurrency) {
      const queued = this.#options.take();
      if (queued === undefined) return;
      const run = this.#options.run(queued).finally(() => {
        this.#running.delete(run);
        this.wake();
      });
      this.#running.add(run);
    }
  }
}
