/**
 * Plain replay: derives bronze rows of a range again and adds to silver what silver lacks. Normally
 * nothing (P5): then not even a version is written.
 *
 * Invariants:
 * - RP1 Rows that are dead letters stay what they are; they are looked at by `dlq retry` only. Which
 *   bronze rows are replayed is decided before the dead letters are read.
 * - RP2 A row that is put back was counted when it was first derived: only what a restore counted as
 *   taken out goes down. Once all records were looked at, what is still out has a copy in its place.
 * - RP3 Memory grows with a part's ids, not with the range or the table; each part is a commit, so
 *   that a replay which was interrupted finds the earlier parts in silver.
 * - RP4 Of several records with an id that silver lacks, the one is put back that came first (CI3, PT2).
 */
import type { EncodedSilverFile } from '../../actors/silver-writer/silver-encoder.ts';
import { ledgerTotals, movedTotals } from '../../pipeline/ledger/ledger-totals.ts';
import { silverEditsAppId } from '../../pipeline/progress.ts';
import { EVENT_DATE, DEAD_LETTER_DATE } from '../../pipeline/silver/tables.ts';
import type { NewFile, ProgressUpdate } from '../../storage/delta/transaction.ts';
import { numRecordsOf, type Snapshot } from '../../storage/delta/snapshot.ts';
import { type BronzeRange, datesOfRange, WHOLE_RANGE } from '../silver-edit/bronze-range.ts';
import type { DateTotal } from '../silver-edit/date-totals.ts';
import type { EditedLake, TableFile } from '../silver-edit/edited-lake.ts';
import { SilverEdit } from '../silver-edit/silver-edit.ts';
import { partsOf, type ReplayPart } from './replay-parts.ts';

/** Rows of one part; 100 bytes for each that has another id. */
const PART_ROWS = 2_000_000;

/** What a replay did, or would do. */
export interface ReplayReport {
  /** Rows of bronze that were looked at. */
  readonly bronzeRows: number;
  /** Silver rows that were added. */
  readonly added: number;
  readonly addedByDate: Readonly<Record<string, number>>;
  /** Silver versions that were committed. */
  readonly versions: readonly number[];
  /** Of the dates in `addedByDate`; only with `dryRun`. */
  readonly totals: { readonly before: readonly DateTotal[]; readonly after: readonly DateTotal[] };
}

/**
 * Replays a range.
 * @throws PipelineError corrupt when a data file is gone, unavailable
 */
export async function replay(
  lake: EditedLake,
  range: BronzeRange,
  options: {
    readonly dryRun: boolean;
    /** Rows of one part; for tests. */
    readonly partRows?: number;
  },
): Promise<ReplayReport> {
  const edit = new SilverEdit(lake, { range, dryRun: options.dryRun });
  try {
    const silver = await lake.silver.refresh();
    const files = await lake.coveredFiles(silver, range);
    // RP1: letters are committed before silver covers their records, so these are of all of `files`.
    await skipDeadLetters(edit, range);
    const run = new Replay(edit, files, { partRows: PART_ROWS, ...options });
    const report = await run.run();
    if (!options.dryRun) await run.settle(silver);
    return report;
  } finally {
    await edit.close();
  }
}

/** RP1 */
async function skipDeadLetters({ lake, thread }: SilverEdit, range: BronzeRange): Promise<void> {
  const { first, last } = datesOfRange(range);
  for (const file of (await lake.deadLetter.refresh()).files()) {
    const date = file.partitionValues[DEAD_LETTER_DATE];
    if (typeof date === 'string') {
      if ((first !== undefined && date < first) || (last !== undefined && date > last)) continue;
    }
    await thread.call('skipDeadLetters', {
      parquet: await lake.read(`${lake.deadLetter.root}/${file.path}`),
    });
  }
}

class Replay {
  readonly #edit: SilverEdit;
  readonly #files: readonly TableFile[];
  readonly #parts: readonly ReplayPart[];
  readonly #dryRun: boolean;
  readonly #rowsAll: number;
  readonly #addedByDate: Record<string, number> = {};
  readonly #versions: number[] = [];
  #rowsRead = 0;
  #rowsUnseen = 0;
  #bronzeRows = 0;

  constructor(
    edit: SilverEdit,
    files: readonly TableFile[],
    options: { readonly dryRun: boolean; readonly partRows: number },
  ) {
    this.#edit = edit;
    this.#files = files;
    this.#parts = partsOf(files, options.partRows);
    this.#dryRun = options.dryRun;
    this.#rowsAll = this.#parts
      .flatMap((part) => part.files)
      .reduce((sum, { file }) => sum + (numRecordsOf(file.stats) ?? 0), 0);
  }

