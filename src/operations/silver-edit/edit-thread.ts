/**
 * The thread of an edit: derives bronze rows as the stream does, for rows that silver lacks or that are
 * to be derived again. Serves one operation. Runs as a worker thread.
 *
 * Invariant ET1: what is derived here is what the stream would have derived: same deriver, same
 * encoder; only the index that decides about ids is another one.
 */
import { bronzeFileSchema } from '../../pipeline/bronze.ts';
import { concatBatches } from '../../pipeline/column-concat.ts';
import { cellAt, vectorFromCells } from '../../pipeline/column-builder.ts';
import { type ColumnBatch, columnOf } from '../../pipeline/columns.ts';
import type { AggregateConfig, EventConfig, LateConfig } from '../../pipeline/pipeline-config.ts';
import { dateText } from '../../pipeline/progress.ts';
import { dateOf } from '../../pipeline/silver/arrival.ts';
import { type DedupIndex, ID_NEW } from '../../pipeline/silver/dedup-index.ts';
import { SilverDeriver, type SilverResult } from '../../pipeline/silver/deriver.ts';
import { fingerprintsOf } from '../../pipeline/silver/fingerprints.ts';
import { hashRows } from '../../pipeline/silver/payload-hash.ts';
import type { SilverRows } from '../../pipeline/silver/silver-rows.ts';
import { deadLetterFileSchema, silverFileSchema } from '../../pipeline/silver/tables.ts';
import { struct, type StructType } from '../../pipeline/types.ts';
import { serveThread, Transferring } from '../../actors/runtime/compute-thread.ts';
import {
  type EncodedDeadLetterFile,
  type EncodedSilverFile,
  SilverEncoder,
} from '../../actors/silver-writer/silver-encoder.ts';
import { createParquetCodec } from '../../storage/parquet/parquet-wasm-codec.ts';
import {
  type BronzeRange,
  type IngestionSpan,
  rowsInRange,
  rowsInSpan,
  takeRows,
} from './bronze-range.ts';
import { CandidateIds } from './candidate-ids.ts';
import { CoordinateSet } from './coordinate-set.ts';
import { type DateTotal, DateTotals } from './date-totals.ts';

export interface EditThreadData {
  readonly event: EventConfig;
  readonly late: LateConfig;
  /** Other schemas that rows of the table may have been derived under. */
  readonly otherEvents: readonly EventConfig[];
  /** The event with the fields of all of them. */
  readonly eventOfAll: EventConfig;
  readonly aggregates: readonly AggregateConfig[];
  /** Columns of silver's data files, those of other schemas included. */
  readonly silverColumns: StructType;
  readonly range: BronzeRange;
  /** Nothing is encoded: only counts and totals are wanted. */
  readonly dryRun: boolean;
}

/** Some of a date's rows, by their coordinates, so that no more than those are held at once. */
export interface Slice {
  readonly index: number;
  readonly count: number;
}

/** Kafka coordinates: offsets as texts, by partition. */
export type Coordinates = Readonly<Record<number, readonly string[]>>;

/** Derived rows of a call; files come as soon as they are full. */
export interface EditedRows {
  readonly files: readonly EncodedSilverFile[];
  /** Silver rows by UTC date, also of files that are still to come. */
  readonly rowsByDate: Readonly<Record<string, number>>;
}

/** What became of dead letters. */
export interface RetriedRows extends EditedRows {
  /** To be taken out: they are in silver now, or were already. */
  readonly gone: Coordinates;
  /** To be flagged as conflicts: their id is in silver with other content. */
  readonly conflicts: Coordinates;
  readonly counts: {
    readonly silverRows: number;
    readonly duplicates: number;
    readonly conflicts: number;
    readonly unchanged: number;
  };
}

const CONFLICT = 'conflicting_duplicate';
/** A data file is cut once it has this many rows, and nothing waits beyond a few files. */
const FILE_ROWS = 65_536;
const PENDING_ROWS_MAX = 4 * FILE_ROWS;
/** Offsets of a partition that are in one slice together. */
const STRETCH = 4_096n;

/** For rows that are in silver: their ids are distinct, so that each is let through. */
const letThrough: DedupIndex = {
  lookupOrInsert(_fingerprints, rows, verdicts) {
    verdicts.fill(ID_NEW, 0, rows);
    return Promise.resolve();
  },
};

/**
 * One edit thread's calls and what it holds between them.
 * @param codec of data files; not shared with another thread
 */
