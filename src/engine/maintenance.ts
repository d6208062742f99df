/**
 * Periodic work of a pipeline: named tasks, each due every so often or daily, handed out by the queue
 * `maintenance` so that of several supervisors one does each.
 *
 * - MT1 A task may run twice, late, or at two places at once; tasks see to it that this does no harm.
 * - MT2 The rhythm is said again every few minutes: a Redis that lost everything gets it back (P1).
 * - MT3 A task that is due while it still runs here is left out. One that fails for want of a service
 *   is tried again soon, any other failure waits for the next time: it would only repeat itself.
 */
import type { Ambient, Timer } from '../ambient.ts';
import { asPipelineError } from '../errors.ts';
import { errorFields, type Logger } from '../logger.ts';
import type { Consumer, Rhythm, WorkQueue } from '../storage/queue/work-queue.ts';

/** Something that has to be done again and again. */
export type MaintenanceTask = Rhythm & {
  /** [A-Za-z0-9_.-] */
  readonly name: string;
  /** Also once, this long after the start: what fell due while nothing ran is caught up. */
  readonly firstAfterMs?: number;
  /** @throws PipelineError (MT3) */
  run(signal: AbortSignal): Promise<void>;
};

export interface MaintenanceOptions {
  readonly tasks: readonly MaintenanceTask[];
  readonly queue: WorkQueue;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/** Name of the queue. */
export const MAINTENANCE_QUEUE = 'maintenance';
const DECLARE_MS = 300_000;
const DECLARE_AGAIN_MS = 5_000;

/** Runs tasks from its start until it is closed. */
export class Maintenance {
  readonly #options: MaintenanceOptions;
  readonly #stop = new AbortController();
  readonly #running = new Set<string>();
  readonly #timers: readonly Timer[];
  readonly #loop: Promise<void>;
  #consumer: Consumer | undefined;

  /** Starts at once. */
  constructor(options: MaintenanceOptions) {
    this.#options = options;
    this.#timers = options.tasks.flatMap(({ name, firstAfterMs }) =>
      firstAfterMs === undefined
        ? []
        : [options.ambient.clock.after(firstAfterMs, () => void this.#add(name), { unref: true })],
    );
    this.#loop = this.#run();
  }

  /** Tells running tasks to stop and waits for them. */
  async close(): Promise<void> {
    this.#stop.abort();
    for (const timer of this.#timers) timer.cancel();
    await this.#loop;
    await this.#consumer?.close();
  }

  /** MT2 */
  async #run(): Promise<void> {
    const { tasks, queue, ambient, logger } = this.#options;
    if (tasks.length === 0) return;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let pauseMs = DECLARE_MS;
      try {
        this.#consumer ??= await queue.consume(MAINTENANCE_QUEUE, (job) => this.#perform(job.id), {
          concurrency: tasks.length,
        });
        for (const task of tasks) {
          await queue.repeat(MAINTENANCE_QUEUE, { id: task.name, data: {} }, task);
        }
      } catch (thrown) {
        logger.warn('maintenance waits for the queue', errorFields(thrown));
        pauseMs = DECLARE_AGAIN_MS;
      }
      await ambient.clock.sleep(pauseMs, signal);
    }
  }

  async #add(name: string): Promise<void> {
    try {
      await this.#options.queue.add(MAINTENANCE_QUEUE, { id: name, data: {} });
    } catch (thrown) {
      const fields = { task: name, ...errorFields(thrown) };
      this.#options.logger.warn('a task that was due waits for its next time', fields);
    }
  }

  /** MT3 */
  async #perform(name: string): Promise<void> {
    const { tasks, logger } = this.#options;
    const task = tasks.find((one) => one.name === name);
    if (!task || this.#running.has(name) || this.#stop.signal.aborted) return;
    this.#running.add(name);
    try {
      await task.run(this.#stop.signal);
    } catch (thrown) {
      if (this.#stop.signal.aborted) return;
      if (asPipelineError(thrown).kind === 'unavailable') throw thrown;
      logger.error('a task failed', { task: name, ...errorFields(thrown) });
    } finally {
      this.#running.delete(name);
    }
  }
}
