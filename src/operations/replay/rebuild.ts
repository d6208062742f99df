/**
 * Rebuild: derives the rows of silver dates again from their bronze records under the schema and rules
 * of the pipeline file, and replaces each date's files in one commit, while the stream goes on.
 *
 * Invariants:
 * - RB1 A date's rows are exactly replaced: each record that has a row in silver has one afterwards,
 *   on this date or, when its event time reads differently now, on another. What would lose a row (a
 *   record that is gone, a row that is no valid event any more) refuses the date, and nothing changes.
 * - RB2 Files carry a tag that says what they were derived under. A file that has the current one is
 *   left alone, so a rebuild that was interrupted goes on where it was, and a second one does nothing.
 * - RB3 Ids neither come nor go, so a rebuild does not depend on how far the stream is.
 * - RB4 No more than a slice of a date's coordinates is held at once (P10); of a date that is larger, the
 *   files are read once for each slice.
 */
import { createHash } from 'node:crypto';
import { schemaProperties } from '../../engine/declared-schema.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { EVENT_DATE } from '../../pipeline/silver/tables.ts';
import type { Snapshot } from '../../storage/delta/delta-table.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import type { LiveFile, NewFile } from '../../storage/delta/transaction.ts';
import { type BronzeRange, mayHaveRowsOf, WHOLE_RANGE } from '../silver-edit/bronze-range.ts';
import type { DateTotal } from '../silver-edit/date-totals.ts';
import type { EditedLake } from '../silver-edit/edited-lake.ts';
import { SilverEdit } from '../silver-edit/silver-edit.ts';

/** Tag of silver files that a rebuild wrote: what they were derived under. */
const REBUILT_TAG = 'tidemark.rebuilt';

/** What became, or would become, of one date. */
export interface RebuiltDate {
  readonly date: string;
  /**
   * - `rebuilt`: replaced in `version`, or would be, with `dryRun`.
   * - `current`: its files were derived under the current rules already.
   * - `refused`: nothing was changed, for `reason`.
   */
  readonly state: 'rebuilt' | 'current' | 'refused';
  readonly reason: string | undefined;
  readonly version: number | undefined;
  /** Rows that were derived again. */
  readonly rows: number;
  /** Rows with another value in any column but `_schema_version`. */
  readonly changed: number;
  /** Rows that are on other dates now, by date. */
  readonly moved: Readonly<Record<string, number>>;
  /** Of the rows derived again; only with `dryRun`. */
  readonly totals: { readonly before: readonly DateTotal[]; readonly after: readonly DateTotal[] };
}

/** Which rows a rebuild is about. */
export type RebuildSelection =
  | { readonly kind: 'date'; readonly date: string }
  /** Every date on which records of the range have rows. */
  | { readonly kind: 'range'; readonly range: BronzeRange };

/** How often a date is tried when housekeeping replaces its files meanwhile. */
const ATTEMPTS_MAX = 5;
/** Rows of a slice; 17 bytes each, twice that while the set grows. */
const SLICE_ROWS = 4_000_000;
const NO_TOTALS = { before: [], after: [] };

/**
 * Rebuilds dates, the oldest first.
 * @throws PipelineError corrupt when a data file is gone, unavailable
 */
export async function rebuild(
  lake: EditedLake,
  selection: RebuildSelection,
  options: {
    readonly dryRun: boolean;
    /** Rows of one slice; for tests. */
    readonly sliceRows?: number;
  },
): Promise<readonly RebuiltDate[]> {
  const edit = new SilverEdit(lake, { range: WHOLE_RANGE, dryRun: options.dryRun });
  try {
    const job = new Rebuild(edit, { sliceRows: SLICE_ROWS, ...options });
    const dates: RebuiltDate[] = [];
    for (const date of selectedDates(await lake.silver.refresh(), selection)) {
      dates.push(await job.date(date));
    }
    return dates;
  } finally {
    await edit.close();
  }
}

/** Dates of silver that may have rows of the selection, ascending. */
function selectedDates(silver: Snapshot, selection: RebuildSelection): readonly string[] {
  if (selection.kind === 'date') return [selection.date];
  const dates = new Set<string>();
  for (const file of silver.files()) {
    const date = file.partitionValues[EVENT_DATE];
    if (typeof date === 'string' && mayHaveRowsOf(file, selection.range)) dates.add(date);
  }
  return [...dates].sort();
}

/** What silver rows depend on beside their record, and gold on beside them (RB2). */
function derivationKey(config: PipelineConfig): string {
  const rules = JSON.stringify([schemaProperties(config.event), config.late, config.gold]);
  const hash = createHash('sha256').update(rules).digest('hex').slice(0, 12);
  return `${config.event.schemaVersion}:${hash}`;
}

class Rebuild {
  readonly #edit: SilverEdit;
  readonly #dryRun: boolean;
  readonly #sliceRows: number;
  readonly #key: string;

  constructor(
    edit: SilverEdit,
    { dryRun, sliceRows }: { readonly dryRun: boolean; readonly sliceRows: number },
  ) {
    this.#edit = edit;
    this.#dryRun = dryRun;
    this.#sliceRows = sliceRows;
    this.#key = derivationKey(edit.lake.context.config);
  }

