/**
 * Which faults a run meets, drawn from its seed. Each seed has its own mix: some kinds are off, some
 * frequent, so that rare combinations get their turn (swarm testing).
 *
 * - FL1 Every fault that happened is counted by kind, so that a run can show which ones it met.
 */
import type { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';

/** What may happen to one request to a service. */
export type RequestFault =
  /** Refused with certainty: 409, 503, connection refused. */
  | 'refused'
  /** The request takes effect, the response is lost. */
  | 'lost-response'
  /** The request is lost; the caller cannot tell this from `lost-response`. */
  | 'lost-request'
  /** The response is lost at once, the write takes effect later. */
  | 'lands-later'
  | 'slow'
  /** A listing without its newest keys, or a HEAD that does not see the object yet. */
  | 'stale'
  /** The process is killed before its request is sent. */
  | 'crash-before'
  /** The process is killed once the service did what it was asked. */
  | 'crash-after'
  /** The process stands still once the service did what it was asked. */
  | 'freeze-after';

export type Service = 'store' | 'state' | 'queue' | 'source';

/** Faults that a kind of request can meet. */
const FITTING: Readonly<Record<'read' | 'list' | 'write', readonly RequestFault[]>> = {
  read: ['refused', 'slow', 'lost-response', 'crash-before', 'crash-after', 'freeze-after'],
  list: ['refused', 'slow', 'stale', 'crash-before', 'crash-after'],
  write: [
    'refused',
    'slow',
    'lost-response',
    'lost-request',
    'lands-later',
    'crash-before',
    'crash-after',
    'freeze-after',
  ],
};

/** Requests of these services pass unharmed this much more often: they are far more frequent. */
const SHARE: Readonly<Record<Service, number>> = { store: 1, state: 0.1, queue: 0.5, source: 0.4 };
/** Killing and freezing are dear: the process starts again from the tables. */
const DEAR: ReadonlySet<RequestFault> = new Set(['crash-before', 'crash-after', 'freeze-after']);
const DEAR_SHARE = 0.2;

/** Kinds of faults of the world as a whole; see scenario.ts for what each does. */
export const NEMESES = [
  'crash',
  'crash-all',
  'freeze',
  'drain',
  'clock-jump',
  'state-flush',
  'state-rollback',
  'state-future',
  'state-outage',
  'queue-lost',
  'queue-doubled',
  'store-outage',
  'source-outage',
  'rebalance',
  'move-unit',
  'split-brain',
  'pause',
  'thread-death',
  'restart',
  'compaction',
] as const;

export type Nemesis = (typeof NEMESES)[number];

export class Faults {
  readonly counts = new Map<string, number>();
  /** Off in the liveness phase. */
  areOn = false;
  /** Nemeses of this seed, with their weights. */
  readonly nemeses: ReadonlyMap<Nemesis, number>;
  /** Mean pause between two of them. */
  readonly nemesisPauseMs: number;
  readonly #random: SeededRandom;
  readonly #probability: number;
  readonly #crashPointProbability: number;
  readonly #requestFaults: ReadonlySet<RequestFault>;

  constructor(random: SeededRandom) {
    this.#random = random;
    this.#probability = pick(random, [0, 0.003, 0.01, 0.03, 0.08]);
    this.#crashPointProbability = pick(random, [0, 0, 0.002, 0.01]);
    this.#requestFaults = new Set(FITTING.write.concat('stale').filter(() => random.unit() < 0.7));
    this.nemeses = new Map(
      NEMESES.filter(() => random.unit() < 0.4).map((kind) => [kind, 0.2 + random.unit()]),
    );
    this.nemesisPauseMs = pick(random, [700, 1_500, 4_000]);
  }

  /** Draws the fate of one request. */
  ofRequest(service: Service, kind: 'read' | 'list' | 'write'): RequestFault | undefined {
    const random = this.#random;
    if (!this.areOn || random.unit() >= this.#probability * SHARE[service]) return undefined;
    const fault = pick(random, FITTING[kind]);
    if (!this.#requestFaults.has(fault)) return undefined;
    if (DEAR.has(fault) && random.unit() >= DEAR_SHARE) return undefined;
    this.count(`${service} ${fault}`);
    return fault;
  }

  /** Draws whether a process ends, or stands still, where it is now. */
  atCrashPoint(point: string): 'crash' | 'freeze' | undefined {
    const random = this.#random;
    if (!this.areOn || random.unit() >= this.#crashPointProbability) return undefined;
    const fate = random.unit() < 0.8 ? 'crash' : 'freeze';
    this.count(`${fate} at ${point}`);
    return fate;
  }

  /** Draws what befalls the world next; undefined when this seed has none. */
  nextNemesis(): Nemesis | undefined {
    const total = [...this.nemeses.values()].reduce((sum, weight) => sum + weight, 0);
    let at = this.#random.unit() * total;
    for (const [kind, weight] of this.nemeses) {
      at -= weight;
      if (at < 0) return kind;
    }
    return undefined;
  }

  /** FL1 */
  count(kind: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }
}

/** One of `choices`. */
export function pick<Choice>(random: SeededRandom, choices: readonly Choice[]): Choice {
  return choices[random.below(choices.length)]!;
}
