/**
 * Rounds of a crash each, on one pipeline that keeps running: an order names a crash point, a moment and
 * a mode (src/crash-striker.ts), whichever process passes it carries it out, and the pipeline has to get
 * on by itself before the next order comes.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CRASH_POINTS, CRASH_VARIABLE, type CrashPoint } from '../../src/crash-points.ts';
import { UsageEventGenerator } from '../../src/pipeline/generator.ts';
import { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';
import type { RecordSink } from '../../src/storage/source/record-sink.ts';
import { eventually } from './eventually.ts';
import { PipelineFixture } from './pipeline-fixture.ts';
import type { TidemarkProcess } from './pipeline-process.ts';
import { USAGE_TABLES, usageDefinition } from './pipeline-usage.ts';

/** What makes a process pass a point; the others are passed all the time. */
type Trigger = 'restart' | 'shutdown' | 'move' | 'optimize';

const TRIGGERS: Partial<Record<CrashPoint, Trigger>> = {
  'w.snapshot.read': 'restart',
  'v.lease.taken': 'restart',
  'v.assign.saved': 'restart',
  'v.worker.spawned': 'restart',
  'v.rebalance.assigned': 'restart',
  'v.rebalance.revoked': 'move',
  'v.shutdown.drain': 'shutdown',
  'm.compact.commit': 'optimize',
};

/** Nothing younger than a day or a month is removed: housekeeping.test.ts stops at these. */
const UNREACHABLE: readonly CrashPoint[] = ['m.cleanup.deleted', 'm.vacuum.deleted'];
/** Passed once in a hundred commits of a table. */
const RARE = /^m\.(checkpoint|crc|lastcheckpoint)/;

/** Records per second. */
const RATE = 300;
/** A point that is passed all the time is passed within this. */
const PASSED_WITHIN_MS = 30_000;
const RARE_WITHIN_MS = 45_000;
/** P: back within a minute. */
const RECOVERED_WITHIN_MS = 60_000;
/** A process that keeps crashing is started with growing pauses; a fresh `run` begins without. */
const STOPPED_WITHIN_MS = 120_000;
const ROUNDS_PER_RUN = 6;
const TWICE = 0.2;

/** What happened in one round. */
export interface Round {
  readonly point: CrashPoint;
  readonly order: string;
  /** `not passed`: nobody came by in time. */
  readonly outcome: 'crashed' | 'crashed twice' | 'hung' | 'not passed';
  readonly recoveredMs: number;
}

export class CrashRounds {
  readonly pipeline: PipelineFixture;
  readonly rounds: Round[] = [];
  readonly #random: SeededRandom;
  readonly #orderFile: string;
  readonly #feed: SteadyFeed;
  #run: TidemarkProcess | undefined;

  private constructor(
    pipeline: PipelineFixture,
    options: { readonly seed: number; readonly orderFile: string; readonly feed: SteadyFeed },
  ) {
    this.pipeline = pipeline;
    this.#random = new SeededRandom(options.seed);
    this.#orderFile = options.orderFile;
    this.#feed = options.feed;
  }

  /** A pipeline on Kafka, Redis and S3 with events coming in. */
  static async start(t: TestContext, options: { readonly seed: number }): Promise<CrashRounds> {
    const folder = mkdtempSync(join(tmpdir(), 'tidemark-crash-'));
    const orderFile = join(folder, 'order');
    // Small batches, so that there is always a commit under way.
    const pipeline = await PipelineFixture.create(t, {
      definition: usageDefinition({ maxRows: 2_000, maxLatency: '100ms' }),
      on: 'servers',
      environment: { [CRASH_VARIABLE]: `@${orderFile}` },
    });
    const sink = await pipeline.openSink();
    const feed = new SteadyFeed(sink, join(folder, 'lines.ndjson'));
    t.after(async () => {
      await feed.close().catch(() => {});
      rmSync(folder, { recursive: true, force: true });
    });
    return new CrashRounds(pipeline, { seed: options.seed, orderFile, feed });
  }

  /** Points that rounds can reach. */
  static get points(): readonly CrashPoint[] {
    return CRASH_POINTS.filter((point) => !UNREACHABLE.includes(point));
  }

  /** Plays one round; the pipeline has committed again when it returns. */
  async play(point: CrashPoint): Promise<Round> {
    if (this.rounds.length % ROUNDS_PER_RUN === 0) await this.#stop('SIGKILL');
    this.#ensureRunning();
    const order = this.#orderFor(point);
    this.#place(order);
    await this.#provoke(TRIGGERS[point]);
    const withinMs = RARE.test(point) ? RARE_WITHIN_MS : PASSED_WITHIN_MS;
    const isStruck = await this.#isCarriedOut(withinMs);
    let outcome: Round['outcome'] = 'not passed';
    if (isStruck) outcome = order.endsWith('hang') ? 'hung' : 'crashed';
    const startedMs = performance.now();
    if (outcome === 'crashed' && this.#random.unit() < TWICE) {
      // Again while it recovers: whoever starts reads the tables first.
      this.#place('w.snapshot.read:1:before');
      if (await this.#isCarriedOut(PASSED_WITHIN_MS)) outcome = 'crashed twice';
    }
    await this.#recovers(order);
    const recoveredMs = Math.round(performance.now() - startedMs);
    const round = { point, order, outcome, recoveredMs };
    this.rounds.push(round);
    return round;
  }

  /** Ends the stream and lets an undisturbed run take in the rest. @returns what the tables must hold */
  async finish(): Promise<{ readonly lines: string; readonly truth: Truth }> {
    const told = await this.#feed.close();
    await this.#stop('SIGTERM');
    const { failures } = await this.pipeline.runUntilCaughtUp(['--workers', '2']);
    assert.deepEqual(failures, []);
    return told;
  }

  #orderFor(point: CrashPoint): string {
    const isFrequent = TRIGGERS[point] === undefined && !RARE.test(point);
    const times = isFrequent ? 1 + this.#random.below(5) : 1;
    const draw = this.#random.unit();
    const mode = draw < 0.45 ? 'before' : draw < 0.9 ? 'after' : 'hang';
    return `${point}:${times}:${mode}`;
  }

