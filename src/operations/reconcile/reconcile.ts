/**
 * Reconciliation: recomputes dates of gold from one silver version each, replaces them, reports every
 * window that changed, and makes them final (P7). Safe to run twice, twice at once, and beside the
 * stream. docs/adr/0012.
 *
 * - RC1 A date of a gold table is replaced in one commit, which counts as an edit: stream and other
 *   reconciliations are fenced by that count, and this one by theirs. Edits of other dates are followed;
 *   after one of its own the date is looked at again.
 * - RC2 Rows that the stream brought to gold after the batch's silver version leave with the files they
 *   were in, so the same commit marks the date as late up to them; the next reconciliation counts them.
 * - RC3 The gold commit names the report that it owes; the report table takes it in once, and always
 *   before the files that name it are replaced.
 */
import { asPipelineError, PipelineError } from '../../errors.ts';
import { errorFields } from '../../logger.ts';
import { settled } from '../../actors/stage-writer/commit.ts';
import type { ChangeCause } from '../../pipeline/gold/change-cause.ts';
import { parseGoldTags } from '../../pipeline/gold/gold-tags.ts';
import { goldAppId, goldEditsAppId, goldLateAppId } from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { ProgressUpdate } from '../../storage/delta/transaction.ts';
import { gatherEvidence } from './change-evidence.ts';
import {
  type BatchProgress,
  type ComputedTable,
  DateBatch,
  type WantedTable,
} from './date-batch.ts';
import {
  dateOf,
  datesInNeed,
  type LakeView,
  needOf,
  type ReconcileLake,
  stateOfDate,
  viewLake,
} from './lake-view.ts';
import { DateWatch } from './date-watch.ts';
import {
  findReportTable,
  openReportTable,
  reportedRevision,
  settleReport,
  settleReports,
} from './report-table.ts';

export interface ReconcileOptions {
  /** `YYYY-MM-DD`, ascending; undefined: every date that needs it. */
  readonly dates?: readonly string[] | undefined;
  /** Compute and compare, change nothing. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BatchProgress) => void) | undefined;
}

/** What a batch made of one gold table's date. */
export interface ReconciledTable {
  readonly aggregate: string;
  readonly revision: number;
  /** Silver rows of the date. */
  readonly events: number;
  readonly changedWindows: number;
  readonly windowsByCause: Readonly<Partial<Record<ChangeCause, number>>>;
}

/**
 * What became of a date.
 * - `reconciled`: replaced and final; of a dry run: what it would be.
 * - `already-final`: nothing came for it since it was made final; nothing was changed.
 * - `open`: not over; nothing was changed (closing.ts).
 * - `empty`: neither silver nor gold has rows of it.
 * - `failed`: could not be computed or replaced; a gold table that was replaced before stays so.
 */
export type DateOutcome =
  | {
      readonly date: string;
      readonly kind: 'reconciled';
      readonly silverVersion: number;
      readonly tables: readonly ReconciledTable[];
    }
  | { readonly date: string; readonly kind: 'already-final'; readonly revision: number }
  | { readonly date: string; readonly kind: 'open'; readonly untilMs: number }
  | { readonly date: string; readonly kind: 'empty' }
  | { readonly date: string; readonly kind: 'failed'; readonly error: PipelineError };

/** Views of the lake that one date may be computed from before it gives up. */
const ATTEMPTS_MAX = 5;
/** Times a commit gives way to those of others before it gives up. */
const COMMITS_MAX = 200;

/**
 * Reconciles dates one after another. One that fails does not keep back the others, unless a service
 * does not answer: then it is the last.
 * @returns what became of each: of the dates that were asked for, or of all that need it
 * @throws PipelineError unavailable | corrupt, before the first date
 */
export async function reconcile(
  lake: ReconcileLake,
  options: ReconcileOptions = {},
): Promise<readonly DateOutcome[]> {
  const view = await viewLake(lake);
  const { dryRun = false, signal, onProgress } = options;
  const report = dryRun ? await findReportTable(lake) : await openReportTable(lake);
  if (report && !dryRun) await settleReports(lake, report, view);
  const outcomes: DateOutcome[] = [];
  let batch = new DateBatch(lake, { dryRun, signal, onProgress });
  try {
    for (const date of options.dates ?? datesInNeed(view)) {
      const one = new DateReconciliation(lake, report, batch, date, options);
      const outcome = await one.run().catch((thrown: unknown) => failureOf(lake, date, thrown));
      outcomes.push(outcome);
      if (outcome.kind !== 'failed') continue;
      if (outcome.error.kind === 'unavailable') break;
      // Its thread is dead, or holds what it found of this date.
      await batch.close();
      batch = new DateBatch(lake, { dryRun, signal, onProgress });
    }
  } finally {
    await batch.close();
  }
  return outcomes;
}

function failureOf({ delta }: ReconcileLake, date: string, thrown: unknown): DateOutcome {
  const error = asPipelineError(thrown);
  delta.logger.error('a date could not be reconciled', { date, ...errorFields(error) });
  return { date, kind: 'failed', error };
}

/** One date on its way to being final. */
class DateReconciliation {
  readonly #lake: ReconcileLake;
  /** undefined in a dry run before the first reconciliation. */
  readonly #report: DeltaTable | undefined;
  readonly #batch: DateBatch;
  readonly #date: string;
  readonly #options: ReconcileOptions;
  readonly #done = new Map<string, ReconciledTable>();
  #silverVersion = 0;

