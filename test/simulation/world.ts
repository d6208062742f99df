/**
 * One simulated deployment: services, processes that run production code, and the witness of all that
 * becomes visible in the lake. It is driven by scenario.ts and judged by checks.ts.
 *
 * Checks as things happen: I3, I8, I9, I10, I13, I17, I21 on each commit (lake-log.ts and here), I20
 * each second, I24 on each hint.
 */
import { createBronzeThreadApi } from '../../src/actors/bronze-writer/bronze-thread.ts';
import { createGoldThreadApi } from '../../src/actors/gold-writer/gold-thread.ts';
import type { ThreadApi } from '../../src/actors/runtime/compute-thread.ts';
import { createDedupThreadApi } from '../../src/actors/silver-writer/dedup-thread.ts';
import { createSilverThreadApi } from '../../src/actors/silver-writer/silver-thread.ts';
import type { Adapters } from '../../src/cli/context.ts';
import { parsePipeline } from '../../src/config.ts';
import { PipelineProcess } from '../../src/engine/pipeline-process.ts';
import { asPipelineError, PipelineError } from '../../src/errors.ts';
import type { Logger } from '../../src/logger.ts';
import { createCompactionThreadApi } from '../../src/operations/housekeeping/compaction-thread.ts';
import {
  type HousekeepingLake,
  openNamedTables,
} from '../../src/operations/housekeeping/lake-tables.ts';
import { optimizeTable } from '../../src/operations/housekeeping/optimize.ts';
import { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import { bronzeAppId, goldAppId, silverAppId, tableRoots } from '../../src/pipeline/progress.ts';
import { MemoryObjectStore } from '../../src/storage/object-store/memory-object-store.ts';
import type { ParquetCodec } from '../../src/storage/parquet/parquet-codec.ts';
import { LakeCatalog } from '../../src/storage/query/lake-catalog.ts';
import type { Job } from '../../src/storage/queue/work-queue.ts';
import type { StateStore } from '../../src/storage/state/state-store.ts';
import type { MemberRole } from '../../src/supervisor/units.ts';
import { Faults, pick } from './faults.ts';
import { SimulatedHost, type Surroundings } from './host.ts';
import { LakeTable, Violation } from './lake-log.ts';
import { objectStoreOf, SimulatedQueues, SimulatedState, type Witness } from './services.ts';
import { SimulatedTopic } from './topic.ts';
import { VirtualTime } from './virtual-time.ts';
import { type Meaning, pipelineText } from './workload.ts';

/** A process that is always to run, as a deployment has it. */
export interface Member {
  readonly name: string;
  readonly supervises: boolean;
  /** Nodes in the process, by their roles. */
  readonly nodes: readonly (readonly MemberRole[])[];
  host: SimulatedHost | undefined;
  process: PipelineProcess | undefined;
  starts: number;
}

export interface WorldOptions {
  readonly seed: number;
  readonly codec: ParquetCodec;
  readonly createLogger: (time: VirtualTime, name: string) => Logger;
}

/** Commits between checkpoints: few, so that most runs restart from some. */
const CHECKPOINT_INTERVAL = 7;
/** Shortly before a UTC midnight and a change of the clocks in Europe. */
const WALL_START_MS = Date.UTC(2026, 2, 28, 23, 59, 40);
/** Whatever is small, however young. */
const COMPACTION = {
  target: { fileBytes: 1024 ** 2, fileRows: 100_000 },
  ageMinMs: 0,
  filesMin: 2,
  share: 1,
};
const RESTART_MS_MAX = 4_000;

export class World {
  readonly seed: number;
  /** Draws what the scenario does. */
  readonly random: SeededRandom;
  readonly time: VirtualTime;
  readonly faults: Faults;
  readonly config: PipelineConfig;
  readonly topic: SimulatedTopic<Meaning>;
  readonly store: MemoryObjectStore;
  readonly state: SimulatedState;
  readonly queues: SimulatedQueues;
  readonly members: Member[] = [];
  /** Processes that were frozen and replaced. */
  readonly zombies: SimulatedHost[] = [];
  readonly tables: ReadonlyMap<string, LakeTable>;
  readonly bronze: LakeTable;
  readonly silver: LakeTable;
  readonly deadLetter: LakeTable;
  readonly gold: ReadonlyMap<string, LakeTable>;
  readonly codec: ParquetCodec;
  /** The first violation met; the run stops there. */
  violation: Violation | undefined;
  /** Keys of checkpoints that were written. */
  readonly checkpoints = new Set<string>();
  readonly operator: StateStore;
  readonly #around: Surroundings;
  readonly #createLogger: WorldOptions['createLogger'];
  readonly #sizes = new Map<string, number>();
  readonly #witness: Witness;
  #pidNext = 100;
  #isEnding = false;

  constructor(options: WorldOptions) {
    const { seed, codec } = options;
    this.seed = seed;
    this.codec = codec;
    this.#createLogger = options.createLogger;
    this.random = new SeededRandom(seed);
    const order = new SeededRandom(seed + 2 ** 40);
    this.time = new VirtualTime(order);
    this.faults = new Faults(new SeededRandom(seed + 2 ** 41));
    const parsed = parsePipeline(pipelineText(this.random), { environment: {}, cwd: '/' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    const { limits } = parsed.config;
    // Few enough ids in memory that many runs keep most of theirs in the store, and memory for two or
    // three fetches at a time (P10).
    const dedupBytes = pick(this.random, [8_192, 8_192, limits.dedupBytes]);
    const inFlightBytes = pick(this.random, [10, 14]) * 1024 * 1024;
    this.config = { ...parsed.config, limits: { ...limits, dedupBytes, inFlightBytes } };
    this.topic = new SimulatedTopic(this.time, this.random, {
      name: 'events',
      topicId: '00000000-0000-4000-8000-000000000001',
      partitions: 1 + this.random.below(4),
    });
    const worldClock = {
      nowMs: () => WALL_START_MS + this.time.nowMs,
      monotonicMs: () => this.time.nowMs,
    };
    this.store = new MemoryObjectStore({ clock: worldClock });
    this.#around = {
      time: this.time,
      random: order,
      faults: this.faults,
      turn: { host: undefined },
      wallStartMs: WALL_START_MS,
      createThreadApi: (module, data) => this.#threadApi(module, data),
    };
    const operator = new SimulatedHost(this.#around, { name: 'operator', pid: 1 });
    this.state = new SimulatedState(operator.ambient.clock);
    this.queues = new SimulatedQueues(this.time, order);
    const roots = tableRoots(this.config);
    this.bronze = new LakeTable(roots.bronze);
    this.silver = new LakeTable(roots.silver);
    this.deadLetter = new LakeTable(roots.deadLetter);
    this.gold = new Map([...roots.gold].map(([name, root]) => [name, new LakeTable(root)]));
    const all = [this.bronze, this.silver, this.deadLetter, ...this.gold.values()];
    this.tables = new Map(all.map((table) => [table.root, table]));
    this.#witness = this.#createWitness();
    this.operator = this.state.of(operator, this.#witness, true);
  }

  get wallMs(): number {
    return WALL_START_MS + this.time.nowMs;
  }

  /** Starts a member's process, and again whenever it ended. */
  boot(member: Member): void {
    if (this.#isEnding) return;
    const host = new SimulatedHost(this.#around, {
      name: `${member.name}.${++member.starts}`,
      pid: this.#pidNext++,
    });
    member.host = host;
    member.process = undefined;
    host.onKilled = () => this.bootLater(member, host);
    void this.#run(member, host);
  }

  bootLater(member: Member, ended: SimulatedHost): void {
    this.time.schedule(this.random.unit() * RESTART_MS_MAX, `${member.name} starts again`, () => {
      if (member.host === ended) this.boot(member);
    });
  }

  /** Ends a process as SIGTERM does; it is killed when that takes too long. */
  async shutDown(member: Member): Promise<void> {
    const { host, process } = member;
    if (!host || !process || host.phase !== 'running') return;
    const late = this.time.schedule(30_000, `${host.name} did not drain`, () => host.kill());
    await process.close();
    late.cancel();
    host.kill();
  }

  /** Compacts every table from a process that runs, beside the stream and others who do the same. */
  compact({ host, process }: Member): void {
    if (!host || !process) return;
    const { config, delta } = process;
    const catalog = new LakeCatalog(delta);
    const lake: HousekeepingLake = { config, delta, open: (root) => catalog.table(root) };
    const all = async (): Promise<void> => {
      try {
        for (const named of await openNamedTables(lake))
          await optimizeTable(lake, named, COMPACTION);
      } catch (thrown) {
        const { kind } = asPipelineError(thrown);
        if (kind !== 'unavailable') this.fail(thrown);
      }
    };
    host.after(0, 'compaction', () => void all());
  }

  /** Ends the deployment: nothing starts again. */
  end(): void {
    this.#isEnding = true;
  }

  bronzeNext(partition: number): bigint | undefined {
    const { name } = this.config;
    const { topicId } = this.topic;
    return this.bronze.txns.get(bronzeAppId(name, this.topic.name, topicId, partition));
  }

  /** Bronze version that silver covers. */
  get silverCovered(): number {
    const { name, dedupBuckets } = this.config;
    const covered = Array.from({ length: dedupBuckets }, (_, bucket) =>
      Number(this.silver.txns.get(silverAppId(name, this.bronze.tableId, bucket)) ?? 0n),
    );
    return Math.min(...covered);
  }

  /** Silver version that every gold table covers. */
  get goldCovered(): number {
    const id = goldAppId(this.config.name, this.silver.tableId);
    return Math.min(...[...this.gold.values()].map(({ txns }) => Number(txns.get(id) ?? 0n)));
  }

  /** A process passes a named place of a crash sequence (faults.md section 1). */
  passCrashPoint(point: string): void {
    const { host } = this.#around.turn;
    if (host?.phase !== 'running') return;
    const fate = this.faults.atCrashPoint(point);
    if (fate === 'crash') host.kill();
    if (fate === 'freeze') host.freeze(this.random.unit() * 10_000);
  }

  /** Records the first violation. */
  fail(violation: unknown): void {
    if (violation instanceof Violation) this.violation ??= violation;
    else this.violation ??= new Violation('bug', (violation as Error).stack ?? String(violation));
  }

  async #run(member: Member, host: SimulatedHost): Promise<void> {
    const logger = this.#createLogger(this.time, host.name);
    try {
      const process = await PipelineProcess.open(
        {
          config: this.config,
          adapters: this.#adapters(host),
          ambient: host.ambient,
          logger,
          process: {
            host: 'machine',
            pid: host.pid,
            memoryBytes: () => 0,
            isAlive: (pid) => this.#isAlive(pid),
          },
          checkpointInterval: CHECKPOINT_INTERVAL,
        },
        () => {},
      );
      if (member.supervises) process.startSupervisor(`${member.name}-supervisor`);
      member.nodes.forEach((roles, i) => process.startNode(`${member.name}-${i}`, roles));
      if (member.host === host) member.process = process;
    } catch (thrown) {
      logger.error('the process ends', { error: (thrown as Error).message });
      if (!(thrown instanceof PipelineError) || thrown.kind !== 'unavailable') {
        this.fail(new Violation('I19', `a process did not start: ${(thrown as Error).message}`));
      }
      host.kill();
    }
  }

  #isAlive(pid: number): boolean {
    const hosts = [...this.members.map(({ host }) => host), ...this.zombies];
    return hosts.some((host) => host?.pid === pid && host.phase !== 'dead');
  }

  #adapters(host: SimulatedHost): Adapters {
    const unused = (): never => {
      throw new Error('not part of a running pipeline');
    };
    return {
      openStore: () => Promise.resolve(objectStoreOf(host, this.store, this.#witness)),
      openState: () => Promise.resolve(this.state.of(host, this.#witness)),
      openQueue: () => Promise.resolve(this.queues.of(host, this.#witness)),
      openSource: () => Promise.resolve(this.topic.of(host)),
      openCodec: () => Promise.resolve(this.codec),
      openSink: unused,
      openInputLog: unused,
      openTopicAdmin: unused,
      eraseState: unused,
      openQuery: unused,
    };
  }

  #threadApi(module: string, data: unknown): ThreadApi {
    switch (module) {
      case 'bronze-thread.ts':
        return createBronzeThreadApi(data as never, this.codec);
      case 'silver-thread.ts':
        return createSilverThreadApi(data as never, this.codec);
      case 'dedup-thread.ts':
        return createDedupThreadApi(data as never, this.codec);
      case 'gold-thread.ts':
        return createGoldThreadApi(data as never, this.codec);
      case 'compaction-thread.ts':
        return createCompactionThreadApi(data as never, this.codec);
      default:
        throw new Error(`no thread ${module} in the simulation`);
    }
  }

  #createWitness(): Witness {
    const guarded =
      <Given extends readonly unknown[]>(look: (...given: Given) => void) =>
      (...given: Given): void => {
        try {
          look(...given);
        } catch (thrown) {
          this.fail(thrown);
        }
      };
    return {
      stored: guarded((key, body, created) => this.#stored(key, body, created)),
      deleted: guarded((key) => this.#deleted(key)),
      hinted: guarded((key, fields) => this.#hinted(key, fields)),
      queued: guarded((queue, job) => this.#queued(queue, job)),
    };
  }

  #stored(key: string, body: Uint8Array, created: boolean): void {
    this.#sizes.set(key, body.length);
    if (key.endsWith('.checkpoint.parquet')) this.checkpoints.add(key);
    const match = /^(.+)\/_delta_log\/(\d{20})\.json$/.exec(key);
    if (!match) return;
    if (!created) throw new Violation('I10', `${key} was put, which may replace another's commit`);
    const table = this.tables.get(match[1]!)!;
    const sizeOf = (file: string): number | undefined => this.#sizes.get(file);
    const before = new Map(table.txns);
    const commit = table.land(Number(match[2]), new TextDecoder().decode(body), sizeOf);
    const { lineage } = commit;
    switch (lineage['stage']) {
      case 'bronze':
        return this.#bronzeLanded(lineage, before);
      case 'silver':
        this.#spanLanded(this.silver, 'silver:', lineage['bronzeUpTo'], this.bronze.version);
        return;
      case 'gold':
        this.#spanLanded(table, 'gold:', lineage['silverUpTo'], this.silver.version);
        return;
      default:
    }
  }

  /** I3, I17: each commit of a partition begins where the one before it ended. */
  #bronzeLanded(
    lineage: Readonly<Record<string, unknown>>,
    before: ReadonlyMap<string, bigint>,
  ): void {
    const parts = lineage['partitions'] as readonly {
      readonly partition: number;
      readonly from: string | null;
      readonly next: string;
    }[];
    for (const { partition, from, next } of parts) {
      const { topicId } = this.topic;
      const id = bronzeAppId(this.config.name, this.topic.name, topicId, partition);
      const last = before.get(id);
      const expected = last === undefined ? null : String(last);
      if (from !== expected) {
        throw new Violation('I17', `partition ${partition} from ${from}, table at ${expected}`);
      }
      if (String(this.bronze.txns.get(id)) !== next) {
        throw new Violation('I3', `partition ${partition}: txn is not the batch's ${next}`);
      }
    }
  }

  /** I8: what is covered is there. */
  #spanLanded(table: LakeTable, kind: string, upTo: unknown, head: number): void {
    if (Number(upTo) > head) {
      throw new Violation('I8', `${table.root} covers ${String(upTo)}, upstream is at ${head}`);
    }
    for (const [id, covered] of table.txns) {
      if (id.startsWith(`tidemark:${this.config.name}:${kind}`) && covered > BigInt(head)) {
        throw new Violation('I8', `${id} is ${covered}, upstream is at ${head}`);
      }
    }
  }

  /** I13: nothing that a commit may refer to goes away; the simulation has no vacuum. */
  #deleted(key: string): void {
    this.#sizes.delete(key);
    if (key.startsWith('_tidemark/') || key.endsWith('.checkpoint.parquet')) return;
    if (key.includes('/_dedup/')) return;
    throw new Violation('I13', `${key} was deleted`);
  }

  /** I24: what is reported as committed is in the table. */
  #hinted(key: string, { nextOffset }: Readonly<Record<string, string>>): void {
    const partition = /^partition:(\d+)$/.exec(key)?.[1];
    if (partition === undefined || nextOffset === undefined) return;
    const next = this.bronzeNext(Number(partition)) ?? 0n;
    if (BigInt(nextOffset) > next) {
      throw new Violation('I24', `${key} is said to be at ${nextOffset}, bronze is at ${next}`);
    }
  }

  #queued(queue: string, { id, data }: Job): void {
    const upstream = queue === 'silver' ? this.bronze : this.silver;
    if (Number(data['version']) > upstream.version) {
      throw new Violation('I24', `job ${id} is about a version that is not there`);
    }
  }
}

/** A deployment drawn from the seed: all in one process, or a process per role. */
export function drawMembers(random: SeededRandom): Member[] {
  const member = (
    name: string,
    supervises: boolean,
    nodes: readonly (readonly MemberRole[])[],
  ): Member => ({ name, supervises, nodes, host: undefined, process: undefined, starts: 0 });
  const both: readonly MemberRole[] = ['worker', 'writer'];
  switch (random.below(4)) {
    case 0:
      return [
        member(
          'run',
          true,
          Array.from({ length: 1 + random.below(2) }, () => both),
        ),
      ];
    case 1:
      return Array.from({ length: 2 }, (_, i) => member(`run${i}`, true, [both]));
    case 2:
      return [
        member('supervisor0', true, []),
        ...Array.from({ length: 1 + random.below(2) }, (_, i) => member(`w${i}`, false, [both])),
      ];
    default:
      return [
        member('supervisor0', true, []),
        ...(random.unit() < 0.5 ? [member('supervisor1', true, [])] : []),
        ...Array.from({ length: 1 + random.below(2) }, (_, i) =>
          member(`worker${i}`, false, [['worker']]),
        ),
        member('writer0', pick(random, [true, false]), [['writer']]),
      ];
  }
}