  #ensureRunning(): void {
    if (this.#run?.isRunning) return;
    this.#run = this.pipeline.start(['run', '--workers', '2']);
  }

  async #stop(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    if (signal === 'SIGTERM') {
      run?.send('SIGTERM');
      await run?.ended(STOPPED_WITHIN_MS);
    }
    await run?.kill();
  }

  #place(order: string): void {
    rmSync(`${this.#orderFile}.done`, { force: true });
    writeFileSync(`${this.#orderFile}.new`, order);
    renameSync(`${this.#orderFile}.new`, this.#orderFile);
  }

  /** Takes an order back that nobody carried out in time. */
  async #isCarriedOut(withinMs: number): Promise<boolean> {
    const deadline = performance.now() + withinMs;
    while (existsSync(this.#orderFile) && performance.now() < deadline) {
      this.#ensureRunning();
      await pause(20);
    }
    rmSync(this.#orderFile, { force: true });
    return existsSync(`${this.#orderFile}.done`);
  }

  async #provoke(trigger: Trigger | undefined): Promise<void> {
    switch (trigger) {
      case undefined:
        return;
      case 'restart':
        await this.#stop('SIGKILL');
        return this.#ensureRunning();
      case 'shutdown':
        return this.#stop('SIGTERM');
      case 'move':
        return this.#moveUnits();
      case 'optimize':
        await this.pipeline.command(['table', 'optimize', '--all', '--min-age', '0s']);
    }
  }

  /** Puts every partition on one worker, by the REST API of the run. */
  async #moveUnits(): Promise<void> {
    const call = async (method: string, path: string, body?: unknown): Promise<unknown> => {
      const address = /watch it at (http\S+)/.exec(this.#run?.stderr ?? '')?.[1];
      const response = await fetch(`${address}${path}`, {
        method,
        ...(body === undefined
          ? {}
          : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
      });
      assert.ok(response.ok, `${method} ${path}: ${response.status}`);
      return response.json();
    };
    const ids = await eventually<readonly string[]>(
      async () => {
        this.#ensureRunning();
        const answer = (await call('GET', '/v1/workers')) as { workers: { id: string }[] };
        assert.ok(answer.workers.length >= 2);
        return answer.workers.map(({ id }) => id);
      },
      { withinMs: RECOVERED_WITHIN_MS },
    );
    const worker = ids[this.#random.below(ids.length)];
    for (const partition of [0, 1, 2, 3]) {
      // The worker that is moved from may be gone, and the run with it.
      await call('PUT', `/v1/partitions/${partition}/worker`, { worker }).catch(() => {});
    }
  }

  /** I19: the stage that was struck commits again, and with it those before it. */
  async #recovers(order: string): Promise<void> {
    const table = order.startsWith('g.') ? 'hourly' : order.startsWith('s.') ? 'silver' : 'bronze';
    const path = USAGE_TABLES[table];
    const before = await this.pipeline.version(path);
    await eventually(
      async () => {
        this.#ensureRunning();
        this.#feed.requireAlive();
        return (await this.pipeline.version(path)) > before;
      },
      { withinMs: RECOVERED_WITHIN_MS },
    ).catch(async () => {
      const { stdout } = await this.pipeline.command(['status']);
      throw new Error(`no recovery from ${order}:\n${this.#run?.stderr}\n${stdout}`);
    });
  }
}

/** Generated events at a steady rate, each line kept in a file. */
class SteadyFeed {
  readonly #sink: RecordSink;
  readonly #lines: string;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  readonly #generator = new UsageEventGenerator({
    events: 2_000_000,
    seed: 29,
    startMs: 1_795_305_600_000,
    spanMs: 24 * 3_600_000,
    duplicates: 0.05,
    late: 0.02,
    poison: 0.02,
  });
  #closed: Promise<void> | undefined;
  #failure: unknown;

  constructor(sink: RecordSink, lines: string) {
    this.#sink = sink;
    this.#lines = lines;
    this.#loop = this.#run();
    this.#loop.catch((thrown: unknown) => {
      this.#failure = thrown;
    });
  }

  /** @throws what the source refused records with */
  requireAlive(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Ends it; the file of all lines, and the truth about them. */
  async close(): Promise<{ readonly lines: string; readonly truth: Truth }> {
    this.#stop.abort();
    await this.#loop;
    this.#closed ??= this.#sink.close();
    await this.#closed;
    return { lines: this.#lines, truth: this.#generator.truth() };
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const { keys, values, arrivalsMs } = this.#generator.next(RATE / 10)!;
      appendFileSync(this.#lines, `${values.join('\n')}\n`);
      await this.#sink.append(
        values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! })),
      );
      await pause(100);
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
