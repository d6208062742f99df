/**
 * Carries out edits of silver: changes of its rows outside the stream, by replay, rebuild and
 * dead-letter retry.
 *
 * Invariants:
 * - SE1 Each commit of an edit counts `silverEditsAppId` up by one, so that of two edits at once one
 *   is fenced, and the stream reloads its index.
 * - SE2 An edit that adds ids relies on every bucket's progress: it knows all ids of the version it
 *   commits on. When the stream was faster it looks again and tries again.
 */
import { ComputeThread } from '../../actors/runtime/compute-thread.ts';
import { dataFilePath } from '../../actors/file-settings.ts';
import type { EncodedSilverFile } from '../../actors/silver-writer/silver-encoder.ts';
import { eventOfAllSchemas, otherEvents } from '../../engine/declared-schema.ts';
import { PipelineError } from '../../errors.ts';
import { EVENT_TIME_TAG } from '../../pipeline/gold/silver-files.ts';
import { dateText, silverEditsAppId } from '../../pipeline/progress.ts';
import { fingerprintKey } from '../../pipeline/silver/fingerprints.ts';
import type { Snapshot } from '../../storage/delta/delta-table.ts';
import type { LiveFile, NewFile, ProgressUpdate } from '../../storage/delta/transaction.ts';
import { commitFailed } from '../housekeeping/lake-tables.ts';
import type { BronzeRange } from './bronze-range.ts';
import type { EditedLake } from './edited-lake.ts';
import type { EditThreadApi, EditThreadData } from './edit-thread.ts';

/** Objects read side by side. */
const CONCURRENCY = 8;
/** The stream commits about once a second, an edit within some ten milliseconds. */
const ATTEMPTS_MAX = 100;
const PAUSE_MS = 50;

/** What one commit of an edit changes. */
export interface EditContent {
  readonly adds: readonly NewFile[];
  readonly removes?: readonly string[];
  readonly progress?: readonly ProgressUpdate[];
}

/** An operation on silver with its thread. Close it. */
export class SilverEdit {
  readonly lake: EditedLake;
  readonly thread: ComputeThread<EditThreadApi>;
  /** Silver files whose ids the thread knows. */
  readonly #probed = new Set<string>();
  #missing = 0;

  constructor(
    lake: EditedLake,
    options: { readonly range: BronzeRange; readonly dryRun: boolean },
  ) {
    const { config } = lake.context;
    this.lake = lake;
    this.thread = new ComputeThread<EditThreadApi>(new URL('./edit-thread.ts', import.meta.url), {
      event: config.event,
      late: config.late,
      otherEvents: otherEvents(lake.silver.snapshot.configuration, config.event),
      eventOfAll: eventOfAllSchemas(lake.silver.snapshot.configuration, config.event),
      aggregates: config.gold,
      silverColumns: lake.silverColumns,
      ...options,
    } satisfies EditThreadData);
  }

  /**
   * Begins a part of the operation with other ids.
   * @param totals whether they go on, or are those of this part
   */
  async begin(totals: 'kept' | 'new' = 'new'): Promise<void> {
    this.#probed.clear();
    this.#missing = 0;
    await this.thread.call('begin', { totals });
  }

  /**
   * Lets the fingerprints of all live silver files that the thread has not seen stream past it.
   * @returns collected ids that silver lacks, and whether that number went down
   */
  async probe(silver: Snapshot): Promise<{ readonly missing: number; readonly fewer: boolean }> {
    const unseen = silver.files().filter(({ path }) => !this.#probed.has(path));
    const before = this.#probed.size === 0 ? Number.POSITIVE_INFINITY : this.#missing;
    if (this.#probed.size === 0)
      this.#missing = await this.thread.call('probe', { fingerprints: [] });
    for (let from = 0; from < unseen.length; from += CONCURRENCY) {
      this.lake.checkStopped();
      await Promise.all(
        unseen.slice(from, from + CONCURRENCY).map((file) => this.#probeFile(file)),
      );
    }
    return { missing: this.#missing, fewer: this.#missing < before };
  }

  async #probeFile({ path }: LiveFile): Promise<void> {
    const { lake, thread } = this;
    const stored = await lake.context.store.get(fingerprintKey(lake.silver.root, path));
    this.#missing = stored
      ? await thread.call('probe', { fingerprints: [stored] })
      : await thread.call('probeParquet', {
          parquet: await lake.read(`${lake.silver.root}/${path}`),
        });
    this.#probed.add(path);
  }

  /** Stores a derived file with its fingerprints, as the stream does. */
  async storeFile(
    file: EncodedSilverFile,
    tags: Readonly<Record<string, string>> = {},
  ): Promise<NewFile> {
    const { ambient, store } = this.lake.context;
    const path = dataFilePath(file.dateDays, ambient.ids.id());
    await Promise.all([
      store.put(`${this.lake.silver.root}/${path}`, file.parquet),
      store.put(fingerprintKey(this.lake.silver.root, path), file.fingerprints),
    ]);
    return {
      path,
      partitionValues: { _event_date: dateText(file.dateDays) },
      sizeBytes: file.parquet.byteLength,
      modifiedMs: Math.round(ambient.clock.nowMs()),
      stats: file.stats,
      tags: { [EVENT_TIME_TAG]: `${file.eventTimeMin},${file.eventTimeMax}`, ...tags },
    };
  }

  /**
   * Commits an edit.
   * @param edit.guarded whether it adds ids (SE2)
   * @param edit.prepare says what to commit on a snapshot, again after each lost race; undefined:
   *   nothing is left to do
   * @returns the version; undefined when there was nothing to do
   * @throws PipelineError unavailable when the stream was always faster or the outcome is unknown
   */
  async commit(edit: {
    readonly operation: string;
    readonly lineage: Readonly<Record<string, unknown>>;
    readonly guarded: boolean;
    readonly prepare: (silver: Snapshot) => Promise<EditContent | undefined>;
  }): Promise<number | undefined> {
    const { silver, bucketIds, bronze, context } = this.lake;
    const editsId = silverEditsAppId(context.config.name, bronze.tableId);
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const snapshot = await silver.refresh();
      const content = await edit.prepare(snapshot);
      if (content === undefined) return undefined;
      const edits = snapshot.progress(editsId);
      const guards = bucketIds.map((appId) => ({ appId, expected: snapshot.progress(appId) }));
      const { adds, removes = [], progress = [] } = content;
      const outcome = await silver.commit({
        operation: edit.operation,
        operationMetrics: {
          numAddedFiles: String(adds.length),
          numRemovedFiles: String(removes.length),
        },
        adds,
        removes,
        progress: [{ appId: editsId, expected: edits, next: (edits ?? 0n) + 1n }, ...progress],
        guards: edit.guarded ? guards : [],
        lineage: { stage: 'silver-edit', ...edit.lineage },
        signal: context.signal,
      });
      if (outcome.kind === 'committed') return outcome.version;
      if (outcome.kind === 'unknown') throw commitFailed(silver, outcome);
      context.logger.info('another commit came first; looking again', { attempt, ...outcome });
      await context.ambient.clock.sleep(context.ambient.random.next() * PAUSE_MS, context.signal);
    }
    throw new PipelineError(
      'unavailable',
      'TM_COMMIT_FENCED',
      'other writers of silver were faster each time; nothing was changed, try again',
    );
  }

  /** Ends the thread. */
  close(): Promise<void> {
    return this.thread.terminate();
  }
}
