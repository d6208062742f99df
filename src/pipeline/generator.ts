/**
 * Synthetic API usage events with duplicates, late and poison ones, and the truth about them.
 *
 * Invariants:
 * G1 the same options give the same lines, byte for byte, however they are cut into chunks;
 * G2 lines come in arrival order, and a duplicate repeats the bytes of an earlier valid line, so the
 *    first copy in a partition is the original;
 * G3 memory does not grow with the number of events: only copies still to come are held.
 * Source of the distributions: gen.py of the Spark peer (Zipf customers and endpoints, log-normal
 * sizes and latencies). Pure.
 */
import { instantText } from './generator/instant-text.ts';
import { SeededRandom, WeightedChoice, zipfWeights } from './generator/seeded-random.ts';
import { type Truth, TruthTally } from './generator/usage-truth.ts';

export interface GeneratorOptions {
  /** Lines in all, duplicates and poison included. */
  readonly events: number;
  readonly seed: number;
  /** Arrivals cover [startMs, startMs + spanMs) evenly; milliseconds since the epoch. */
  readonly startMs: number;
  readonly spanMs: number;
  /** Share of lines that repeat an earlier one up to ten minutes later. In [0, 0.5]. */
  readonly duplicates: number;
  /** Share of events that are two to six hours late; the others up to five minutes. */
  readonly late: number;
  /** Share of events that are not valid JSON. `late` + `poison` <= 1. */
  readonly poison: number;
  /** Adds the arrival time under this name as a last member, RFC 3339. */
  readonly arrivalField?: string | undefined;
}

/** Consecutive lines; the three arrays have the same length. */
export interface GeneratedChunk {
  /** JSON texts without a line feed; ASCII only. */
  readonly values: readonly string[];
  /** The customer, or `unknown` where a poison line has none. */
  readonly keys: readonly string[];
  /** Milliseconds since the epoch, not descending. */
  readonly arrivalsMs: readonly number[];
}

const CUSTOMERS = 10_000;
const REGIONS = ['us-east-1', 'us-west-2', 'eu-west-1', 'eu-central-1', 'ap-south-1'];
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH'];
const STATUSES = [200, 201, 204, 400, 401, 404, 429, 500, 503];
const RESOURCES =
  'users orders invoices payments search reports webhooks files sessions tokens'.split(' ');
const VERBS = 'list get create update export'.split(' ');
const ENDPOINTS = RESOURCES.flatMap((resource) => VERBS.map((verb) => `/v1/${resource}/${verb}`));
const CUSTOMER_NUMBERS = Array.from({ length: CUSTOMERS }, (_, i) => String(i).padStart(5, '0'));
const BYTE_HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

const CUSTOMER_CHOICE = new WeightedChoice(zipfWeights(CUSTOMERS, 1.1));
const ENDPOINT_CHOICE = new WeightedChoice(zipfWeights(ENDPOINTS.length, 0.8));
const METHOD_CHOICE = new WeightedChoice([0.62, 0.2, 0.09, 0.04, 0.05]);
const STATUS_CHOICE = new WeightedChoice([
  0.78, 0.07, 0.04, 0.03, 0.015, 0.03, 0.015, 0.012, 0.008,
]);
const REGION_CHOICE = new WeightedChoice([0.35, 0.2, 0.25, 0.12, 0.08]);

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const JITTER_MS = 5 * MINUTE_MS;
const LATE_MIN_MS = 2 * HOUR_MS;
const LATE_SPREAD_MS = 4 * HOUR_MS;
const RESEND_MS = 10 * MINUTE_MS;

interface Line {
  readonly value: string;
  readonly key: string;
  readonly arrivalMs: number;
}

/** Hands out the lines chunk by chunk; use once. */
export class UsageEventGenerator {
  readonly #options: GeneratorOptions;
  readonly #random: SeededRandom;
  readonly #tally: TruthTally;
  readonly #resends = new ResendHeap();
  readonly #uniques: number;
  #unique = 0;
  /** Copies still to be assigned an original. */
  #resendsLeft: number;
  /** Copies due whose candidate was poison; the next valid event takes them. */
  #resendsOwed = 0;
  #lastValid: Line | undefined;

