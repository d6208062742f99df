/**
 * One run of a seed: a phase with faults, a phase without in which everything must catch up, a phase
 * without new input in which nothing may change, an orderly end.
 */
import { listenToCrashPoints } from '../../src/crash-points.ts';
import type { Logger } from '../../src/logger.ts';
import type { ParquetCodec } from '../../src/storage/parquet/parquet-codec.ts';
import {
  clearPinned,
  pinUnit,
  requestRebalance,
  setDraining,
  setPaused,
} from '../../src/supervisor/control.ts';
import { parseUnit, unitsOf } from '../../src/supervisor/units.ts';
import { checkTables } from './checks.ts';
import { type Nemesis, pick } from './faults.ts';
import type { Service } from './faults.ts';
import { Violation } from './lake-log.ts';
import type { VirtualTime } from './virtual-time.ts';
import { Workload } from './workload.ts';
import { drawMembers, type Member, World } from './world.ts';

/** What a run came to. */
export interface Outcome {
  readonly seed: number;
  readonly violation: Violation | undefined;
  readonly traceHash: string;
  readonly events: number;
  /** Virtual seconds. */
  readonly seconds: number;
  readonly commits: number;
  readonly records: number;
  /** Faults that happened, by kind. */
  readonly faults: ReadonlyMap<string, number>;
}

export interface RunOptions {
  readonly codec: ParquetCodec;
  readonly createLogger: (time: VirtualTime, name: string) => Logger;
}

/** Everything is caught up this long after the last fault, virtual milliseconds. */
const LIVENESS_MS = 120_000;
/** Longest time without input in which a restarted pipeline could still do something wrong. */
const QUIET_MS = 6_000;
const END_MS = 60_000;
const STEP_MS = 250;
/** Within this time wishes are taken back, outages end, and delayed writes land. */
const LATER_MS = 5_000;

const TOPIC_EVENTS = ['partition-added', 'deleted', 'truncated', 're-created'] as const;
type TopicEvent = (typeof TOPIC_EVENTS)[number];
const TOPIC_EVENT_TRIES = 50;

/** Runs one seed. */
export async function runSeed(seed: number, options: RunOptions): Promise<Outcome> {
  const run = new Run(new World({ seed, ...options }));
  return run.toEnd();
}

class Run {
  readonly #world: World;
  readonly #workload: Workload;
  /** States of the state store as they were, to be rolled back to. */
  readonly #remembered: ReturnType<World['state']['data']>[] = [];

  constructor(world: World) {
    this.#world = world;
    this.#workload = new Workload(world.random, world.topic);
  }

  async toEnd(): Promise<Outcome> {
    const world = this.#world;
    const broken = (thrown: unknown): void => world.fail(thrown);
    process.on('unhandledRejection', broken);
    listenToCrashPoints((point) => world.passCrashPoint(point));
    try {
      await this.#phases();
      if (!world.violation) await checkTables(world);
    } catch (thrown) {
      world.fail(thrown);
    } finally {
      process.off('unhandledRejection', broken);
      listenToCrashPoints(undefined);
    }
    const { time, faults, topic, tables, violation } = world;
    const count = (sizes: Iterable<number>): number => [...sizes].reduce((sum, n) => sum + n, 0);
    return {
      seed: world.seed,
      violation,
      traceHash: time.traceHash,
      events: time.events,
      seconds: time.nowMs / 1000,
      commits: count([...tables.values()].map(({ commits }) => commits.length)),
      records: count(topic.partitions.map(({ truth }) => truth.length)),
      faults: faults.counts,
    };
  }

