/**
 * Keeps the dedup index of a shard bounded in memory and quick to load: ids of committed silver files
 * move from memory into runs of parts below `silver/<t>/_dedup/index/`, and runs are merged so that
 * a lookup asks few of them. Everything here is derived from silver's files and may be deleted (P1).
 *
 * Invariants:
 * - DA1 Runs are made from the fingerprints of committed files only, and the manifest names a run only
 *   once all its parts are stored; so an index never holds an id that silver does not (SW2).
 * - DA2 After a load the rows in runs and in memory are exactly the shard's live silver rows: version
 *   by version when the manifest can be followed, and as a total wherever statistics tell it.
 * - DA3 A generation is dropped from memory only after the run with its ids answers lookups.
 * - DA4 Objects that no manifest names are deleted only long after the last one that named them.
 */
import { type Ambient, untilAborted } from '../../ambient.ts';
import { asPipelineError, PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { corruptPart } from '../../pipeline/silver/dedup-part.ts';
import { FINGERPRINT_BYTES, fingerprintKey } from '../../pipeline/silver/fingerprints.ts';
import type { DeltaTable, Snapshot } from '../../storage/delta/delta-table.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import { Slots } from '../../storage/object-store/slots.ts';
import type { ComputeThread } from '../runtime/compute-thread.ts';
import {
  type DedupManifest,
  decodeManifest,
  encodeManifest,
  type RunEntry,
} from './dedup-manifest.ts';
import { mergeRuns } from './dedup-merge.ts';
import type { DedupCalls } from './dedup-calls.ts';
import type { DedupThreadApi } from './dedup-thread.ts';
import { type LoadedRun, PartStore } from './part-store.ts';
import { rowsOfShard, type Shard } from './shard.ts';

export interface DedupArchiveOptions {
  readonly silver: DeltaTable;
  readonly store: ObjectStore;
  readonly shard: Shard;
  /** Bound on the memory of the index, bytes. */
  readonly memoryBytesMax: number;
  readonly silverThread: ComputeThread<DedupCalls>;
  /** Called when the thread is needed first; the archive ends it. */
  readonly startDedupThread: () => ComputeThread<DedupThreadApi>;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/** A silver file whose ids are in memory and in no run. */
type PendingFile = Pick<LiveFile, 'path' | 'tags'>;

/** A generation that waits for its run. */
interface Frozen {
  /** Bronze version up to which it has the ids. */
  readonly upTo: number;
  /** Its last rows are committed; further commits up to the same version are of later rows (SW4). */
  isArchiving: boolean;
  /** Resolves when its run is there, or `#failure` says why it will not be. */
  readonly archived: Promise<void>;
  readonly settle: (work: Promise<void>) => void;
}

/** Of the bound, each of two generations gets an eighth, with 64 bytes an id at most. */
const BYTES_PER_HOT_ID = 512;
/** Runs of a level that become one of the next. */
const FAN_IN = 4;
/**
 * Silver versions after which ids move into a run however few they are: a load reads a few small
 * objects for each later one, some 5 ms of a core apiece on S3.
 */
const VERSIONS_MAX = 256;
/** Objects read side by side. */
const CONCURRENCY = 16;

/** Ids that a generation may have within a memory bound. */
function hotIdsFor(memoryBytesMax: number): number {
  return Math.max(16, Math.floor(memoryBytesMax / BYTES_PER_HOT_ID));
}

export class DedupArchive {
  readonly #options: DedupArchiveOptions;
  readonly #hotIdsMax: number;
  readonly #parts: PartStore;
  readonly #slots = new Slots(CONCURRENCY);
  #dedupThreadStarted: ComputeThread<DedupThreadApi> | undefined;
  #runs: LoadedRun[] = [];
  /** Silver version up to which runs have all rows. */
  #version = 0;
  #pending: PendingFile[] = [];
  #frozen: Frozen | undefined;
  #merging: Promise<void> | undefined;
  #manifestWrites: Promise<unknown> = Promise.resolve();
  #failure: PipelineError | undefined;
  #closed = false;

  constructor(options: DedupArchiveOptions) {
    this.#options = options;
    this.#hotIdsMax = hotIdsFor(options.memoryBytesMax);
    this.#parts = new PartStore({ ...options, folder: this.#folder });
  }

  get #folder(): string {
    const { silver, shard } = this.#options;
    return `${silver.root}/_dedup/index/${shard.number}-of-${shard.count}`;
  }

  /**
   * Loads the ids of all rows of a snapshot into the empty index.
   * @throws PipelineError corrupt | unavailable
   */
  async load(snapshot: Snapshot): Promise<void> {
    const { ambient, logger } = this.#options;
    const startedMs = ambient.clock.monotonicMs();
    const manifest = await this.#readManifest(snapshot);
    let source = 'manifest';
    let rows = manifest && (await this.#loadManifest(manifest, snapshot));
    if (rows === undefined) {
      source = 'fingerprints';
      await this.#reset();
      rows = await this.#loadFiles(snapshot.files(), snapshot);
    }
    logger.info('dedup index loaded', {
      ids: rows,
      source,
      runs: this.#runs.length,
      elapsedMs: Math.round(ambient.clock.monotonicMs() - startedMs),
    });
    await this.#parts.sweep(this.#runs, this.#options.shard);
    this.#startMerging();
  }

  /**
   * To be called after each span was derived, before the next is: begins a new generation when the
   * present one is full, and waits when the one before it is not archived yet (P10).
   * @param upTo bronze version up to which the index has the ids
   * @param signal ends the wait
   * @throws PipelineError when archiving failed: the writer begins again
   */
  async derived(hotIds: number, upTo: number, signal: AbortSignal): Promise<void> {
    if (this.#failure) throw await this.recovery(this.#failure);
    const isFull = hotIds >= this.#hotIdsMax;
    const isOld = this.#options.silver.snapshot.version - this.#version >= VERSIONS_MAX;
    if (!isFull && !(isOld && hotIds > 0)) return;
    if (this.#frozen) {
      if (!isFull) return;
      await Promise.race([this.#frozen.archived, untilAborted(signal)]);
      if (this.#failure) throw await this.recovery(this.#failure);
      if (signal.aborted) return;
    }
    await this.#options.silverThread.call('freeze', undefined);
    const { promise, resolve } = Promise.withResolvers<void>();
    const archived = promise.catch((thrown: unknown) => this.#fail(thrown));
    this.#frozen = { upTo, isArchiving: false, archived, settle: resolve };
  }

  /**
   * To be called after each commit, in order.
   * @param upTo bronze version up to which silver has the rows
   * @param version silver version of the commit
   * @param files its silver files
   */
  committed(upTo: number, version: number, files: readonly PendingFile[]): void {
    this.#pending.push(...files);
    const frozen = this.#frozen;
    if (!frozen || frozen.isArchiving || frozen.upTo !== upTo) return;
    frozen.isArchiving = true;
    frozen.settle(this.#archive(version));
  }

  /**
   * What to throw for a failure: a damaged index is no reason to stop (P1), so it is forgotten, and
   * the writer begins again and builds it from silver's files.
   */
  async recovery(thrown: unknown): Promise<PipelineError> {
    const error = asPipelineError(thrown);
    if (error.code !== 'TM_DEDUP_INDEX_CORRUPT') return error;
    await this.#options.store.delete(this.#manifestKey);
    return new PipelineError('unavailable', error.code, error.message, { cause: error });
  }

  /** Resolves when nothing is being archived or merged, or when that has failed. */
  async idle(): Promise<void> {
    while (!this.#failure && (this.#frozen ?? this.#merging)) {
      await this.#frozen?.archived;
      await this.#merging;
    }
  }

  /** Ends background work at its next step, and the dedup thread. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#dedupThreadStarted?.terminate();
  }

  /** A thread that was started after `close` would have nobody to end it. */
  #dedupThread(): ComputeThread<DedupThreadApi> {
    if (this.#closed) {
      throw new PipelineError('unavailable', 'TM_STOPPED', 'stopped; the index is not needed');
    }
    return (this.#dedupThreadStarted ??= this.#options.startDedupThread());
  }

  get #manifestKey(): string {
    return `${this.#folder}/manifest.json`;
  }

  async #readManifest(snapshot: Snapshot): Promise<DedupManifest | undefined> {
    const stored = await this.#options.store.get(this.#manifestKey);
    const manifest = stored && decodeManifest(stored);
    if (!manifest) return undefined;
    const { tableId, bucketCount, version } = manifest;
    const fits =
      tableId === snapshot.tableId &&
      bucketCount === this.#options.shard.bucketCount &&
      version <= snapshot.version;
    return fits ? manifest : undefined;
  }

  /** @returns rows loaded; undefined when manifest and table do not belong together (DA2) */
  async #loadManifest(manifest: DedupManifest, snapshot: Snapshot): Promise<number | undefined> {
    const { silver, logger } = this.#options;
    try {
      const commits = await silver.commits(manifest.version, snapshot.version);
      const isEdited = commits.some(({ removes }) => removes.some((r) => r.dataChange));
      if (isEdited) throw corruptPart();
      for (const run of manifest.runs) this.#runs.push(await this.#parts.load(run));
      this.#version = manifest.version;
      const added = commits.flatMap(({ adds }) => adds.filter(({ dataChange }) => dataChange));
      return await this.#loadFiles(added, snapshot);
    } catch (thrown) {
      if (asPipelineError(thrown).kind !== 'corrupt') throw thrown;
      logger.warn('the stored dedup index does not fit the silver table', errorFields(thrown));
      return undefined;
    }
  }

  async #reset(): Promise<void> {
    await this.#options.silverThread.call('reset', undefined);
    this.#runs = [];
    this.#version = 0;
    this.#pending = [];
  }

  /**
   * Loads the ids of files: into memory when they are few, else all of them into runs.
   * @returns rows in the index
   * @throws PipelineError corrupt when they are not the rows of the snapshot (DA2)
   */
  async #loadFiles(files: readonly LiveFile[], snapshot: Snapshot): Promise<number> {
    const { shard } = this.#options;
    const own = files.filter((file) => rowsOfShard(file, shard) !== 'none');
    const rowsMax = own.reduce((sum, file) => sum + rowsOf(file), 0);
    if (rowsMax <= this.#hotIdsMax) {
      const loaded = await this.#slots.each(own, (file) => this.#loadHot(file));
      this.#pending.push(...own);
      return this.#requireAll(sum(loaded) + this.#archivedRows, snapshot);
    }
    for (const chunk of chunksOf(own, FAN_IN * this.#hotIdsMax)) {
      await this.#buildRun(chunk, rowsIn(chunk) > this.#hotIdsMax ? 1 : 0);
    }
    this.#version = snapshot.version;
    this.#requireAll(this.#archivedRows, snapshot);
    await this.#writeManifest();
    return this.#archivedRows;
  }

  get #archivedRows(): number {
    return sum(this.#runs.map(({ entry }) => entry.rows));
  }

  #requireAll(rows: number, snapshot: Snapshot): number {
    const live = liveRows(snapshot, this.#options.shard);
    if (live === undefined || live === rows) return rows;
    throw new PipelineError(
      'corrupt',
      'TM_DEDUP_INDEX_CORRUPT',
      `the dedup index has ${rows} ids, but silver has ${live} rows`,
      { context: { table: this.#options.silver.root, ids: rows, rows: live } },
    );
  }

  async #loadHot(file: LiveFile): Promise<number> {
    const { silverThread, shard } = this.#options;
    const fingerprints = await this.#fingerprintsOf(file);
    const isMixed = rowsOfShard(file, shard) === 'some';
    return (await silverThread.call('load', { fingerprints, isMixed })).rows;
  }

  /** The stored fingerprints of a file; made from its rows when they are gone or not all there. */
  async #fingerprintsOf(file: PendingFile & { readonly stats?: string | undefined }) {
    const { store, silver } = this.#options;
    const key = fingerprintKey(silver.root, file.path);
    const stored = await store.get(key);
    const rows = numRecordsOf(file.stats);
    const isWhole = stored && stored.byteLength % FINGERPRINT_BYTES === 0;
    if (isWhole && (rows === undefined || stored.byteLength === rows * FINGERPRINT_BYTES)) {
      return stored;
    }
    const parquet = await store.get(`${silver.root}/${file.path}`);
    if (parquet === undefined) {
      throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', `data file ${file.path} is gone`, {
        context: { table: silver.root, path: file.path },
      });
    }
    const fingerprints = await this.#dedupThread().call('fingerprints', { parquet });
    await store.put(key, fingerprints);
    return fingerprints;
  }

  /** Makes a run of files and lets it answer lookups. */
  async #buildRun(files: readonly PendingFile[], level: number): Promise<void> {
    const { shard } = this.#options;
    const inputs = await this.#slots.each(files, async (file) => ({
      fingerprints: await this.#fingerprintsOf(file),
      isMixed: rowsOfShard(file, shard) === 'some',
    }));
    const built = await this.#dedupThread().call(
      'build',
      { files: inputs, partRows: this.#hotIdsMax },
      inputs.map(({ fingerprints }) => fingerprints.buffer as ArrayBuffer),
    );
    const run = this.#parts.newRun(level, built.prefixBits);
    for (const part of built.parts) await this.#parts.add(run, part);
    this.#runs.push(run.finish());
  }

  /** Moves the pending files, all those up to silver version `version`, into a run. */
  async #archive(version: number): Promise<void> {
    // DA1: pending files are committed ones.
    const files = this.#pending;
    this.#pending = [];
    await this.#buildRun(files, 0);
    this.#version = version;
    await this.#writeManifest();
    // DA3
    await this.#options.silverThread.call('forgetFrozen', undefined);
    this.#frozen = undefined;
    this.#startMerging();
  }

  #startMerging(): void {
    this.#merging ??= this.#mergeAll()
      .catch((thrown: unknown) => this.#fail(thrown))
      .finally(() => {
        this.#merging = undefined;
      });
  }

  async #mergeAll(): Promise<void> {
    for (;;) {
      const inputs = mergeable(this.#runs);
      if (inputs === undefined || this.#closed) return;
      const merged = await mergeRuns(inputs, {
        parts: this.#parts,
        partRows: this.#hotIdsMax,
        dedupThread: () => this.#dedupThread(),
        isClosed: () => this.#closed,
      });
      if (merged === undefined) return;
      const at = this.#runs.indexOf(inputs[0]!);
      this.#runs.splice(at, inputs.length, merged);
      await this.#writeManifest();
      await this.#parts.retire(inputs);
    }
  }

  /** One after another; each says what is true when its turn comes. */
  async #writeManifest(): Promise<void> {
    const { store, silver, shard } = this.#options;
    const write = this.#manifestWrites.then(() =>
      store.put(
        this.#manifestKey,
        encodeManifest({
          tableId: silver.tableId,
          bucketCount: shard.bucketCount,
          version: this.#version,
          runs: this.#runs.map(({ entry }): RunEntry => entry),
        }),
      ),
    );
    this.#manifestWrites = write.catch(() => undefined);
    await write;
  }

  #fail(thrown: unknown): void {
    if (this.#closed) return;
    const error = asPipelineError(thrown);
    // A file may have been compacted and vacuumed since: what is missing in truth, a load finds out.
    this.#failure ??= error.kind === 'corrupt' ? corruptPart(error) : error;
    this.#options.logger.warn('the dedup index could not be archived', errorFields(thrown));
  }
}

