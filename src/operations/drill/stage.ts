/**
 * What a scenario plays on: a sandbox with a pipeline that runs, a feed, and a watch on the lag. It keeps
 * the moments from which recovery is measured.
 */
import { PipelineError } from '../../errors.ts';
import type { DrillHost } from './drill-host.ts';
import type { DrillProcess } from './drill-process.ts';
import type { Feed } from './feed.ts';
import type { LagSample, LagWatch } from './lag-watch.ts';
import type { Sandbox } from './sandbox.ts';

/** Times of one fault, milliseconds since the watch began. */
export interface FaultTimes {
  readonly brokenMs: number;
  /** The service is back, the flood is sent; for a crash the moment of it. */
  readonly overMs: number;
  /** Records that the source had then. */
  readonly produced: number;
}

/** After the fault is over, milliseconds; undefined: not seen. */
export interface Recovery {
  /** Until bronze committed again. */
  readonly commitAgainMs: number | undefined;
  /** Until gold had every record that had been produced when the fault was over. */
  readonly caughtUpMs: number | undefined;
}

const POLL_MS = 100;
const START_WITHIN_MS = 90_000;
const GOLD_WITHIN_MS = 120_000;
const CALM_MS = 3_000;
const STOP_WITHIN_MS = 40_000;

export class Stage {
  readonly host: DrillHost;
  readonly sandbox: Sandbox;
  readonly feed: Feed;
  readonly watch: LagWatch;
  readonly #workers: number;
  readonly #say: (text: string) => void;
  #run: DrillProcess | undefined;
  #brokenMs = 0;
  #over: FaultTimes | undefined;

  constructor(
    parts: Pick<Stage, 'host' | 'sandbox' | 'feed' | 'watch'> & {
      readonly workers: number;
      readonly say: (text: string) => void;
    },
  ) {
    this.host = parts.host;
    this.sandbox = parts.sandbox;
    this.feed = parts.feed;
    this.watch = parts.watch;
    this.#workers = parts.workers;
    this.#say = parts.say;
  }

  get fault(): FaultTimes | undefined {
    return this.#over;
  }

  /** Starts the pipeline, all roles. */
  startRun(): void {
    this.#run = this.sandbox.start('run', '--workers', String(this.#workers));
  }

  /** Kills every process of the pipeline. */
  async killRun(): Promise<void> {
    await this.#run?.kill();
    this.#run = undefined;
  }

  /**
   * Ends the pipeline in an orderly way, after a while by force.
   * @throws PipelineError internal when it took force, or the pipeline ended badly
   */
  async stopRun(): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    if (!run) return;
    run.signal('SIGTERM');
    const late = this.host.ambient.clock.after(STOP_WITHIN_MS, () => run.signal('SIGKILL'));
    const { code, signal, stderr } = await run.ended;
    late.cancel();
    if (code === 0) return;
    const how = signal ?? `code ${code}`;
    throw failed(`asked to stop, the pipeline ended with ${how}: ${stderr.trim().slice(-500)}`);
  }

  /** Address of the pipeline's REST API, once it said so. */
  async restAddress(): Promise<string> {
    let address: string | undefined;
    await this.until('the REST API is up', START_WITHIN_MS, () => {
      address = /watch it at (http\S+)/.exec(this.#run?.stderr ?? '')?.[1];
      return address !== undefined;
    });
    return address!;
  }

  /** From here on something is broken. @param what for whoever watches */
  broken(what: string): void {
    this.#brokenMs = this.watch.nowMs;
    this.#say(what);
  }

  /** From here on nothing is broken any more, and recovery is measured. */
  over(what = 'recovering'): void {
    const { nowMs: overMs } = this.watch;
    this.#over = { brokenMs: this.#brokenMs, overMs, produced: this.feed.produced };
    this.#say(what);
  }

  /** How recovery went, as far as the watch has seen it. */
  recovery(): Recovery {
    if (!this.#over) return { commitAgainMs: undefined, caughtUpMs: undefined };
    const { overMs, produced } = this.#over;
    const after = this.watch.samples.filter(({ atMs }) => atMs >= overMs);
    const since = (sample: LagSample | undefined): number | undefined =>
      sample && Math.round(sample.atMs - overMs);
    return {
      commitAgainMs: since(after.find(({ bronze }) => bronze > after[0]!.bronze)),
      caughtUpMs: since(after.find(({ gold }) => gold >= produced)),
    };
  }

  /** Waits until the pipeline has rows in gold, and a calm while more. */
  async settle(): Promise<void> {
    this.#say('starting');
    await this.until('events are in gold', START_WITHIN_MS, () => this.watch.last.gold > 0);
    this.#say('running');
    await this.pause(CALM_MS);
  }

  /** Waits until gold has that many records. @throws like `until` */
  gold(records: number): Promise<void> {
    return this.until('records are in gold', GOLD_WITHIN_MS, () => this.watch.last.gold >= records);
  }

  /**
   * Waits for something; a pipeline that ended by itself is not waited for.
   * @returns whether it came in time
   * @throws PipelineError internal when the pipeline ended, TM_STOPPED at a signal
   */
  async comes(withinMs: number, isTrue: () => boolean): Promise<boolean> {
    const { clock } = this.host.ambient;
    const deadlineMs = clock.monotonicMs() + withinMs;
    while (!isTrue()) {
      if (clock.monotonicMs() >= deadlineMs) return false;
      if (this.#run && !this.#run.isRunning) {
        const { code, stderr } = await this.#run.ended;
        throw failed(`the pipeline ended by itself with ${code}: ${stderr.trim().slice(-500)}`);
      }
      await this.pause(POLL_MS);
    }
    return true;
  }

  /** Like `comes`. @throws PipelineError internal also when it did not come in time */
  async until(what: string, withinMs: number, isTrue: () => boolean): Promise<void> {
    if (await this.comes(withinMs, isTrue)) return;
    const said = this.#run?.stderr.trim().slice(-500) ?? '';
    throw failed(`${what}: not within ${withinMs / 1000} s. ${said}`);
  }

  /** @throws PipelineError TM_STOPPED at a signal */
  async pause(ms: number): Promise<void> {
    const { signal, ambient } = this.host;
    await ambient.clock.sleep(ms, signal);
    if (signal.aborted) throw new PipelineError('invalid', 'TM_STOPPED', 'The drill was stopped.');
  }
}

function failed(message: string): PipelineError {
  return new PipelineError('internal', 'TM_INTERNAL', message);
}
