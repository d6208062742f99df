/**
 * Reads a table's log from the object store: the newest usable checkpoint, then the entries after it.
 * Source: PROTOCOL.md "Reading a table", "Last Checkpoint File"; faults 74, 91 to 95, 99, 100.
 *
 * R1 `_last_checkpoint` is a hint and a checkpoint is a shortcut: when one is absent, stale or corrupt
 *    the next older one is used, and in the end the entries from version 0.
 * R2 Entries are read without a gap. A listing is not trusted to be complete: an entry it lacks is
 *    asked for by name, and so are the entries after its last one.
 * R3 Opening the newest version costs the checkpoint and what came after it, whatever the length of
 *    the log: a listing is only made where the hint is of no use.
 * R4 A checkpoint that contradicts the version checksum beside it counts as corrupt (R1).
 */
import { PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import type { ColumnBatch } from '../../pipeline/columns.ts';
import type { StructType } from '../../pipeline/types.ts';
import type { ObjectInfo, ObjectStore } from '../object-store/object-store.ts';
import type { EncodeOptions } from '../parquet/parquet-codec.ts';
import { corruptLog, decodeLogEntry, type LogEntry } from './actions.ts';
import { CHECKPOINT_READ_SCHEMA, decodeLastCheckpoint, entryFromCheckpoint } from './checkpoint.ts';
import {
  beforeVersionKey,
  checkpointKey,
  checkpointPartKey,
  checksumKey,
  commitKey,
  isV2CheckpointName,
  lastCheckpointKey,
  logPrefix,
  parseLogFileName,
} from './log-path.ts';
import { TableSnapshot } from './snapshot.ts';
import { checksumMismatch } from './version-checksum.ts';

/** Parquet for checkpoints; a ParquetCodec, or one that does the work in another thread. */
export interface CheckpointCodec {
  encode(batch: ColumnBatch, options: EncodeOptions): Uint8Array | Promise<Uint8Array>;
  decode(bytes: Uint8Array, schema: StructType): ColumnBatch | Promise<ColumnBatch>;
}

/** A table's state and what it was loaded from. */
export interface LoadedTable {
  readonly snapshot: TableSnapshot;
  /** Version of the checkpoint that was used. */
  readonly checkpointVersion: number | undefined;
}

interface CheckpointFile {
  readonly version: number;
  readonly parts: number;
  readonly modifiedMs: number;
}

interface LogListing {
  /** Where it began. */
  readonly fromVersion: number;
  /** Complete checkpoints, newest first. */
  readonly checkpoints: readonly CheckpointFile[];
  /** Key of one in a format that is not read here. */
  readonly v2Checkpoint: string | undefined;
  readonly lastCommit: number | undefined;
}

/** Entries read side by side. */
const CONCURRENCY = 32;

/** A hint that is further behind than this is not worth following: a newer checkpoint is looked for. */
const HINT_BEHIND_MAX = 2_048;

/** How far before a wanted version the first listing for a checkpoint begins; it widens from there. */
const LOOK_BACK_VERSIONS = 256;

/** Reads the log of one table; keeps nothing between calls. */
export class LogReader {
  readonly #store: ObjectStore;
  readonly #codec: CheckpointCodec;
  readonly #logger: Logger;
  readonly #root: string;

  constructor(options: {
    readonly store: ObjectStore;
    readonly codec: CheckpointCodec;
    readonly logger: Logger;
    readonly root: string;
  }) {
    this.#store = options.store;
    this.#codec = options.codec;
    this.#logger = options.logger;
    this.#root = options.root;
  }

  /**
   * Reads one log entry. One without a time of its own gets that of its object.
   * @returns undefined when there is none
   * @throws PipelineError corrupt | invalid | unavailable
   */
  async readEntry(version: number): Promise<LogEntry | undefined> {
    const key = commitKey(this.#root, version);
    const bytes = await this.#store.get(key);
    if (!bytes) return undefined;
    const entry = decodeLogEntry(version, bytes, key);
    if (entry.commitInfo?.timestampMs !== undefined) return entry;
    const timestampMs = (await this.#store.head(key))?.modifiedMs;
    return { ...entry, commitInfo: { ...entry.commitInfo, timestampMs } };
  }

  /**
   * Reads the entries of [first, last], several at a time.
   * @throws PipelineError corrupt TM_OBJECT_MISSING naming the first that is absent (R2)
   */
  async readRange(first: number, last: number): Promise<LogEntry[]> {
    const entries: LogEntry[] = [];
    for (let from = first; from <= last; from += CONCURRENCY) {
      const count = Math.min(CONCURRENCY, last - from + 1);
      const chunk = await Promise.all(
        Array.from({ length: count }, (_, i) => this.readEntry(from + i)),
      );
      chunk.forEach((entry, i) => entries.push(entry ?? missingEntry(this.#root, from + i)));
    }
    return entries;
  }

  /** Reads what follows `version` until an entry is absent; one GET when nothing does. */
  async readAfter(version: number): Promise<LogEntry[]> {
    const entries: LogEntry[] = [];
    for (let count = 1; ; count = Math.min(count * 2, CONCURRENCY)) {
      const first = version + entries.length + 1;
      const chunk = await Promise.all(
        Array.from({ length: count }, (_, i) => this.readEntry(first + i)),
      );
      const present = chunk.findIndex((entry) => entry === undefined);
      for (const entry of present < 0 ? chunk : chunk.slice(0, present)) entries.push(entry!);
      if (present < 0) continue;
      if (chunk.slice(present).every((entry) => entry === undefined)) return entries;
      // A later entry exists, so this one was written while the chunk was read, or it is lost.
      const late = await this.readEntry(first + present);
      entries.push(late ?? missingEntry(this.#root, first + present));
      count = 1;
    }
  }

  /** Newest version after `version` that the store lists, as a commit or a checkpoint. */
  async newestListedAfter(version: number): Promise<number | undefined> {
    const listing = await this.#list({ fromVersion: version + 1 });
    const newest = Math.max(listing.lastCommit ?? -1, listing.checkpoints[0]?.version ?? -1);
    return newest < 0 ? undefined : newest;
  }

  /** The version that `_last_checkpoint` names, if it names one. */
  async lastCheckpointHint(): Promise<number | undefined> {
    return decodeLastCheckpoint(await this.#store.get(lastCheckpointKey(this.#root)));
  }

  /**
   * Loads the newest version, or `version`.
   * @returns undefined when there is no table
   * @throws PipelineError corrupt | invalid | unavailable
   */
  async load(version?: number): Promise<LoadedTable | undefined> {
    const hinted = version === undefined ? await this.#loadFromHint() : undefined;
    if (hinted) {
      const entries = await this.readAfter(hinted.snapshot.version);
      return { ...hinted, snapshot: this.applyAll(hinted.snapshot, entries) };
    }
    const listing =
      version === undefined ? await this.#listFromHint() : await this.#listBefore(version);
    const { lastCommit } = listing;
    if (lastCommit === undefined && listing.checkpoints.length === 0) {
      // R2
      if (!(await this.readEntry(0))) return undefined;
    }
    let whole = listing;
    let loaded = await this.#loadCheckpoint(listing.checkpoints);
    if (!loaded && listing.fromVersion > 0) {
      whole = await this.#list({ fromVersion: 0, toVersion: version });
      loaded = await this.#loadCheckpoint(whole.checkpoints);
    }
    let snapshot = loaded?.snapshot ?? (await this.#loadFirstEntry(whole));
    const upTo = version ?? lastCommit ?? snapshot.version;
    while (snapshot.version < upTo) {
      const first = snapshot.version + 1;
      const entries = await this.readRange(first, Math.min(first + CONCURRENCY - 1, upTo));
      snapshot = this.applyAll(snapshot, entries);
    }
    if (version === undefined) {
      snapshot = this.applyAll(snapshot, await this.readAfter(snapshot.version));
    }
    return { snapshot, checkpointVersion: loaded?.checkpointVersion };
  }

  /** Applies entries in order, naming their files in errors. */
  applyAll(snapshot: TableSnapshot, entries: readonly LogEntry[]): TableSnapshot {
    return entries.reduce(
      (state, entry) => state.apply(entry, commitKey(this.#root, entry.version)),
      snapshot,
    );
  }

  /**
   * Reads a checkpoint's actions.
   * @throws PipelineError corrupt | invalid | unavailable
   */
  async readCheckpoint(version: number, parts = 1): Promise<LogEntry> {
    const batches: ColumnBatch[] = [];
    for (let part = 1; part <= parts; part++) {
      const key = checkpointPartKey(this.#root, { version, part, parts });
      const bytes = await this.#store.get(key);
      if (!bytes) throw corruptLog(key, 'the checkpoint file is gone');
      batches.push(await this.#codec.decode(bytes, CHECKPOINT_READ_SCHEMA));
    }
    return entryFromCheckpoint(version, batches, checkpointKey(this.#root, version));
  }

  /** The newest of the checkpoints that can be read (R1). */
  async #loadCheckpoint(checkpoints: readonly CheckpointFile[]): Promise<LoadedTable | undefined> {
    for (const { version, parts, modifiedMs } of checkpoints) {
      const source = checkpointKey(this.#root, version);
      try {
        const [actions, entry, checksum] = await Promise.all([
          this.readCheckpoint(version, parts),
          this.readEntry(version),
          this.#store.get(checksumKey(this.#root, version)),
        ]);
        const timestampMs = entry?.commitInfo?.timestampMs ?? modifiedMs;
        const snapshot = TableSnapshot.start(actions, timestampMs, source);
        const mismatch = checksum && checksumMismatch(snapshot, checksum);
        if (mismatch !== undefined) throw corruptLog(source, `contradicts its .crc: ${mismatch}`);
        return { snapshot, checkpointVersion: version };
      } catch (thrown) {
        if (!(thrown instanceof PipelineError)) throw thrown;
        // A protocol that is none may be damage too: the entries say which, if they are all there.
        const mayBeDamaged =
          thrown.code === 'TM_LOG_UNSUPPORTED' &&
          (await this.#store.head(commitKey(this.#root, 0)));
        if (thrown.kind !== 'corrupt' && !mayBeDamaged) throw thrown;
        this.#logger.warn('checkpoint is unusable; falling back', {
          checkpoint: source,
          ...errorFields(thrown),
        });
      }
    }
    return undefined;
  }

  /** R3 */
  async #loadFromHint(): Promise<LoadedTable | undefined> {
    const version = await this.lastCheckpointHint();
    if (version === undefined) return undefined;
    const [checkpoint, commit, beyond] = await Promise.all([
      this.#store.head(checkpointKey(this.#root, version)),
      this.#store.head(commitKey(this.#root, version)),
      this.#store.head(commitKey(this.#root, version + HINT_BEHIND_MAX)),
    ]);
    // Log clean-up leaves the commit of the checkpoint that it leaves: without one the hint is old.
    if (!checkpoint || !commit || beyond) return undefined;
    return this.#loadCheckpoint([{ version, parts: 1, modifiedMs: checkpoint.modifiedMs }]);
  }

  /** @param listing of the whole log, in which no checkpoint could be read */
  async #loadFirstEntry(listing: LogListing): Promise<TableSnapshot> {
    const entry = (await this.readEntry(0)) ?? noBeginning(this.#root, listing);
    return TableSnapshot.start(entry, 0, commitKey(this.#root, 0));
  }

  async #listFromHint(): Promise<LogListing> {
    const hint = await this.lastCheckpointHint();
    if (hint !== undefined && hint > 0) {
      const listing = await this.#list({ fromVersion: hint });
      if (listing.checkpoints.length > 0) return listing;
    }
    return this.#list({ fromVersion: 0 });
  }

  /** Lists backwards in widening steps until a checkpoint at or before `version` is found. */
  async #listBefore(version: number): Promise<LogListing> {
    for (let back = LOOK_BACK_VERSIONS; ; back *= 8) {
      const fromVersion = Math.max(0, version - back);
      const listing = await this.#list({ fromVersion, toVersion: version });
      if (fromVersion === 0 || listing.checkpoints.length > 0) return listing;
    }
  }

  async #list(range: {
    readonly fromVersion: number;
    readonly toVersion?: number | undefined;
  }): Promise<LogListing> {
    const prefix = logPrefix(this.#root);
    const toVersion = range.toVersion ?? Infinity;
    const parts = new Map<
      string,
      { readonly found: ObjectInfo[]; readonly file: CheckpointFile }
    >();
    let lastCommit: number | undefined;
    let v2Checkpoint: string | undefined;
    const startAfter = beforeVersionKey(this.#root, range.fromVersion);
    for await (const info of this.#store.list(prefix, { startAfter })) {
      const fileName = info.key.slice(prefix.length);
      const name = parseLogFileName(fileName);
      if (isV2CheckpointName(fileName)) v2Checkpoint = info.key;
      if (!name) continue;
      if (name.version > toVersion) break;
      if (name.kind === 'commit') {
        lastCommit = name.version;
        continue;
      }
      const file = { version: name.version, parts: name.parts, modifiedMs: info.modifiedMs };
      const key = `${name.version}/${name.parts}`;
      const known = parts.get(key);
      if (known) known.found.push(info);
      else parts.set(key, { found: [info], file });
    }
    const complete = [...parts.values()].filter(({ found, file }) => found.length === file.parts);
    const checkpoints = complete.map(({ file }) => file).sort((a, b) => b.version - a.version);
    return { fromVersion: range.fromVersion, checkpoints, v2Checkpoint, lastCommit };
  }
}

/** Neither a checkpoint nor the first entry tells how the table began. */
function noBeginning(root: string, { checkpoints, v2Checkpoint }: LogListing): never {
  if (v2Checkpoint !== undefined) {
    throw new PipelineError(
      'invalid',
      'TM_LOG_UNSUPPORTED',
      `${v2Checkpoint}: the table needs the feature v2Checkpoint, which this version of Tidemark cannot handle`,
    );
  }
  const damaged = checkpoints.map(({ version }) => checkpointKey(root, version));
  missingEntry(root, 0, damaged.length === 0 ? '' : `, and unreadable are ${damaged.join(', ')}`);
}

function missingEntry(root: string, version: number, more = ''): never {
  throw new PipelineError(
    'corrupt',
    'TM_OBJECT_MISSING',
    `${commitKey(root, version)} is missing from the log${more}`,
    { context: { table: root, version } },
  );
}