  async run(): Promise<ReplayReport> {
    for (const part of this.#parts) {
      await this.#edit.begin('kept');
      await this.#collect(part);
      await (this.#dryRun ? this.#countMissing(part) : this.#addMissing(part));
    }
    const totals = this.#dryRun
      ? await this.#edit.thread.call('totals', {})
      : { before: [], after: [] };
    const added = Object.values(this.#addedByDate).reduce((sum, rows) => sum + rows, 0);
    return {
      bronzeRows: this.#bronzeRows,
      added,
      addedByDate: this.#addedByDate,
      versions: this.#versions,
      totals,
    };
  }

  async #collect({ span, files }: ReplayPart): Promise<void> {
    const { lake, thread } = this.#edit;
    const { onProgress } = lake.context;
    for (const { key, file } of files) {
      lake.checkStopped();
      const parquet = await lake.read(key);
      const { rows, unseen } = await thread.call('collect', { parquet, span });
      this.#bronzeRows += rows;
      this.#rowsUnseen += unseen;
      this.#rowsRead += numRecordsOf(file.stats) ?? rows;
      onProgress('looking for missing rows', this.#rowsRead, this.#rowsAll);
    }
  }

  async #countMissing(part: ReplayPart): Promise<void> {
    const { lake, thread } = this.#edit;
    await this.#edit.probe(await lake.silver.refresh());
    if ((await thread.call('probeEarlierParts', {})) === 0) return;
    const derived = await this.#derive(part);
    const dates = Object.keys(derived.rowsByDate);
    await this.#addDatesToTotals(dates.filter((date) => !(date in this.#addedByDate)));
    this.#count(derived);
  }

  async #addMissing(part: ReplayPart): Promise<void> {
    const { thread } = this.#edit;
    let derived: Derived | undefined;
    const version = await this.#edit.commit({
      operation: 'REPLAY',
      lineage: { reason: 'replay' },
      guarded: true,
      prepare: async (silver) => {
        const { missing, fewer } = await this.#edit.probe(silver);
        if (missing === 0) {
          derived = undefined;
          return undefined;
        }
        if (derived === undefined || fewer) {
          await thread.call('undecide', {});
          derived = await this.#derive(part);
        }
        if (derived.adds.length === 0) return undefined;
        const rows = Object.values(derived.rowsByDate).reduce((sum, count) => sum + count, 0);
        return { adds: derived.adds, progress: this.#putBack(silver, rows) };
      },
    });
    if (version !== undefined && derived !== undefined) {
      this.#versions.push(version);
      this.#count(derived);
    }
  }

  /** RP2 */
  #putBack(silver: Snapshot, rows: number): readonly ProgressUpdate[] {
    const { context, bronze } = this.#edit.lake;
    const { name } = context.config;
    const { lacking } = ledgerTotals(name, bronze.tableId, silver.progressEntries());
    const putBack = lacking < BigInt(rows) ? lacking : BigInt(rows);
    return putBack > 0n ? movedTotals(name, bronze.tableId, silver, { putBack }) : [];
  }

  /**
   * RP2, after `run`: says of what restores took out that copies have its place, if every record of
   * `start` was looked at and no edit but this one came since.
   */
  async settle(start: Snapshot): Promise<void> {
    const { lake } = this.#edit;
    const { name } = lake.context.config;
    const isEven = lake.bucketIds.every(
      (id) => start.progress(id) === start.progress(lake.bucketIds[0]!),
    );
    if (!isEven || this.#rowsUnseen > 0) return;
    if (this.#files.length < (await lake.coveredFiles(start, WHOLE_RANGE)).length) return;
    const editsId = silverEditsAppId(name, lake.bronze.tableId);
    const edits = (start.progress(editsId) ?? 0n) + BigInt(this.#versions.length);
    const version = await this.#edit.commit({
      operation: 'REPLAY',
      lineage: { reason: 'replay' },
      guarded: false,
      prepare: async (silver) => {
        const { tableId } = lake.bronze;
        const { lacking } = ledgerTotals(name, tableId, silver.progressEntries());
        if (lacking === 0n || (silver.progress(editsId) ?? 0n) !== edits) return undefined;
        return { adds: [], progress: movedTotals(name, tableId, silver, { replaced: lacking }) };
      },
    });
    if (version !== undefined) this.#versions.push(version);
  }

  #count({ rowsByDate }: Derived): void {
    for (const [date, rows] of Object.entries(rowsByDate)) {
      this.#addedByDate[date] = (this.#addedByDate[date] ?? 0) + rows;
    }
  }

  async #derive({ span, files }: ReplayPart): Promise<Derived> {
    const { lake, thread } = this.#edit;
    const adds: NewFile[] = [];
    const rowsByDate: Record<string, number> = {};
    const store = async (encoded: readonly EncodedSilverFile[]): Promise<void> => {
      for (const file of encoded) adds.push(await this.#edit.storeFile(file));
    };
    for (const { key } of files) {
      lake.checkStopped();
      const rows = await thread.call('lacking', { parquet: await lake.read(key), span });
      for (const [date, count] of Object.entries(rows.rowsByDate)) {
        rowsByDate[date] = (rowsByDate[date] ?? 0) + count;
      }
      await store(rows.files);
    }
    await store((await thread.call('flush', {})).files);
    return { adds, rowsByDate };
  }

  /** What silver has of dates that were not touched before. */
  async #addDatesToTotals(dates: readonly string[]): Promise<void> {
    const { lake, thread } = this.#edit;
    for (const file of lake.silver.snapshot.files()) {
      if (!dates.includes(file.partitionValues[EVENT_DATE] ?? '')) continue;
      const parquet = await lake.read(`${lake.silver.root}/${file.path}`);
      await thread.call('addToTotals', { parquet });
    }
  }
}

interface Derived {
  readonly adds: readonly NewFile[];
  readonly rowsByDate: Readonly<Record<string, number>>;
}
