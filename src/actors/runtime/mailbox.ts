/**
 * A bounded first-in first-out queue of messages. `offer` waits for room (back-pressure between
 * actors), `push` is for an actor's own results, whose number its effects bound already.
 */

export class Mailbox<Message> {
  readonly #capacity: number;
  readonly #messages: Message[] = [];
  readonly #waiting: { readonly message: Message; readonly done: (accepted: boolean) => void }[] =
    [];
  #closed = false;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#messages.length;
  }

  /** Adds a message whatever the bound. @returns false when the mailbox is closed */
  push(message: Message): boolean {
    if (this.#closed) return false;
    this.#messages.push(message);
    return true;
  }

  /** Adds a message as soon as there is room. @returns false when the mailbox closed first */
  offer(message: Message): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    if (this.#messages.length < this.#capacity) {
      this.#messages.push(message);
      return Promise.resolve(true);
    }
    return new Promise((done) => this.#waiting.push({ message, done }));
  }

  /** Takes the oldest message, if any, and lets one waiting sender in. */
  take(): Message | undefined {
    const message = this.#messages.shift();
    const next = this.#messages.length < this.#capacity ? this.#waiting.shift() : undefined;
    if (next) {
      this.#messages.push(next.message);
      next.done(true);
    }
    return message;
  }

  /** Refuses everything from now on and drops what is queued. */
  close(): void {
    this.#closed = true;
    this.#messages.length = 0;
    for (const { done } of this.#waiting.splice(0)) done(false);
  }
}
