/**
 * The silver thread: bronze rows to typed silver rows and dead letters, with the dedup index of the
 * buckets it serves. Runs as a worker thread.
 */
import { bronzeFileSchema } from '../../pipeline/bronze.ts';
import { type ColumnBatch, transferablesOf } from '../../pipeline/columns.ts';
import type { EventConfig, LateConfig } from '../../pipeline/pipeline-config.ts';
import { SilverDeriver, type SilverResult } from '../../pipeline/silver/deriver.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import { groupByRows } from '../file-settings.ts';
import { serveThread, Transferring } from '../runtime/compute-thread.ts';
import { createDedupCalls } from './dedup-calls.ts';
import type { Shard } from './shard.ts';
import {
  type EncodedDeadLetterFile,
  type EncodedSilverFile,
  SilverEncoder,
} from './silver-encoder.ts';

export interface SilverThreadData {
  readonly event: EventConfig;
  readonly late: LateConfig;
  /** Other schemas that rows of the table may have been derived under. */
  readonly otherEvents: readonly EventConfig[];
  /** Columns that gold will want of each silver file. */
  readonly goldColumns: readonly string[];
  readonly shard: Shard;
  /** Bound on the heads of the dedup index that are kept in memory, bytes. */
  readonly headBytesMax: number;
}

/** One bronze file of a span: its rows as columns when they were still in memory, else its bytes. */
export type BronzeInput = {
  readonly bronzeVersion: number;
  readonly date: string | null;
  readonly rows: number;
} & ({ readonly batch: ColumnBatch } | { readonly parquet: Uint8Array });

export interface DerivedRows {
  readonly silver: readonly EncodedSilverFile[];
  readonly dead: readonly EncodedDeadLetterFile[];
  readonly counts: Readonly<Record<string, number>>;
  readonly countsByFlag: Readonly<Record<string, number>>;
  readonly watermarksMicros: ReadonlyMap<number, bigint>;
  /** Ids of the dedup index that came since its last `freeze`. */
  readonly hotIds: number;
}

/**
 * One silver thread's calls and what it holds between them.
 * @param codec of data files; not shared with another thread
 */
export function createSilverThreadApi(
  { event, late, otherEvents, goldColumns, shard, headBytesMax }: SilverThreadData,
  codec: ParquetCodec = createParquetCodec(),
) {
  const { index, calls } = createDedupCalls(shard, headBytesMax);
  const own = {
    deriver: new SilverDeriver({ event, late, otherEvents }, index),
    encoder: new SilverEncoder(codec, event, goldColumns),
  };
  const underSchema = (earlier: EventConfig): typeof own => {
    const isOther = ({ schemaVersion }: EventConfig): boolean =>
      schemaVersion !== earlier.schemaVersion;
    const others = [event, ...otherEvents].filter(isOther);
    return {
      deriver: new SilverDeriver({ event: earlier, late, otherEvents: others }, index),
      encoder: new SilverEncoder(codec, earlier, []),
    };
  };

  const api = {
    ...calls,

    /** Derives a span. Dead letters of bronze versions up to `deadCovered` are in their table already. */
    async derive(call: {
      readonly inputs: readonly BronzeInput[];
      readonly deadCovered: number;
      /** Buckets to derive rows of; undefined: all there are. */
      readonly buckets: ReadonlySet<number> | undefined;
      /** One of `otherEvents` instead of the thread's own; its rows come without columns for gold. */
      readonly earlierEvent: EventConfig | undefined;
    }): Promise<Transferring<DerivedRows>> {
      const { deriver, encoder } = call.earlierEvent ? underSchema(call.earlierEvent) : own;
      const totals = new SpanTotals();
      const silver: EncodedSilverFile[] = [];
      const dead: EncodedDeadLetterFile[] = [];
      for (const group of inputGroups(call.inputs)) {
        const inputs = group.map((input) => ({
          bronzeVersion: input.bronzeVersion,
          batch: 'batch' in input ? input.batch : codec.decode(input.parquet, bronzeFileSchema()),
        }));
        const result = await deriver.derive(inputs, {
          count: shard.bucketCount,
          owned: call.buckets,
        });
        silver.push(...result.silver.map((rows) => encoder.silver(rows)));
        const uncovered = result.dead.filter((rows) => rows.bronzeVersion > call.deadCovered);
        dead.push(...uncovered.map((rows) => encoder.deadLetters(rows)));
        totals.add(result);
      }
      const transfer = new Set<ArrayBuffer>();
      for (const { parquet, fingerprints, goldBatch } of silver) {
        transfer.add(parquet.buffer as ArrayBuffer);
        transfer.add(fingerprints.buffer as ArrayBuffer);
        for (const buffer of transferablesOf(goldBatch)) transfer.add(buffer);
      }
      for (const { parquet } of dead) transfer.add(parquet.buffer as ArrayBuffer);
      const { counts, countsByFlag, watermarksMicros } = totals;
      const { hotIds } = index;
      return new Transferring({ silver, dead, counts, countsByFlag, watermarksMicros, hotIds }, [
        ...transfer,
      ]);
    },
  };

  return api;
}

/** Sums over the groups of a span. */
class SpanTotals {
  readonly counts: Record<string, number> = {};
  readonly countsByFlag: Record<string, number> = {};
  readonly watermarksMicros = new Map<number, bigint>();

  add(result: SilverResult): void {
    for (const [name, count] of Object.entries(result.counts)) {
      this.counts[name] = (this.counts[name] ?? 0) + count;
    }
    for (const [flag, count] of Object.entries(result.countsByFlag)) {
      this.countsByFlag[flag] = (this.countsByFlag[flag] ?? 0) + count;
    }
    for (const [partition, micros] of result.watermarksMicros) {
      const before = this.watermarksMicros.get(partition);
      if (before === undefined || before < micros) this.watermarksMicros.set(partition, micros);
    }
  }
}

/**
 * Inputs in groups that are derived one after another, to bound memory. The files of a version are in
 * the order of their rows only when they are of one date; otherwise the version stays together.
 */
function inputGroups(inputs: readonly BronzeInput[]): readonly BronzeInput[][] {
  const units: BronzeInput[][] = [];
  for (const version of Map.groupBy(inputs, ({ bronzeVersion }) => bronzeVersion).values()) {
    const oneDate = version.every(({ date }) => date === version[0]!.date);
    units.push(...(oneDate ? version.map((input) => [input]) : [version]));
  }
  const rowsOf = (unit: readonly BronzeInput[]): number =>
    unit.reduce((sum, { rows }) => sum + rows, 0);
  return groupByRows(units, rowsOf).map((group) => group.flat());
}

/** Type of the calls this thread answers. */
export type SilverThreadApi = ReturnType<typeof createSilverThreadApi>;

serveThread(createSilverThreadApi);
