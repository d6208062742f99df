/**
 * Retention: bronze rows older than the hot span move to the archive table, and leave it after the
 * archive span. Every step may be repeated, and a run after a crash finishes what was begun.
 *
 * RT1 A file is at every moment in bronze, in the archive, or with one path in both; never in neither.
 *     So `archive/…` minus the paths that bronze has, together with bronze, is every record (P4).
 * RT2 The line before which dates are archived is committed to bronze first. Compaction leaves those
 *     dates alone and is fenced when the line moves, so a file that was copied stays what it was.
 * RT3 Only files that silver has read are moved.
 * RT4 Bronze is append-only but for the one commit that takes the moved files out, which says so; the
 *     next one says that it is append-only again, and so does every run that finds it otherwise.
 * RT5 What expires is counted where it was, so that the ledger still adds up (P4).
 * Source: PROTOCOL.md "Append-only Tables"; docs/adr/0014-bronze-archive.md.
 */
import { bronzeTableSchema, COVERAGE_TAG, parseCoverage } from '../../pipeline/bronze.ts';
import {
  archivedBeforeAppId,
  dateText,
  expiredAppId,
  expiredBeforeAppId,
  tableRoots,
} from '../../pipeline/progress.ts';
import { PipelineError } from '../../errors.ts';
import { DeltaTable } from '../../storage/delta/delta-table.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import { isAppendOnly } from '../../storage/delta/table-properties.ts';
import type { CommitRequest, LiveFile, ProgressUpdate } from '../../storage/delta/transaction.ts';
import { commitFailed, followedUpTo, type HousekeepingLake } from '../housekeeping/lake-tables.ts';

export interface RetentionOptions {
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

/** Files and what is in them. */
export interface FileTotals {
  readonly files: number;
  readonly rows: number;
  readonly bytes: number;
}

/** What a run did, or would do. Dates are `YYYY-MM-DD`, exclusive. */
export interface RetentionReport {
  readonly archivedBefore: string;
  readonly archived: FileTotals;
  readonly expiredBefore: string;
  readonly expired: FileTotals;
}

const DAY_MS = 86_400_000;
/** Objects copied side by side. */
const CONCURRENCY = 4;
/** Files of one commit. */
const COMMIT_FILES_MAX = 1_000;
/** How long the commit that closes bronze may take, whoever wants to stop. */
const CLOSE_WITHIN_MS = 10_000;
const APPEND_ONLY = 'delta.appendOnly';

/**
 * Applies the pipeline's retention once.
 * @throws PipelineError invalid when there is no bronze yet, unavailable, corrupt
 */
export async function applyRetention(
  lake: HousekeepingLake,
  options: RetentionOptions = {},
): Promise<RetentionReport> {
  const { config, delta } = lake;
  const roots = tableRoots(config);
  const { hotMs, archiveMs } = config.retention.bronze;
  const nowMs = delta.ambient.clock.nowMs();
  const hotFromDay = Math.floor((nowMs - hotMs) / DAY_MS);
  const expiredBefore = dateText(Math.floor((nowMs - archiveMs) / DAY_MS));
  const bronze = await lake.open(roots.bronze);
  if (!bronze) {
    throw new PipelineError('invalid', 'TM_USAGE', 'The lake has no bronze yet; run the pipeline.');
  }
  const run = new RetentionRun(lake, bronze, options);
  const archived = await run.archive(hotFromDay);
  const expired = await run.expire(expiredBefore);
  return { archivedBefore: dateText(hotFromDay), archived, expiredBefore, expired };
}

class RetentionRun {
  readonly #lake: HousekeepingLake;
  readonly #bronze: DeltaTable;
  readonly #options: RetentionOptions;

  constructor(lake: HousekeepingLake, bronze: DeltaTable, options: RetentionOptions) {
    this.#lake = lake;
    this.#bronze = bronze;
    this.#options = options;
  }

  async archive(hotFromDay: number): Promise<FileTotals> {
    const { dryRun, signal } = this.#options;
    if (!dryRun) await this.#drawLine(hotFromDay);
    const movable = await this.#movable(dateText(hotFromDay));
    if (dryRun) return totalsOf(movable);
    let moved: LiveFile[] = [];
    try {
      for (let from = 0; from < movable.length && !signal?.aborted; from += COMMIT_FILES_MAX) {
        const files = movable.slice(from, from + COMMIT_FILES_MAX);
        await this.#copyToArchive(files);
        await this.#takeOutOfBronze(files);
        moved = [...moved, ...files];
      }
    } finally {
      await this.#closeBronze();
    }
    return totalsOf(moved);
  }

  /** RT2 */
  async #drawLine(hotFromDay: number): Promise<void> {
    const appId = archivedBeforeAppId(this.#lake.config.name);
    const expected = (await this.#bronze.refresh()).progress(appId);
    if ((expected ?? 0n) >= BigInt(hotFromDay)) return;
    await this.#commit(this.#bronze, {
      operation: 'RETENTION',
      operationParameters: { archivedBefore: dateText(hotFromDay) },
      adds: [],
      progress: [{ appId, expected: 'any', next: BigInt(hotFromDay) }],
    });
  }