export function createEditThreadApi(data: EditThreadData, codec = createParquetCodec()) {
  const { event, late, otherEvents, eventOfAll, silverColumns } = data;
  const encoder = new SilverEncoder(codec, event, []);
  const eventSchema = silverFileSchema(event);

  let candidates = new CandidateIds();
  let candidateDeriver = new SilverDeriver({ event, late, otherEvents }, candidates);
  const rebuildDeriver = new SilverDeriver({ event, late }, letThrough);
  /** Records that are not to be derived: they are dead letters. */
  const deadCoordinates = new CoordinateSet();
  /** Silver rows that are derived again, each with a hash of its values. */
  let rebuilt = new CoordinateSet();
  /** Which of how many slices of a date `rebuilt` is, and how many rows those before it had. */
  let slice: Slice = { index: 0, count: 1 };
  let rowsBefore = 0;
  let refused: Record<string, number> = {};
  let rederived = 0;
  let changed = 0;
  let totalsBefore = new DateTotals(data.aggregates, event);
  let totalsAfter = new DateTotals(data.aggregates, event);
  let pending = new Map<number, SilverRows[]>();
  let pendingRows = 0;
  /** Fingerprints of what earlier parts of a dry run would have added; 24 bytes each. */
  let wouldBeThere: Uint8Array[] = [];

  const api = {
    /** Forgets ids and rows, for the next part of the operation; totals are of all parts or begin anew. */
    begin(call: { readonly totals: 'kept' | 'new' }): void {
      candidates = new CandidateIds();
      candidateDeriver = new SilverDeriver({ event, late, otherEvents }, candidates);
      rebuilt = new CoordinateSet();
      slice = { index: 0, count: 1 };
      rowsBefore = 0;
      refused = {};
      rederived = 0;
      changed = 0;
      pending = new Map();
      pendingRows = 0;
      if (call.totals === 'kept') return;
      totalsBefore = new DateTotals(data.aggregates, event);
      totalsAfter = new DateTotals(data.aggregates, event);
      wouldBeThere = [];
    },

    /** Leaves the records of a dead-letter file out of what follows. */
    skipDeadLetters(call: { readonly parquet: Uint8Array }): void {
      const schema = struct(
        deadLetterFileSchema().fields.filter(({ name }) => name.startsWith('_kafka_')),
      );
      deadCoordinates.add(codec.decode(call.parquet, schema));
    },

    /**
     * Remembers the ids of a bronze file's rows in the span and the range. `unseen` counts the rows of the
     * span without one: they are outside the range, or no events under this schema.
     */
    async collect(call: {
      readonly parquet: Uint8Array;
      readonly span: IngestionSpan;
    }): Promise<{ readonly rows: number; readonly unseen: number }> {
      const { batch, outside } = wantedRows(call);
      candidates.readFrom(batch, '_ingested_at');
      const { dead } = await candidateDeriver.derive([{ bronzeVersion: 0, batch }]);
      const unseen = dead.reduce((sum, one) => sum + one.batch.length, outside);
      return { rows: batch.length, unseen };
    },

    /** Marks the ids of silver files as there. @returns how many collected ids were not found so far */
    probe(call: { readonly fingerprints: readonly Uint8Array[] }): number {
      for (const bytes of call.fingerprints) candidates.probe(bytes);
      return candidates.missing;
    },

    /** The same for what earlier parts of a dry run would have added. */
    probeEarlierParts(_call: Record<string, never>): number {
      for (const bytes of wouldBeThere) candidates.probe(bytes);
      return candidates.missing;
    },

    /** The same for a file whose fingerprints are not stored. */
    probeParquet(call: { readonly parquet: Uint8Array }): number {
      candidates.probe(fingerprintsOf(codec.decode(call.parquet, silverColumns), eventOfAll));
      return candidates.missing;
    },

    /** Decides again from the beginning, after further rows were found in silver. */
    undecide(_call: Record<string, never>): void {
      candidates.undecide();
      pending = new Map();
      pendingRows = 0;
    },

    /** The rows of a bronze file that `collect` saw and that silver lacks. */
    async lacking(call: {
      readonly parquet: Uint8Array;
      readonly span: IngestionSpan;
    }): Promise<Transferring<EditedRows>> {
      candidates.phase = 'decide';
      const { batch } = wantedRows(call);
      candidates.readFrom(batch, '_ingested_at');
      const result = await candidateDeriver.derive([{ bronzeVersion: 0, batch }]);
      if (data.dryRun) wouldBeThere.push(...result.silver.map(({ fingerprints }) => fingerprints));
      return edited(result.silver);
    },

    /** What is left of derived rows. */
    flush(_call: Record<string, never>): Transferring<EditedRows> {
      return handOver(encodePending(), {});
    },

    /** Takes in a silver file of a date that is touched, for the totals. */
    addToTotals(call: { readonly parquet: Uint8Array }): void {
      const batch = codec.decode(call.parquet, eventSchema);
      totalsBefore.add(batch);
      totalsAfter.add(batch);
    },

    /** Totals before and after the edit, of the rows that were taken in. */
    totals(_call: Record<string, never>): {
      readonly before: readonly DateTotal[];
      readonly after: readonly DateTotal[];
    } {
      return { before: totalsBefore.totals(), after: totalsAfter.totals() };
    },

    /** Goes on with another slice of the rows to rebuild. */
    beginSlice(call: Slice): void {
      rowsBefore += rebuilt.size;
      rebuilt = new CoordinateSet();
      slice = call;
    },

    /** Takes in a silver file whose rows are to be derived again. @returns dates of their records */
    toRebuild(call: { readonly parquet: Uint8Array }): {
      readonly rows: number;
      readonly bronzeDates: readonly string[];
    } {
      const batch = codec.decode(call.parquet, silverColumns);
      rebuilt.add(...rowsOfSlice(batch, slice));
      if (data.dryRun && slice.index === 0)
        totalsBefore.add(codec.decode(call.parquet, eventSchema));
      const times = columnOf(batch, '_kafka_timestamp')!.values as BigInt64Array;
      const words = new Int32Array(times.buffer, times.byteOffset, 2 * times.length);
      const days = new Set<number>();
      for (let row = 0; row < batch.length; row++) {
        days.add(dateOf(words[2 * row]!, words[2 * row + 1]!));
      }
      return { rows: rebuilt.size, bronzeDates: [...days].map(dateText) };
    },

    /** Derives again what a bronze file has of the rows to rebuild. */
    async rebuild(call: { readonly parquet: Uint8Array }): Promise<Transferring<EditedRows>> {
      const all = codec.decode(call.parquet, bronzeFileSchema());
      const partitions = columnOf(all, '_kafka_partition')!.values as Int32Array;
      const offsets = columnOf(all, '_kafka_offset')!.values as BigInt64Array;
      const rows: number[] = [];
      for (let row = 0; row < all.length; row++) {
        if (rebuilt.take(partitions[row]!, offsets[row]!)) rows.push(row);
      }
      if (rows.length === 0) return handOver([], {});
      const result = await rebuildDeriver.derive([
        { bronzeVersion: 0, batch: takeRows(all, rows) },
      ]);
      for (const { batch } of result.dead) {
        const flags = columnOf(batch, '_quality_flags')!;
        for (let row = 0; row < batch.length; row++) {
          const name = (cellAt(flags, row) as readonly string[]).join('+');
          refused[name] = (refused[name] ?? 0) + 1;
        }
      }
      for (const { batch } of result.silver) countChanges(batch);
      return edited(result.silver);
    },

    /** What the rebuild came to. `refused` counts rows that would be dead letters, by flags. */
    rebuildCounts(_call: Record<string, never>): {
      readonly wanted: number;
      readonly derived: number;
      readonly changed: number;
      readonly refused: Readonly<Record<string, number>>;
    } {
      return { wanted: rowsBefore + rebuilt.size, derived: rederived, changed, refused };
    },

    /** Remembers the ids of a dead-letter file's rows. */
    async collectDead(call: {
      readonly parquet: Uint8Array;
      readonly flag: string | undefined;
    }): Promise<{ readonly rows: number; readonly ids: number }> {
      const batch = deadRows(call.parquet, call.flag);
      candidates.readFrom(batch, '_kafka_timestamp');
      await candidateDeriver.derive([{ bronzeVersion: 0, batch }]);
      return { rows: batch.length, ids: candidates.size };
    },

    /** Derives dead letters again. */
    async retry(call: {
      readonly parquet: Uint8Array;
      readonly flag: string | undefined;
    }): Promise<Transferring<RetriedRows>> {
      candidates.phase = 'decide';
      const batch = deadRows(call.parquet, call.flag);
      candidates.readFrom(batch, '_kafka_timestamp');
      const result = await candidateDeriver.derive([{ bronzeVersion: 0, batch }]);
      const outcome = settle(batch, result);
      const { value, transfer } = edited(result.silver);
      return new Transferring({ ...value, ...outcome }, transfer);
    },

    /** A dead-letter file without the rows that are gone and with those that are conflicts flagged. */
    rewriteDeadLetters(call: {
      readonly parquet: Uint8Array;
      readonly gone: Coordinates;
      readonly conflicts: Coordinates;
    }): { readonly touched: boolean; readonly file: EncodedDeadLetterFile | undefined } {
      const batch = codec.decode(call.parquet, deadLetterFileSchema());
      const gone = new Set(keysOf(call.gone));
      const conflicts = new Set(keysOf(call.conflicts));
      const kept: number[] = [];
      const flagged: number[] = [];
      for (let row = 0; row < batch.length; row++) {
        const key = keyAt(batch, row);
        if (conflicts.has(key) && !isConflict(batch, row)) flagged.push(row);
        else if (!gone.has(key)) kept.push(row);
      }
      if (kept.length === batch.length) return { touched: false, file: undefined };
      const rows = concatBatches(batch.schema, [
        takeRows(batch, kept),
        asConflicts(takeRows(batch, flagged)),
      ]);
      if (rows.length === 0) return { touched: true, file: undefined };
      return {
        touched: true,
        file: encoder.deadLetters({ dateDays: deadDate(rows), batch: rows }),
      };
    },
  };

  /** Rows of a span that the operation is about, and how many are outside its range. */
  function wantedRows(call: { readonly parquet: Uint8Array; readonly span: IngestionSpan }): {
    readonly batch: ColumnBatch;
    readonly outside: number;
  } {
    const all = codec.decode(call.parquet, bronzeFileSchema());
    const batch = takeRows(all, rowsInSpan(all, call.span));
    const partitions = columnOf(batch, '_kafka_partition')!.values as Int32Array;
    const offsets = columnOf(batch, '_kafka_offset')!.values as BigInt64Array;
    const inRange = rowsInRange(batch, data.range);
    const rows = inRange.filter((row) => !deadCoordinates.has(partitions[row]!, offsets[row]!));
    return { batch: takeRows(batch, rows), outside: batch.length - inRange.length };
  }

  function deadRows(parquet: Uint8Array, flag: string | undefined): ColumnBatch {
    const batch = codec.decode(parquet, deadLetterFileSchema());
    if (flag === undefined) return batch;
    const flags = columnOf(batch, '_quality_flags')!;
    const rows: number[] = [];
    for (let row = 0; row < batch.length; row++) {
      if ((cellAt(flags, row) as readonly string[] | null)?.includes(flag)) rows.push(row);
    }
    return takeRows(batch, rows);
  }

  function countChanges(batch: ColumnBatch): void {
    const marks = valueMarks(batch);
    const partitions = columnOf(batch, '_kafka_partition')!.values as Int32Array;
    const offsets = columnOf(batch, '_kafka_offset')!.values as BigInt64Array;
    for (let row = 0; row < batch.length; row++) {
      if (rebuilt.markOf(partitions[row]!, offsets[row]!) !== marks[row]) changed++;
    }
    rederived += batch.length;
  }

  function edited(silver: readonly SilverRows[]): Transferring<EditedRows> {
    const rowsByDate: Record<string, number> = {};
    const files: EncodedSilverFile[] = [];
    for (const rows of silver) {
      const date = dateText(rows.dateDays);
      rowsByDate[date] = (rowsByDate[date] ?? 0) + rows.batch.length;
      if (data.dryRun) {
        totalsAfter.add(rows.batch);
        continue;
      }
      const waiting = pending.get(rows.dateDays) ?? [];
      waiting.push(rows);
      pending.set(rows.dateDays, waiting);
      pendingRows += rows.batch.length;
      if (waiting.reduce((sum, { batch }) => sum + batch.length, 0) >= FILE_ROWS) {
        files.push(encodeDate(rows.dateDays));
      }
    }
    if (pendingRows > PENDING_ROWS_MAX) files.push(...encodePending());
    return handOver(files, rowsByDate);
  }

  function encodePending(): EncodedSilverFile[] {
    return [...pending.keys()].map(encodeDate);
  }

  function encodeDate(dateDays: number): EncodedSilverFile {
    const parts = pending.get(dateDays)!;
    pending.delete(dateDays);
    const batch = concatBatches(
      eventSchema,
      parts.map((part) => part.batch),
    );
    pendingRows -= batch.length;
    const fingerprints = Buffer.concat(parts.map((part) => part.fingerprints));
    return encoder.silver({ dateDays, batch, fingerprints: Uint8Array.from(fingerprints) });
  }

  function asConflicts(batch: ColumnBatch): ColumnBatch {
    const error = `${event.id} came before with other content; the first event stays.`;
    const columns = batch.schema.fields.map(({ name, type }, i) => {
      const repeated = <T>(value: T): T[] => Array.from({ length: batch.length }, () => value);
      if (name === '_quality_flags') return vectorFromCells(type, repeated([CONFLICT]));
      if (name === '_error') return vectorFromCells(type, repeated(error));
      return batch.columns[i]!;
    });
    return { ...batch, columns };
  }

  return api;
}