  constructor(options: GeneratorOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#tally = new TruthTally(options.seed);
    // All poison leaves no valid line to repeat.
    this.#resendsLeft = options.poison >= 1 ? 0 : Math.floor(options.events * options.duplicates);
    this.#uniques = options.events - this.#resendsLeft;
  }

  /**
   * The next lines.
   * @param linesMax upper bound on their number
   * @returns undefined after the last line
   */
  next(linesMax: number): GeneratedChunk | undefined {
    const values: string[] = [];
    const keys: string[] = [];
    const arrivalsMs: number[] = [];
    while (values.length < linesMax) {
      const line = this.#nextLine();
      if (!line) break;
      this.#tally.line(line.value.length + 1);
      values.push(line.value);
      keys.push(line.key);
      arrivalsMs.push(line.arrivalMs);
    }
    return values.length === 0 ? undefined : { values, keys, arrivalsMs };
  }

  /** The truth about all lines handed out so far. */
  truth(): Truth {
    return this.#tally.truth();
  }

  #nextLine(): Line | undefined {
    if (this.#unique === this.#uniques) {
      this.#resendRest();
      return this.#takeResend();
    }
    const { startMs, spanMs } = this.#options;
    const arrivalMs = startMs + Math.floor((this.#unique * spanMs) / this.#uniques);
    if (this.#resends.firstMs < arrivalMs) return this.#takeResend();
    return this.#newEvent(arrivalMs);
  }

  #takeResend(): Line | undefined {
    const line = this.#resends.take();
    if (line) this.#tally.duplicate();
    return line;
  }

  #newEvent(arrivalMs: number): Line {
    const random = this.#random;
    const fate = random.unit();
    const late = fate < this.#options.late;
    const poison = !late && fate < this.#options.late + this.#options.poison;
    const delay = late ? LATE_MIN_MS + random.below(LATE_SPREAD_MS) : random.below(JITTER_MS);
    const customer = CUSTOMER_CHOICE.choose(random);
    const endpoint = ENDPOINT_CHOICE.choose(random);
    const requestBytes = Math.floor(random.logNormal(6.5, 1.1)) + 40;
    const responseBytes = Math.floor(random.logNormal(8.2, 1.3)) + 20;
    const latencyHundredths = Math.round(random.logNormal(3.6, 0.8) * 100);
    const eventMs = arrivalMs - delay;
    const number = CUSTOMER_NUMBERS[customer]!;
    const arrivalField = this.#options.arrivalField;
    const value =
      `{"event_id":"${this.#eventId()}","customer_id":"cust_${number}",` +
      `"api_key_id":"ak_${number}_${1 + random.below(3)}","endpoint":"${ENDPOINTS[endpoint]}",` +
      `"method":"${METHODS[METHOD_CHOICE.choose(random)]}",` +
      `"status_code":${STATUSES[STATUS_CHOICE.choose(random)]},` +
      `"request_bytes":${requestBytes},"response_bytes":${responseBytes},` +
      `"latency_ms":${latencyHundredths / 100},"region":"${REGIONS[REGION_CHOICE.choose(random)]}",` +
      `"event_time":"${instantText(eventMs)}"${
        arrivalField === undefined
          ? ''
          : `,${JSON.stringify(arrivalField)}:"${instantText(arrivalMs)}"`
      }}`;
    const resend = this.#drawResend();
    this.#unique++;
    if (poison) {
      this.#tally.invalid();
      if (resend) this.#resendsOwed++;
      return this.#poison(value, `cust_${number}`, arrivalMs);
    }
    this.#tally.valid({
      eventMs,
      group: customer * ENDPOINTS.length + endpoint,
      late,
      requestBytes,
      responseBytes,
      latencyHundredths,
    });
    const line = { value, key: `cust_${number}`, arrivalMs };
    this.#lastValid = line;
    const copies = this.#resendsOwed + (resend ? 1 : 0);
    this.#resendsOwed = 0;
    for (let copy = 0; copy < copies; copy++) this.#scheduleResend(line);
    return line;
  }

  /** Version 4 UUID layout is not claimed: sixteen random bytes, as the peer writes them. */
  #eventId(): string {
    const [a, b, c, d] = [this.#hex8(), this.#hex8(), this.#hex8(), this.#hex8()];
    return `${a}-${b.slice(0, 4)}-${b.slice(4)}-${c.slice(0, 4)}-${c.slice(4)}${d}`;
  }

  #hex8(): string {
    const bits = this.#random.uint32();
    return (
      BYTE_HEX[bits >>> 24]! +
      BYTE_HEX[(bits >>> 16) & 255]! +
      BYTE_HEX[(bits >>> 8) & 255]! +
      BYTE_HEX[bits & 255]!
    );
  }

  #poison(value: string, key: string, arrivalMs: number): Line {
    switch (this.#random.below(3)) {
      case 0:
        return { value: value.slice(0, Math.floor((value.length * 2) / 3)), key, arrivalMs };
      case 1:
        return { value: value.replace('"status_code":', '"status_code":oops'), key, arrivalMs };
      default:
        return { value: `not json at all #${this.#unique - 1}`, key: 'unknown', arrivalMs };
    }
  }

  /** Selection sampling: exactly the wanted number of events is repeated (Knuth, Algorithm S). */
  #drawResend(): boolean {
    const candidates = this.#uniques - this.#unique;
    if (this.#random.unit() * candidates >= this.#resendsLeft) return false;
    this.#resendsLeft--;
    return true;
  }

  #scheduleResend(line: Line): void {
    const { startMs, spanMs } = this.#options;
    const delayed = line.arrivalMs + 1 + this.#random.below(RESEND_MS - 1);
    const arrivalMs = Math.max(line.arrivalMs, Math.min(delayed, startMs + spanMs - 1));
    this.#resends.add({ ...line, arrivalMs });
  }

  /** More copies than candidates, or poison at the very end: the last valid event takes them. */
  #resendRest(): void {
    if (!this.#lastValid) return;
    for (; this.#resendsOwed + this.#resendsLeft > 0; ) {
      if (this.#resendsOwed > 0) this.#resendsOwed--;
      else this.#resendsLeft--;
      this.#scheduleResend(this.#lastValid);
    }
  }
}

