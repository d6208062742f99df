/**
 * What an actor is: a pure `decide` over messages, a shell `perform` that runs effects and sends
 * their results back as messages, and a supervised life in incarnations.
 *
 * Invariants:
 * - A1 One message at a time: `decide` is synchronous and sees no message of another incarnation.
 * - A2 An effect that throws crashes the incarnation; its other effects are aborted by signal and
 *   whatever they still send is dropped.
 * - A3 A restart begins at `start()` again: nothing survives but what the stores hold.
 * - A4 `stopped` settles once, for good, whatever the reason; watchers learn the reason.
 */
import type { Ambient } from '../../ambient.ts';
import { asPipelineError, type PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { Mailbox } from './mailbox.ts';
import {
  type CrashHistory,
  DEFAULT_RESTART_POLICY,
  NO_CRASHES,
  type RestartPolicy,
  superviseCrash,
} from './supervision.ts';

/** What `decide` returns: the next state and what the shell has to do. */
export interface Decision<State, Effect> {
  readonly state: State;
  readonly effects: readonly Effect[];
}

/** What an effect may use; bound to one incarnation. */
export interface EffectContext<Message> {
  /** Sends a result to the actor itself. */
  tell(message: Message): void;
  /** Aborts when the incarnation ends. */
  readonly signal: AbortSignal;
  /** Counts from 1. */
  readonly incarnation: number;
}

export interface ActorDefinition<State, Message, Effect> {
  readonly name: string;
  start(): Decision<State, Effect>;
  decide(state: State, message: Message): Decision<State, Effect>;
  /** Runs one effect. Effects run side by side; order matters only where `decide` makes it. */
  perform(effect: Effect, context: EffectContext<Message>): Promise<void> | void;
  /** A state in which the actor has nothing more to do and stops by itself. */
  isDone?(state: State): boolean;
  /** Gives back what an incarnation held (threads, readers), after its effects ended. */
  dispose?(state: State): Promise<void> | void;
}

/** How an actor ended. */
export type StopReason =
  | { readonly kind: 'done' }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'failed'; readonly error: PipelineError }
  | { readonly kind: 'escalated'; readonly error: PipelineError };

export interface ActorOptions {
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly mailboxCapacity?: number;
  readonly policy?: RestartPolicy;
  /** Called on each restart, for metrics and hints. */
  readonly onRestart?: (error: PipelineError) => void;
}

/** A running actor. */
export interface ActorRef<State, Message> {
  readonly name: string;
  /** Queues a message; dropped when the actor has stopped. */
  tell(message: Message): void;
  /** Queues a message once there is room. @returns false when the actor has stopped */
  offer(message: Message): Promise<boolean>;
  /** Ends the actor now: effects are aborted and awaited. */
  stop(): Promise<StopReason>;
  /** Settles when the actor has ended (death watch). */
  readonly stopped: Promise<StopReason>;
  /** Last decided state; for status pages, never for decisions of others. */
  readonly state: State;
  readonly restarts: number;
}

/** Starts an actor under its own one-for-one supervision. */
export function spawn<State, Message, Effect>(
  definition: ActorDefinition<State, Message, Effect>,
  options: ActorOptions,
): ActorRef<State, Message> {
  return new RunningActor(definition, options);
}

/** `incarnation` is set on an actor's messages to itself, which end with the incarnation (A1). */
interface Envelope<Message> {
  readonly message: Message;
  readonly incarnation: number | undefined;
}

class RunningActor<State, Message, Effect> implements ActorRef<State, Message> {
  readonly name: string;
  readonly stopped: Promise<StopReason>;
  restarts = 0;
  readonly #definition: ActorDefinition<State, Message, Effect>;
  readonly #options: ActorOptions;
  readonly #logger: Logger;
  readonly #mailbox: Mailbox<Envelope<Message>>;
  #settle: (reason: StopReason) => void = () => {};
  #state: State;
  #incarnation = 0;
  #abort = new AbortController();
  #running = new Set<Promise<void>>();
  #history: CrashHistory = NO_CRASHES;
  #phase: 'live' | 'between' | 'ending' = 'between';
  #scheduled = false;

