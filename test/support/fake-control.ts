/**
 * A pipeline in memory behind the supervisor's HTTP side: shows what a test sets, and keeps what it
 * was asked for.
 */
import type { Sample, Status, Workers } from '../../src/supervisor/http/api-schemas.ts';
import type {
  DurationCounts,
  SupervisorControl,
} from '../../src/supervisor/http/supervisor-control.ts';

const AT = '2026-11-23T04:20:00.000Z';

/** A partition that is up to date, with what differs. */
export function aPartition(
  partition: number,
  differs: Partial<Status['partitions'][number]> = {},
): Status['partitions'][number] {
  return {
    topic: 'usage',
    partition,
    worker: `worker-${(partition % 2) + 1}`,
    nextOffset: 1_000,
    endOffset: 1_000,
    lag: 0,
    lagSeconds: 0,
    watermark: AT,
    state: 'running',
    reason: null,
    ...differs,
  };
}

/** A healthy pipeline, with what differs. */
export function aStatus(differs: Partial<Status> = {}): Status {
  return {
    pipeline: 'usage-events',
    readAt: AT,
    health: 'ok',
    findings: [],
    isPaused: false,
    supervisor: { id: 'supervisor-1', isLeading: true, leader: 'supervisor-1' },
    partitions: [aPartition(0), aPartition(1), aPartition(2)],
    writers: [{ unit: 'gold', worker: 'worker-1', state: 'running', reason: null }],
    hops: [
      { stage: 'bronze', behind: 0, lagSeconds: 0 },
      { stage: 'silver', behind: 0, lagSeconds: 0 },
      { stage: 'gold', behind: 0, lagSeconds: 0 },
    ],
    tables: [
      {
        name: 'bronze.usage_events',
        version: 12,
        rows: 3_000,
        files: 12,
        bytes: 123_456,
        committedAt: AT,
      },
    ],
    queues: [{ name: 'silver', waiting: 1, active: 0, delayed: 0, completed: 5, failed: 0 }],
    ledger: {
      checkedAt: AT,
      ok: true,
      records: 3_000,
      events: 2_900,
      duplicates: 90,
      conflicts: 0,
      deadLetters: 10,
    },
    totals: {
      bronzeRows: 3_000,
      silverRows: 2_900,
      duplicates: 90,
      conflicts: 1,
      deadLetters: 10,
      late: 7,
      restarts: 0,
    },
    rates: { recordsPerSecond: 1_200, eventsPerSecond: 1_150 },
    memory: { processBytes: 256 * 2 ** 20, inFlightBytes: 2 ** 20 },
    workers: { alive: 2, draining: 0 },
    ...differs,
  };
}

function aWorker(id: string): Workers['workers'][number] {
  return {
    id,
    roles: ['worker', 'writer'],
    host: 'host-1',
    pid: 4_242,
    startedAt: AT,
    heartbeatAt: AT,
    isDraining: false,
    memoryBytes: 128 * 2 ** 20,
    restarts: 0,
    units: ['partition:0', 'partition:1', 'gold'],
    pinned: ['partition:1'],
  };
}

/** @see SupervisorControl */
export class FakeControl implements SupervisorControl {
  /** What operators asked for, in order. */
  readonly asked: unknown[] = [];
  readonly history: Sample[] = [];
  readonly commitDurations: ReadonlyMap<string, DurationCounts> = new Map([
    ['bronze', { buckets: [{ seconds: 0.1, count: 3 }], count: 4, sumSeconds: 1.5 }],
  ]);
  isReady = true;
  /** Thrown by reads and changes while set. */
  failure: unknown;
  #shown: Status = aStatus();
  #alive: Workers['workers'] = [aWorker('worker-1'), aWorker('worker-2')];
  readonly #listeners = new Set<(status: Status) => void>();

  get latest(): Status {
    return this.#shown;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  /** Shows a status to everybody who watches. */
  show(differs: Partial<Status>): void {
    this.#shown = aStatus(differs);
    for (const listener of this.#listeners) listener(this.#shown);
  }

  async status(): Promise<Status> {
    return this.#answer(this.#shown);
  }

  readiness() {
    return { isReady: this.isReady, why: this.isReady ? undefined : 'the state store is away' };
  }

  async workers(): Promise<Workers> {
    return this.#answer({ workers: this.#alive });
  }

  async assignments() {
    const gold = { unit: 'gold', placedOn: 'worker-1', isPinned: false, owner: null, epoch: null };
    return this.#answer({ assignments: [gold] });
  }

  async partition(partition: number) {
    const shown = this.#shown.partitions[partition];
    const more = { placedOn: null, isPinned: false, epoch: 7, bronzeVersion: 12, committedAt: AT };
    return this.#answer(shown && { ...shown, ...more });
  }

  async tables() {
    return this.#answer(this.#shown.tables);
  }

  async reconciliations() {
    return this.#answer([]);
  }

  async rebalance({ strategy, dryRun }: Parameters<SupervisorControl['rebalance']>[0]) {
    this.asked.push({ rebalance: strategy, dryRun });
    return this.#answer({
      strategy,
      outcome: dryRun ? ('planned' as const) : ('carried out' as const),
      moves: [{ unit: 'partition:2', from: 'worker-1', to: 'worker-2' }],
      loads: [{ worker: 'worker-1', before: 4, after: 3 }],
    });
  }

  async place(partition: number, worker: string | undefined) {
    if (worker === 'worker-9') {
      return { kind: 'conflict' as const, why: 'There is no live worker worker-9.' };
    }
    this.asked.push({ place: partition, worker });
    return { kind: 'done' as const, value: { partition, worker: worker ?? null } };
  }

  async drain(worker: string, draining: boolean) {
    if (!this.#alive.some(({ id }) => id === worker)) {
      return { kind: 'not-found' as const, what: `live worker ${worker}` };
    }
    this.asked.push({ drain: worker, draining });
    this.#alive = this.#alive.map((one) =>
      one.id === worker ? { ...one, isDraining: draining } : one,
    );
    return { kind: 'done' as const, value: { worker, isDraining: draining, units: ['gold'] } };
  }

  async setPaused(isPaused: boolean) {
    this.asked.push({ isPaused });
    this.show({ ...this.#shown, isPaused, health: isPaused ? 'paused' : 'ok' });
    return this.#answer({ isPaused });
  }

  async startReconciliation() {
    return { kind: 'not-supported' as const, why: 'This process cannot reconcile.' };
  }

  onStatus(listener: (status: Status) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {}

  #answer<T>(value: T): T {
    if (this.failure !== undefined) throw this.failure;
    return value;
  }
}
