/**
 * Object store, state store and queues of a simulation: one of each for all processes, reached through
 * each process's own link (host.ts). The services themselves never fail; what fails is the way to them,
 * or what an operator or a failover does to their content.
 */
import type { Clock } from '../../src/ambient.ts';
import { asPipelineError } from '../../src/errors.ts';
import { MemoryObjectStore } from '../../src/storage/object-store/memory-object-store.ts';
import type {
  CreateOutcome,
  ObjectInfo,
  ObjectStore,
} from '../../src/storage/object-store/object-store.ts';
import { assertJob } from '../../src/storage/queue/job-shape.ts';
import type { Consumer, Job, QueueCounts, WorkQueue } from '../../src/storage/queue/work-queue.ts';
import { MemoryStateStore, type StateData } from '../../src/storage/state/memory-state-store.ts';
import type { Lease, StateStore } from '../../src/storage/state/state-store.ts';
import type { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type { SimulatedHost } from './host.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Told of each object that became visible or went away, and of each hint that was set. */
export interface Witness {
  stored(key: string, body: Uint8Array, created: boolean): void;
  deleted(key: string): void;
  hinted(key: string, fields: Readonly<Record<string, string>>): void;
  queued(queue: string, job: Job): void;
}

const PROBE = '_tidemark/probe/';

/** The lake's store as one process sees it. */
export function objectStoreOf(
  host: SimulatedHost,
  store: MemoryObjectStore,
  witness: Witness,
): ObjectStore {
  const request = <Result>(
    kind: 'read' | 'write',
    operation: string,
    key: string,
    effect: () => Promise<Result>,
    fate: { readonly whenUnknown?: () => Result; readonly whenStale?: (r: Result) => Result } = {},
  ): Promise<Result> =>
    host.request({
      service: 'store',
      kind,
      what: `${operation} ${key}`,
      effect,
      isReliable: key.startsWith(PROBE),
      ...fate,
    });
  return {
    description: `the lake of ${host.name}`,
    get: (key, options) => request('read', 'get', key, () => store.get(key, options)),
    head: (key) => request('read', 'head', key, () => store.head(key)),
    put: (key, body) => {
      const sent = body.slice();
      return request('write', 'put', key, async () => {
        await store.put(key, sent);
        witness.stored(key, sent, false);
      });
    },
    createIfAbsent: (key, body) => {
      const sent = body.slice();
      const create = async (): Promise<CreateOutcome> => {
        const outcome = await store.createIfAbsent(key, sent);
        if (outcome === 'created') witness.stored(key, sent, true);
        return outcome;
      };
      return request('write', 'create', key, create, { whenUnknown: () => 'unknown' });
    },
    async *list(prefix, options) {
      yield* await host.request<readonly ObjectInfo[]>({
        service: 'store',
        kind: 'list',
        what: `list ${prefix} ${options?.startAfter ?? ''}`,
        // A store that fails the start-up probe is refused, as it should be.
        isReliable: prefix.startsWith(PROBE),
        effect: async () => {
          const found: ObjectInfo[] = [];
          for await (const info of store.list(prefix, options)) found.push(info);
          return found;
        },
        whenStale: (found) => found.slice(0, -1),
      });
    },
    delete: (key) =>
      request('write', 'delete', key, async () => {
        await store.delete(key);
        witness.deleted(key);
      }),
    localPath: () => undefined,
    close: () => Promise.resolve(),
  };
}

/** Redis: hashes and leases that an operator may lose, turn back or replace. */
export class SimulatedState {
  readonly #clock: Clock;
  #store: MemoryStateStore;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#store = new MemoryStateStore({ clock });
  }

  data(): StateData {
    return this.#store.data();
  }

  /** Everything there is now, leases gone. */
  replace(data: StateData): void {
    this.#store = new MemoryStateStore({ clock: this.#clock, data });
  }

  /** The store as one process sees it. @param isReliable faults pass its requests by */
  of(host: SimulatedHost, witness: Witness, isReliable = false): StateStore {
    const request = <Result>(
      kind: 'read' | 'write',
      what: string,
      effect: () => Promise<Result>,
    ): Promise<Result> => host.request({ service: 'state', kind, what, effect, isReliable });
    return {
      description: `the state of ${host.name}`,
      check: () => request('read', 'check', () => this.#store.check()),
      getHash: (key) => request('read', `hget ${key}`, () => this.#store.getHash(key)),
      setHash: (key, fields) => {
        const sent = { ...fields };
        return request('write', `hset ${key}`, async () => {
          await this.#store.setHash(key, sent);
          witness.hinted(key, sent);
        });
      },
      keys: (prefix) => request('read', `keys ${prefix}`, () => this.#store.keys(prefix)),
      delete: (key) => request('write', `del ${key}`, () => this.#store.delete(key)),
      acquireLease: (name, owner, ttlMs) =>
        request('write', `acquire ${name}`, () => this.#store.acquireLease(name, owner, ttlMs)),
      renewLease: (lease: Lease, ttlMs) =>
        request('write', `renew ${lease.name}`, () => this.#store.renewLease(lease, ttlMs)),
      releaseLease: (lease) =>
        request('write', `release ${lease.name}`, () => this.#store.releaseLease(lease)),
      leaseHolder: (name) => request('read', `holder ${name}`, () => this.#store.leaseHolder(name)),
      close: () => Promise.resolve(),
    };
  }
}

interface QueuedJob {
  readonly job: Job;
  state: 'waiting' | 'active';
}

interface QueueConsumer {
  readonly host: SimulatedHost;
  readonly handler: (job: Job) => Promise<void>;
  readonly concurrency: number;
  running: number;
  isClosed: boolean;
}

/** How long a job whose process was killed stays active, milliseconds. */
const STALLED_MS = 5_000;
const RETRY_MS = 1_000;

/** BullMQ: jobs delivered at least once, to any process, in any order. */
export class SimulatedQueues {
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #jobs = new Map<string, Map<string, QueuedJob>>();
  readonly #consumers = new Map<string, Set<QueueConsumer>>();

  constructor(time: VirtualTime, random: SeededRandom) {
    this.#time = time;
    this.#random = random;
  }

  /** All jobs are gone. */
  lose(): void {
    this.#jobs.clear();
  }

  /** Every job that waits or runs is delivered once more. */
  double(): void {
    for (const [queue, jobs] of this.#jobs) {
      for (const { job } of jobs.values()) this.#deliver(queue, { job, state: 'waiting' });
    }
  }

  /** The queues as one process sees them. */
  of(host: SimulatedHost, witness: Witness): WorkQueue {
    const request = <Result>(what: string, effect: () => Result): Promise<Result> =>
      host.request({ service: 'queue', kind: 'write', what, effect });
    return {
      description: `the queues of ${host.name}`,
      check: () => request('check', () => []),
      add: (queue, job) => {
        assertJob(queue, job);
        return request(`add ${queue} ${job.id}`, () => {
          witness.queued(queue, job);
          this.#add(queue, job);
        });
      },
      // Nothing in a simulated process is due daily or hourly.
      repeat: (queue, job) => request(`repeat ${queue} ${job.id}`, () => undefined),
      consume: async (queue, handler, options = {}) => {
        const consumer: QueueConsumer = {
          host,
          handler,
          concurrency: options.concurrency ?? 1,
          running: 0,
          isClosed: false,
        };
        await request(`consume ${queue}`, () => {
          this.#consumersOf(queue).add(consumer);
          this.#deliverWaiting(queue);
        });
        return this.#consumer(queue, consumer);
      },
      counts: (queue) => request(`counts ${queue}`, () => this.#counts(queue)),
      close: () => Promise.resolve(),
    };
  }

  #consumer(queue: string, consumer: QueueConsumer): Consumer {
    return {
      close: async () => {
        consumer.isClosed = true;
        this.#consumersOf(queue).delete(consumer);
        while (consumer.running > 0) await consumer.host.ambient.clock.sleep(10);
      },
    };
  }

  #consumersOf(queue: string): Set<QueueConsumer> {
    let consumers = this.#consumers.get(queue);
    if (!consumers) this.#consumers.set(queue, (consumers = new Set()));
    return consumers;
  }

  #jobsOf(queue: string): Map<string, QueuedJob> {
    let jobs = this.#jobs.get(queue);
    if (!jobs) this.#jobs.set(queue, (jobs = new Map()));
    return jobs;
  }

  #add(queue: string, job: Job): void {
    const jobs = this.#jobsOf(queue);
    if (jobs.has(job.id)) return;
    jobs.set(job.id, { job: { id: job.id, data: { ...job.data } }, state: 'waiting' });
    this.#deliverWaiting(queue);
  }

  #deliverWaiting(queue: string): void {
    for (const queued of this.#jobsOf(queue).values()) {
      if (queued.state === 'waiting') this.#deliver(queue, queued);
    }
  }

  #deliver(queue: string, queued: QueuedJob): void {
    const free = [...this.#consumersOf(queue)].filter(
      ({ host, running, concurrency, isClosed }) =>
        host.phase !== 'dead' && running < concurrency && !isClosed,
    );
    if (free.length === 0) return;
    const consumer = free[this.#random.below(free.length)]!;
    const { host } = consumer;
    queued.state = 'active';
    consumer.running += 1;
    const ended = (isDone: boolean): void => {
      consumer.running -= 1;
      const jobs = this.#jobsOf(queue);
      if (isDone && jobs.get(queued.job.id) === queued) jobs.delete(queued.job.id);
      if (!isDone) this.#putBack(queue, queued, RETRY_MS);
      this.#deliverWaiting(queue);
    };
    host.after(this.#random.unit() * 5, `job ${queued.job.id}`, () => {
      consumer.handler(queued.job).then(
        () => host.after(1, 'job done', () => ended(true)),
        (thrown: unknown) =>
          host.after(1, `job failed ${asPipelineError(thrown).code}`, () => ended(false)),
      );
    });
    const watch = (): void => {
      if (queued.state !== 'active' || this.#jobsOf(queue).get(queued.job.id) !== queued) return;
      if (host.phase === 'dead') this.#putBack(queue, queued, 0);
      else this.#time.schedule(STALLED_MS, 'watch job', watch);
    };
    this.#time.schedule(STALLED_MS, 'watch job', watch);
  }

  #putBack(queue: string, queued: QueuedJob, afterMs: number): void {
    this.#time.schedule(afterMs, 'job waits again', () => {
      if (this.#jobsOf(queue).get(queued.job.id) !== queued) return;
      queued.state = 'waiting';
      this.#deliverWaiting(queue);
    });
  }

  #counts(queue: string): QueueCounts {
    const states = [...this.#jobsOf(queue).values()].map(({ state }) => state);
    const active = states.filter((state) => state === 'active').length;
    const waiting = states.length - active;
    return { name: queue, waiting, active, delayed: 0, completed: 0, failed: 0 };
  }
}
