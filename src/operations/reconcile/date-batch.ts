/**
 * Computes one date of gold from one silver version: files stream through the compute thread, slots
 * come back as stored files with what changed in them. Nothing is committed here.
 *
 * - DB1 Memory is bounded by the slots at work: when their state exceeds the bound they are halved and
 *   the date's files are read again for each half; one slot's own groups are the least there can be.
 * - DB2 A dry run stores nothing.
 */
import { dataFilePath } from '../../actors/file-settings.ts';
import { ComputeThread } from '../../actors/runtime/compute-thread.ts';
import { PipelineError } from '../../errors.ts';
import type { ChangeCause } from '../../pipeline/gold/change-cause.ts';
import { finalTags, parseGoldTags, type ReportFile } from '../../pipeline/gold/gold-tags.ts';
import { dateDaysOf, type SilverFile, silverFileOf } from '../../pipeline/gold/silver-files.ts';
import {
  mayHold,
  type PlannedSlot,
  type SlotName,
  slotsOfDate,
} from '../../pipeline/gold/slots.ts';
import { TumblingWindows } from '../../pipeline/gold/windows.ts';
import { tableRoots } from '../../pipeline/progress.ts';
import type { LiveFile, NewFile } from '../../storage/delta/transaction.ts';
import type { BatchThreadApi, BatchThreadData, EncodedFile, FinishedSlot } from './batch-thread.ts';
import type { DateEvidence } from './change-evidence.ts';
import type { GoldView, LakeView, ReconcileLake } from './lake-view.ts';

/** A date of a gold table to compute. */
export interface WantedTable {
  readonly gold: GoldView;
  /** Of the rows that come out. */
  readonly revision: number;
  readonly evidence: DateEvidence;
}

/** A date of a gold table, computed and stored. */
export interface ComputedTable {
  readonly gold: GoldView;
  readonly revision: number;
  /** Everything the date will consist of; empty when the date has no rows and never had any. */
  readonly files: readonly NewFile[];
  /** Silver rows of the date. */
  readonly events: number;
  readonly changedWindows: number;
  readonly windowsByCause: Readonly<Partial<Record<ChangeCause, number>>>;
}

/** How far a batch is. */
export interface BatchProgress {
  readonly date: string;
  readonly files: number;
  readonly filesDone: number;
  /** Silver rows read so far, of this date. */
  readonly rows: number;
}

export interface DateBatchOptions {
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BatchProgress) => void) | undefined;
}

/** What is known of a table while its slots come in. */
interface TableInWork extends WantedTable {
  readonly files: { readonly slot: number; readonly events: number; readonly file: NewFile }[];
  readonly report: ReportFile[];
  events: number;
  changedWindows: number;
  readonly windowsByCause: Partial<Record<ChangeCause, number>>;
}

/** Files that are fetched while one is computed. */
const READ_AHEAD = 3;
/** Changed windows of one report file. */
const REPORT_WINDOWS = 16_384;

/** Computes dates one after another; `close` ends its thread. */
export class DateBatch {
  readonly #lake: ReconcileLake;
  readonly #options: DateBatchOptions;
  readonly #thread: ComputeThread<BatchThreadApi>;
  readonly #grids: ReadonlyMap<string, TumblingWindows>;

  constructor(lake: ReconcileLake, options: DateBatchOptions) {
    const { gold, event } = lake.config;
    this.#lake = lake;
    this.#options = options;
    this.#grids = new Map(gold.map(({ name, windowMs }) => [name, new TumblingWindows(windowMs)]));
    const data: BatchThreadData = { aggregates: gold, event, isReported: !options.dryRun };
    const module = new URL('./batch-thread.ts', import.meta.url);
    this.#thread = new ComputeThread(module, data, lake.delta.ambient.threads);
  }

