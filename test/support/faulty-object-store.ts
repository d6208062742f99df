/**
 * An object store whose requests and responses get lost, late, refused or stale on the way, for the
 * faults 66 to 82. It decorates any adapter, so several "processes" can each have their own faulty
 * link to one store.
 *
 * F1 A fault is what the network or the service does; the store behind stays correct.
 * F2 What a caller sees is what a real adapter would make of it: `unknown` for a create whose response
 *    is lost, `unavailable` for everything else.
 * F3 Every operation is in `calls` with its fault, so that a test can prove it took the path it is about.
 */
import type { Clock, Random, Timer } from '../../src/ambient.ts';
import { PipelineError } from '../../src/errors.ts';
import type {
  CreateOutcome,
  ObjectInfo,
  ObjectStore,
} from '../../src/storage/object-store/object-store.ts';

export type StoreOperation = 'get' | 'head' | 'put' | 'createIfAbsent' | 'list' | 'delete';

export type Fault =
  /** The request takes effect, the response is lost. */
  | { readonly kind: 'lost-response' }
  /** The request is lost; a create cannot tell this from `lost-response`. */
  | { readonly kind: 'lost-request' }
  /** The response is lost at once, the write takes effect `delayMs` later (fault 67), or at `landPending`. */
  | { readonly kind: 'lands-later'; readonly delayMs: number }
  /** Refused with certainty: 409, 503, connection refused. */
  | { readonly kind: 'unavailable' }
  /** A listing without the `missing` greatest of its keys (fault 74). */
  | { readonly kind: 'stale-list'; readonly missing: number }
  /** Answers after `delayMs`. */
  | { readonly kind: 'slow'; readonly delayMs: number }
  /** Answers after `until`; with `landsFirst` the effect is there before: a frozen process or link. */
  | { readonly kind: 'held'; readonly until: Promise<void>; readonly landsFirst: boolean };

export interface StoreCall {
  readonly operation: StoreOperation;
  /** The key, or the prefix of a listing. */
  readonly key: string;
  readonly fault: Fault | undefined;
}

/** Decides the fate of each operation. */
export type FaultPlan = (operation: StoreOperation, key: string) => Fault | undefined;

/** A plan told step by step; rules are used up in the order in which they were added. */
export class FaultScript {
  readonly #rules: {
    readonly operation: StoreOperation;
    readonly key: RegExp;
    readonly fault: Fault;
    left: number;
  }[] = [];

  /** The next `times` (default 1) operations of that kind on a matching key meet `fault`. */
  next(
    operation: StoreOperation,
    fault: Fault,
    options: { readonly key?: RegExp; readonly times?: number } = {},
  ): this {
    this.#rules.push({ operation, fault, key: options.key ?? /^/, left: options.times ?? 1 });
    return this;
  }

  readonly plan: FaultPlan = (operation, key) => {
    const rule = this.#rules.find(
      (each) => each.left > 0 && each.operation === operation && each.key.test(key),
    );
    if (rule) rule.left--;
    return rule?.fault;
  };
}

/** A plan that breaks each operation with `probability`, drawing one of the faults that fit it. */
export function randomFaults(options: {
  readonly random: Random;
  readonly probability: number;
  /** Upper bound of the delays of `slow` and `lands-later`. */
  readonly delayMsMax: number;
}): FaultPlan {
  const { random, probability, delayMsMax } = options;
  const delayMs = (): number => Math.floor(random.next() * delayMsMax);
  return (operation) => {
    if (random.next() >= probability) return undefined;
    const fitting: Fault[] = [{ kind: 'unavailable' }, { kind: 'slow', delayMs: delayMs() }];
    if (operation === 'list') {
      fitting.push({ kind: 'stale-list', missing: 1 + Math.floor(random.next() * 3) });
    } else if (operation !== 'get' && operation !== 'head') {
      fitting.push(
        { kind: 'lost-response' },
        { kind: 'lost-request' },
        { kind: 'lands-later', delayMs: delayMs() },
      );
    }
    return fitting[Math.floor(random.next() * fitting.length)];
  };
}