  /** RT3 */
  async #movable(hotFrom: string): Promise<readonly LiveFile[]> {
    const bronze = this.#bronze;
    const named = { name: bronze.root, role: 'bronze' as const, table: bronze };
    const read = await bronze.snapshotAt(await followedUpTo(this.#lake, named));
    const snapshot = await bronze.refresh();
    return snapshot
      .files()
      .filter((file) => isBefore(file, hotFrom) && read.file(file.path) !== undefined);
  }

  async #copyToArchive(files: readonly LiveFile[]): Promise<void> {
    const { store } = this.#lake.delta;
    const archive = await this.#openArchive();
    const before = await archive.refresh();
    const absent = files.filter(({ path }) => !before.file(path));
    if (absent.length === 0) return;
    for (let from = 0; from < absent.length; from += CONCURRENCY) {
      await Promise.all(
        absent.slice(from, from + CONCURRENCY).map(async ({ path, sizeBytes }) => {
          const bytes = await store.get(`${this.#bronze.root}/${path}`);
          if (bytes?.byteLength !== sizeBytes) {
            const message = `data file ${this.#bronze.root}/${path} is gone or cut`;
            throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', message);
          }
          await store.put(`${archive.root}/${path}`, bytes);
        }),
      );
    }
    await this.#commit(archive, {
      operation: 'WRITE',
      operationMetrics: { numFiles: String(absent.length) },
      adds: absent,
      progress: [],
      lineage: { stage: 'archive', bronzeTable: this.#bronze.tableId },
    });
  }

  /** RT4 */
  async #takeOutOfBronze(files: readonly LiveFile[]): Promise<void> {
    const removes = files.map(({ path }) => path);
    await this.#commit(this.#bronze, {
      operation: 'DELETE',
      operationParameters: { predicate: 'moved to the archive' },
      operationMetrics: { numRemovedFiles: String(removes.length) },
      adds: [],
      removes,
      metadata: { configuration: { [APPEND_ONLY]: 'false' } },
      progress: [],
      lineage: { stage: 'archive' },
    });
  }

  /** RT4, also of a run that was told to stop. */
  async #closeBronze(): Promise<void> {
    if (isAppendOnly((await this.#bronze.refresh()).configuration)) return;
    const limit = new AbortController();
    const { clock } = this.#lake.delta.ambient;
    const timer = clock.after(CLOSE_WITHIN_MS, () => limit.abort());
    try {
      await this.#commit(
        this.#bronze,
        {
          operation: 'SET TBLPROPERTIES',
          operationParameters: { properties: JSON.stringify({ [APPEND_ONLY]: 'true' }) },
          adds: [],
          metadata: { configuration: { [APPEND_ONLY]: 'true' } },
          progress: [],
        },
        limit.signal,
      );
    } finally {
      timer.cancel();
    }
  }

  /** RT5 */
  async expire(before: string): Promise<FileTotals> {
    const { config } = this.#lake;
    const archive = await this.#lake.open(tableRoots(config).archive);
    const snapshot = await archive?.refresh();
    const old = snapshot?.files().filter((file) => isBefore(file, before)) ?? [];
    const expired = totalsOf(old);
    if (!archive || !snapshot || this.#options.dryRun || old.length === 0) return expired;
    const coverage = old.flatMap(({ tags }) => {
      const text = tags?.[COVERAGE_TAG];
      return text === undefined ? [] : parseCoverage(text);
    });
    const coveredRows = coverage.reduce((sum, { rows }) => sum + rows, 0);
    const add = (appId: string, count: number): ProgressUpdate => {
      const expected = snapshot.progress(appId);
      return { appId, expected, next: (expected ?? 0n) + BigInt(count) };
    };
    const ends = Map.groupBy(coverage, ({ partition }) => partition);
    await this.#commit(archive, {
      operation: 'DELETE',
      operationParameters: { predicate: `_event_date < '${before}'` },
      operationMetrics: { numRemovedFiles: String(old.length) },
      adds: [],
      removes: old.map(({ path }) => path),
      progress: [
        add(expiredAppId(config.name, 'rows'), expired.rows),
        add(expiredAppId(config.name, 'coveredRows'), coveredRows),
        ...[...ends].map(([partition, ranges]): ProgressUpdate => {
          const next = ranges.reduce((end, { to }) => (to > end ? to : end), 0n);
          return { appId: expiredBeforeAppId(config.name, partition), expected: 'any', next };
        }),
      ],
      basedOn: snapshot,
      lineage: { stage: 'retention' },
    });
    return expired;
  }

  #openArchive(): Promise<DeltaTable> {
    const { config, delta } = this.#lake;
    return DeltaTable.create(delta, {
      root: tableRoots(config).archive,
      schema: bronzeTableSchema(),
      partitionColumns: this.#bronze.snapshot.partitionColumns,
      configuration: { 'tidemark.pipeline': config.name },
      description: `Records of ${config.source.topic} older than the hot span`,
    });
  }

  async #commit(
    table: DeltaTable,
    request: CommitRequest,
    signal = this.#options.signal,
  ): Promise<void> {
    const outcome = await table.commit({ ...request, ...(signal ? { signal } : {}) });
    if (outcome.kind !== 'committed') throw commitFailed(table, outcome);
  }
}

function isBefore({ partitionValues }: LiveFile, date: string): boolean {
  const own = partitionValues['_event_date'];
  return typeof own === 'string' && own < date;
}

function totalsOf(files: readonly LiveFile[]): FileTotals {
  return {
    files: files.length,
    rows: files.reduce((sum, { stats }) => sum + (numRecordsOf(stats) ?? 0), 0),
    bytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  };
}