  /**
   * Computes a date as of `view.silver`.
   * @throws PipelineError unavailable | corrupt | invalid (a sum that does not fit)
   */
  async compute(
    view: LakeView,
    date: string,
    wanted: readonly WantedTable[],
  ): Promise<readonly ComputedTable[]> {
    const startedMs = this.#lake.delta.ambient.clock.nowMs();
    const tables = new Map(
      wanted.map((table): [string, TableInWork] => [
        table.gold.aggregate,
        {
          ...table,
          files: [],
          report: [],
          events: 0,
          changedWindows: 0,
          windowsByCause: {},
        },
      ]),
    );
    const silverFiles = (view.silverFiles.get(date) ?? [])
      .map(silverFileOf)
      .toSorted((a, b) => a.minMicros - b.minMicros);
    // DB1
    const parts = [wanted.flatMap(({ gold }) => this.#slotsOf(gold.aggregate, date))];
    for (let part = parts.pop(); part; part = parts.pop()) {
      if (await this.#fill(date, part, silverFiles, tables)) {
        for (const slot of part) {
          await this.#finish(view, date, slot, tables.get(slot.aggregate)!);
        }
      } else {
        const middle = Math.ceil(part.length / 2);
        parts.push(part.slice(middle), part.slice(0, middle));
      }
    }
    return Promise.all(
      [...tables.values()].map((table) => this.#complete(view, date, table, startedMs)),
    );
  }

  /** Ends the thread; what it was computing is lost. */
  close(): Promise<void> {
    return this.#thread.terminate();
  }

  /** Slots by time, so that halves of a part read different files. */
  #slotsOf(aggregate: string, date: string): readonly PlannedSlot[] {
    return slotsOfDate(aggregate, this.#grids.get(aggregate)!, date);
  }

  /** @returns false when the slots are too much at once (DB1) */
  async #fill(
    date: string,
    part: readonly PlannedSlot[],
    silverFiles: readonly SilverFile[],
    tables: ReadonlyMap<string, TableInWork>,
  ): Promise<boolean> {
    const { signal, onProgress } = this.#options;
    await this.#thread.call('begin', { slots: part });
    const near = silverFiles.filter((file) => part.some((slot) => mayHold(file, slot)));
    let rows = 0;
    let filesDone = 0;
    for await (const parquet of this.#read(near.map(({ path }) => path))) {
      if (signal?.aborted) throw stopped();
      if (!parquet) throw missingFile(this.#lake, near[filesDone]!.path);
      const added = await this.#thread.call('add', { parquet }, [parquet.buffer as ArrayBuffer]);
      rows += added.rows;
      filesDone += 1;
      onProgress?.({ date, files: near.length, filesDone, rows });
      if (this.#isTooMuch(added.residentBytes, part)) return false;
    }
    return this.#countEvidence(part, tables);
  }

  /** DB1 */
  #isTooMuch(residentBytes: number, part: readonly PlannedSlot[]): boolean {
    return residentBytes > this.#lake.config.limits.goldStateBytes && part.length > 1;
  }

  /** @returns as `#fill` */
  async #countEvidence(
    part: readonly PlannedSlot[],
    tables: ReadonlyMap<string, TableInWork>,
  ): Promise<boolean> {
    const names = [...new Set(part.map(({ aggregate }) => aggregate))];
    const wanted = names.flatMap((aggregate) =>
      tables.get(aggregate)!.evidence.files.map((file) => ({ ...file, aggregate })),
    );
    const files = [...Map.groupBy(wanted, ({ path, kind }) => `${kind} ${path}`).values()];
    let read = 0;
    for await (const parquet of this.#read(files.map(([file]) => file!.path))) {
      const same = files[read++]!;
      // What was cleaned up is no evidence (CE2).
      if (!parquet) continue;
      const { kind } = same[0]!;
      const aggregates = same.map(({ aggregate }) => aggregate);
      const { buffer } = parquet;
      const residentBytes = await this.#thread.call('addEvidence', { parquet, aggregates, kind }, [
        buffer as ArrayBuffer,
      ]);
      if (this.#isTooMuch(residentBytes, part)) return false;
    }
    return true;
  }

  /** The bytes of silver files in order, some of them fetched ahead. */
  async *#read(paths: readonly string[]): AsyncGenerator<Uint8Array | undefined> {
    const { delta, silver } = this.#lake;
    const ahead: Promise<Uint8Array | undefined>[] = [];
    const fetch = (path: string): void => {
      const bytes = delta.store.get(`${silver.root}/${path}`);
      bytes.catch(() => {}); // thrown where it is awaited
      ahead.push(bytes);
    };
    for (const path of paths.slice(0, READ_AHEAD)) fetch(path);
    for (let next = READ_AHEAD; ahead.length > 0; next += 1) {
      yield await ahead.shift();
      if (next < paths.length) fetch(paths[next]!);
    }
  }