/** The decorator. `close` drops pending late writes and leaves the inner store open. */
export class FaultyObjectStore implements ObjectStore {
  readonly description: string;
  /** Everything asked so far (F3). */
  readonly calls: StoreCall[] = [];
  readonly #inner: ObjectStore;
  readonly #clock: Pick<Clock, 'after' | 'sleep'>;
  readonly #plan: FaultPlan;
  readonly #pending = new Map<() => Promise<void>, Timer>();

  constructor(
    inner: ObjectStore,
    options: { readonly clock: Pick<Clock, 'after' | 'sleep'>; readonly plan: FaultPlan },
  ) {
    this.description = `faulty ${inner.description}`;
    this.#inner = inner;
    this.#clock = options.clock;
    this.#plan = options.plan;
  }

  /** Lets every late write take effect now. */
  async landPending(): Promise<void> {
    await Promise.all([...this.#pending.keys()].map((land) => land()));
  }

  /** Faults met so far, of one kind. */
  faultCount(kind: Fault['kind']): number {
    return this.calls.filter((call) => call.fault?.kind === kind).length;
  }

  get(
    key: string,
    options?: { readonly range?: { readonly start: number; readonly end: number } },
  ): Promise<Uint8Array | undefined> {
    return this.#through('get', key, () => this.#inner.get(key, options));
  }

  head(key: string): Promise<ObjectInfo | undefined> {
    return this.#through('head', key, () => this.#inner.head(key));
  }

  put(key: string, body: Uint8Array): Promise<void> {
    const sent = body.slice();
    return this.#through('put', key, () => this.#inner.put(key, sent));
  }

  createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    const sent = body.slice();
    return this.#through<CreateOutcome>(
      'createIfAbsent',
      key,
      () => this.#inner.createIfAbsent(key, sent),
      () => 'unknown',
    );
  }

  async *list(
    prefix: string,
    options?: { readonly startAfter?: string },
  ): AsyncIterable<ObjectInfo> {
    yield* await this.#through('list', prefix, async (fault) => {
      const found: ObjectInfo[] = [];
      for await (const info of this.#inner.list(prefix, options)) found.push(info);
      return fault?.kind === 'stale-list' ? found.slice(0, -fault.missing) : found;
    });
  }

  delete(key: string): Promise<void> {
    return this.#through('delete', key, () => this.#inner.delete(key));
  }

  localPath(key: string): string | undefined {
    return this.#inner.localPath(key);
  }

  async close(): Promise<void> {
    for (const timer of this.#pending.values()) timer.cancel();
    this.#pending.clear();
  }

  async #through<T>(
    operation: StoreOperation,
    key: string,
    effect: (fault: Fault | undefined) => Promise<T>,
    whenResponseIsLost: () => T = () => {
      throw unavailable(operation, key);
    },
  ): Promise<T> {
    const fault = this.#plan(operation, key);
    this.calls.push({ operation, key, fault });
    switch (fault?.kind) {
      case undefined:
      case 'stale-list':
        return effect(fault);
      case 'lost-response':
        await effect(fault);
        return whenResponseIsLost();
      case 'lost-request':
        return whenResponseIsLost();
      case 'lands-later':
        this.#later(() => effect(fault), fault.delayMs);
        return whenResponseIsLost();
      case 'unavailable':
        throw unavailable(operation, key);
      case 'slow':
        await this.#clock.sleep(fault.delayMs);
        return effect(fault);
      case 'held': {
        if (!fault.landsFirst) await fault.until;
        const result = await effect(fault);
        await fault.until;
        return result;
      }
    }
  }

  #later(effect: () => Promise<unknown>, delayMs: number): void {
    const land = async (): Promise<void> => {
      const timer = this.#pending.get(land);
      if (!timer) return;
      timer.cancel();
      this.#pending.delete(land);
      await effect();
    };
    this.#pending.set(
      land,
      this.#clock.after(delayMs, () => void land()),
    );
  }
}

function unavailable(operation: StoreOperation, key: string): PipelineError {
  return new PipelineError('unavailable', 'TM_STORE_UNAVAILABLE', 'injected store failure', {
    context: { operation, key },
  });
}
