/**
 * Tells of an outage that a loop runs into several times a second: when it begins, now and then while
 * it lasts, and when it is over.
 */
import type { Clock } from '../ambient.ts';
import { errorFields, type Logger } from '../logger.ts';

/** A reminder is logged this often, milliseconds. */
const REMIND_MS = 30_000;

export class OutageLog {
  readonly #message: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #outage: { readonly sinceMs: number; toldMs: number } | undefined;

  /** @param message says what is away and what that means */
  constructor(
    message: string,
    { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
  ) {
    this.#message = message;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** One more failure. */
  failed(thrown: unknown): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#outage && nowMs - this.#outage.toldMs < REMIND_MS) return;
    this.#outage = { sinceMs: this.#outage?.sinceMs ?? nowMs, toldMs: nowMs };
    const forMs = Math.round(nowMs - this.#outage.sinceMs);
    this.#logger.warn(this.#message, { ...errorFields(thrown), forMs });
  }

  /** It worked. */
  worked(): void {
    if (!this.#outage) return;
    const forMs = Math.round(this.#clock.monotonicMs() - this.#outage.sinceMs);
    this.#outage = undefined;
    this.#logger.info(`${this.#message}: over`, { forMs });
  }
}