  async #finish(
    view: LakeView,
    date: string,
    { aggregate, slot }: SlotName,
    table: TableInWork,
  ): Promise<void> {
    const { gold, revision, evidence } = table;
    const before = await Promise.all(
      (gold.dates.get(date)?.files ?? [])
        .filter((file) => parseGoldTags(file.tags)?.slot === slot)
        .map((file) => this.#goldFile(gold, file)),
    );
    const { wasRebuilt, wasRestored } = evidence;
    const silverVersion = view.silver.version;
    const finished: FinishedSlot = await this.#thread.call('finish', {
      aggregate,
      slot,
      revision,
      silverVersion,
      before,
      wasRebuilt,
      wasRestored,
    });
    table.events += finished.events;
    table.changedWindows += finished.changes.windows;
    for (const [cause, windows] of Object.entries(finished.changes.byCause)) {
      const name = cause as ChangeCause;
      table.windowsByCause[name] = (table.windowsByCause[name] ?? 0) + windows;
    }
    if (this.#options.dryRun) return;
    if (finished.file) {
      const file = await this.#store(gold.table.root, date, finished.file);
      table.files.push({ slot, events: finished.events, file });
    }
    await this.#takeReport(view, date, table, REPORT_WINDOWS);
  }

  /** Tags the files, the first of them with the note; an empty date keeps a file without rows. */
  async #complete(
    view: LakeView,
    date: string,
    table: TableInWork,
    startedMs: number,
  ): Promise<ComputedTable> {
    const { gold, revision, events, changedWindows, windowsByCause } = table;
    const computed = { gold, revision, events, changedWindows, windowsByCause };
    if (this.#options.dryRun) return { ...computed, files: [] };
    await this.#takeReport(view, date, table, 1);
    const isKnown = (gold.dates.get(date)?.files.length ?? 0) > 0;
    if (table.files.length === 0 && isKnown) {
      const { aggregate } = gold;
      const { slot } = this.#slotsOf(aggregate, date)[0]!;
      const empty = await this.#thread.call('emptySlot', { aggregate });
      const file = await this.#store(gold.table.root, date, empty);
      table.files.push({ slot, events: 0, file });
    }
    const finishedMs = this.#lake.delta.ambient.clock.nowMs();
    const note = { startedMs, finishedMs, changedWindows, report: table.report };
    const finalVersion = view.silver.version;
    const files = table.files.map(({ slot, events: slotEvents, file }, i) => ({
      ...file,
      tags: finalTags({
        slot,
        events: slotEvents,
        finalVersion,
        revision,
        note: i === 0 ? note : undefined,
      }),
    }));
    return { ...computed, files };
  }

  async #takeReport(
    view: LakeView,
    date: string,
    table: TableInWork,
    windowsMin: number,
  ): Promise<void> {
    const { clock } = this.#lake.delta.ambient;
    const encoded = await this.#thread.call('takeReport', {
      aggregate: table.gold.aggregate,
      revision: table.revision,
      silverVersion: view.silver.version,
      reconciledMs: clock.nowMs(),
      windowsMin,
    });
    if (!encoded) return;
    const root = tableRoots(this.#lake.config).reconciliation;
    const { path, sizeBytes } = await this.#store(root, date, encoded);
    table.report.push({ path, sizeBytes, stats: encoded.stats });
  }

  async #store(root: string, date: string, { parquet, stats }: EncodedFile): Promise<NewFile> {
    const { ambient, store } = this.#lake.delta;
    const path = dataFilePath(dateDaysOf(date), ambient.ids.id());
    const sizeBytes = parquet.byteLength;
    await store.put(`${root}/${path}`, parquet);
    const modifiedMs = Math.round(ambient.clock.nowMs());
    return { path, partitionValues: { _event_date: date }, sizeBytes, modifiedMs, stats };
  }

  async #goldFile({ table }: GoldView, { path }: LiveFile): Promise<Uint8Array> {
    const bytes = await this.#lake.delta.store.get(`${table.root}/${path}`);
    if (bytes) return bytes;
    throw missing(`${table.root}/${path}`);
  }
}

function missingFile({ silver }: ReconcileLake, path: string): PipelineError {
  return missing(`${silver.root}/${path}`);
}

function missing(key: string): PipelineError {
  return new PipelineError('corrupt', 'TM_OBJECT_MISSING', `data file ${key} is gone`, {
    context: { key },
  });
}

function stopped(): PipelineError {
  return new PipelineError(
    'unavailable',
    'TM_STOPPED',
    'stopped; nothing of this date was changed',
  );
}