  constructor(definition: ActorDefinition<State, Message, Effect>, options: ActorOptions) {
    this.#definition = definition;
    this.#options = options;
    this.name = definition.name;
    this.#logger = options.logger.child({ actor: definition.name });
    this.#mailbox = new Mailbox(options.mailboxCapacity ?? 1024);
    this.stopped = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#state = this.#begin();
  }

  get state(): State {
    return this.#state;
  }

  tell(message: Message): void {
    this.#push({ message, incarnation: undefined });
  }

  async offer(message: Message): Promise<boolean> {
    const accepted = await this.#mailbox.offer({ message, incarnation: undefined });
    if (accepted) this.#schedule();
    return accepted;
  }

  stop(): Promise<StopReason> {
    this.#end({ kind: 'stopped' });
    return this.stopped;
  }

  #begin(): State {
    this.#incarnation += 1;
    this.#abort = new AbortController();
    this.#running = new Set();
    this.#phase = 'live';
    const { state, effects } = this.#definition.start();
    this.#state = state;
    for (const effect of effects) this.#run(effect);
    if (this.#definition.isDone?.(state)) this.#end({ kind: 'done' });
    return state;
  }

  #push(envelope: Envelope<Message>): void {
    if (this.#mailbox.push(envelope)) this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#phase !== 'live') return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#drain();
    });
  }

  #drain(): void {
    while (this.#phase === 'live') {
      const envelope = this.#mailbox.take();
      if (envelope === undefined) return;
      if ((envelope.incarnation ?? this.#incarnation) !== this.#incarnation) continue;
      try {
        const { state, effects } = this.#definition.decide(this.#state, envelope.message);
        this.#state = state;
        for (const effect of effects) this.#run(effect);
      } catch (thrown) {
        return this.#crash(asPipelineError(thrown));
      }
      if (this.#definition.isDone?.(this.#state)) return this.#end({ kind: 'done' });
    }
  }

  #run(effect: Effect): void {
    const incarnation = this.#incarnation;
    const { signal } = this.#abort;
    const context: EffectContext<Message> = {
      incarnation,
      signal,
      tell: (message) => {
        if (incarnation === this.#incarnation && !signal.aborted) {
          this.#push({ message, incarnation });
        }
      },
    };
    const running = (async () => this.#definition.perform(effect, context))().then(
      () => {},
      (thrown: unknown) => {
        if (incarnation === this.#incarnation && !signal.aborted)
          this.#crash(asPipelineError(thrown));
      },
    );
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  #crash(error: PipelineError): void {
    if (this.#phase !== 'live') return;
    const { clock, random } = this.#options.ambient;
    const policy = this.#options.policy ?? DEFAULT_RESTART_POLICY;
    const directive = superviseCrash(
      error.kind,
      this.#history,
      policy,
      clock.monotonicMs(),
      random.next(),
    );
    if (directive.kind === 'stop') return this.#end({ kind: 'failed', error });
    if (directive.kind === 'escalate') return this.#end({ kind: 'escalated', error });
    this.#history = directive.history;
    this.restarts += 1;
    this.#logger.warn('actor restarts', { delayMs: directive.delayMs, ...errorFields(error) });
    this.#options.onRestart?.(error);
    this.#phase = 'between';
    void this.#retire().then(async () => {
      await clock.sleep(directive.delayMs);
      if (this.#phase !== 'between') return;
      try {
        this.#begin();
        this.#schedule();
      } catch (thrown) {
        this.#phase = 'live';
        this.#crash(asPipelineError(thrown));
      }
    });
  }

  #end(reason: StopReason): void {
    if (this.#phase === 'ending') return;
    const wasLive = this.#phase === 'live';
    this.#phase = 'ending';
    this.#mailbox.close();
    if (reason.kind === 'failed' || reason.kind === 'escalated') {
      this.#logger.error('actor stopped', { reason: reason.kind, ...errorFields(reason.error) });
    }
    void (wasLive ? this.#retire() : Promise.resolve()).then(() => this.#settle(reason));
  }

  /** Aborts the incarnation, waits for its effects, and gives back what it held. */
  async #retire(): Promise<void> {
    this.#abort.abort();
    await Promise.all(this.#running);
    try {
      await this.#definition.dispose?.(this.#state);
    } catch (thrown) {
      this.#logger.warn('actor could not be disposed cleanly', errorFields(thrown));
    }
  }
}
