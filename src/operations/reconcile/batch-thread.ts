/**
 * The batch's compute thread: silver rows of one date to whole slots, compared with what gold had, and
 * the reasons for what differs. Runs as a worker thread.
 *
 * - BT1 Slots are computed by the code of the stream (GoldAggregator), so equal rows give equal bits.
 * - BT2 Rows of slots that are not begun are left out; a slot is complete once every silver file that
 *   may have rows in it was added.
 */
import { GOLD_ENCODING } from '../../actors/file-settings.ts';
import { serveThread, Transferring } from '../../actors/runtime/compute-thread.ts';
import { bitAt } from '../../pipeline/bitmaps.ts';
import { columnsFromRows } from '../../pipeline/column-builder.ts';
import { concatBatches } from '../../pipeline/column-concat.ts';
import { type ColumnBatch, columnOf } from '../../pipeline/columns.ts';
import {
  type ChangeCause,
  causeOf,
  type ChangeEvidence,
} from '../../pipeline/gold/change-cause.ts';
import { changedWindows, windowKeys } from '../../pipeline/gold/changed-windows.ts';
import { GoldAggregator } from '../../pipeline/gold/gold-aggregator.ts';
import { silverProjectionSchema } from '../../pipeline/gold/projection.ts';
import {
  type ExplainedChange,
  type ReportContext,
  reportRows,
} from '../../pipeline/gold/report-schema.ts';
import type { SlotName } from '../../pipeline/gold/slots.ts';
import type { AggregateConfig, EventConfig } from '../../pipeline/pipeline-config.ts';
import { field, struct } from '../../pipeline/types.ts';
import { computeStats } from '../../storage/delta/stats.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';

export interface BatchThreadData {
  readonly aggregates: readonly AggregateConfig[];
  readonly event: EventConfig;
  /** Whether changed windows are kept for `takeReport`. */
  readonly isReported: boolean;
}

/** How the rows of a silver file bear on what changed since gold was made. */
export type EvidenceKind = 'gained' | 'lost' | 'retried' | 'replayed';

/** A Parquet file's bytes with its Delta statistics. */
export interface EncodedFile {
  readonly parquet: Uint8Array;
  readonly stats: string;
}

/** Changed windows, and sums over them. */
export interface ChangeTotals {
  windows: number;
  readonly byCause: Partial<Record<ChangeCause, number>>;
}

export interface FinishedSlot {
  readonly events: number;
  /** undefined when the slot is empty. */
  readonly file: EncodedFile | undefined;
  readonly changes: ChangeTotals;
}

const NONE: ChangeEvidence['gained'] = { late: 0, onTime: 0 };
const LATE = '_is_late_arriving';
const EVIDENCE_ROWS = '_evidence_rows';
/** Less than the default: the rest of the process needs memory too. */
const CODEC_BYTES_MAX = 192 * 2 ** 20;

/**
 * One batch thread's calls and what it holds between them.
 * @param codec of data files; not shared with another thread
 */