/** Copies by arrival time; equal times come out in the order they went in (G1). */
class ResendHeap {
  readonly #heap: { readonly line: Line; readonly order: number }[] = [];
  #added = 0;

  /** Infinity when empty. */
  get firstMs(): number {
    return this.#heap[0]?.line.arrivalMs ?? Number.POSITIVE_INFINITY;
  }

  add(line: Line): void {
    const heap = this.#heap;
    heap.push({ line, order: this.#added++ });
    for (let child = heap.length - 1; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (!this.#before(child, parent)) break;
      this.#swap(child, parent);
      child = parent;
    }
  }

  take(): Line | undefined {
    const heap = this.#heap;
    if (heap.length === 0) return undefined;
    this.#swap(0, heap.length - 1);
    const { line } = heap.pop()!;
    for (let parent = 0; ; ) {
      let child = 2 * parent + 1;
      if (child + 1 < heap.length && this.#before(child + 1, child)) child++;
      if (child >= heap.length || !this.#before(child, parent)) return line;
      this.#swap(child, parent);
      parent = child;
    }
  }

  #before(a: number, b: number): boolean {
    const [x, y] = [this.#heap[a]!, this.#heap[b]!];
    return (
      x.line.arrivalMs < y.line.arrivalMs ||
      (x.line.arrivalMs === y.line.arrivalMs && x.order < y.order)
    );
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap;
    [heap[a], heap[b]] = [heap[b]!, heap[a]!];
  }
}
