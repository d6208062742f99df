/**
 * The state of a table at one version, made by replaying its log. Pure.
 * Source: PROTOCOL.md "Action Reconciliation".
 *
 * N1 A snapshot never changes. Its successor shares storage with it (versioned-map.ts): applying an
 *    entry costs the entry, not the table; reading a snapshot that is no longer the newest costs its
 *    size once more. So hold snapshots as long as needed, and not longer.
 * N2 Versions are applied without a gap, and only those this version of Tidemark understands.
 * N3 `timestampMs` never decreases from version to version, whatever clocks the writers had.
 */
import { assert } from '../../errors.ts';
import type { StructType } from '../../pipeline/types.ts';
import {
  corruptLog,
  type LogEntry,
  type LoggedFile,
  type MetadataAction,
  type ProtocolAction,
  type RemovedFile,
  type TxnAction,
  namingPlace,
} from './actions.ts';
import { parseExactJson } from './exact-json.ts';
import { schemaFromJson } from './schema-json.ts';
import { requireSupportedMetadata, requireSupportedProtocol } from './table-support.ts';
import { VersionedMap } from './versioned-map.ts';

/** A table at one version. Immutable (N1). */
export interface Snapshot {
  readonly version: number;
  /** GUID of the table; another table at the same place has another one. */
  readonly tableId: string;
  readonly schema: StructType;
  readonly partitionColumns: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
  readonly description: string | undefined;
  readonly protocol: ProtocolAction;
  readonly metadata: MetadataAction;
  /** When the table was created, milliseconds since the epoch, if its creator said so. */
  readonly createdTimeMs: number | undefined;
  /** When this version was committed, milliseconds since the epoch; never decreases (N3). */
  readonly timestampMs: number;
  /** Files and their bytes. */
  readonly fileCount: number;
  readonly totalBytes: number;
  /** Rows by the files' statistics; undefined when a file has none. Costs the files, once. */
  numRecords(): number | undefined;
  /** The `txn` version of `appId`; undefined when the table has none. */
  progress(appId: string): bigint | undefined;
  progressEntries(): Iterable<[string, bigint]>;
  /** When `appId` last made progress, milliseconds since the epoch; undefined when the log does not say. */
  progressUpdatedMs(appId: string): number | undefined;
  /** The live file of that path, as a log spells it after decoding. */
  file(path: string): LoggedFile | undefined;
  /** All live files, as an array made at the call. */
  files(): readonly LoggedFile[];
  /** Removed files that older snapshots may need; expired ones are dropped at checkpoints. */
  tombstones(): readonly RemovedFile[];
}

interface SnapshotState {
  readonly version: number;
  readonly timestampMs: number;
  readonly protocol: ProtocolAction;
  readonly metadata: MetadataAction;
  readonly schema: StructType;
  readonly txns: VersionedMap<string, TxnAction>;
  readonly files: VersionedMap<string, LoggedFile>;
  readonly tombstones: VersionedMap<string, RemovedFile>;
  readonly totalBytes: number;
}

/** The one implementation of Snapshot. */
export class TableSnapshot implements Snapshot {
  readonly #state: SnapshotState;
  #numRecords: number | undefined | 'not counted' = 'not counted';

  private constructor(state: SnapshotState) {
    this.#state = state;
  }

  /**
   * The state from which a replay starts: log entry 0, or the content of a checkpoint.
   * @param source names the file, for messages
   * @param timestampMs used when the entry does not know
   * @throws PipelineError corrupt | invalid
   */
  static start(entry: LogEntry, timestampMs: number, source: string): TableSnapshot {
    const { protocol, metadata } = entry;
    if (!protocol || !metadata) throw corruptLog(source, 'no protocol and metaData to start from');
    namingPlace(source, () => requireSupportedProtocol(protocol));
    let totalBytes = 0;
    for (const file of entry.adds) totalBytes += file.sizeBytes;
    return new TableSnapshot({
      version: entry.version,
      timestampMs: entry.commitInfo?.timestampMs ?? timestampMs,
      protocol,
      metadata,
      schema: supportedSchema(metadata, source),
      txns: VersionedMap.owning(new Map(entry.txns.map((txn) => [txn.appId, txn]))),
      files: VersionedMap.owning(new Map(entry.adds.map((file) => [file.path, file]))),
      // Seldom asked for, and of a busy table most of a checkpoint by far.
      tombstones: VersionedMap.deferred(
        () => new Map(entry.removes.map((file) => [file.path, file])),
      ),
      totalBytes,
    });
  }

  get version(): number {
    return this.#state.version;
  }

  get tableId(): string {
    return this.#state.metadata.id;
  }

  get schema(): StructType {
    return this.#state.schema;
  }

  get partitionColumns(): readonly string[] {
    return this.#state.metadata.partitionColumns;
  }

  get configuration(): Readonly<Record<string, string>> {
    return this.#state.metadata.configuration;
  }

  get description(): string | undefined {
    return this.#state.metadata.description;
  }

  get protocol(): ProtocolAction {
    return this.#state.protocol;
  }

  get metadata(): MetadataAction {
    return this.#state.metadata;
  }

  get createdTimeMs(): number | undefined {
    return this.#state.metadata.createdTimeMs;
  }

  get timestampMs(): number {
    return this.#state.timestampMs;
  }

  get fileCount(): number {
    return this.#state.files.size;
  }

  get totalBytes(): number {
    return this.#state.totalBytes;
  }

