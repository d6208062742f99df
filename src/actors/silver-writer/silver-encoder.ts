/** Derived rows as the data files of silver and of the dead letters. For compute threads. */
import { type ColumnBatch, columnOf, type Vector } from '../../pipeline/columns.ts';
import type { EventConfig } from '../../pipeline/pipeline-config.ts';
import type { DeadLetterRows } from '../../pipeline/silver/dead-letters.ts';
import type { SilverRows } from '../../pipeline/silver/silver-rows.ts';
import { struct } from '../../pipeline/types.ts';
import { computeStats } from '../../storage/delta/stats.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { DEAD_LETTER_ENCODING, silverEncoding } from '../file-settings.ts';

export interface EncodedSilverFile {
  readonly dateDays: number;
  readonly rows: number;
  readonly parquet: Uint8Array;
  readonly stats: string;
  /** 24 bytes a row; stored beside the file so that a restart need not read the rows. */
  readonly fingerprints: Uint8Array;
  /** Smallest and largest event time, microseconds since the epoch, rounded outwards. */
  readonly eventTimeMin: number;
  readonly eventTimeMax: number;
  readonly goldBatch: ColumnBatch;
}

export interface EncodedDeadLetterFile {
  readonly dateDays: number;
  readonly rows: number;
  readonly parquet: Uint8Array;
  readonly stats: string;
}

/** Encodes the rows of one event schema. */
export class SilverEncoder {
  readonly #codec: ParquetCodec;
  readonly #event: EventConfig;
  readonly #goldColumns: readonly string[];

  /** @param goldColumns those that gold will want of each silver file */
  constructor(codec: ParquetCodec, event: EventConfig, goldColumns: readonly string[]) {
    this.#codec = codec;
    this.#event = event;
    this.#goldColumns = goldColumns;
  }

  silver({ dateDays, batch, fingerprints }: SilverRows): EncodedSilverFile {
    const [eventTimeMin, eventTimeMax] = timeRange(columnOf(batch, this.#event.time.field)!);
    return {
      dateDays,
      rows: batch.length,
      parquet: this.#codec.encode(batch, silverEncoding(this.#event.id)),
      stats: computeStats(batch),
      fingerprints,
      eventTimeMin,
      eventTimeMax,
      goldBatch: project(batch, this.#goldColumns),
    };
  }

  deadLetters({ dateDays, batch }: Omit<DeadLetterRows, 'bronzeVersion'>): EncodedDeadLetterFile {
    return {
      dateDays,
      rows: batch.length,
      parquet: this.#codec.encode(batch, DEAD_LETTER_ENCODING),
      stats: computeStats(batch),
    };
  }
}

function project(batch: ColumnBatch, names: readonly string[]): ColumnBatch {
  const positions = names.map((name) => batch.schema.fields.findIndex((f) => f.name === name));
  return {
    schema: struct(positions.map((position) => batch.schema.fields[position]!)),
    length: batch.length,
    columns: positions.map((position) => batch.columns[position]!),
  };
}

/** Range of a timestamp column without a BigInt per row; a double is exact within years 1684 to 2255. */
function timeRange(times: Vector): [number, number] {
  const { buffer, byteOffset } = times.values as BigInt64Array;
  const words = new Int32Array(buffer, byteOffset, times.length * 2);
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let row = 0; row < times.length; row += 1) {
    const micros = words[2 * row + 1]! * 4_294_967_296 + (words[2 * row]! >>> 0);
    if (micros < min) min = micros;
    if (micros > max) max = micros;
  }
  return [Math.floor(min) - 64, Math.ceil(max) + 64];
}