  async date(date: string): Promise<RebuiltDate> {
    const { silver } = this.#edit.lake;
    for (let attempt = 1; ; attempt++) {
      const files = this.#staleFiles(await silver.refresh(), date);
      if (files.length === 0) return outcome(date, 'current');
      const derived = await this.#derive(date, files);
      if (derived.refusal !== undefined) {
        return outcome(date, 'refused', { ...derived, reason: derived.refusal });
      }
      if (this.#dryRun) return outcome(date, 'rebuilt', derived);
      let gone = false;
      const version = await this.#edit.commit({
        operation: 'REBUILD',
        lineage: { reason: 'rebuild', date, rows: derived.rows, changed: derived.changed },
        // RB3
        guarded: false,
        prepare: async (snapshot) => {
          gone = files.some(({ path }) => snapshot.file(path) === undefined);
          if (gone) return undefined;
          return { adds: derived.adds, removes: files.map(({ path }) => path) };
        },
      });
      if (version !== undefined) return outcome(date, 'rebuilt', { ...derived, version });
      if (attempt === ATTEMPTS_MAX) {
        const reason = 'its files were replaced by others each time; try again later';
        return outcome(date, 'refused', { ...derived, reason });
      }
    }
  }

  /** RB2 */
  #staleFiles(silver: Snapshot, date: string): readonly LiveFile[] {
    return silver.files().filter(({ partitionValues, tags }) => {
      return partitionValues[EVENT_DATE] === date && tags?.[REBUILT_TAG] !== this.#key;
    });
  }

  /** @returns dates of the records of all of `files`; the thread keeps the rows of its slice */
  async #takeSlice(files: readonly LiveFile[]): Promise<ReadonlySet<string>> {
    const { lake, thread } = this.#edit;
    const bronzeDates = new Set<string>();
    for (const { path } of files) {
      lake.checkStopped();
      const parquet = await lake.read(`${lake.silver.root}/${path}`);
      const taken = await thread.call('toRebuild', { parquet });
      for (const date of taken.bronzeDates) bronzeDates.add(date);
    }
    return bronzeDates;
  }

  async #derive(date: string, files: readonly LiveFile[]): Promise<DerivedDate> {
    const { lake, thread } = this.#edit;
    await this.#edit.begin();
    const adds: NewFile[] = [];
    const rowsByDate: Record<string, number> = {};
    const tags = { [REBUILT_TAG]: this.#key };
    // RB4
    const count = Math.max(1, Math.ceil(rowsOf(files) / this.#sliceRows));
    let rowsRead = 0;
    for (let index = 0; index < count; index++) {
      await thread.call('beginSlice', { index, count });
      const records = await lake.filesOfDates(await this.#takeSlice(files));
      const rowsAll = count * rowsOf(records.map(({ file }) => file));
      for (const { key, file } of records) {
        lake.checkStopped();
        const part = await thread.call('rebuild', { parquet: await lake.read(key) });
        for (const one of part.files) adds.push(await this.#edit.storeFile(one, tags));
        for (const [on, rows] of Object.entries(part.rowsByDate)) {
          rowsByDate[on] = (rowsByDate[on] ?? 0) + rows;
        }
        rowsRead += numRecordsOf(file.stats) ?? 0;
        lake.context.onProgress(`rebuilding ${date}`, rowsRead, rowsAll);
      }
    }
    const rest = await thread.call('flush', {});
    for (const one of rest.files) adds.push(await this.#edit.storeFile(one, tags));
    const { wanted, derived, changed, refused } = await thread.call('rebuildCounts', {});
    const { [date]: _, ...moved } = rowsByDate;
    const totals = this.#dryRun ? await thread.call('totals', {}) : NO_TOTALS;
    const refusal = refusalOf({ wanted, derived, refused });
    return { adds, rows: derived, changed, moved, totals, refusal };
  }
}

function rowsOf(files: readonly LiveFile[]): number {
  return files.reduce((sum, { stats }) => sum + (numRecordsOf(stats) ?? 0), 0);
}

interface DerivedDate {
  readonly adds: readonly NewFile[];
  readonly rows: number;
  readonly changed: number;
  readonly moved: Readonly<Record<string, number>>;
  readonly totals: RebuiltDate['totals'];
  readonly refusal: string | undefined;
}

/** RB1 */
function refusalOf(counts: {
  readonly wanted: number;
  readonly derived: number;
  readonly refused: Readonly<Record<string, number>>;
}): string | undefined {
  const invalid = Object.entries(counts.refused);
  if (invalid.length > 0) {
    const list = invalid.map(([flags, rows]) => `${rows} ${flags}`).join(', ');
    return (
      `rows that are events now would be none under this schema (${list}); ` +
      'make the fields optional, or rebuild other dates only'
    );
  }
  if (counts.derived === counts.wanted) return undefined;
  return (
    `${counts.wanted - counts.derived} of ${counts.wanted} rows have no record in bronze or its ` +
    'archive any more, so they cannot be derived again'
  );
}

function outcome(
  date: string,
  state: RebuiltDate['state'],
  found: Partial<Omit<RebuiltDate, 'date' | 'state'>> = {},
): RebuiltDate {
  const { reason, version, rows = 0, changed = 0, moved = {}, totals = NO_TOTALS } = found;
  return { date, state, reason, version, rows, changed, moved, totals };
}
