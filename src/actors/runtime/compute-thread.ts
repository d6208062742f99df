/**
 * Heavy work off the event loop: a worker thread that answers calls one after another. A blocked
 * event loop would lose queue locks and heartbeats (faults.md, BullMQ).
 *
 * Invariants:
 * - T1 Calls are carried out in the order in which they were made, one at a time.
 * - T2 When the thread dies, every open call rejects with `internal`; the owner restarts.
 */
import { parentPort, type Transferable, Worker, workerData } from 'node:worker_threads';
import type { RunningThread, ThreadHost } from '../../ambient.ts';
import { type ErrorCode, type ErrorKind, PipelineError, asPipelineError } from '../../errors.ts';

/** Methods that a thread offers. Arguments and results must be structured-cloneable. */
// oxlint-disable-next-line typescript/no-explicit-any -- the argument types are checked by ThreadApi users
export type ThreadApi = Record<string, (argument: any) => unknown>;

type Argument<Method> = Method extends (argument: infer A) => unknown ? A : never;
type Unwrapped<Value> = Value extends Transferring<infer Inner> ? Inner : Value;
type Result<Method> = Method extends (argument: never) => infer R ? Unwrapped<Awaited<R>> : never;

/** What the owner posts. */
export interface Call {
  readonly id: number;
  readonly method: string;
  readonly argument: unknown;
}

interface SerializedError {
  readonly kind: ErrorKind;
  readonly code: ErrorCode;
  readonly message: string;
  readonly context: PipelineError['context'];
  readonly stack: string | undefined;
}

/** What the thread posts. */
export type Reply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: SerializedError };

const workerThreads: ThreadHost = {
  start(module, data, onMessage, onEnd) {
    const worker = new Worker(module, { workerData: data });
    worker.on('message', onMessage);
    worker.on('error', onEnd);
    worker.on('exit', () => onEnd(undefined));
    return {
      post: (message, transfer) => worker.postMessage(message, [...transfer]),
      terminate: async () => void (await worker.terminate()),
    };
  },
};

/** The owner's side. */
export class ComputeThread<Api extends ThreadApi> {
  readonly #thread: RunningThread;
  readonly #open = new Map<
    number,
    { readonly resolve: (value: unknown) => void; readonly reject: (error: PipelineError) => void }
  >();
  readonly #watchers = new Set<(dead: PipelineError) => void>();
  #idNext = 0;
  #dead: PipelineError | undefined;

  /**
   * @param module URL of a module that calls `serveThread`
   * @param data handed to the module, structured-cloneable
   */
  constructor(module: URL, data: unknown, host: ThreadHost = workerThreads) {
    this.#thread = host.start(
      module,
      data,
      (message) => this.#settle(message as Reply),
      (cause) => this.#die(cause),
    );
  }

  /**
   * Calls a method in the thread.
   * @param transfer buffers and ports to move instead of copying; they are detached here
   * @throws PipelineError whatever the method threw; internal when the thread died
   */
  call<Name extends keyof Api & string>(
    method: Name,
    argument: Argument<Api[Name]>,
    transfer: readonly Transferable[] = [],
  ): Promise<Result<Api[Name]>> {
    if (this.#dead) return Promise.reject(this.#dead);
    const id = this.#idNext++;
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#thread.post({ id, method, argument } satisfies Call, transfer);
    });
  }

  /**
   * Waits for the thread's death, for an owner that others call the thread for.
   * @param signal ends the wait
   * @throws PipelineError internal when the thread died
   */
  async watch(signal: AbortSignal): Promise<void> {
    const dead =
      this.#dead ??
      (await new Promise<PipelineError | undefined>((resolve) => {
        this.#watchers.add(resolve);
        if (signal.aborted) resolve(undefined);
        signal.addEventListener('abort', () => resolve(undefined), { once: true });
      }));
    if (dead) throw dead;
  }

  /** Ends the thread now; open calls reject. */
  async terminate(): Promise<void> {
    await this.#thread.terminate();
  }

  #settle(reply: Reply): void {
    const call = this.#open.get(reply.id);
    this.#open.delete(reply.id);
    if ('error' in reply) {
      const { kind, code, message, context, stack } = reply.error;
      const error = new PipelineError(kind, code, message, { context });
      if (stack) error.stack = stack;
      call?.reject(error);
    } else {
      call?.resolve(reply.result);
    }
  }

  #die(cause: unknown): void {
    const message = cause === undefined ? 'compute thread ended' : 'compute thread crashed';
    this.#dead ??= new PipelineError('internal', 'TM_INTERNAL', message, { cause });
    for (const { reject } of this.#open.values()) reject(this.#dead);
    this.#open.clear();
    for (const tell of this.#watchers) tell(this.#dead);
    this.#watchers.clear();
  }
}

/** A result whose buffers are moved to the owner instead of copied. */
export class Transferring<Value> {
  readonly value: Value;
  readonly transfer: readonly ArrayBuffer[];

  constructor(value: Value, transfer: readonly ArrayBuffer[]) {
    this.value = value;
    this.transfer = transfer;
  }
}

/**
 * The thread's side: in a thread, serves the calls of one instance; elsewhere the module is only
 * loaded, and nothing happens.
 * @param create makes the instance from what the thread was started with
 */
export function serveThread<Data>(create: (data: Data) => ThreadApi): void {
  if (parentPort) serveCalls(create(workerData as Data));
}

/** Answers calls with the methods of `api`, one at a time, in order. */
export function serveCalls(api: ThreadApi): void {
  const port = parentPort;
  if (!port) throw new PipelineError('internal', 'TM_INTERNAL', 'serveCalls runs in threads only');
  let tail: Promise<void> = Promise.resolve();
  port.on('message', (call: Call) => {
    tail = tail.then(async () => {
      const { reply, transfer } = await answerCall(api, call);
      port.postMessage(reply, [...transfer]);
    });
  });
}

/** Carries out one call; what it throws becomes the reply. */
export async function answerCall(
  api: ThreadApi,
  { id, method, argument }: Call,
): Promise<{ readonly reply: Reply; readonly transfer: readonly ArrayBuffer[] }> {
  try {
    const result = await api[method]!(argument);
    if (!(result instanceof Transferring)) return { reply: { id, result }, transfer: [] };
    return { reply: { id, result: result.value }, transfer: result.transfer };
  } catch (thrown) {
    const { kind, code, message, context, stack } = asPipelineError(thrown);
    return { reply: { id, error: { kind, code, message, context, stack } }, transfer: [] };
  }
}