/**
 * Neighbours that are many enough to become one run: of one level, or of lower ones before it, which
 * a load leaves when it makes a larger run of what came since.
 */
function mergeable(runs: readonly LoadedRun[]): LoadedRun[] | undefined {
  for (let from = 0; from + FAN_IN <= runs.length; from++) {
    const some = runs.slice(from, from + FAN_IN);
    if (some.every(({ entry }) => entry.level <= some.at(-1)!.entry.level)) return some;
  }
  return undefined;
}

/** Live rows of the shard as far as statistics and tags tell; undefined when they do not. */
function liveRows(snapshot: Snapshot, shard: Shard): number | undefined {
  if (shard.count === 1) return snapshot.numRecords();
  const files = snapshot.files();
  if (!files.every((file) => rowsOfShard(file, shard) !== 'some' && file.stats)) return undefined;
  return sum(files.filter((file) => rowsOfShard(file, shard) === 'all').map(rowsOf));
}

/** Rows of a file; where statistics do not tell, as many as a file has at most. */
function rowsOf(file: Pick<LiveFile, 'stats'>): number {
  return numRecordsOf(file.stats) ?? 65_536;
}

function rowsIn(files: readonly LiveFile[]): number {
  return sum(files.map(rowsOf));
}

function* chunksOf(files: readonly LiveFile[], rowsMax: number): Generator<LiveFile[]> {
  let chunk: LiveFile[] = [];
  let rows = 0;
  for (const file of files) {
    chunk.push(file);
    rows += rowsOf(file);
    if (rows < rowsMax) continue;
    yield chunk;
    chunk = [];
    rows = 0;
  }
  if (chunk.length > 0) yield chunk;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
