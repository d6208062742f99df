/**
 * Compaction: small files of a table become few large ones, row for row, while the stream goes on.
 *
 * OP1 Rows are only rearranged: `dataChange` is false, order and tags are kept, and of silver the
 *     merged fingerprints are stored before the commit that needs them.
 * OP2 Only files that every follower of the table has read are touched, so that nobody misses a row
 *     of a commit he has not come to; and none of the last minutes.
 * OP3 The stream appends and never loses to this; whoever removed one of the files meanwhile wins, and
 *     the rewritten file is left for vacuum.
 * OP4 Bronze files of dates that go to the archive are left alone, and a commit is fenced when that
 *     line moved (retention).
 * OP5 A rewrite holds a bounded number of bytes, and takes a bounded share of a core.
 */
import {
  BRONZE_ENCODING,
  DEAD_LETTER_ENCODING,
  GOLD_ENCODING,
  silverEncoding,
} from '../../actors/file-settings.ts';
import { ComputeThread } from '../../actors/runtime/compute-thread.ts';
import { crashPoint } from '../../crash-points.ts';
import { eventOfAllSchemas } from '../../engine/declared-schema.ts';
import { PipelineError } from '../../errors.ts';
import { BRONZE_BOUNDED_COLUMNS } from '../../pipeline/bronze.ts';
import { archivedBeforeAppId, dateText } from '../../pipeline/progress.ts';
import { fingerprintKey } from '../../pipeline/silver/fingerprints.ts';
import { struct } from '../../pipeline/types.ts';
import type { LiveFile, ProgressGuard } from '../../storage/delta/transaction.ts';
import { type CompactionTarget, mergedTags, planBins } from './compaction-plan.ts';
import type {
  CompactedFile,
  CompactionThreadApi,
  CompactionThreadData,
} from './compaction-thread.ts';
import {
  commitFailed,
  followedUpTo,
  type HousekeepingLake,
  type NamedTable,
} from './lake-tables.ts';

export interface OptimizeOptions {
  readonly target: CompactionTarget;
  /** Files younger than this are left alone, milliseconds. */
  readonly ageMinMs: number;
  /** Bins of fewer files are left for later. */
  readonly filesMin: number;
  /** Of a core, in (0, 1]; the rest of the time is slept. */
  readonly share: number;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

/** What a compaction did, or would do. */
export interface Optimized {
  readonly table: string;
  /** Files before and after, of those that were rewritten. */
  readonly filesRemoved: number;
  readonly filesAdded: number;
  readonly rows: number;
  readonly bytesRemoved: number;
  readonly bytesAdded: number;
  /** Rewrites given up because somebody else changed one of the files. */
  readonly conflicts: number;
}

/** What a file may hold: a rewrite needs some five times its rows' bytes. */
export const COMPACTED_ROWS_MAX = 262_144;
const HELD_BYTES_MAX = 96 * 1024 ** 2;

/** Compacts one table. @throws PipelineError unavailable | corrupt */
export async function optimizeTable(
  lake: HousekeepingLake,
  named: NamedTable,
  options: OptimizeOptions,
): Promise<Optimized> {
  const run = new Compaction(lake, named, options);
  // A gold file is one slot, which its writer replaces as a whole; the archive gets rewritten files.
  if (named.role !== 'gold' && named.role !== 'archive') await run.all();
  return run.result;
}

class Compaction {
  readonly #lake: HousekeepingLake;
  readonly #named: NamedTable;
  readonly #options: OptimizeOptions;
  #thread: ComputeThread<CompactionThreadApi> | undefined;
  result: Optimized;

  constructor(lake: HousekeepingLake, named: NamedTable, options: OptimizeOptions) {
    this.#lake = lake;
    this.#named = named;
    this.#options = options;
    this.result = {
      table: named.name,
      filesRemoved: 0,
      filesAdded: 0,
      rows: 0,
      bytesRemoved: 0,
      bytesAdded: 0,
      conflicts: 0,
    };
  }

  async all(): Promise<void> {
    const { guard, files } = await this.#candidates();
    const { target, filesMin, dryRun, signal } = this.#options;
    try {
      for (const bin of planBins(files, target, filesMin)) {
        if (signal?.aborted) return;
        if (dryRun) this.#count(bin, undefined);
        else await this.#compact(bin, guard);
      }
    } finally {
      await this.#thread?.terminate();
    }
  }

