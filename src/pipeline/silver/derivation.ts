/**
 * What a derivation produces: rows by date, dead letters, counts and watermarks, gathered sub-batch
 * by sub-batch. Pure.
 *
 * V1 Every row of an owned bucket is exactly one of: silver row, duplicate, conflict, dead letter
 *    (P6).
 * V5 A watermark is the latest event time of a partition's silver rows and duplicates that are not
 *    in the future; one event with a wild time closes nothing. There is none before 1970: it is
 *    committed as the version of a txn, which is never negative.
 */
import { assert } from '../../errors.ts';
import type { StructType } from '../types.ts';
import { isAfter } from './arrival.ts';
import { DeadLetterCollector, type DeadLetterRows } from './dead-letters.ts';
import { SilverCollector, type SilverRows } from './silver-rows.ts';

/** How many rows went where. `late`, `future` and `flagged` count silver rows. */
export interface SilverCounts {
  [name: string]: number;
  /** Rows of owned buckets: silverRows + duplicates + conflicts + deadLetters. */
  bronzeRows: number;
  silverRows: number;
  duplicates: number;
  /** Dead letters flagged conflicting_duplicate. */
  conflicts: number;
  /** Every other dead letter. */
  deadLetters: number;
  late: number;
  future: number;
  flagged: number;
}

export interface SilverResult {
  /** By date. */
  readonly silver: readonly SilverRows[];
  /** By bronze version and date. */
  readonly dead: readonly DeadLetterRows[];
  readonly counts: SilverCounts;
  /** Rows per flag, silver rows and dead letters. */
  readonly countsByFlag: Readonly<Record<string, number>>;
  readonly countsByBronzeVersion: ReadonlyMap<number, SilverCounts>;
  /** Per partition, microseconds since the epoch (V5). */
  readonly watermarksMicros: ReadonlyMap<number, bigint>;
}

/** All zero. */
export function newCounts(): SilverCounts {
  return {
    bronzeRows: 0,
    silverRows: 0,
    duplicates: 0,
    conflicts: 0,
    deadLetters: 0,
    late: 0,
    future: 0,
    flagged: 0,
  };
}

/** What one call of derive has produced so far. */
export class Derivation {
  readonly silver: SilverCollector;
  readonly dead = new DeadLetterCollector();
  readonly #counts = newCounts();
  readonly #countsByFlag = new Map<string, number>();
  readonly #countsByBronzeVersion = new Map<number, SilverCounts>();
  readonly #watermarks = new Map<number, { low: number; high: number }>();

  constructor(schema: StructType, rowsExpected: number) {
    this.silver = new SilverCollector(schema, rowsExpected);
  }

  countFlag(flag: string): void {
    this.#countsByFlag.set(flag, (this.#countsByFlag.get(flag) ?? 0) + 1);
  }

  addCounts(bronzeVersion: number, counts: SilverCounts): void {
    let ofVersion = this.#countsByBronzeVersion.get(bronzeVersion);
    if (ofVersion === undefined) {
      ofVersion = newCounts();
      this.#countsByBronzeVersion.set(bronzeVersion, ofVersion);
    }
    for (const [name, count] of Object.entries(counts)) {
      this.#counts[name]! += count;
      ofVersion[name]! += count;
    }
  }

  raiseWatermark(partition: number, low: number, high: number): void {
    const watermark = this.#watermarks.get(partition);
    if (watermark === undefined) this.#watermarks.set(partition, { low, high });
    else if (isAfter(low, high, watermark.low, watermark.high)) {
      watermark.low = low;
      watermark.high = high;
    }
  }

  finish(): SilverResult {
    const counts = this.#counts;
    assert(
      counts.bronzeRows ===
        counts.silverRows + counts.duplicates + counts.conflicts + counts.deadLetters,
      'every row is accounted for (V1)',
      counts,
    );
    const watermarksMicros = new Map<number, bigint>();
    for (const [partition, { low, high }] of this.#watermarks) {
      if (high < 0) continue;
      watermarksMicros.set(partition, (BigInt(high) << 32n) | BigInt(low >>> 0));
    }
    return {
      silver: this.silver.finish(),
      dead: this.dead.finish(),
      counts,
      countsByFlag: Object.fromEntries(this.#countsByFlag),
      countsByBronzeVersion: this.#countsByBronzeVersion,
      watermarksMicros,
    };
  }
}
