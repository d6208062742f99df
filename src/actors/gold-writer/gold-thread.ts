/**
 * The gold thread: silver rows to windows per group. Holds the windows that are being updated. Runs
 * as a worker thread.
 *
 * Invariant GT1: a slot is either absent or holds every silver row of its windows up to the span
 * before the staged one; rows of a staged span are added to all its slots or the thread is thrown away.
 * Slots that are computed again are loaded as of the span's end instead, and take in no staged row.
 */
import { type ColumnBatch } from '../../pipeline/columns.ts';
import { GoldAggregator } from '../../pipeline/gold/gold-aggregator.ts';
import { silverProjectionSchema } from '../../pipeline/gold/projection.ts';
import { type PlannedSlot, type SlotName, slotSpan } from '../../pipeline/gold/slots.ts';
import type { AggregateConfig, EventConfig } from '../../pipeline/pipeline-config.ts';
import { computeStats } from '../../storage/delta/stats.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import { GOLD_ENCODING } from '../file-settings.ts';
import { serveThread, Transferring } from '../runtime/compute-thread.ts';

export interface GoldThreadData {
  readonly aggregates: readonly AggregateConfig[];
  readonly event: EventConfig;
  /** Bound on resident windows, all aggregates together. */
  readonly stateBytesMax: number;
}

/** One silver file: its gold columns when they were still in memory, else its bytes. */
export type SilverInput = { readonly batch: ColumnBatch } | { readonly parquet: Uint8Array };

/** The whole content of a slot after the span. */
export interface EncodedSlot {
  readonly aggregate: string;
  readonly slot: number;
  readonly dateDays: number;
  /** Silver rows in it. */
  readonly events: number;
  /** undefined when nothing is left in the slot. */
  readonly file: { readonly parquet: Uint8Array; readonly stats: string } | undefined;
}

/**
 * One gold thread's calls and what it holds between them.
 * @param codec of data files; not shared with another thread
 */
export function createGoldThreadApi(
  { aggregates, event, stateBytesMax }: GoldThreadData,
  codec: ParquetCodec = createParquetCodec(),
) {
  const projection = silverProjectionSchema(aggregates, event);
  const aggregators = new Map(
    aggregates.map((aggregate) => [aggregate.name, new GoldAggregator(aggregate, event)]),
  );
  let staged: readonly { readonly batch: ColumnBatch; readonly aggregates: ReadonlySet<string> }[] =
    [];
  /** Slots by aggregate that are to be encoded as they are loaded. */
  let recomputing = new Map<string, ReadonlySet<number>>();
  /** Slots by aggregate that take in no staged row. */
  let complete = new Map<string, ReadonlySet<number>>();

  function columnsOf(input: SilverInput): ColumnBatch {
    return 'batch' in input ? input.batch : codec.decode(input.parquet, projection);
  }

  const api = {
    /** Forgets slots, which are then loaded and encoded as they are. */
    recompute(call: { readonly slots: readonly SlotName[] }): void {
      recomputing = slotsByAggregate(call.slots);
      for (const { aggregate, slot } of call.slots) aggregators.get(aggregate)!.drop(slot);
    },

    /**
     * Takes the silver rows of a span, each file for the aggregates that want it.
     * @param call.complete slots that were computed again as of the span's end
     * @returns the slots that the rows touch and that must be loaded as of the span's start
     */
    stage(call: {
      readonly inputs: readonly {
        readonly input: SilverInput;
        readonly aggregates: readonly string[];
      }[];
      readonly complete: readonly SlotName[];
    }): readonly PlannedSlot[] {
      staged = call.inputs.map(({ input, aggregates: names }) => ({
        batch: columnsOf(input),
        aggregates: new Set(names),
      }));
      complete = slotsByAggregate(call.complete);
      const missing: PlannedSlot[] = [];
      for (const [aggregate, aggregator] of aggregators) {
        for (const slot of touched(aggregate, aggregator)) {
          if (!aggregator.isResident(slot))
            missing.push(slotSpan(aggregate, aggregator.windows, slot));
        }
      }
      return missing;
    },

    /** Makes absent slots resident with the rows of one silver file that lie in them. */
    load(call: {
      readonly input: SilverInput | undefined;
      readonly slots: readonly SlotName[];
    }): void {
      for (const { aggregate, slot } of call.slots) {
        const aggregator = aggregators.get(aggregate)!;
        if (!aggregator.isResident(slot)) aggregator.create(slot);
      }
      if (!call.input) return;
      const batch = columnsOf(call.input);
      for (const [aggregate, onlySlots] of slotsByAggregate(call.slots))
        aggregators.get(aggregate)!.add(batch, { onlySlots });
    },

    /** Adds the staged rows and encodes every slot that they touched or that is to be recomputed. */
    finish(call: { readonly silverVersion: number }): Transferring<readonly EncodedSlot[]> {
      const encoded: EncodedSlot[] = [];
      for (const [aggregate, aggregator] of aggregators) {
        const onlySlots = touched(aggregate, aggregator);
        for (const { batch, aggregates: names } of staged) {
          // GT1
          if (names.has(aggregate)) aggregator.add(batch, { onlySlots });
        }
        for (const slot of [...onlySlots, ...(recomputing.get(aggregate) ?? [])]) {
          const rows = aggregator.rows(slot, {
            source: 'streaming',
            isFinal: false,
            revision: 0,
            silverVersion: BigInt(call.silverVersion),
          });
          encoded.push({
            aggregate,
            slot,
            dateDays: aggregator.windows.dateOfSlot(slot),
            events: aggregator.eventCount(slot),
            file:
              rows.length === 0
                ? undefined
                : { parquet: codec.encode(rows, GOLD_ENCODING), stats: computeStats(rows) },
          });
        }
      }
      staged = [];
      recomputing = new Map();
      complete = new Map();
      evict();
      return new Transferring(
        encoded,
        encoded.flatMap(({ file }) => (file ? [file.parquet.buffer as ArrayBuffer] : [])),
      );
    },
  };

  function slotsByAggregate(slots: readonly SlotName[]): Map<string, ReadonlySet<number>> {
    const grouped = Map.groupBy(slots, ({ aggregate }) => aggregate);
    return new Map([...grouped].map(([name, own]) => [name, new Set(own.map(({ slot }) => slot))]));
  }

  /** Slots that staged rows are added to. */
  function touched(aggregate: string, aggregator: GoldAggregator): ReadonlySet<number> {
    const slots = new Set<number>();
    for (const { batch, aggregates: names } of staged) {
      if (!names.has(aggregate)) continue;
      for (const slot of aggregator.slotsTouched(batch)) slots.add(slot);
    }
    for (const slot of complete.get(aggregate) ?? []) slots.delete(slot);
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

  return api;
}

/** Type of the calls this thread answers. */
export type GoldThreadApi = ReturnType<typeof createGoldThreadApi>;

serveThread(createGoldThreadApi);