function handOver(
  files: readonly EncodedSilverFile[],
  rowsByDate: Readonly<Record<string, number>>,
): Transferring<EditedRows> {
  const buffers = files.flatMap(({ parquet, fingerprints }) => [
    parquet.buffer as ArrayBuffer,
    fingerprints.buffer as ArrayBuffer,
  ]);
  return new Transferring({ files, rowsByDate }, buffers);
}

/** Which dead letters are gone, and which are conflicts from now on. */
function settle(
  batch: ColumnBatch,
  result: SilverResult,
): Pick<RetriedRows, 'gone' | 'conflicts' | 'counts'> {
  const invalid = new Set<string>();
  const conflicting = new Set<string>();
  for (const { batch: dead } of result.dead) {
    for (let row = 0; row < dead.length; row++) {
      (isConflict(dead, row) ? conflicting : invalid).add(keyAt(dead, row));
    }
  }
  const gone: Record<number, string[]> = {};
  const conflicts: Record<number, string[]> = {};
  let unchanged = 0;
  let newConflicts = 0;
  for (let row = 0; row < batch.length; row++) {
    const key = keyAt(batch, row);
    if (invalid.has(key) || (conflicting.has(key) && isConflict(batch, row))) {
      unchanged++;
      continue;
    }
    const isNewConflict = conflicting.has(key);
    if (isNewConflict) newConflicts++;
    const [partition, offset] = key.split(':') as [string, string];
    ((isNewConflict ? conflicts : gone)[Number(partition)] ??= []).push(offset);
  }
  const { silverRows, duplicates } = result.counts;
  return {
    gone,
    conflicts,
    counts: { silverRows, duplicates, conflicts: newConflicts, unchanged },
  };
}

