/**
 * Time that moves from event to event. Everything that happens in a simulation is an event of this
 * schedule, so one seed is one order of all turns.
 *
 * - VT1 One event at a time: the next one begins when every continuation of the last has run.
 * - VT2 Events of one moment happen in an order that the seed draws.
 * - VT3 Every event is in the trace; two runs of a seed have the same trace hash.
 */
import type { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';

interface Event {
  readonly atMs: number;
  /** Order among events of one moment (VT2). */
  readonly turn: number;
  readonly label: string;
  readonly action: () => void;
  isCancelled: boolean;
}

/** An event that is still to come. */
export interface Scheduled {
  cancel(): void;
}

export class VirtualTime {
  readonly #random: SeededRandom;
  readonly #heap: Event[] = [];
  #nowMs = 0;
  #hash = 0x811c9dc5;
  #events = 0;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** Milliseconds since the simulation began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events so far. */
  get events(): number {
    return this.#events;
  }

  /** FNV-1a over the trace so far, 8 hexadecimal digits (VT3). */
  get traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  /** @param label says what happens, for the trace */
  schedule(delayMs: number, label: string, action: () => void): Scheduled {
    const atMs = this.#nowMs + Math.max(0, delayMs);
    const event = { atMs, turn: this.#random.uint32(), label, action, isCancelled: false };
    this.#push(event);
    return {
      cancel: () => {
        event.isCancelled = true;
      },
    };
  }

  /** Adds a line to the trace. */
  note(line: string): void {
    let hash = this.#hash;
    for (let i = 0; i < line.length; i++) hash = Math.imul(hash ^ line.charCodeAt(i), 0x01000193);
    this.#hash = Math.imul(hash ^ 0x0a, 0x01000193);
  }

  /** Runs events until `isDone`, or until none before `untilMs` is left; moves on to then. */
  async run(untilMs: number, isDone: () => boolean = () => false): Promise<void> {
    await turnOfTheLoop();
    while (!isDone()) {
      const event = this.#heap[0];
      if (!event || event.atMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs);
        return;
      }
      this.#pop();
      if (event.isCancelled) continue;
      this.#nowMs = event.atMs;
      this.#events += 1;
      this.note(`${event.atMs} ${event.label}`);
      event.action();
      await turnOfTheLoop(); // VT1
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.turn < b.turn);
}

/** All microtasks have run when this resolves. */
function turnOfTheLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
