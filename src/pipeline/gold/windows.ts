/**
 * Tumbling windows of one aggregate, and the slots that group them into units of state and of
 * rewriting. Pure arithmetic on UTC time.
 *
 * - G1 Window k is [k * window, (k + 1) * window), aligned to the epoch; times before the epoch
 *   floor, they do not truncate.
 * - G2 A slot holds whole windows, and all of them start on one UTC date: a slot is rewritten in
 *   one partition of the gold table. A window of an hour or more is its own slot; shorter windows
 *   share the slot of the hour in which they start (so no window length needs to divide the hour).
 *
 * A slot and a window are identified by their start in milliseconds since the epoch.
 */
import { assert, PipelineError } from '../../errors.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const TWO_32 = 4_294_967_296;
/** Largest distance from the epoch that JavaScript and Delta readers agree on, in microseconds. */
const EVENT_TIME_MICROS_MAX = 8.64e18;

/** A half-open span of time in milliseconds since the epoch. */
export interface TimeSpan {
  /** Inclusive. */
  readonly fromMs: number;
  /** Exclusive. */
  readonly toMs: number;
}

/** The window grid of one aggregate. */
export class TumblingWindows {
  readonly windowMs: number;
  readonly #windowMicros: number;

  /** @param windowMs a positive whole number of milliseconds */
  constructor(windowMs: number) {
    assert(Number.isSafeInteger(windowMs * 1000) && windowMs > 0, 'window is a positive duration', {
      windowMs,
    });
    this.windowMs = windowMs;
    this.#windowMicros = windowMs * 1000;
  }

  /**
   * Start of the window of an instant given as the two halves of its int64 microseconds.
   * @param high signed upper 32 bits
   * @param low lower 32 bits, in either signedness
   * @throws PipelineError invalid when the instant is beyond what JavaScript's dates can hold
   */
  windowStartMs(high: number, low: number): number {
    const micros = high * TWO_32 + (low >>> 0);
    // Exact: quotient and floor of integers below 2^53 cannot round up to the next integer.
    if (micros >= -9e15 && micros <= 9e15) {
      return Math.floor(micros / this.#windowMicros) * this.windowMs;
    }
    if (Math.abs(micros) > EVENT_TIME_MICROS_MAX) {
      throw new PipelineError('invalid', 'TM_SCHEMA_MISMATCH', 'event time is out of range', {
        context: { eventTimeMicros: micros },
      });
    }
    const exact = (BigInt(high) << 32n) | BigInt(low >>> 0);
    const size = BigInt(this.#windowMicros);
    const remainder = exact % size;
    return Number((exact - (remainder < 0n ? remainder + size : remainder)) / 1000n);
  }

  /** The slot of the window that starts at `windowStartMs`. */
  slotOfWindow(windowStartMs: number): number {
    return this.windowMs >= HOUR_MS ? windowStartMs : Math.floor(windowStartMs / HOUR_MS) * HOUR_MS;
  }

  /** The slot of an instant in microseconds since the epoch. */
  slotOf(micros: bigint): number {
    return this.slotOfWindow(
      this.windowStartMs(Number(micros >> 32n), Number(micros & 0xffffffffn)),
    );
  }

  /**
   * Start of the first window of a slot; later than the slot's own start when 1 h is no multiple.
   */
  firstWindowMs(slot: number): number {
    return Math.ceil(slot / this.windowMs) * this.windowMs + 0; // + 0: never minus zero
  }

  /** Event times whose rows belong to the slot. */
  spanOfSlot(slot: number): TimeSpan {
    return {
      fromMs: this.firstWindowMs(slot),
      toMs: this.windowMs >= HOUR_MS ? slot + this.windowMs : this.firstWindowMs(slot + HOUR_MS),
    };
  }

  /** UTC date of the slot's windows, in days since the epoch: the gold partition it lives in. */
  dateOfSlot(slot: number): number {
    return Math.floor(slot / DAY_MS);
  }

  /** The slots of a UTC date, ascending. */
  slotsOfDate(date: number): number[] {
    const slots: number[] = [];
    const first = this.slotOfWindow(this.firstWindowMs(date * DAY_MS));
    const stepMs = Math.max(this.windowMs, HOUR_MS);
    for (let slot = first; slot < (date + 1) * DAY_MS; slot += stepMs) slots.push(slot);
    return slots;
  }
}