  async #phases(): Promise<void> {
    const world = this.#world;
    const { random, time } = world;
    world.members.push(...drawMembers(random));
    for (const member of world.members) world.boot(member);
    world.faults.areOn = random.unit() < 0.9;
    const faultsUntilMs = 5_000 + random.unit() * 10_000;
    this.#produceUntil(faultsUntilMs * (0.5 + random.unit() / 2));
    if (world.faults.areOn) this.#nextNemesis();
    if (random.unit() < 0.25) {
      const kind = pick(random, TOPIC_EVENTS);
      const atMs = random.unit() * faultsUntilMs;
      time.schedule(atMs, 'topic event', () => this.#changeTopic(kind, TOPIC_EVENT_TRIES));
    }
    await this.#until(faultsUntilMs);
    await this.#heal();
    const caughtUpBy = time.nowMs + LIVENESS_MS;
    await this.#until(caughtUpBy, () => this.#isCaughtUp());
    if ([...world.topic.partitions.keys()].some((partition) => this.#isLost(partition))) {
      // What a partition had fetched before it stopped is committed yet.
      await this.#until(time.nowMs + LATER_MS);
      await this.#until(caughtUpBy, () => this.#isCaughtUp());
    }
    if (world.violation) return;
    if (!this.#isCaughtUp()) throw new Violation('I19', this.#lagText());
    if (random.unit() < 0.3) await this.#quietly();
    if (!world.violation) await this.#end();
  }

  /** I14: without Redis, queues and input, a restart changes nothing. */
  async #quietly(): Promise<void> {
    const world = this.#world;
    const before = versionsOf(world);
    world.state.replace({});
    world.queues.lose();
    for (const { host } of world.members) host?.kill();
    await this.#until(world.time.nowMs + QUIET_MS);
    const after = versionsOf(world);
    if (before !== after) throw new Violation('I14', `versions went from ${before} to ${after}`);
  }

  async #end(): Promise<void> {
    const world = this.#world;
    let ended = false;
    world.end();
    const closing = world.members.map(async ({ process }) => process?.close());
    void Promise.allSettled(closing).then(() => {
      ended = true;
    });
    await this.#until(world.time.nowMs + END_MS, () => ended);
    if (!ended && !world.violation) throw new Violation('I19', 'a process did not end');
  }

