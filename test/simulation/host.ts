/**
 * A process of the simulation: its own clock, randomness and threads, and its link to the services.
 *
 * - HO1 A killed process does nothing more: timers do not fire, responses do not arrive, requests are
 *   not sent. What it had sent may still take effect.
 * - HO2 A frozen process gets everything that happened meanwhile when it goes on, in any order.
 * - HO3 A request takes effect at the service in one moment, some time after it was sent and some time
 *   before its response arrives.
 */
import type { Ambient, RunningThread, ThreadHost, Timer } from '../../src/ambient.ts';
import { answerCall, type Call, type ThreadApi } from '../../src/actors/runtime/compute-thread.ts';
import { type ErrorCode, PipelineError } from '../../src/errors.ts';
import type { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type { Faults, Service } from './faults.ts';
import type { VirtualTime } from './virtual-time.ts';

/** What all processes of a simulation share. */
export interface Surroundings {
  readonly time: VirtualTime;
  /** Draws latencies, turns and fates. */
  readonly random: SeededRandom;
  readonly faults: Faults;
  /** The process whose turn it is, for crash points. */
  readonly turn: { host: SimulatedHost | undefined };
  /** Wall clock at the beginning, milliseconds since the epoch. */
  readonly wallStartMs: number;
  /** Makes the calls of a thread. @param module file name without folder */
  readonly createThreadApi: (module: string, data: unknown) => ThreadApi;
}

/** One request to a service. */
export interface Request<Result> {
  readonly service: Service;
  readonly kind: 'read' | 'list' | 'write';
  /** Operation and key, for the trace and for messages. */
  readonly what: string;
  /** Does what is asked; begins and ends in one moment (HO3). */
  readonly effect: () => Promise<Result> | Result;
  /** Faults pass it by. */
  readonly isReliable?: boolean;
  /** What the caller sees when it cannot know the outcome; default: `unavailable` is thrown. */
  readonly whenUnknown?: () => Result;
  /** The same for a stale answer, where there is such a thing. */
  readonly whenStale?: (result: Result) => Result;
}

const UNAVAILABLE: Readonly<Record<Service, ErrorCode>> = {
  store: 'TM_STORE_UNAVAILABLE',
  state: 'TM_STATE_UNAVAILABLE',
  queue: 'TM_QUEUE_UNAVAILABLE',
  source: 'TM_SOURCE_UNAVAILABLE',
};

/** Most of a service's latency, milliseconds; a slow answer takes up to a hundred times as long. */
const LATENCY_MS: Readonly<Record<Service, number>> = { store: 20, state: 2, queue: 4, source: 10 };
const FREEZE_MS_MAX = 12_000;
const LANDS_LATER_MS_MAX = 5_000;

export class SimulatedHost {
  readonly name: string;
  readonly pid: number;
  readonly ambient: Ambient;
  phase: 'running' | 'frozen' | 'dead' = 'running';
  /** Services that this process cannot reach now. */
  readonly unreachable = new Set<Service>();
  /** Told when the process is killed or frozen by a fault of its own requests. */
  onKilled: () => void = () => {};
  readonly #around: Surroundings;
  readonly #bootMs: number;
  /** Events that came while it stood still. */
  readonly #held: (() => void)[] = [];
  readonly #threads = new Set<InProcessThread>();
  /** What a killed process had sent is dropped on the way. */
  #dropsRequests = false;
  #wallOffsetMs = 0;

  constructor(around: Surroundings, options: { readonly name: string; readonly pid: number }) {
    this.name = options.name;
    this.pid = options.pid;
    this.#around = around;
    const { random } = around;
    this.#bootMs = around.time.nowMs - random.below(1_000_000);
    const threads: ThreadHost = {
      start: (module, data, onMessage, onEnd) => {
        const thread = new InProcessThread(this, around, { module, data, onMessage, onEnd });
        this.#threads.add(thread);
        return thread;
      },
    };
    this.ambient = {
      clock: {
        nowMs: () => around.wallStartMs + around.time.nowMs + this.#wallOffsetMs,
        monotonicMs: () => around.time.nowMs - this.#bootMs,
        after: (delayMs, callback) => this.after(delayMs, 'timer', callback),
        sleep: (delayMs, signal) => this.#sleep(delayMs, signal),
        yieldTurn: () => new Promise((resolve) => this.after(0, 'turn', resolve)),
      },
      random: { next: () => random.unit() },
      ids: { uuid: () => uuidFrom(random), id: () => idFrom(random) },
      threads,
    };
  }

  /** Lets something happen in this process (HO1, HO2). */
  after(delayMs: number, label: string, action: () => void): Timer {
    let isCancelled = false;
    const happen = (): void => {
      if (isCancelled || this.phase === 'dead') return;
      if (this.phase === 'frozen') {
        this.#held.push(happen);
        return;
      }
      this.#around.turn.host = this;
      action();
    };
    const scheduled = this.#around.time.schedule(delayMs, `${this.name} ${label}`, happen);
    return {
      cancel: () => {
        isCancelled = true;
        scheduled.cancel();
      },
    };
  }

  /** HO3, and the faults of the way. */
  request<Result>(request: Request<Result>): Promise<Result> {
    const { time, random, faults } = this.#around;
    const { service, kind, what } = request;
    return new Promise((resolve, reject) => {
      if (this.phase === 'dead') return;
      const latencyMs = LATENCY_MS[service] * random.unit() ** 2;
      const refuse = (problem: string): void => {
        const code = UNAVAILABLE[service];
        const error = new PipelineError('unavailable', code, problem, { context: { what } });
        this.after(latencyMs, `refused ${what}`, () => reject(error));
      };
      if (this.unreachable.has(service)) return refuse(`${service} is away`);
      const fault = request.isReliable ? undefined : faults.ofRequest(service, kind);
      time.note(`${this.name} asks ${what} ${fault ?? ''}`);
      const unknown = (): void => {
        if (!request.whenUnknown) return refuse(`no answer from ${service}`);
        this.after(latencyMs, `unknown ${what}`, () => resolve(request.whenUnknown!()));
      };
      const answer = (result: Result): void => {
        const slowMs = fault === 'slow' ? latencyMs * 100 * random.unit() : latencyMs;
        const seen = fault === 'stale' && request.whenStale ? request.whenStale(result) : result;
        this.after(slowMs, `answer ${what}`, () => resolve(seen));
      };
      const arrive = (delayMs: number, then: (result: Result) => void): void => {
        time.schedule(delayMs, `${service} does ${what}`, () => {
          if (this.phase === 'dead' && this.#dropsRequests) return;
          Promise.resolve()
            .then(request.effect)
            .then(then, (thrown: unknown) => {
              this.after(latencyMs, `failed ${what}`, () => reject(thrown as Error));
            });
        });
      };
      switch (fault) {
        case 'refused':
          return refuse(`${service} refused`);
        case 'crash-before':
          return this.kill();
        case 'lost-request':
          return unknown();
        case 'lost-response':
          return arrive(latencyMs, unknown);
        case 'lands-later':
          arrive(random.unit() * LANDS_LATER_MS_MAX, () => {});
          return unknown();
        case 'crash-after':
          return arrive(latencyMs, () => this.kill());
        case 'freeze-after':
          return arrive(latencyMs, (result) => {
            this.freeze(random.unit() * FREEZE_MS_MAX);
            answer(result);
          });
        case 'slow':
        case 'stale':
        case undefined:
          return arrive(latencyMs, answer);
      }
    });
  }

  kill(): void {
    if (this.phase === 'dead') return;
    this.phase = 'dead';
    this.#dropsRequests = this.#around.random.unit() < 0.3;
    this.#around.time.note(`${this.name} is killed`);
    this.onKilled();
  }

  /** @param forMs goes on after this time */
  freeze(forMs: number): void {
    if (this.phase !== 'running') return;
    this.phase = 'frozen';
    this.#around.time.schedule(forMs, `${this.name} goes on`, () => this.thaw());
  }

  thaw(): void {
    if (this.phase !== 'frozen') return;
    this.phase = 'running';
    for (const happen of this.#held.splice(0)) {
      const delayMs = this.#around.random.unit() * 5;
      this.#around.time.schedule(delayMs, `${this.name} catches up`, happen);
    }
  }

  /** Steps the wall clock. */
  jumpClock(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  /** Lets one of the process's threads die. */
  endThread(): void {
    const running = [...this.#threads].filter((thread) => thread.isRunning);
    if (running.length > 0) running[this.#around.random.below(running.length)]!.die();
  }

  #sleep(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = this.after(delayMs, 'sleep', done);
      signal?.addEventListener('abort', done, { once: true });
    });
  }
}

/** A compute thread whose calls are carried out here, each in a moment of its own. */
class InProcessThread implements RunningThread {
  isRunning = true;
  readonly #host: SimulatedHost;
  readonly #around: Surroundings;
  readonly #api: ThreadApi;
  readonly #onMessage: (message: unknown) => void;
  readonly #onEnd: (cause: unknown) => void;
  #tail: Promise<void> = Promise.resolve();

  constructor(
    host: SimulatedHost,
    around: Surroundings,
    started: {
      readonly module: URL;
      readonly data: unknown;
      readonly onMessage: (message: unknown) => void;
      readonly onEnd: (cause: unknown) => void;
    },
  ) {
    this.#host = host;
    this.#around = around;
    const module = started.module.pathname.split('/').at(-1)!;
    this.#api = around.createThreadApi(module, structuredClone(started.data));
    this.#onMessage = started.onMessage;
    this.#onEnd = started.onEnd;
  }

  post(message: unknown, transfer: readonly ArrayBuffer[]): void {
    if (!this.isRunning) return;
    const call = structuredClone(message, { transfer: [...transfer] }) as Call;
    this.#tail = this.#tail.then(() => this.#carryOut(call));
  }

  async terminate(): Promise<void> {
    await new Promise<void>((resolve) => this.#host.after(0, 'thread ends', resolve));
    this.#end(undefined);
  }

  die(): void {
    const { time } = this.#around;
    time.note(`a thread of ${this.#host.name} dies`);
    this.#end(new Error('the thread died'));
  }

  async #carryOut(call: Call): Promise<void> {
    const costMs = 1 + this.#around.random.unit() * 20;
    await new Promise<void>((resolve) => this.#host.after(costMs, call.method, resolve));
    if (!this.isRunning) return;
    const { reply, transfer } = await answerCall(this.#api, call);
    const message: unknown = structuredClone(reply, { transfer: [...transfer] });
    await new Promise<void>((resolve) => this.#host.after(0, `did ${call.method}`, resolve));
    if (this.isRunning) this.#onMessage(message);
  }

  #end(cause: unknown): void {
    if (!this.isRunning) return;
    this.isRunning = false;
    this.#onEnd(cause);
  }
}

const ID_CHARACTERS = '0123456789abcdefghijklmnopqrstuvwxyz';

function idFrom(random: SeededRandom): string {
  let id = '';
  for (let i = 0; i < 21; i++) id += ID_CHARACTERS[random.below(36)];
  return id;
}

function uuidFrom(random: SeededRandom): string {
  const hex = Array.from({ length: 4 }, () => random.uint32().toString(16).padStart(8, '0')).join(
    '',
  );
  const parts = [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`];
  return [...parts, `a${hex.slice(17, 20)}`, hex.slice(20)].join('-');
}