/** The rows of a slice, and their marks: stretches of offsets take turns. */
function rowsOfSlice(batch: ColumnBatch, { index, count }: Slice): [ColumnBatch, Float64Array] {
  if (count === 1) return [batch, valueMarks(batch)];
  const partitions = columnOf(batch, '_kafka_partition')!.values as Int32Array;
  const offsets = columnOf(batch, '_kafka_offset')!.values as BigInt64Array;
  const rows: number[] = [];
  for (let row = 0; row < batch.length; row++) {
    const stretch = Number(offsets[row]! / STRETCH) + partitions[row]!;
    if (stretch % count === index) rows.push(row);
  }
  const taken = takeRows(batch, rows);
  return [taken, valueMarks(taken)];
}

/** One number per row that tells rows of other values apart; `_schema_version` does not count. */
function valueMarks(batch: ColumnBatch): Float64Array {
  const names = batch.schema.fields.map(({ name }) => name).filter((n) => n !== '_schema_version');
  const hashes = hashRows(batch, names);
  return Float64Array.from(
    { length: batch.length },
    // 53 bits, and never 0.
    (_, row) => (hashes[2 * row]! & 0x1fffff) * 2 ** 32 + hashes[2 * row + 1]! + 1,
  );
}

function keyAt(batch: ColumnBatch, row: number): string {
  const partition = (columnOf(batch, '_kafka_partition')!.values as Int32Array)[row]!;
  return `${partition}:${(columnOf(batch, '_kafka_offset')!.values as BigInt64Array)[row]!}`;
}

function* keysOf(coordinates: Coordinates): Generator<string> {
  for (const [partition, offsets] of Object.entries(coordinates)) {
    for (const offset of offsets) yield `${partition}:${offset}`;
  }
}

function isConflict(batch: ColumnBatch, row: number): boolean {
  const flags = cellAt(columnOf(batch, '_quality_flags')!, row) as readonly string[] | null;
  return flags?.includes(CONFLICT) ?? false;
}

function deadDate(batch: ColumnBatch): number {
  const times = columnOf(batch, '_kafka_timestamp')!.values as BigInt64Array;
  return dateOf(Number(BigInt.asIntN(32, times[0]!)), Number(times[0]! >> 32n));
}

/** Type of the calls this thread answers. */
export type EditThreadApi = ReturnType<typeof createEditThreadApi>;

serveThread(createEditThreadApi);
