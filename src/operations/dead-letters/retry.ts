/**
 * Retry of dead letters under the current schema: what is valid now goes to silver and leaves the
 * dead-letter table.
 *
 * Invariants:
 * - DR1 Silver first, then the dead letters; a crash between is finished by the next retry, before it
 *   looks at anything (retry-statement.ts). So a record is counted as retried once.
 * - DR2 A record is a silver row only if silver has not its id; else it is a duplicate and goes, or a
 *   conflict and stays. What is still no event stays as it is.
 * - DR3 Only records are retried that silver's stream has counted: those of dead letters it covers.
 * - DR4 The ledger's counters move in the silver commit: `retried` by every record that changed, and
 *   what it became by the same number (P6).
 * - DR5 Of several records of a part with one id, the one that came first is the row (CI3), and parts ascend
 *   by when their files' first records arrived.
 */
import { PipelineError } from '../../errors.ts';
import { movedTotals } from '../../pipeline/ledger/ledger-totals.ts';
import { silverEditsAppId } from '../../pipeline/progress.ts';
import { DEAD_LETTER_DATE } from '../../pipeline/silver/tables.ts';
import type { Snapshot } from '../../storage/delta/delta-table.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import type { LiveFile, NewFile } from '../../storage/delta/transaction.ts';
import { statsOf, WHOLE_RANGE } from '../silver-edit/bronze-range.ts';
import type { EditedLake } from '../silver-edit/edited-lake.ts';
import type { Coordinates } from '../silver-edit/edit-thread.ts';
import { type EditContent, SilverEdit } from '../silver-edit/silver-edit.ts';
import { coveredLetters } from './covered-letters.ts';
import {
  finishRetry,
  isPending,
  retryIdOf,
  type RewrittenLetters,
  storeStatement,
} from './retry-statement.ts';

/** Dead letters of one commit. */
const PART_ROWS = 50_000;
/** How often everything is begun anew because others changed the dead letters. */
const ATTEMPTS_MAX = 10;

/** What a retry did, or would do. */
export interface RetryReport {
  /** Dead letters that were derived again. */
  readonly looked: number;
  /** What became of them. */
  readonly silverRows: number;
  readonly duplicates: number;
  readonly conflicts: number;
  /** Still dead letters. */
  readonly unchanged: number;
  /** Silver versions that were committed. */
  readonly versions: readonly number[];
}

/** Which dead letters to retry. */
export interface RetrySelection {
  readonly flag: string | undefined;
  /** `_dlq_date`, `YYYY-MM-DD`. */
  readonly date: string | undefined;
  readonly dryRun: boolean;
}

/**
 * Retries dead letters.
 * @param partRows dead letters of one commit; for tests
 * @throws PipelineError corrupt when a data file is gone, unavailable
 */
export async function retryDeadLetters(
  lake: EditedLake,
  selection: RetrySelection,
  partRows = PART_ROWS,
): Promise<RetryReport> {
  const edit = new SilverEdit(lake, { range: WHOLE_RANGE, dryRun: selection.dryRun });
  try {
    return await new Retry(edit, selection, partRows).run();
  } finally {
    await edit.close();
  }
}

interface DerivedPart {
  readonly adds: readonly NewFile[];
  readonly gone: Coordinates;
  readonly conflicts: Coordinates;
  readonly counts: Counts;
}

interface Counts {
  silverRows: number;
  duplicates: number;
  conflicts: number;
  unchanged: number;
}

class Retry {
  readonly #edit: SilverEdit;
  readonly #selection: RetrySelection;
  readonly #partRows: number;
  readonly #sums = { looked: 0, silverRows: 0, duplicates: 0, conflicts: 0, unchanged: 0 };
  readonly #versions: number[] = [];
  readonly #done = new Set<string>();

  constructor(edit: SilverEdit, selection: RetrySelection, partRows: number) {
    this.#edit = edit;
    this.#selection = selection;
    this.#partRows = partRows;
  }

