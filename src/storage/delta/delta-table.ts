/**
 * One Delta table: its newest known snapshot, the tail of its log, and commits to it.
 * Promises P1 to P3; source: PROTOCOL.md.
 *
 * D1 `snapshot` only moves forward. Reading and committing may overlap: an entry is applied by
 *    whoever learns of it first, and only as the next version.
 * D2 Commits of one DeltaTable take turns, so one process never races with itself.
 * D3 A request is compared with the snapshot of the version before the one its entry names, again
 *    after every lost race, and refused only by a snapshot that was the newest at the time.
 * D4 A create that succeeded long after the log was last seen may have revived a version that log
 *    clean-up had removed; it counts only when the newest snapshot confirms it (phantom rule).
 * D5 Checkpoints are the work of the background: they delay no commit and fail no commit.
 */
import type { Ambient } from '../../ambient.ts';
import { assert, PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import type { ObjectStore } from '../object-store/object-store.ts';
import type { LogEntry } from './actions.ts';
import { writeCheckpoint } from './checkpoint-writer.ts';
import { planEntry } from './commit-plan.ts';
import { Committer, type VersionOutcome } from './committer.ts';
import { refusalOf, requireValidRequest } from './conflict.ts';
import { type CheckpointCodec, LogReader } from './log-reader.ts';
import { RecentVersions, summaryOf } from './recent-versions.ts';
import type { Snapshot, TableSnapshot } from './snapshot.ts';
import { type NewTable, createTable, requireFit } from './table-creation.ts';
import { deletedFileRetentionMs } from './table-properties.ts';
import type { CommitOutcome, CommitRequest, CommitSummary } from './transaction.ts';

export type { Snapshot } from './snapshot.ts';
export type { NewTable } from './table-creation.ts';

/** What a table needs from outside. */
export interface DeltaEnvironment {
  readonly store: ObjectStore;
  /** Only for checkpoints. */
  readonly codec: CheckpointCodec;
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Commits between checkpoints; default 100. */
  readonly checkpointInterval?: number;
  /** Told of each commit that went in, with the time it took, its turn included. */
  readonly onCommitted?: (root: string, seconds: number) => void;
}

const CHECKPOINT_INTERVAL = 100;

/** Log clean-up removes nothing younger than this, by far; see D4. */
const LOG_SEEN_MAX_MS = 60_000;

const LOST_RACES_MAX = 1_000;
const RACE_PAUSE_FIRST_MS = 5;
const RACE_PAUSE_MAX_MS = 500;

interface Moment {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

/** A table that is there; made by `create` or `open`, cheap to keep and to share. */
export class DeltaTable {
  /** Key prefix in the store, without a final slash. */
  readonly root: string;
  readonly #env: DeltaEnvironment;
  readonly #reader: LogReader;
  readonly #committer: Committer;
  readonly #recent = new RecentVersions();
  #head: TableSnapshot;
  /** When the log was last seen to end at `#head`. */
  #seen: Moment;
  #lastCommit: Promise<unknown> = Promise.resolve();
  /** Newest version for which a checkpoint was found or tried. */
  #checkpointVersion: number;
  #background: Promise<void> | undefined;

  private constructor(
    env: DeltaEnvironment,
    parts: { root: string; reader: LogReader; head: TableSnapshot; seen: Moment },
    checkpointVersion: number,
  ) {
    this.root = parts.root;
    this.#env = env;
    this.#reader = parts.reader;
    this.#head = parts.head;
    this.#seen = parts.seen;
    this.#checkpointVersion = checkpointVersion;
    this.#committer = new Committer({ ...env, reader: parts.reader, root: parts.root });
  }

  /**
   * Creates a table, or opens the one that is there; of two creators at once one creates.
   * @throws PipelineError invalid when the table there does not fit `table`
   */
  static async create(env: DeltaEnvironment, table: NewTable): Promise<DeltaTable> {
    let opened = await DeltaTable.open(env, table.root);
    if (!opened) {
      const reader = new LogReader({ ...env, root: table.root });
      await createTable(new Committer({ ...env, reader, root: table.root }), env.ambient, table);
      opened = await DeltaTable.open(env, table.root);
    }
    assert(opened, 'a table that was created is there');
    requireFit(opened.snapshot, table);
    return opened;
  }

  /**
   * Opens the table at `root`.
   * @returns undefined when there is none
   * @throws PipelineError corrupt | invalid (a table this version cannot handle) | unavailable
   */
  static async open(env: DeltaEnvironment, root: string): Promise<DeltaTable | undefined> {
    const seen = momentOf(env.ambient);
    const reader = new LogReader({ ...env, root });
    const loaded = await reader.load();
    if (!loaded) return undefined;
    const parts = { root, reader, head: loaded.snapshot, seen };
    return new DeltaTable(env, parts, loaded.checkpointVersion ?? 0);
  }

  /** The newest snapshot known here; `refresh` looks for a newer one. */
  get snapshot(): Snapshot {
    return this.#head;
  }

  get tableId(): string {
    return this.#head.tableId;
  }

  /**
   * Reads what is new in the log; one GET when nothing is.
   * @throws PipelineError corrupt | invalid | unavailable
   */
  async refresh(): Promise<Snapshot> {
    const seen = momentOf(this.#env.ambient);
    const from = this.#head.version;
    const longAgo = this.#isLongAgo(this.#seen);
    const entries = await this.#reader.readAfter(from);
    this.#take(entries);
    if (entries.length === 0 && longAgo) {
      const newest = await this.#reader.newestListedAfter(from);
      if (newest !== undefined && this.#head.version < newest) await this.#reload();
    }
    this.#seen = seen;
    return this.#head;
  }

  /**
   * The table as it was at `version`.
   * @throws PipelineError invalid when there is no such version, corrupt when its log is gone
   */
  async snapshotAt(version: number): Promise<Snapshot> {
    if (version > this.#head.version) await this.refresh();
    if (version === this.#head.version) return this.#head;
    const recent = this.#recent.snapshot(version);
    if (recent) return recent;
    if (!Number.isSafeInteger(version) || version < 0 || version > this.#head.version) {
      throw new PipelineError(
        'invalid',
        'TM_OBJECT_MISSING',
        `${this.root} has no version ${version}; its newest is ${this.#head.version}`,
      );
    }
    const loaded = await this.#reader.load(version);
    if (loaded) return loaded.snapshot;
    throw new PipelineError(
      'corrupt',
      'TM_OBJECT_MISSING',
      `${this.root} no longer has what version ${version} is read from; its log was cleaned up`,
    );
  }

  /**
   * The newest version committed at or before `timestampMs`, by the commits' own times.
   * @returns undefined when the log, as far as it is kept, begins later
   */
  async versionAtTimestamp(timestampMs: number): Promise<number | undefined> {
    let low = 0;
    let high = (await this.refresh()).version;
    let found: number | undefined;
    while (low <= high) {
      const middle = Math.floor((low + high) / 2);
      const entry = await this.#reader.readEntry(middle);
      const late = entry && (entry.commitInfo?.timestampMs ?? 0) > timestampMs;
      if (entry && !late) found = middle;
      if (late) high = middle - 1;
      else low = middle + 1;
    }
    return found;
  }

  /**
   * The first version that was the newest at some time since `timestampMs`; where the log begins
   * later, the first that it has.
   */
  async firstVersionSince(timestampMs: number): Promise<number> {
    const found = await this.versionAtTimestamp(timestampMs);
    if (found !== undefined) return found;
    let low = 0;
    let high = this.#head.version;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (await this.#reader.readEntry(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /**
   * The commits of (afterVersion, upToVersion], ascending; versions that are not there yet are left
   * out. Those of the newest versions are in memory.
   * @param upToVersion inclusive; default: the newest known
   * @throws PipelineError corrupt TM_OBJECT_MISSING when log clean-up removed one of them
   */
  async commits(
    afterVersion: number,
    upToVersion = this.#head.version,
  ): Promise<readonly CommitSummary[]> {
    if (upToVersion > this.#head.version) await this.refresh();
    const last = Math.min(upToVersion, this.#head.version);
    let firstRecent = last + 1;
    while (firstRecent - 1 > afterVersion && this.#recent.commit(firstRecent - 1)) firstRecent--;
    const recent: CommitSummary[] = [];
    for (let v = firstRecent; v <= last; v++) recent.push(this.#recent.commit(v)!);
    const older = await this.#reader.readRange(afterVersion + 1, firstRecent - 1);
    return [...older.map(summaryOf), ...recent];
  }

  /**
   * Commits in turn with other commits of this object. While the outcome is undecided it goes on
   * trying, until `request.signal` aborts.
   * @throws PipelineError when nothing was written: invalid for a request that no version could
   *   accept, unavailable when the store refused or the signal aborted while nothing was pending
   */
  async commit(request: CommitRequest): Promise<CommitOutcome> {
    const base = request.basedOn ?? this.#head;
    requireValidRequest(request, base);
    const { clock } = this.#env.ambient;
    const startedMs = clock.monotonicMs();
    const pending = this.#lastCommit.then(() => this.#commitInTurn(request, base));
    this.#lastCommit = pending.catch(() => {});
    const outcome = await pending;
    if (outcome.kind === 'committed') {
      this.#env.onCommitted?.(this.root, (clock.monotonicMs() - startedMs) / 1000);
    }
    return outcome;
  }

  /**
   * Writes a checkpoint of the newest known version now.
   * @throws PipelineError corrupt | unavailable
   */
  async checkpoint(): Promise<void> {
    await this.#background;
    await this.#writeCheckpoint();
  }

  /** Resolves when no background work is under way; it never rejects. */
  async idle(): Promise<void> {
    await this.#background;
  }

  async #commitInTurn(request: CommitRequest, base: Snapshot): Promise<CommitOutcome> {
    const { ambient } = this.#env;
    if (!request.signal?.aborted && this.#isLongAgo(this.#seen)) await this.refresh();
    const nonce = ambient.ids.id();
    for (let race = 1; race <= LOST_RACES_MAX; race++) {
      if (request.signal?.aborted) {
        throw new PipelineError('unavailable', 'TM_STOPPED', 'stopped; nothing was written');
      }
      const snapshot = this.#head;
      const refusal = refusalOf(request, base, snapshot);
      if (refusal) {
        if ((await this.refresh()).version === snapshot.version) return refusal;
        continue;
      }
      const attempt = { txnId: `${nonce}.${race}`, nowMs: ambient.clock.nowMs() };
      const entry = planEntry(request, snapshot, attempt);
      if (!entry) return { kind: 'committed', version: snapshot.version, alreadyOurs: false };
      const outcome = await this.#committer.createVersion(entry, request.signal);
      const settled = await this.#settle(entry, outcome);
      if (settled) return settled;
      const limitMs = Math.min(RACE_PAUSE_MAX_MS, RACE_PAUSE_FIRST_MS * 2 ** Math.min(race, 16));
      await ambient.clock.sleep(ambient.random.next() * limitMs);
    }
    throw new PipelineError(
      'unavailable',
      'TM_STORE_UNAVAILABLE',
      `lost ${LOST_RACES_MAX} races for a version of ${this.root}; nothing was written`,
    );
  }

  /** @returns undefined when the race is lost and another version has to be tried */
  async #settle(entry: LogEntry, outcome: VersionOutcome): Promise<CommitOutcome | undefined> {
    const { version } = entry;
    switch (outcome.kind) {
      case 'undecided':
        return { kind: 'unknown', version };
      case 'theirs':
        this.#take([outcome.entry]);
        await this.refresh();
        return undefined;
      case 'gone':
        await this.#reload();
        return undefined;
      case 'ours': {
        if (outcome.inDoubt || this.#isLongAgo(this.#seen)) {
          const confirmed = await this.#confirm(entry);
          if (confirmed === 'phantom') return undefined;
          if (confirmed === 'cannot tell') return { kind: 'unknown', version };
        }
        this.#take([entry]);
        this.#seen = momentOf(this.#env.ambient);
        this.#startCheckpointIfDue(version);
        return { kind: 'committed', version, alreadyOurs: outcome.alreadyOurs };
      }
    }
  }

  /** Whether an entry that was just created is part of the table's history (D4). */
  async #confirm(entry: LogEntry): Promise<'ours' | 'phantom' | 'cannot tell'> {
    const { logger } = this.#env;
    try {
      if ((await this.#reader.newestListedAfter(entry.version)) === undefined) return 'ours';
      const loaded = await this.#reader.load();
      assert(loaded, 'a table with log entries is there');
      const { snapshot } = loaded;
      if (entry.adds.length > 0) {
        if (entry.adds.some((file) => snapshot.knows(file.path))) return 'ours';
      } else if (entry.txns.every((txn) => (snapshot.progress(txn.appId) ?? -1n) >= txn.version)) {
        return 'cannot tell';
      }
      logger.error('a removed log version was created again; the commit does not count', {
        table: this.root,
        version: entry.version,
        newest: snapshot.version,
      });
      this.#replaceHead(snapshot);
      return 'phantom';
    } catch (thrown) {
      logger.warn('a commit was stored but could not be confirmed', {
        table: this.root,
        version: entry.version,
        ...errorFields(thrown),
      });
      return 'cannot tell';
    }
  }

  #take(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      if (entry.version !== this.#head.version + 1) continue;
      this.#head = this.#reader.applyAll(this.#head, [entry]);
      this.#recent.push(entry, this.#head);
    }
  }

  async #reload(): Promise<void> {
    const loaded = await this.#reader.load();
    if (!loaded) {
      throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', `the log of ${this.root} is gone`);
    }
    this.#replaceHead(loaded.snapshot);
  }

  #replaceHead(snapshot: TableSnapshot): void {
    if (snapshot.version <= this.#head.version) return;
    this.#head = snapshot;
    this.#recent.clear();
  }

  #isLongAgo(moment: Moment): boolean {
    const now = momentOf(this.#env.ambient);
    const passedMs = Math.max(
      Math.abs(now.wallMs - moment.wallMs),
      now.monotonicMs - moment.monotonicMs,
    );
    return passedMs > LOG_SEEN_MAX_MS;
  }

  #startCheckpointIfDue(version: number): void {
    const interval = this.#env.checkpointInterval ?? CHECKPOINT_INTERVAL;
    // Of several committing processes the one that hits the multiple does it; the others catch up
    // on a table where it never does.
    const overdue = version - this.#checkpointVersion >= 2 * interval;
    if ((version % interval !== 0 && !overdue) || this.#background) return;
    this.#background = this.#checkpointInBackground(overdue ? interval : 0);
  }

  async #checkpointInBackground(skipUnlessOlderBy: number): Promise<void> {
    try {
      const { version } = this.#head;
      this.#checkpointVersion = version;
      const known = skipUnlessOlderBy > 0 ? await this.#reader.lastCheckpointHint() : undefined;
      if (known === undefined || version - known >= skipUnlessOlderBy) {
        await this.#writeCheckpoint();
      }
    } catch (thrown) {
      this.#env.logger.warn('checkpoint failed; the log is complete without it', {
        table: this.root,
        ...errorFields(thrown),
      });
    } finally {
      this.#background = undefined;
    }
  }

  async #writeCheckpoint(): Promise<void> {
    const { store, codec, ambient } = this.#env;
    const { clock } = ambient;
    const snapshot = this.#head;
    const expiryMs = clock.nowMs() - deletedFileRetentionMs(snapshot.configuration);
    const options = { store, codec, clock, reader: this.#reader, root: this.root };
    await writeCheckpoint(options, snapshot, expiryMs);
    this.#checkpointVersion = Math.max(this.#checkpointVersion, snapshot.version);
    this.#head = this.#head.withoutTombstonesBefore(expiryMs);
  }
}

function momentOf({ clock }: Ambient): Moment {
  return { wallMs: clock.nowMs(), monotonicMs: clock.monotonicMs() };
}
