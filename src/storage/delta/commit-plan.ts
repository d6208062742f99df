/**
 * Builds the log entry that a request becomes when it follows a snapshot. Pure.
 * Source: PROTOCOL.md "Commit Provenance Information", "Add File and Remove File".
 *
 * B1 commitInfo says who wrote the version and from what: nonce, read version, lineage.
 * B2 Time stamps never go back, whatever the clock does, so no tombstone is older than its commit.
 */
import { assert } from '../../errors.ts';
import { TIDEMARK_VERSION } from '../../version.ts';
import type { CommitInfo, LogEntry, LoggedFile, MetadataAction, RemovedFile } from './actions.ts';
import { schemaToJson } from './schema-json.ts';
import type { Snapshot } from './snapshot.ts';
import type { CommitRequest } from './transaction.ts';

/** How Tidemark names itself in commits. */
export const ENGINE_INFO = `Tidemark/${TIDEMARK_VERSION}`;

/**
 * The entry for the version after `snapshot`, which must accept the request (conflict.ts).
 * @param attempt nonce of this version and the wall clock, milliseconds since the epoch
 * @returns undefined when nothing is left to say: all progress is `any` and behind the table's
 */
export function planEntry(
  request: CommitRequest,
  snapshot: Snapshot,
  attempt: { readonly txnId: string; readonly nowMs: number },
): LogEntry | undefined {
  const timestampMs = Math.max(Math.trunc(attempt.nowMs), snapshot.timestampMs);
  const dataChange = request.dataChange ?? true;
  const adds = request.adds.map((file) => loggedFile(file, snapshot.version + 1, dataChange));
  const removes = (request.removes ?? []).map((path) => {
    const file = snapshot.file(path);
    assert(file, 'a file to remove is live');
    return removedFile(file, timestampMs, dataChange);
  });
  const txns = request.progress
    .filter(({ appId, expected, next }) => {
      return expected !== 'any' || next > (snapshot.progress(appId) ?? -1n);
    })
    .map(({ appId, next }) => ({ appId, version: next, lastUpdatedMs: timestampMs }));
  const metadata = request.metadata && updatedMetadata(request.metadata, snapshot.metadata);
  if (adds.length + removes.length + txns.length === 0 && !metadata) return undefined;
  const commitInfo: CommitInfo = {
    timestampMs,
    operation: request.operation,
    operationParameters: request.operationParameters ?? {},
    readVersion: snapshot.version,
    isolationLevel: dataChange ? 'WriteSerializable' : 'SnapshotIsolation',
    isBlindAppend: dataChange && removes.length === 0 && !metadata,
    operationMetrics: request.operationMetrics ?? {},
    engineInfo: ENGINE_INFO,
    txnId: attempt.txnId,
    lineage: request.lineage,
  };
  return { version: snapshot.version + 1, commitInfo, metadata, txns, adds, removes };
}

function loggedFile(
  file: CommitRequest['adds'][number],
  addedVersion: number,
  dataChange: boolean,
): LoggedFile {
  // Field by field as actions.ts reads them, so that all files of a snapshot have one shape.
  return {
    path: file.path,
    encodedPath: undefined,
    partitionValues: file.partitionValues,
    sizeBytes: file.sizeBytes,
    modifiedMs: Math.trunc(file.modifiedMs),
    stats: file.stats,
    tags: file.tags,
    addedVersion,
    dataChange,
  };
}

function removedFile(file: LoggedFile, timestampMs: number, dataChange: boolean): RemovedFile {
  return {
    path: file.path,
    encodedPath: file.encodedPath,
    dataChange,
    deletionTimestampMs: timestampMs,
    partitionValues: file.partitionValues,
    sizeBytes: file.sizeBytes,
    stats: file.stats,
  };
}

function updatedMetadata(
  update: NonNullable<CommitRequest['metadata']>,
  metadata: MetadataAction,
): MetadataAction {
  return {
    ...metadata,
    schemaString: update.schema ? schemaToJson(update.schema) : metadata.schemaString,
    configuration: { ...metadata.configuration, ...update.configuration },
  };
}