  constructor(
    lake: ReconcileLake,
    report: DeltaTable | undefined,
    batch: DateBatch,
    date: string,
    options: ReconcileOptions,
  ) {
    this.#lake = lake;
    this.#report = report;
    this.#batch = batch;
    this.#date = date;
    this.#options = options;
  }

  async run(): Promise<DateOutcome> {
    const date = this.#date;
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const view = await viewLake(this.#lake);
      const outcome = this.#settledBy(view);
      if (outcome) return outcome;
      await this.#settleDebts(view);
      this.#silverVersion = view.silver.version;
      const computed = await this.#batch.compute(view, date, await this.#wanted(view));
      const { version } = view.silver;
      const files = view.silverFiles.get(date) ?? [];
      const silverWatch = new DateWatch(this.#lake.silver, date, { version, files });
      let overtaken = false;
      for (const table of computed) {
        const { aggregate } = table.gold;
        const { revision, events, changedWindows, windowsByCause } = table;
        const isDone = this.#options.dryRun || (await this.#replace(view, silverWatch, table));
        if (!isDone) overtaken = true;
        else {
          this.#done.set(aggregate, {
            aggregate,
            revision,
            events,
            changedWindows,
            windowsByCause,
          });
        }
      }
      if (!overtaken) {
        const tables = [...this.#done.values()];
        return { date, kind: 'reconciled', silverVersion: this.#silverVersion, tables };
      }
    }
    throw new PipelineError(
      'unavailable',
      'TM_COMMIT_FENCED',
      `gold of ${date} was replaced by others ${ATTEMPTS_MAX} times meanwhile; try again`,
    );
  }

  /** The outcome when nothing is left to do. */
  #settledBy(view: LakeView): DateOutcome | undefined {
    const date = this.#date;
    const state = stateOfDate(this.#lake.config, view, date);
    if (state.kind === 'open') return { date, ...state };
    const known = view.gold.flatMap((gold) => gold.dates.get(date) ?? []);
    if (known.length === 0 && !view.silverFiles.has(date)) return { date, kind: 'empty' };
    if (view.gold.some((gold) => needOf(view, gold, date) !== undefined)) return undefined;
    const tables = [...this.#done.values()];
    if (tables.length > 0) {
      return { date, kind: 'reconciled', silverVersion: this.#silverVersion, tables };
    }
    const revision = Math.max(...known.map((gold) => gold.revision));
    return { date, kind: 'already-final', revision };
  }

  /** RC3 */
  async #settleDebts(view: LakeView): Promise<void> {
    if (this.#options.dryRun) return;
    const date = this.#date;
    for (const { aggregate, dates } of view.gold) {
      const owed = dates.get(date);
      if (owed) await settleReport(this.#lake, this.#report!, { aggregate, date, ...owed });
    }
  }

  #wanted(view: LakeView): Promise<WantedTable[]> {
    const lake = this.#lake;
    const date = this.#date;
    const inNeed = view.gold.filter((gold) => needOf(view, gold, date) !== undefined);
    return Promise.all(
      inNeed.map(async (gold) => {
        const known = gold.dates.get(date);
        const since = known?.finalVersion ?? gold.covered;
        const report = this.#report;
        const reported = report ? reportedRevision(lake, report, gold.aggregate, date) : 0;
        return {
          gold,
          // A restored table may say less than what was reported.
          revision: Math.max(known?.revision ?? 0, reported) + 1,
          evidence: await gatherEvidence(lake, date, since, view.silver),
        };
      }),
    );
  }

  /**
   * Replaces the date in one gold table and brings in its report.
   * @returns false when another edit of the date came first: it has to be looked at again
   */
  async #replace(
    view: LakeView,
    silverWatch: DateWatch,
    computed: ComputedTable,
  ): Promise<boolean> {
    if (computed.files.length === 0) return true;
    const { config, silver } = this.#lake;
    const { gold, files, revision } = computed;
    const { table } = gold;
    const date = this.#date;
    const editsId = goldEditsAppId(config.name, silver.tableId);
    const coveredId = goldAppId(config.name, silver.tableId);
    const goldWatch = new DateWatch(table, date, {
      version: gold.snapshot.version,
      files: gold.dates.get(date)?.files ?? [],
    });
    for (let commits = 1; commits <= COMMITS_MAX; commits++) {
      const snapshot = await table.refresh();
      const edits = snapshot.progress(editsId);
      if (edits !== gold.edits) {
        const changes = await goldWatch.changesUpTo(snapshot.version);
        if (changes.some(({ progress }) => progress.has(editsId))) return false;
      }
      const covered = snapshot.progress(coveredId);
      const removes = snapshot
        .files()
        .filter((file) => dateOf(file) === date)
        .map(({ path }) => path);
      const outcome = await table.commit({
        operation: 'RECONCILE',
        operationParameters: { date, revision: String(revision) },
        operationMetrics: {
          numAddedFiles: String(files.length),
          numRemovedFiles: String(removes.length),
          numOutputRows: String(computed.events),
        },
        adds: files,
        removes,
        progress: [
          // RC1
          { appId: editsId, expected: edits, next: (edits ?? 0n) + 1n },
          ...(await this.#lateMark(silverWatch, Number(covered ?? 0n))),
        ],
        guards: [{ appId: coveredId, expected: covered }],
        lineage: {
          stage: 'reconciliation',
          date,
          revision,
          silverTable: silver.tableId,
          silverVersion: view.silver.version,
          changedWindows: computed.changedWindows,
          windowsByCause: computed.windowsByCause,
        },
        ...(this.#options.signal ? { signal: this.#options.signal } : {}),
      });
      if (outcome.kind === 'fenced' || outcome.kind === 'conflict') continue;
      await settled(outcome);
      const note = parseGoldTags(files[0]!.tags)?.note;
      const owed = { aggregate: gold.aggregate, date, note, revision };
      await settleReport(this.#lake, this.#report!, owed);
      return true;
    }
    throw new PipelineError(
      'unavailable',
      'TM_COMMIT_FENCED',
      `${table.root} moved on ${COMMITS_MAX} times meanwhile; pause the stream and try again`,
    );
  }

  /** RC2: for what came after the watch's start and is in gold. */
  async #lateMark(silverWatch: DateWatch, covered: number): Promise<ProgressUpdate[]> {
    const { config, silver } = this.#lake;
    const last = (await silverWatch.changesUpTo(covered)).at(-1);
    if (!last) return [];
    const appId = goldLateAppId(config.name, silver.tableId, this.#date);
    return [{ appId, expected: 'any', next: BigInt(last.version) }];
  }
}