  numRecords(): number | undefined {
    if (this.#numRecords === 'not counted') this.#numRecords = sumOfRecords(this.files());
    return this.#numRecords;
  }

  progress(appId: string): bigint | undefined {
    return this.#state.txns.get(appId)?.version;
  }

  *progressEntries(): Generator<[string, bigint]> {
    for (const txn of this.txns()) yield [txn.appId, txn.version];
  }

  progressUpdatedMs(appId: string): number | undefined {
    return this.#state.txns.get(appId)?.lastUpdatedMs;
  }

  /** All `txn` actions, as an array made at the call. */
  txns(): readonly TxnAction[] {
    return this.#state.txns.values();
  }

  file(path: string): LoggedFile | undefined {
    return this.#state.files.get(path);
  }

  /** Whether the table ever had the file, as far as unexpired tombstones tell. */
  knows(path: string): boolean {
    return this.#state.files.has(path) || this.#state.tombstones.has(path);
  }

  files(): readonly LoggedFile[] {
    return this.#state.files.values();
  }

  tombstones(): readonly RemovedFile[] {
    return this.#state.tombstones.values();
  }

  /**
   * The snapshot of the next version.
   * @param source names the entry's file, for messages
   * @throws PipelineError invalid when the entry makes the table unsupported
   */
  apply(entry: LogEntry, source: string): TableSnapshot {
    const state = this.#state;
    assert(entry.version === state.version + 1, 'log entries are applied in order');
    const { protocol = state.protocol } = entry;
    namingPlace(source, () => requireSupportedProtocol(protocol));
    const metadata = entry.metadata ?? state.metadata;
    const files = new Map<string, LoggedFile | undefined>();
    const tombstones = new Map<string, RemovedFile | undefined>();
    let { totalBytes } = state;
    for (const removed of entry.removes) {
      totalBytes -= state.files.get(removed.path)?.sizeBytes ?? 0;
      files.set(removed.path, undefined);
      tombstones.set(removed.path, withoutStats(removed));
    }
    for (const file of entry.adds) {
      totalBytes += file.sizeBytes - (state.files.get(file.path)?.sizeBytes ?? 0);
      files.set(file.path, file);
      tombstones.set(file.path, undefined);
    }
    return new TableSnapshot({
      version: entry.version,
      timestampMs: Math.max(state.timestampMs, entry.commitInfo?.timestampMs ?? 0),
      protocol,
      metadata,
      schema: entry.metadata ? supportedSchema(metadata, source) : state.schema,
      txns: state.txns.with(new Map(entry.txns.map((txn) => [txn.appId, txn]))),
      files: state.files.with(files),
      tombstones: state.tombstones.with(tombstones),
      totalBytes,
    });
  }

  /** The same version without the tombstones that expired before `cutoffMs`. */
  withoutTombstonesBefore(cutoffMs: number): TableSnapshot {
    const expired = this.tombstones().filter((file) => !isUnexpired(file, cutoffMs));
    const changes = new Map(expired.map((file) => [file.path, undefined]));
    return new TableSnapshot({
      ...this.#state,
      tombstones: this.#state.tombstones.with(changes),
    });
  }
}

/** Whether a removed file is younger than `cutoffMs`; one without a time counts as old. */
export function isUnexpired(file: RemovedFile, cutoffMs: number): boolean {
  return (file.deletionTimestampMs ?? 0) >= cutoffMs;
}

/** Properties that say how a table is kept and not what its files look like. */
const UPKEEP_PROPERTIES: ReadonlySet<string> = new Set([
  'delta.appendOnly',
  'delta.checkpointInterval',
  'delta.deletedFileRetentionDuration',
  'delta.logRetentionDuration',
]);

/** Whether nothing that shapes the written files changed between two snapshots of one table. */
export function sameTableDefinition(a: Snapshot, b: Snapshot): boolean {
  if (a.metadata === b.metadata && a.protocol === b.protocol) return true;
  return definitionText(a) === definitionText(b);
}

function definitionText({ metadata, protocol }: Snapshot): string {
  const shaping = Object.entries(metadata.configuration).filter(
    ([name]) => !UPKEEP_PROPERTIES.has(name),
  );
  return JSON.stringify([
    { ...metadata, configuration: shaping.toSorted(([a], [b]) => (a < b ? -1 : 1)) },
    protocol,
  ]);
}

const LEADING_NUM_RECORDS = /^\{"numRecords":(\d{1,15})[,}]/;

/**
 * Rows of a file by its statistics.
 * @returns undefined when the statistics do not say
 */
export function numRecordsOf(stats: string | undefined): number | undefined {
  if (stats === undefined) return undefined;
  const leading = LEADING_NUM_RECORDS.exec(stats);
  if (leading) return Number(leading[1]);
  try {
    const parsed = parseExactJson(stats) as { readonly numRecords?: unknown } | null;
    const numRecords = parsed?.numRecords;
    return Number.isSafeInteger(numRecords) ? (numRecords as number) : undefined;
  } catch {
    return undefined;
  }
}

function sumOfRecords(files: readonly LoggedFile[]): number | undefined {
  let sum = 0;
  for (const file of files) {
    const numRecords = numRecordsOf(file.stats);
    if (numRecords === undefined) return undefined;
    sum += numRecords;
  }
  return sum;
}

function supportedSchema(metadata: MetadataAction, source: string): StructType {
  const schema = namingPlace(source, () => {
    const read = schemaFromJson(metadata.schemaString);
    requireSupportedMetadata(metadata, read);
    return read;
  });
  const names = new Set(schema.fields.map((field) => field.name));
  for (const column of metadata.partitionColumns) {
    if (!names.has(column)) throw corruptLog(source, `partition column ${column} is not a column`);
  }
  return schema;
}

function withoutStats(file: RemovedFile): RemovedFile {
  if (file.stats === undefined) return file;
  const { stats: _, ...rest } = file;
  return rest;
}