  #produceUntil(untilMs: number): void {
    const { random, time } = this.#world;
    const pauseMs = pick(random, [100, 300, 800]);
    const produce = (): void => {
      if (time.nowMs > untilMs) return;
      this.#workload.produce(this.#world.wallMs);
      time.schedule(random.unit() * 2 * pauseMs, 'produce', produce);
    };
    time.schedule(random.unit() * 1_000, 'produce', produce);
  }

  /** Runs on, looking every moment whether a violation was met. */
  async #until(untilMs: number, isDone: () => boolean = () => false): Promise<void> {
    const world = this.#world;
    while (world.time.nowMs < untilMs && !world.violation && !isDone()) {
      await world.time.run(
        Math.min(untilMs, world.time.nowMs + STEP_MS),
        () => world.violation !== undefined,
      );
      this.#checkMemory();
    }
  }

  /** I20: by the process's own account, and by what it has asked the source for. */
  #checkMemory(): void {
    const { config, members, topic } = this.#world;
    const bound = config.limits.inFlightBytes;
    for (const { name, process, host } of members) {
      if (!process || !host) continue;
      const { nodes } = process;
      for (const { nodeId, inFlightBytes } of nodes) {
        if (inFlightBytes > bound)
          throw new Violation('I20', `${nodeId} holds ${inFlightBytes} bytes`);
      }
      const askedBytes = topic.askedBytes(host);
      if (askedBytes > bound * nodes.length) {
        throw new Violation('I20', `${name} may be sent ${askedBytes} bytes`);
      }
    }
  }

  /** Lets something happen to the topic as soon as it makes a difference. */
  #changeTopic(kind: TopicEvent, triesLeft: number): void {
    const { faults, time } = this.#world;
    if (this.#topicChanged(kind)) faults.count(`topic ${kind}`);
    else if (triesLeft > 0) {
      time.schedule(100, 'topic event', () => this.#changeTopic(kind, triesLeft - 1));
    }
  }

  /** New partitions go on; lost offsets and a new topic of the same name are to stop loudly (I23). */
  #topicChanged(kind: TopicEvent): boolean {
    const { topic, random } = this.#world;
    const partition = random.below(topic.partitions.length);
    const log = topic.partitions[partition]!;
    const next = this.#world.bronzeNext(partition);
    if (kind === 'partition-added') {
      topic.addPartition();
      return true;
    }
    if (next === undefined) return false;
    switch (kind) {
      case 'deleted':
        if (log.lastStable < next + 2n) return false;
        log.deleteBefore(next + 1n);
        return true;
      case 'truncated':
        if (log.openProducers.length > 0 || next < 2n) return false;
        // What is sent from now on would go to another log.
        this.#workload.close(partition);
        log.truncateTo(next - 1n - BigInt(random.below(Number(next) - 1)));
        return true;
      case 're-created':
        for (const each of topic.partitions.keys()) this.#workload.close(each);
        topic.successorId = '00000000-0000-4000-8000-000000000002';
        return true;
    }
  }

  /** Whether there are offsets that can no longer be read, or may be another topic's. */
  #isLost(partition: number): boolean {
    const { topic } = this.#world;
    const { earliest, end } = topic.partitions[partition]!;
    const next = this.#world.bronzeNext(partition);
    return (
      topic.successorId !== undefined || (next !== undefined && (next < earliest || next > end))
    );
  }

  /** I23: a partition that cannot go on says so. */
  #isLoud(partition: number): boolean {
    return this.#world.members.some(({ process }) =>
      process?.nodes.some(({ failures }) => {
        const code = failures.get(`partition:${partition}`)?.code;
        return code === 'TM_OFFSET_OUT_OF_RANGE' || code === 'TM_TOPIC_RECREATED';
      }),
    );
  }

  #isCaughtUp(): boolean {
    const { topic, bronze, silver, silverCovered, goldCovered } = this.#world;
    return (
      topic.partitions.every(({ lastStable, earliest }, p) => {
        if (this.#isLost(p)) return this.#isLoud(p);
        return (this.#world.bronzeNext(p) ?? earliest) === lastStable;
      }) &&
      silverCovered === bronze.version &&
      goldCovered === silver.version
    );
  }

  #lagText(): string {
    const world = this.#world;
    const lags = world.topic.partitions.map(
      ({ lastStable }, p) => `${p}: ${world.bronzeNext(p) ?? 'none'} of ${lastStable}`,
    );
    const failures = world.members.flatMap(({ process }) =>
      (process?.nodes ?? []).flatMap(({ failures: failed }) =>
        [...failed].map(([unit, { message }]) => `${unit}: ${message}`),
      ),
    );
    return (
      `not caught up: partitions ${lags.join(', ')}; silver ${world.silverCovered} of ` +
      `${world.bronze.version}; gold ${world.goldCovered} of ${world.silver.version}; ` +
      failures.join('; ')
    );
  }

  #nextNemesis(): void {
    const { time, faults, random } = this.#world;
    time.schedule(random.unit() * 2 * faults.nemesisPauseMs, 'nemesis', () => {
      const kind = faults.nextNemesis();
      if (!faults.areOn || kind === undefined) return;
      this.#remembered.push(this.#world.state.data());
      faults.count(kind);
      this.#meet(kind);
      this.#nextNemesis();
    });
  }

  #meet(kind: Nemesis): void {
    const world = this.#world;
    const { random, members, state, operator } = world;
    const member = pick(random, members);
    const { host } = member;
    const laterMs = random.unit() * LATER_MS;
    switch (kind) {
      case 'crash':
        return host?.kill();
      case 'crash-all':
        for (const each of members) each.host?.kill();
        return;
      case 'freeze':
        return this.#freeze(member, laterMs * 2);
      case 'restart':
        return void world.shutDown(member);
      case 'clock-jump':
        return host?.jumpClock(
          pick(random, [-3_600_000, -5_000, 7_000, 3_600_000, 31_536_000_000]),
        );
      case 'thread-death':
        return host?.endThread();
      case 'state-flush':
        return state.replace({});
      case 'state-rollback':
        return state.replace(pick(random, this.#remembered));
      case 'state-future':
        return state.replace(fromTheFuture(state.data()));
      case 'state-outage':
        return this.#cutOff('state', laterMs);
      case 'store-outage':
        return this.#cutOff('store', laterMs);
      case 'source-outage':
        return this.#cutOff('source', laterMs);
      case 'queue-lost':
        return world.queues.lose();
      case 'queue-doubled':
        return world.queues.double();
      case 'rebalance':
        return void requestRebalance(operator, pick(random, ['sticky', 'even']));
      case 'move-unit': {
        const share = random.unit();
        for (const unit of this.#units()) {
          if (random.unit() < share) void pinUnit(operator, unit, pick(random, this.#nodeIds()));
        }
        return;
      }
      case 'split-brain':
        return this.#splitBrain(laterMs);
      case 'compaction':
        // Two supervisors may both think that it is their turn (MT1).
        for (const each of random.unit() < 0.5 ? members : [member]) world.compact(each);
        return;
      case 'pause':
        void setPaused(operator, true);
        world.time.schedule(laterMs, 'resume', () => void setPaused(operator, false));
        return;
      case 'drain': {
        const nodeId = pick(random, this.#nodeIds());
        void setDraining(operator, nodeId, true);
        world.time.schedule(laterMs, 'undrain', () => void setDraining(operator, nodeId, false));
        return;
      }
    }
  }

  /**
   * A node takes a unit that it has no lease for, as a zombie would: one of the two is fenced. Meanwhile
   * an operator may move the unit.
   */
  #splitBrain(laterMs: number): void {
    const { random, members, operator, time } = this.#world;
    const unit = pick(random, this.#units());
    const role = parseUnit(unit)!.kind === 'partition' ? 'worker' : 'writer';
    const able = members.flatMap(({ host, process, nodes }) =>
      (process?.nodes ?? [])
        .filter((_, i) => nodes[i]?.includes(role))
        .map((node) => ({ host, node })),
    );
    if (able.length === 0) return;
    const { host, node } = pick(random, able);
    host?.after(0, 'split brain', () => node.start(unit));
    if (random.unit() < 0.5) return;
    const nodeId = pick(random, this.#nodeIds());
    time.schedule(laterMs, 'move', () => void pinUnit(operator, unit, nodeId));
  }

  /** A frozen process goes on later, as a zombie when it was replaced meanwhile. */
  #freeze(member: Member, forMs: number): void {
    const world = this.#world;
    const { host } = member;
    if (!host || host.phase !== 'running') return;
    host.freeze(forMs);
    if (world.random.unit() < 0.6) return;
    world.zombies.push(host);
    host.onKilled = () => {};
    world.boot(member);
    world.time.schedule(forMs + 20_000, `${host.name} is noticed`, () => host.kill());
  }

  /** Some or all processes do not reach a service for a while. */
  #cutOff(service: Service, forMs: number): void {
    const { members, random, time } = this.#world;
    const all = random.unit() < 0.5;
    for (const { host } of all ? members : [pick(random, members)]) {
      if (!host) continue;
      host.unreachable.add(service);
      time.schedule(forMs, `${host.name} reaches ${service}`, () =>
        host.unreachable.delete(service),
      );
    }
  }

  #units() {
    const { topic, config } = this.#world;
    const silverShards = config.silverWriters;
    return unitsOf({ partitionCount: topic.partitions.length, silverShards });
  }

  #nodeIds(): readonly string[] {
    return this.#world.members.flatMap(({ name, nodes }) => nodes.map((_, i) => `${name}-${i}`));
  }

  async #heal(): Promise<void> {
    const world = this.#world;
    const { faults, operator, members, zombies } = world;
    faults.areOn = false;
    for (const host of [...members.map((member) => member.host), ...zombies]) {
      host?.unreachable.clear();
      host?.thaw();
    }
    this.#workload.finish(world.wallMs);
    void setPaused(operator, false);
    void clearPinned(operator);
    for (const nodeId of this.#nodeIds()) void setDraining(operator, nodeId, false);
    // What was wished for later has happened, and what was under way has landed.
    await this.#until(world.time.nowMs + LATER_MS + 500);
    void setPaused(operator, false);
    void clearPinned(operator);
    for (const nodeId of this.#nodeIds()) void setDraining(operator, nodeId, false);
  }
}

function versionsOf({ tables }: World): string {
  return [...tables.values()].map(({ root, version }) => `${root}@${version}`).join(' ');
}

/** Hints of another, later cluster: offsets that are not there yet, members that never were. */
function fromTheFuture(data: ReturnType<World['state']['data']>): typeof data {
  const entries = Object.entries(data).map(([key, fields]) => {
    const { nextOffset } = fields;
    if (nextOffset === undefined) return [key, fields] as const;
    return [key, { ...fields, nextOffset: String(Number(nextOffset) + 1000) }] as const;
  });
  return {
    ...Object.fromEntries(entries),
    placement: { ...data['placement'], 'partition:0': 'ghost', 'silver:7': 'ghost', nonsense: 'x' },
    'member:ghost': { roles: 'worker,writer', startedAtMs: 'NaN', counts: '[' },
  };
}
