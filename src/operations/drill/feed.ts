/**
 * Events for a drill at a steady rate, with the truth about all of them. Some lines come twice all the
 * time, some are late, some are no events.
 *
 * FE1 A record counts as produced when the source has confirmed it, so the truth is never ahead.
 */
import type { Clock } from '../../ambient.ts';
import { type GeneratedChunk, UsageEventGenerator } from '../../pipeline/generator.ts';
import { SeededRandom } from '../../pipeline/generator/seeded-random.ts';
import type { NewRecord, RecordSink } from '../../storage/source/record-sink.ts';

/** What the tables must hold in the end. */
export interface DrillTruth {
  /** Records in bronze. */
  readonly records: number;
  /** Distinct valid events: rows of silver, requests in gold. */
  readonly events: number;
  readonly late: number;
  /** Records that are no events: dead letters. */
  readonly invalid: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
}

/** What a flood is made of. */
export interface Flood {
  readonly records: number;
  /** Arrivals are dated from here on, milliseconds since the epoch; default now. */
  readonly startMs?: number;
  /** Share of events two to six hours late. */
  readonly late?: number;
}

const STEP_MS = 100;
/** Longer than any drill feeds. */
const SPAN_MS = 3_600_000;
const SHARES = { duplicates: 0, late: 0.01, poison: 0.005 };
/** Of the lines that are sent, this many are sent again later. */
const REPEATED = 0.02;
const CHUNK = 2_000;

export class Feed {
  readonly #sink: RecordSink;
  readonly #clock: Clock;
  readonly #rate: number;
  readonly #random: SeededRandom;
  readonly #generators: UsageEventGenerator[] = [];
  /** Every valid event sent so far, as it was sent first. */
  readonly #sent: NewRecord[] = [];
  readonly #stop = new AbortController();
  #steady: UsageEventGenerator;
  #withField: UsageEventGenerator | undefined;
  #appending: Promise<void> = Promise.resolve();
  #loop: Promise<void> | undefined;
  #failure: unknown;
  #seed: number;
  #repeated = 0;
  #produced = 0;

  /** @param rate records per second */
  constructor(options: {
    readonly sink: RecordSink;
    readonly clock: Clock;
    readonly rate: number;
    readonly seed: number;
  }) {
    this.#sink = options.sink;
    this.#clock = options.clock;
    this.#rate = options.rate;
    this.#seed = options.seed;
    this.#random = new SeededRandom(options.seed);
    this.#steady = this.#generator({ events: this.#rate * (SPAN_MS / 1000), spanMs: SPAN_MS });
  }

  /** Records that the source has. */
  get produced(): number {
    return this.#produced;
  }

  /** Begins to send. */
  start(): void {
    this.#loop ??= this.#run().catch((thrown: unknown) => {
      this.#failure = thrown;
    });
  }

  /** Ends the steady stream. @throws PipelineError when the source refused records */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Ends the stream and lets the source go. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#sink.close();
  }

  /** From now on new events carry their arrival time as a further field. */
  addField(name: string): void {
    const events = this.#rate * (SPAN_MS / 1000);
    this.#withField = this.#generator({ events, spanMs: SPAN_MS, arrivalField: name });
    this.#steady = this.#withField;
  }

  /** Valid events that carry the further field. */
  get eventsWithField(): number {
    return this.#withField?.truth().unique_valid ?? 0;
  }

  /** Sends many new records at once. */
  async flood({ records, startMs, late = SHARES.late }: Flood): Promise<void> {
    const spanMs = 60_000;
    const generator = this.#generator({ events: records, spanMs, startMs, late });
    for (let chunk = generator.next(CHUNK); chunk; chunk = generator.next(CHUNK)) {
      await this.#send(recordsOf(chunk));
    }
  }

  /**
   * Sends every event that was sent so far once more, with other keys if asked, which leads most copies
   * to other partitions.
   */
  async repeatAll(otherKeys: boolean): Promise<void> {
    const sent = [...this.#sent];
    const timestampMs = Math.round(this.#clock.nowMs());
    for (let from = 0; from < sent.length; from += CHUNK) {
      const copies = sent.slice(from, from + CHUNK).map(({ key, value }, i): NewRecord => {
        return { key: otherKeys ? `copy-${from + i}` : key, value, timestampMs };
      });
      await this.#append(copies);
      this.#repeated += copies.length;
    }
  }

  truth(): DrillTruth {
    const all = this.#generators.map((generator) => generator.truth());
    const sum = (of: (truth: (typeof all)[number]) => number): number =>
      all.reduce((total, truth) => total + of(truth), 0);
    return {
      records: sum(({ lines }) => lines) + this.#repeated,
      events: sum((truth) => truth.unique_valid),
      late: sum(({ late }) => late),
      invalid: sum(({ invalid }) => invalid),
      requestBytes: sum((truth) => truth.sum_request_bytes),
      responseBytes: sum((truth) => truth.sum_response_bytes),
    };
  }

  #generator(shape: {
    readonly events: number;
    readonly spanMs: number;
    readonly startMs?: number | undefined;
    readonly late?: number;
    readonly arrivalField?: string;
  }): UsageEventGenerator {
    const startMs = shape.startMs ?? Math.round(this.#clock.nowMs());
    const seed = this.#seed++;
    const generator = new UsageEventGenerator({ ...SHARES, ...shape, startMs, seed });
    this.#generators.push(generator);
    return generator;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const startedMs = this.#clock.monotonicMs();
    for (let taken = 0; !signal.aborted; ) {
      const due = Math.floor(((this.#clock.monotonicMs() - startedMs) * this.#rate) / 1000);
      const chunk = due > taken ? this.#steady.next(Math.min(due - taken, CHUNK)) : undefined;
      if (chunk) {
        taken += chunk.values.length;
        const records = recordsOf(chunk);
        await this.#send(records);
        await this.#repeatSome(records.length);
      }
      await this.#clock.sleep(STEP_MS, signal);
    }
  }

  /** FE1; in turn, so that copies come after what they copy. */
  #append(records: readonly NewRecord[]): Promise<void> {
    const appended = this.#appending.then(async () => {
      await this.#sink.append(records);
      this.#produced += records.length;
    });
    this.#appending = appended.catch(() => {});
    return appended;
  }

  async #send(records: readonly NewRecord[]): Promise<void> {
    await this.#append(records);
    // A copy of what is no event is no duplicate: it is one more dead letter.
    for (const record of records) if (isEvent(record.value)) this.#sent.push(record);
  }

  async #repeatSome(sent: number): Promise<void> {
    const count = Math.floor(sent * REPEATED + this.#random.unit());
    if (count === 0 || this.#sent.length === 0) return;
    const timestampMs = Math.round(this.#clock.nowMs());
    const copies = Array.from({ length: count }, (): NewRecord => {
      const record = this.#sent[this.#random.below(this.#sent.length)]!;
      return { ...record, timestampMs };
    });
    await this.#append(copies);
    this.#repeated += count;
  }
}

function isEvent(value: NewRecord['value']): boolean {
  try {
    JSON.parse(value.toString());
    return true;
  } catch {
    return false;
  }
}

function recordsOf({ values, keys, arrivalsMs }: GeneratedChunk): NewRecord[] {
  return values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! }));
}
