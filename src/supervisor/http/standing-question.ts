/**
 * A question that is asked again and again of a service that may be slow or away: one at a time, never
 * waited for longer than agreed, with the last answer at hand.
 */
import type { Clock } from '../../ambient.ts';
import { asPipelineError, PipelineError } from '../../errors.ts';

/** The newest answer, and why it is not newer. */
export interface Answer<T> {
  /** undefined until there was one. */
  readonly value: T | undefined;
  /** undefined when the newest attempt was answered in time. */
  readonly failure: PipelineError | undefined;
}

export class StandingQuestion<T> {
  readonly #clock: Clock;
  readonly #put: () => Promise<T>;
  #value: T | undefined;
  #failure: PipelineError | undefined;
  #pending: Promise<void> | undefined;

  constructor(clock: Clock, put: () => Promise<T>) {
    this.#clock = clock;
    this.#put = put;
  }

  /** The last answer. */
  get last(): T | undefined {
    return this.#value;
  }

  /** Asks, unless an earlier attempt is still on its way; never rejects. */
  async ask(patienceMs: number): Promise<Answer<T>> {
    let isAnswered = false;
    this.#pending ??= this.#attempt();
    const answered = this.#pending.then(() => {
      isAnswered = true;
    });
    const waiting = new AbortController();
    await Promise.race([answered, this.#clock.sleep(patienceMs, waiting.signal)]);
    waiting.abort();
    if (isAnswered) return { value: this.#value, failure: this.#failure };
    const failure = new PipelineError(
      'unavailable',
      'TM_SERVICE_UNAVAILABLE',
      `no answer within ${patienceMs / 1000} s`,
    );
    return { value: this.#value, failure };
  }

  async #attempt(): Promise<void> {
    try {
      this.#value = await this.#put();
      this.#failure = undefined;
    } catch (thrown) {
      this.#failure = asPipelineError(thrown);
    } finally {
      this.#pending = undefined;
    }
  }
}