  async run(): Promise<RetryReport> {
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      // DR1
      if (!this.#selection.dryRun) await finishRetry(this.#edit);
      const parts = partsOf(await this.#coveredFiles(), this.#partRows);
      let stale = false;
      for (const part of parts) {
        stale = !(await this.#part(part));
        if (stale) break;
      }
      if (!stale) return { ...this.#sums, versions: this.#versions };
    }
    throw new PipelineError(
      'unavailable',
      'TM_COMMIT_FENCED',
      'other writers of the dead letters were faster each time; try again',
    );
  }

  /** DR3 */
  async #coveredFiles(): Promise<readonly LiveFile[]> {
    const { lake } = this.#edit;
    const dead = await coveredLetters(lake.context.config, lake.bronze.tableId, {
      deadLetter: lake.deadLetter,
      silver: await lake.silver.refresh(),
    });
    const { date } = this.#selection;
    const files = dead.files().filter(({ path, partitionValues }) => {
      if (this.#done.has(path)) return false;
      return date === undefined || partitionValues[DEAD_LETTER_DATE] === date;
    });
    // DR5
    return byArrival(files);
  }

  /** @returns false when the files are not the table's any more */
  async #part(files: readonly LiveFile[]): Promise<boolean> {
    const { lake, thread } = this.#edit;
    const { flag, dryRun } = this.#selection;
    await this.#edit.begin();
    const looked: LiveFile[] = [];
    let rows = 0;
    for (const file of files) {
      lake.checkStopped();
      const parquet = await lake.read(`${lake.deadLetter.root}/${file.path}`);
      const found = await thread.call('collectDead', { parquet, flag });
      if (found.rows > 0) looked.push(file);
      rows += found.rows;
    }
    let derived: DerivedPart | undefined;
    let rewritten: RewrittenLetters | undefined;
    let stale = false;
    if (dryRun) {
      await this.#edit.probe(await lake.silver.refresh());
      derived = await this.#derive(looked);
    } else {
      const version = await this.#edit.commit({
        operation: 'RETRY',
        lineage: { reason: 'dead-letter-retry', flag: flag ?? null },
        guarded: true,
        prepare: async (silver) => {
          const dead = await lake.deadLetter.refresh();
          stale = isPending(lake, silver) || looked.some(({ path }) => !dead.file(path));
          if (stale) return undefined;
          const { fewer } = await this.#edit.probe(silver);
          if (derived === undefined || fewer) {
            await thread.call('undecide', {});
            derived = await this.#derive(looked);
          }
          return this.#content(silver, derived, looked);
        },
      });
      if (stale) return false;
      if (version !== undefined) {
        this.#versions.push(version);
        rewritten = await finishRetry(this.#edit);
      }
    }
    for (const { path } of files) this.#done.add(path);
    // Should everything begin anew, what is left of these files was looked at.
    if (rewritten?.removes.every((path) => this.#done.has(path))) {
      for (const { path } of rewritten.adds) this.#done.add(path);
    }
    this.#sums.looked += rows;
    addCounts(this.#sums, derived!.counts);
    return true;
  }

  async #derive(files: readonly LiveFile[]): Promise<DerivedPart> {
    const { lake, thread } = this.#edit;
    const { flag } = this.#selection;
    const adds: NewFile[] = [];
    const gone: Record<number, readonly string[]> = {};
    const conflicts: Record<number, readonly string[]> = {};
    const counts: Counts = { silverRows: 0, duplicates: 0, conflicts: 0, unchanged: 0 };
    for (const { path } of files) {
      const parquet = await lake.read(`${lake.deadLetter.root}/${path}`);
      const retried = await thread.call('retry', { parquet, flag });
      for (const file of retried.files) adds.push(await this.#edit.storeFile(file));
      addCoordinates(gone, retried.gone);
      addCoordinates(conflicts, retried.conflicts);
      addCounts(counts, retried.counts);
    }
    const rest = await thread.call('flush', {});
    for (const file of rest.files) adds.push(await this.#edit.storeFile(file));
    return { adds, gone, conflicts, counts };
  }

  async #content(
    silver: Snapshot,
    { adds, gone, conflicts, counts }: DerivedPart,
    files: readonly LiveFile[],
  ): Promise<EditContent | undefined> {
    const { lake } = this.#edit;
    const { config, ambient } = lake.context;
    const retried = counts.silverRows + counts.duplicates + counts.conflicts;
    if (retried === 0) return undefined;
    const edits = silver.progress(silverEditsAppId(config.name, lake.bronze.tableId)) ?? 0n;
    const nonce = BigInt(Math.floor(ambient.random.next() * 2 ** 32));
    const version = ((edits + 1n) << 32n) | nonce;
    const dates = files.map(({ partitionValues }) => partitionValues[DEAD_LETTER_DATE] ?? '');
    await storeStatement(lake, version, { dates: [...new Set(dates)], gone, conflicts });
    const retryId = retryIdOf(lake);
    return {
      adds,
      progress: [
        { appId: retryId, expected: silver.progress(retryId), next: version },
        // DR4
        ...movedTotals(config.name, lake.bronze.tableId, silver, {
          retried,
          silverRows: counts.silverRows,
          duplicates: counts.duplicates,
          conflicts: counts.conflicts,
        }),
      ],
    };
  }
}

function byArrival(files: readonly LiveFile[]): LiveFile[] {
  const firsts = new Map(
    files.map((file) => [file, String(statsOf(file).minValues?.['_kafka_timestamp'])]),
  );
  return files.toSorted((a, b) => {
    const [x, y] = [firsts.get(a)!, firsts.get(b)!];
    return x < y ? -1 : x > y ? 1 : 0;
  });
}

function partsOf(files: readonly LiveFile[], partRows: number): readonly LiveFile[][] {
  const parts: LiveFile[][] = [];
  let rows = partRows;
  for (const file of files) {
    if (rows >= partRows) {
      parts.push([]);
      rows = 0;
    }
    parts.at(-1)!.push(file);
    rows += numRecordsOf(file.stats) ?? partRows;
  }
  return parts;
}

function addCounts(sums: Counts, counts: Readonly<Counts>): void {
  sums.silverRows += counts.silverRows;
  sums.duplicates += counts.duplicates;
  sums.conflicts += counts.conflicts;
  sums.unchanged += counts.unchanged;
}

function addCoordinates(to: Record<number, readonly string[]>, more: Coordinates): void {
  for (const [partition, offsets] of Object.entries(more)) {
    to[Number(partition)] = [...(to[Number(partition)] ?? []), ...offsets];
  }
}
