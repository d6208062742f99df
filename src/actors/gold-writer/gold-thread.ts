/**
 * The gold thread: silver rows to windows per group. Holds the windows that are being updated. Runs
 * as a worker thread.
 *
 * Invariant GT1: a slot is either absent or holds every silver row of its windows up to the span
 * before the staged one; rows of a staged span are added to all its slots or the thread is thrown away.
 */
import { workerData } from 'node:worker_threads';
import { type ColumnBatch } from '../../pipeline/columns.ts';
import { GoldAggregator } from '../../pipeline/gold/gold-aggregator.ts';
import { silverProjection } from '../../pipeline/gold/projection.ts';
import type { AggregateConfig, EventConfig } from '../../pipeline/pipeline-config.ts';
import { silverFileSchema } from '../../pipeline/silver/tables.ts';
import { struct, type StructType } from '../../pipeline/types.ts';
import { computeStats } from '../../storage/delta/stats.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import { GOLD_ENCODING } from '../file-settings.ts';
import { serveCalls, Transferring } from '../runtime/compute-thread.ts';

export interface GoldThreadData {
  readonly aggregates: readonly AggregateConfig[];
  readonly event: EventConfig;
  /** Bound on resident windows, all aggregates together. */
  readonly stateBytesMax: number;
}

/** One silver file: its gold columns when they were still in memory, else its bytes. */
export type SilverInput = { readonly batch: ColumnBatch } | { readonly parquet: Uint8Array };

/** A slot that must be loaded from silver before the staged rows can be added. */
export interface MissingSlot {
  readonly aggregate: string;
  readonly slot: number;
  /** Microseconds since the epoch, inclusive and exclusive. */
  readonly startMicros: number;
  readonly endMicros: number;
}

export interface EncodedSlot {
  readonly aggregate: string;
  readonly slot: number;
  readonly dateDays: number;
  readonly rows: number;
  readonly parquet: Uint8Array;
  readonly stats: string;
}

const { aggregates, event, stateBytesMax } = workerData as GoldThreadData;
const codec = createParquetCodec();
const projection = projectedSchema();
const aggregators = new Map(
  aggregates.map((aggregate) => [aggregate.name, new GoldAggregator(aggregate, event)]),
);
let staged: readonly { readonly batch: ColumnBatch; readonly aggregates: ReadonlySet<string> }[] =
  [];

function projectedSchema(): StructType {
  const all = silverFileSchema(event);
  const names = new Set(silverProjection(aggregates, event));
  return struct(all.fields.filter(({ name }) => names.has(name)));
}

function columnsOf(input: SilverInput): ColumnBatch {
  return 'batch' in input ? input.batch : codec.decode(input.parquet, projection);
}

const api = {
  /**
   * Takes the silver rows of a span, each file for the aggregates that do not cover it yet.
   * @returns the slots they touch that are not resident
   */
  stage(call: {
    readonly inputs: readonly {
      readonly input: SilverInput;
      readonly aggregates: readonly string[];
    }[];
  }): readonly MissingSlot[] {
    staged = call.inputs.map(({ input, aggregates: names }) => ({
      batch: columnsOf(input),
      aggregates: new Set(names),
    }));
    const missing: MissingSlot[] = [];
    for (const [aggregate, aggregator] of aggregators) {
      for (const slot of touched(aggregate, aggregator)) {
        if (aggregator.isResident(slot)) continue;
        const { startMicros, endMicros } = aggregator.slotRange(slot);
        missing.push({ aggregate, slot, startMicros, endMicros });
      }
    }
    return missing;
  },

  /** Makes absent slots resident with the rows of one silver file that lie in them. */
  load(call: {
    readonly input: SilverInput | undefined;
    readonly slots: readonly { readonly aggregate: string; readonly slot: number }[];
  }): void {
    const bySlots = new Map<string, Set<number>>();
    for (const { aggregate, slot } of call.slots) {
      const aggregator = aggregators.get(aggregate)!;
      if (!aggregator.isResident(slot)) aggregator.create(slot);
      const slots = bySlots.get(aggregate) ?? new Set();
      bySlots.set(aggregate, slots.add(slot));
    }
    if (!call.input) return;
    const batch = columnsOf(call.input);
    for (const [aggregate, onlySlots] of bySlots)
      aggregators.get(aggregate)!.add(batch, { onlySlots });
  },

  /** Adds the staged rows and encodes every slot they touched. */
  finish(call: { readonly silverVersion: number }): Transferring<readonly EncodedSlot[]> {
    const encoded: EncodedSlot[] = [];
    for (const [aggregate, aggregator] of aggregators) {
      const slots = touched(aggregate, aggregator);
      for (const { batch, aggregates: names } of staged) {
        // GT1
        if (names.has(aggregate)) aggregator.add(batch);
      }
      for (const slot of slots) {
        const rows = aggregator.rows(slot, {
          source: 'streaming',
          isFinal: false,
          revision: 0,
          silverVersion: BigInt(call.silverVersion),
        });
        encoded.push({
          aggregate,
          slot,
          dateDays: Math.floor(aggregator.slotRange(slot).startMicros / 86_400_000_000),
          rows: rows.length,
          parquet: codec.encode(rows, GOLD_ENCODING),
          stats: computeStats(rows),
        });
      }
    }
    staged = [];
    evict();
    return new Transferring(
      encoded,
      encoded.map(({ parquet }) => parquet.buffer as ArrayBuffer),
    );
  },
};

function touched(aggregate: string, aggregator: GoldAggregator): ReadonlySet<number> {
  const slots = new Set<number>();
  for (const { batch, aggregates: names } of staged) {
    if (!names.has(aggregate)) continue;
    for (const slot of aggregator.slotsTouched(batch)) slots.add(slot);
  }
  return slots;
}

/** Drops the slots that were not touched for longest until the bound holds (P10). */
function evict(): void {
  for (;;) {
    let bytes = 0;
    let fullest: GoldAggregator | undefined;
    for (const aggregator of aggregators.values()) {
      bytes += aggregator.residentBytes;
      if (!fullest || aggregator.residentBytes > fullest.residentBytes) fullest = aggregator;
    }
    if (bytes <= stateBytesMax || !fullest) return;
    const slot = fullest.leastRecentlyUsed();
    if (slot === undefined) return;
    fullest.drop(slot);
  }
}

/** Type of the calls this thread answers. */
export type GoldThreadApi = typeof api;

serveCalls(api);
