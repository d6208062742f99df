/**
 * The worker processes of `run` on Redis: started, restarted when they end, stopped with it.
 *
 * Invariants:
 * - WP1 A worker that ends is started again, with growing pauses while it keeps ending; its units go to
 *   the others meanwhile.
 * A worker whose `run` is gone notices by its closed channel and drains itself (cli/roles.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Ambient } from '../ambient.ts';
import { crashPoint } from '../crash-points.ts';
import type { Logger } from '../logger.ts';
import {
  type CrashHistory,
  DEFAULT_RESTART_POLICY,
  NO_CRASHES,
  superviseCrash,
} from '../actors/runtime/supervision.ts';
import { NodeCounts } from './node-counts.ts';
import { type NodeView, type UpstreamDone, viewOf, type WorkerReport } from './worker-messages.ts';

/**
 * glibc keeps an arena per thread by default, each holding on to what its thread once used; with two
 * of them a worker is an eighth smaller at the same speed (docs/performance.md).
 */
const ALLOCATOR = { MALLOC_ARENA_MAX: '2' };

export interface WorkerProcessesOptions {
  /** Program and arguments of one worker; the worker's id is appended. */
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workerIds: readonly string[];
  /** After SIGTERM, how long a worker may drain, milliseconds. */
  readonly graceMs: number;
  /** The process was asked to end: workers that end now are not started again. */
  readonly signal: AbortSignal;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

export class WorkerProcesses {
  readonly #options: WorkerProcessesOptions;
  readonly #workers: WorkerProcess[];

  constructor(options: WorkerProcessesOptions) {
    this.#options = options;
    this.#workers = options.workerIds.map((workerId) => new WorkerProcess(workerId, options));
  }

  /** What each worker did, over all its incarnations. */
  get views(): readonly NodeView[] {
    return this.#workers.map((worker) => worker.view);
  }

  /** Times a worker ended by itself and was started again. */
  get restarts(): number {
    return this.#workers.reduce((sum, worker) => sum + worker.restarts, 0);
  }

  /** Process ids of the workers that run now. */
  get pids(): readonly number[] {
    return this.#workers.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  }

  /** Tells the workers that nothing more will come. */
  announceUpstreamDone(): void {
    for (const worker of this.#workers) worker.send({ kind: 'upstream-done' });
  }

  /** Drains the workers; one that takes longer than its grace is killed. */
  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop(this.#options.graceMs)));
  }
}

class WorkerProcess {
  readonly #workerId: string;
  readonly #options: WorkerProcessesOptions;
  readonly #stopping = new AbortController();
  readonly #done: Promise<void>;
  readonly #before = new NodeCounts();
  #current: NodeView = { counts: new NodeCounts(), failures: new Map() };
  #child: ChildProcess | undefined;
  restarts = 0;

  constructor(workerId: string, options: WorkerProcessesOptions) {
    this.#workerId = workerId;
    this.#options = options;
    this.#done = this.#keepRunning();
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get view(): NodeView {
    return {
      counts: NodeCounts.sum([this.#before, this.#current.counts]),
      failures: this.#current.failures,
    };
  }

  send(message: UpstreamDone): void {
    if (this.#child?.connected) this.#child.send(message);
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    child?.kill('SIGTERM');
    const { ambient, logger } = this.#options;
    const kill = (): void => {
      logger.warn('a worker did not drain in time and is killed', { worker: this.#workerId });
      child?.kill('SIGKILL');
    };
    const late = ambient.clock.after(graceMs, kill, { unref: true });
    await this.#done;
    late.cancel();
  }

  /** WP1 */
  async #keepRunning(): Promise<void> {
    const { ambient, logger } = this.#options;
    const signal = AbortSignal.any([this.#stopping.signal, this.#options.signal]);
    let history: CrashHistory = NO_CRASHES;
    while (!signal.aborted) {
      const ended = await this.#runOnce();
      this.#before.add(this.#current.counts);
      this.#current = { counts: new NodeCounts(), failures: this.#current.failures };
      if (signal.aborted) return;
      const directive = superviseCrash(
        'unavailable',
        history,
        DEFAULT_RESTART_POLICY,
        ambient.clock.monotonicMs(),
        ambient.random.next(),
      );
      const delayMs = directive.kind === 'restart' ? directive.delayMs : 0;
      if (directive.kind === 'restart') history = directive.history;
      await ambient.clock.sleep(delayMs, signal);
      // A signal to the whole process group, such as Ctrl-C, reaches workers first.
      if (signal.aborted) return;
      this.restarts += 1;
      logger.warn('a worker process ended and is started again', {
        worker: this.#workerId,
        ...ended,
        delayMs,
      });
    }
  }

  #runOnce(): Promise<{ readonly code: number | null; readonly signal: string | null }> {
    const [program, ...args] = this.#options.command;
    return new Promise((resolve) => {
      const child = spawn(program, [...args, this.#workerId], {
        env: { ...ALLOCATOR, ...this.#options.environment } as NodeJS.ProcessEnv,
        // What a worker has to say goes to stderr, as logs do.
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      });
      this.#child = child;
      crashPoint('v.worker.spawned');
      child.on('message', (message) => {
        this.#current = viewOf(message as WorkerReport);
      });
      // The channel of a child that is ending may break before its exit is seen.
      child.on('error', (error) => {
        this.#options.logger.warn('the channel to a worker broke', { error: error.message });
        if (child.pid === undefined) resolve({ code: null, signal: null });
      });
      child.on('exit', (code, signal) => {
        this.#child = undefined;
        resolve({ code, signal });
      });
    });
  }
}
