/**
 * Dead letters: bronze rows that cannot be in silver, with their flags and one sentence that says
 * why. Pure.
 *
 * L1 Within a file rows stand in the order of bronze, wherever sub-batches were cut.
 */
import type { ColumnBatch } from '../columns.ts';
import { dateOf } from './arrival.ts';
import type { BronzeRows } from './bronze-rows.ts';
import type { ColumnBuilder } from './growable-column.ts';
import { builderFor, ListBuilder } from './growable-columns.ts';
import { BytesBuilder } from './growable-scalars.ts';
import { deadLetterFileSchema } from './tables.ts';

/** A row that is refused. */
export interface DeadLetter {
  /** Row of its bronze input. */
  readonly row: number;
  readonly flags: readonly string[];
  readonly error: string;
}

/** Dead letters of one bronze version and date; `batch` is of `deadLetterFileSchema()`. */
export interface DeadLetterRows {
  /** UTC date of the Kafka timestamp, days since the epoch. */
  readonly dateDays: number;
  readonly bronzeVersion: number;
  readonly batch: ColumnBatch;
}

const encoder = new TextEncoder();

/** Collects dead letters by bronze version and date. */
export class DeadLetterCollector {
  readonly #sets = new Map<string, DeadLetterSet>();

  /** Adds rows of `input`, in the order of bronze. */
  add(input: BronzeRows, letters: readonly DeadLetter[]): void {
    const byDate = new Map<number, DeadLetter[]>();
    for (const letter of letters) {
      const words = input.timestampWords;
      const dateDays = dateOf(words[2 * letter.row]!, words[2 * letter.row + 1]!);
      const sameDate = byDate.get(dateDays);
      if (sameDate === undefined) byDate.set(dateDays, [letter]);
      else sameDate.push(letter);
    }
    for (const [dateDays, sameDate] of byDate) {
      const key = `${input.bronzeVersion} ${dateDays}`;
      let set = this.#sets.get(key);
      if (set === undefined) {
        set = new DeadLetterSet(input.bronzeVersion, dateDays);
        this.#sets.set(key, set);
      }
      set.add(input, sameDate);
    }
  }

  /** Everything added, by bronze version and date. */
  finish(): DeadLetterRows[] {
    return [...this.#sets.values()]
      .map((set) => set.finish())
      .sort((a, b) => a.bronzeVersion - b.bronzeVersion || a.dateDays - b.dateDays);
  }
}

class DeadLetterSet {
  readonly #bronzeVersion: number;
  readonly #dateDays: number;
  readonly #schema = deadLetterFileSchema();
  /** The columns that are the bronze row's own. */
  readonly #copied: readonly ColumnBuilder[];
  readonly #flagTexts: BytesBuilder;
  readonly #flags: ListBuilder;
  readonly #errors: BytesBuilder;

  constructor(bronzeVersion: number, dateDays: number) {
    this.#bronzeVersion = bronzeVersion;
    this.#dateDays = dateDays;
    const types = this.#schema.fields.map((f) => f.type);
    const flagsType = types.at(-2)!;
    const errorType = types.at(-1)!;
    this.#copied = types.slice(0, -2).map(builderFor);
    this.#flagTexts = new BytesBuilder(errorType);
    this.#flags = new ListBuilder(flagsType, this.#flagTexts);
    this.#errors = new BytesBuilder(errorType);
  }

  add(input: BronzeRows, letters: readonly DeadLetter[]): void {
    const rows = Int32Array.from(letters, (letter) => letter.row);
    const sources = [
      input.rawValue,
      input.rawBytes,
      input.key,
      input.topic,
      input.partition,
      input.offset,
      input.timestamp,
    ];
    for (const [i, builder] of this.#copied.entries()) {
      builder.appendRows(sources[i]!, rows, rows.length);
    }
    for (const { flags, error } of letters) {
      for (const flag of flags) appendText(this.#flagTexts, flag);
      this.#flags.closeRow();
      appendText(this.#errors, error);
    }
  }

  finish(): DeadLetterRows {
    const columns = [...this.#copied, this.#flags, this.#errors].map((builder) => builder.view());
    const batch = { schema: this.#schema, length: this.#errors.length, columns };
    return { dateDays: this.#dateDays, bronzeVersion: this.#bronzeVersion, batch };
  }
}

function appendText(builder: BytesBuilder, text: string): void {
  const bytes = encoder.encode(text);
  builder.append(bytes, 0, bytes.length);
}
