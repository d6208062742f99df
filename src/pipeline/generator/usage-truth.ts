/**
 * What a correct pipeline must end with for the events that were generated: the ground truth of
 * tests and of comparisons with other systems. Pure.
 */

/** Field names are those of the Spark peer's `truth.json`; every number is exact. */
export interface Truth {
  readonly lines: number;
  readonly seed: number;
  readonly unique_valid: number;
  /** Lines that repeat an earlier valid one byte for byte. */
  readonly duplicates: number;
  /** Unique valid events whose delay is two hours or more. */
  readonly late: number;
  /** Lines that are not JSON. */
  readonly invalid: number;
  /** Bytes of all lines with their line feeds. */
  readonly bytes: number;
  /** Groups of (hour of event time, customer, endpoint). */
  readonly gold_hourly_rows: number;
  /** Groups of (five minutes of event time, customer, endpoint). */
  readonly gold_5min_rows: number;
  /** Groups of (UTC day of event time, customer, endpoint). */
  readonly gold_daily_rows: number;
  readonly sum_request_bytes: number;
  readonly sum_response_bytes: number;
  /** Decimal text with two digits; as a double it would depend on the order of addition. */
  readonly sum_latency_ms: string;
}

/** Counts distinct safe integers >= 0 in 8 bytes each: JavaScript's Set takes five times that. */
export class DistinctIntegers {
  /** Open addressing; -1 is an empty slot. */
  #slots = new Float64Array(1024).fill(-1);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(value: number): void {
    if (this.#count * 2 >= this.#slots.length) this.#grow();
    const at = this.#find(value);
    if (this.#slots[at] === value) return;
    this.#slots[at] = value;
    this.#count++;
  }

  /** The slot that holds `value`, or the empty one where it belongs. */
  #find(value: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    const mixed = Math.imul(value | 0, 0x9e3779b1) ^ Math.imul((value / 2 ** 32) | 0, 0x85ebca6b);
    let at = (mixed ^ (mixed >>> 15)) & mask;
    while (slots[at] !== -1 && slots[at] !== value) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Float64Array(old.length * 4).fill(-1);
    for (const value of old) if (value !== -1) this.#slots[this.#find(value)] = value;
  }
}

/** Adds up what was generated. */
export class TruthTally {
  readonly #seed: number;
  readonly #groups: { readonly widthMs: number; readonly seen: DistinctIntegers }[] = [
    { widthMs: 3_600_000, seen: new DistinctIntegers() },
    { widthMs: 300_000, seen: new DistinctIntegers() },
    { widthMs: 86_400_000, seen: new DistinctIntegers() },
  ];
  #lines = 0;
  #valid = 0;
  #duplicates = 0;
  #late = 0;
  #invalid = 0;
  #bytes = 0;
  #requestBytes = 0;
  #responseBytes = 0;
  #latencyHundredths = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** One line of `bytes` bytes, its line feed included. */
  line(bytes: number): void {
    this.#lines++;
    this.#bytes += bytes;
  }

  duplicate(): void {
    this.#duplicates++;
  }

  invalid(): void {
    this.#invalid++;
  }

  /** @param group number of the (customer, endpoint) pair, below 2^20 */
  valid(event: {
    readonly eventMs: number;
    readonly group: number;
    readonly late: boolean;
    readonly requestBytes: number;
    readonly responseBytes: number;
    readonly latencyHundredths: number;
  }): void {
    this.#valid++;
    if (event.late) this.#late++;
    this.#requestBytes += event.requestBytes;
    this.#responseBytes += event.responseBytes;
    this.#latencyHundredths += event.latencyHundredths;
    for (const { widthMs, seen } of this.#groups) {
      seen.add(Math.floor(event.eventMs / widthMs) * 2 ** 20 + event.group);
    }
  }

  truth(): Truth {
    const hundredths = String(this.#latencyHundredths).padStart(3, '0');
    return {
      lines: this.#lines,
      seed: this.#seed,
      unique_valid: this.#valid,
      duplicates: this.#duplicates,
      late: this.#late,
      invalid: this.#invalid,
      bytes: this.#bytes,
      gold_hourly_rows: this.#groups[0]!.seen.count,
      gold_5min_rows: this.#groups[1]!.seen.count,
      gold_daily_rows: this.#groups[2]!.seen.count,
      sum_request_bytes: this.#requestBytes,
      sum_response_bytes: this.#responseBytes,
      sum_latency_ms: `${hundredths.slice(0, -2)}.${hundredths.slice(-2)}`,
    };
  }
}