export function createBatchThreadApi(
  { aggregates, event, isReported }: BatchThreadData,
  codec: ParquetCodec = createParquetCodec({ memoryBytesMax: CODEC_BYTES_MAX }),
) {
  const configs = new Map(aggregates.map((aggregate) => [aggregate.name, aggregate]));
  const batches = new Map(aggregates.map((one) => [one.name, new GoldAggregator(one, event)]));
  /** By aggregate, rows per window, group and lateness. */
  const evidence = new Map<string, Map<EvidenceKind, GoldAggregator>>();
  /** By aggregate, changes whose report rows were not taken yet. */
  const changes = new Map<string, ExplainedChange[]>();

  const projection = silverProjectionSchema(aggregates, event);
  const evidenceProjection = struct([...projection.fields, field(LATE, 'boolean')]);
  const evidenceEvent: EventConfig = {
    ...event,
    schema: struct([...event.schema.fields, field(LATE, 'boolean')]),
  };

  function evidenceOf(aggregate: string, kind: EvidenceKind): GoldAggregator {
    let kinds = evidence.get(aggregate);
    if (!kinds) evidence.set(aggregate, (kinds = new Map()));
    let rows = kinds.get(kind);
    if (!rows) {
      rows = new GoldAggregator(evidenceConfig(configs.get(aggregate)!), evidenceEvent);
      kinds.set(kind, rows);
    }
    return rows;
  }

  function residentBytes(): number {
    let bytes = 0;
    for (const batch of batches.values()) bytes += batch.residentBytes;
    for (const kinds of evidence.values()) {
      for (const rows of kinds.values()) bytes += rows.residentBytes;
    }
    return bytes;
  }

  const api = {
    /** Makes slots ready to take in rows; what was begun before and not finished is forgotten. */
    begin(call: { readonly slots: readonly SlotName[] }): void {
      for (const batch of batches.values()) {
        for (const slot of batch.residentSlots()) batch.drop(slot);
      }
      evidence.clear();
      for (const { aggregate, slot } of call.slots) batches.get(aggregate)!.create(slot);
    },

    /** Adds the rows of a silver file to the slots that were begun (BT2). @returns bytes of state */
    add(call: { readonly parquet: Uint8Array }): {
      readonly rows: number;
      readonly residentBytes: number;
    } {
      const rows = codec.decode(call.parquet, projection);
      for (const batch of batches.values()) {
        const onlySlots = new Set(batch.residentSlots());
        if (onlySlots.size > 0) batch.add(rows, { onlySlots });
      }
      return { rows: rows.length, residentBytes: residentBytes() };
    },

    /** Counts the rows of a silver file as evidence about slots that were begun. @returns bytes of state */
    addEvidence(call: {
      readonly parquet: Uint8Array;
      readonly aggregates: readonly string[];
      readonly kind: EvidenceKind;
    }): number {
      const rows = codec.decode(call.parquet, evidenceProjection);
      for (const aggregate of call.aggregates) {
        const counts = evidenceOf(aggregate, call.kind);
        const begun = new Set(batches.get(aggregate)!.residentSlots());
        const onlySlots = new Set(counts.slotsTouched(rows).filter((slot) => begun.has(slot)));
        for (const slot of onlySlots) if (!counts.isResident(slot)) counts.create(slot);
        counts.add(rows, { onlySlots });
      }
      return residentBytes();
    },

    /** Encodes a complete slot, compares it with its old files, and forgets it. */
    finish(
      call: SlotName & {
        readonly revision: number;
        readonly silverVersion: number;
        readonly before: readonly Uint8Array[];
        readonly wasRebuilt: boolean;
        readonly wasRestored: boolean;
      },
    ): Transferring<FinishedSlot> {
      const { aggregate, slot } = call;
      const batch = batches.get(aggregate)!;
      const rows = batch.rows(slot, {
        source: 'batch',
        isFinal: true,
        revision: call.revision,
        silverVersion: BigInt(call.silverVersion),
      });
      const events = batch.eventCount(slot);
      const found = explained(call, batch, rows);
      if (isReported) {
        const pending = changes.get(aggregate) ?? [];
        changes.set(aggregate, pending);
        for (const one of found) pending.push(one);
      }
      const file = rows.length === 0 ? undefined : encode(rows);
      batch.drop(slot);
      for (const counts of evidence.get(aggregate)?.values() ?? []) counts.drop(slot);
      const totals: ChangeTotals = { windows: found.length, byCause: {} };
      for (const { cause } of found) totals.byCause[cause] = (totals.byCause[cause] ?? 0) + 1;
      return new Transferring({ events, file, changes: totals }, file ? [bufferOf(file)] : []);
    },

    /** A file without rows, which says that a date is final and empty. */
    emptySlot(call: { readonly aggregate: string }): Transferring<EncodedFile> {
      const { fileSchema } = batches.get(call.aggregate)!;
      const file = encode(columnsFromRows(fileSchema, []));
      return new Transferring(file, [bufferOf(file)]);
    },

    /** Report rows of an aggregate, once there are `windowsMin` changed windows; they are forgotten here. */
    takeReport(
      call: ReportContext & { readonly windowsMin: number },
    ): Transferring<EncodedFile> | undefined {
      const pending = changes.get(call.aggregate) ?? [];
      if (pending.length === 0 || pending.length < call.windowsMin) return undefined;
      changes.delete(call.aggregate);
      const file = encode(reportRows(pending, call));
      return new Transferring(file, [bufferOf(file)]);
    },
  };

  function explained(
    call: Parameters<typeof api.finish>[0],
    batch: GoldAggregator,
    rows: ColumnBatch,
  ): ExplainedChange[] {
    const config = configs.get(call.aggregate)!;
    const old = call.before.map((parquet) => codec.decode(parquet, batch.fileSchema));
    const before = old.length === 0 ? undefined : concatBatches(batch.fileSchema, old);
    const found = changedWindows(config, before, rows);
    if (found.length === 0) return [];
    const counted = evidenceByWindow(config, call.slot);
    return found.map((change) => {
      const { wasRebuilt, wasRestored } = call;
      const of = (kind: EvidenceKind) => counted.get(kind)?.get(change.key) ?? NONE;
      const gained = {
        late: of('gained').late - of('lost').late,
        onTime: of('gained').onTime - of('lost').onTime,
      };
      const [retried, replayed] = [of('retried'), of('replayed')];
      const { events } = change;
      const known = { gained, retried, replayed, wasRebuilt, wasRestored, events };
      return { change, cause: causeOf(known) };
    });
  }

  /** By kind and window key. */
  function evidenceByWindow(
    config: AggregateConfig,
    slot: number,
  ): Map<EvidenceKind, Map<string, { late: number; onTime: number }>> {
    const counted = new Map<EvidenceKind, Map<string, { late: number; onTime: number }>>();
    for (const [kind, counts] of evidence.get(config.name) ?? []) {
      if (!counts.isResident(slot)) continue;
      const meta = { source: 'batch', isFinal: false, revision: 0, silverVersion: 0n } as const;
      const rows = counts.rows(slot, meta);
      const late = columnOf(rows, LATE)!;
      const perRow = columnOf(rows, EVIDENCE_ROWS)!.values as BigInt64Array;
      const byKey = new Map<string, { late: number; onTime: number }>();
      windowKeys(config, rows).forEach((key, row) => {
        const sums = byKey.get(key) ?? { late: 0, onTime: 0 };
        byKey.set(key, sums);
        const isLate = bitAt(late.values as Uint8Array, row);
        sums[isLate ? 'late' : 'onTime'] += Number(perRow[row]!);
      });
      counted.set(kind, byKey);
    }
    return counted;
  }

  function encode(batch: ColumnBatch): EncodedFile {
    return { parquet: codec.encode(batch, GOLD_ENCODING), stats: computeStats(batch) };
  }

  return api;
}

function evidenceConfig(aggregate: AggregateConfig): AggregateConfig {
  return {
    ...aggregate,
    groupBy: [...aggregate.groupBy, LATE],
    measures: [{ name: EVIDENCE_ROWS, fn: 'count', field: undefined }],
  };
}

function bufferOf({ parquet }: EncodedFile): ArrayBuffer {
  return parquet.buffer as ArrayBuffer;
}

/** Type of the calls this thread answers. */
export type BatchThreadApi = ReturnType<typeof createBatchThreadApi>;

serveThread(createBatchThreadApi);