  /** OP2, OP4 */
  async #candidates(): Promise<{
    readonly guard: ProgressGuard | undefined;
    readonly files: readonly LiveFile[];
  }> {
    const { table, role } = this.#named;
    const { ambient } = this.#lake.delta;
    const read = await table.snapshotAt(await followedUpTo(this.#lake, this.#named));
    const snapshot = await table.refresh();
    const appId = archivedBeforeAppId(this.#lake.config.name);
    const expected = role === 'bronze' ? snapshot.progress(appId) : undefined;
    const hotFrom = dateText(Number(expected ?? 0n));
    const youngMs = ambient.clock.nowMs() - this.#options.ageMinMs;
    const files = snapshot.files().filter(({ path, modifiedMs, partitionValues }) => {
      const date = partitionValues['_event_date'];
      const isHot = role !== 'bronze' || (typeof date === 'string' && date >= hotFrom);
      return isHot && modifiedMs <= youngMs && read.file(path) !== undefined;
    });
    return { guard: role === 'bronze' ? { appId, expected } : undefined, files };
  }

  /** A bin may need more than one file: its rows are only known to fit once they are held (OP5). */
  async #compact(bin: readonly LiveFile[], guard: ProgressGuard | undefined): Promise<void> {
    const { clock } = this.#lake.delta.ambient;
    const { share, signal } = this.#options;
    let startedMs = clock.monotonicMs();
    for (let next = 0; next < bin.length && !signal?.aborted; ) {
      const taken: LiveFile[] = [];
      for (let held = 0; next < bin.length && held < HELD_BYTES_MAX; next++) {
        held = await this.#add(bin[next]!);
        taken.push(bin[next]!);
      }
      const file = await this.#running().call('finish', undefined);
      if (taken.length > 1) await this.#commit(taken, file, guard);
      const spentMs = clock.monotonicMs() - startedMs;
      await clock.sleep(spentMs * (1 / share - 1), signal);
      startedMs = clock.monotonicMs();
    }
  }

  async #add({ path }: LiveFile): Promise<number> {
    const { store } = this.#lake.delta;
    const key = `${this.#named.table.root}/${path}`;
    const isSilver = this.#named.role === 'silver';
    const [parquet, fingerprints] = await Promise.all([
      store.get(key),
      isSilver ? store.get(fingerprintKey(this.#named.table.root, path)) : undefined,
    ]);
    if (!parquet) {
      const message = `data file ${key} is gone`;
      throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', message, { context: { key } });
    }
    return this.#running().call('add', { parquet, fingerprints });
  }

  async #commit(
    taken: readonly LiveFile[],
    file: CompactedFile,
    guard: ProgressGuard | undefined,
  ): Promise<void> {
    const { store, ambient } = this.#lake.delta;
    const { table } = this.#named;
    const folder = taken[0]!.path.slice(0, taken[0]!.path.lastIndexOf('/') + 1);
    const path = `${folder}part-${ambient.ids.id()}.parquet`;
    const sizeBytes = file.parquet.byteLength;
    // OP1
    await store.put(`${table.root}/${path}`, file.parquet);
    if (file.fingerprints) await store.put(fingerprintKey(table.root, path), file.fingerprints);
    crashPoint('m.compact.commit');
    const outcome = await table.commit({
      operation: 'OPTIMIZE',
      operationParameters: { predicate: '[]', auto: String(this.#options.share < 1) },
      operationMetrics: {
        numRemovedFiles: String(taken.length),
        numAddedFiles: '1',
        numOutputRows: String(file.rows),
      },
      adds: [
        {
          path,
          partitionValues: taken[0]!.partitionValues,
          sizeBytes,
          // Of its newest rows, so that a later rewrite keeps the order.
          modifiedMs: Math.max(...taken.map(({ modifiedMs }) => modifiedMs)),
          stats: file.stats,
          tags: mergedTags(taken),
        },
      ],
      removes: taken.map((one) => one.path),
      dataChange: false,
      progress: [],
      guards: guard ? [guard] : [],
      ...(this.#options.signal ? { signal: this.#options.signal } : {}),
    });
    if (outcome.kind === 'unknown') throw commitFailed(table, outcome);
    // OP3
    if (outcome.kind === 'committed') this.#count(taken, file);
    else this.result = { ...this.result, conflicts: this.result.conflicts + 1 };
  }

  #count(taken: readonly LiveFile[], file: CompactedFile | undefined): void {
    const { result } = this;
    const bytes = taken.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    this.result = {
      ...result,
      filesRemoved: result.filesRemoved + taken.length,
      filesAdded: result.filesAdded + 1,
      rows: result.rows + (file?.rows ?? 0),
      bytesRemoved: result.bytesRemoved + bytes,
      bytesAdded: result.bytesAdded + (file?.parquet.byteLength ?? bytes),
    };
  }

  #running(): ComputeThread<CompactionThreadApi> {
    return (this.#thread ??= new ComputeThread(
      new URL('./compaction-thread.ts', import.meta.url),
      this.#threadData(),
      this.#lake.delta.ambient.threads,
    ));
  }

  #threadData(): CompactionThreadData {
    const { table, role } = this.#named;
    const { event } = this.#lake.config;
    const { schema, partitionColumns, configuration } = table.snapshot;
    const encoding = {
      bronze: BRONZE_ENCODING,
      archive: BRONZE_ENCODING,
      'dead-letter': DEAD_LETTER_ENCODING,
      silver: silverEncoding(event.id),
      gold: GOLD_ENCODING,
      other: GOLD_ENCODING,
    }[role];
    return {
      schema: struct(schema.fields.filter(({ name }) => !partitionColumns.includes(name))),
      encoding,
      boundedColumns: role === 'bronze' ? BRONZE_BOUNDED_COLUMNS : undefined,
      fingerprinted: role === 'silver' ? eventOfAllSchemas(configuration, event) : undefined,
    };
  }
}
