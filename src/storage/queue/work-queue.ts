/**
 * Port: named queues of small jobs, delivered at least once. Jobs carry references, never rows
 * (design 3); any job may be lost, doubled, late or out of order, and handlers must not care.
 * Adapters: bullmq-work-queue.ts, embedded-work-queue.ts; contract suite in
 * test/contract/work-queue.contract.ts.
 */

/** What a job may hold: a flat record of references. */
export type JobData = Readonly<Record<string, string | number | boolean>>;

/** One piece of work. */
export interface Job {
  /** The same on every retry of the same work; characters [A-Za-z0-9_.-], not all digits. */
  readonly id: string;
  readonly data: JobData;
}

/** When a repeated job is due: every so often, or daily so many minutes after midnight UTC. */
export type Rhythm = { readonly everyMs: number } | { readonly dailyAtMinute: number };

/** Jobs of a queue by what becomes of them; `delayed` wait for their next try. */
export interface QueueCounts {
  readonly name: string;
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly completed: number;
  readonly failed: number;
}

/** What takes jobs from a queue. */
export interface Consumer {
  /** Stops taking jobs and waits for those that run. */
  close(): Promise<void>;
}

/** Named queues; each has any number of producers and consumers. */
export interface WorkQueue {
  readonly description: string;
  /** @throws PipelineError unavailable | invalid */
  check(): Promise<readonly string[]>;

  /** Adds a job unless one with that id waits or runs. @throws PipelineError unavailable */
  add(queue: string, job: Job): Promise<void>;

  /**
   * Adds the job whenever it is due from now on; with `everyMs` the first time may be at once. Saying it
   * again changes nothing, or the rhythm. It ends with the queue's content, or in process with the
   * process. @throws PipelineError unavailable
   */
  repeat(queue: string, job: Job, rhythm: Rhythm): Promise<void>;

  /**
   * Hands jobs to `handler`, `concurrency` at a time (default 1). A handler that throws gets the job
   * again later, with backoff, without end. The adapter rebuilds itself when it falls silent.
   */
  consume(
    queue: string,
    handler: (job: Job) => Promise<void>,
    options?: { readonly concurrency?: number },
  ): Promise<Consumer>;

  counts(queue: string): Promise<QueueCounts>;
  close(): Promise<void>;
}
