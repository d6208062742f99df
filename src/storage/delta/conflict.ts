/**
 * Whether a commit may go into the version after a snapshot. Pure: the committer asks again for every
 * version it tries. Promise P2; source: PROTOCOL.md "Transaction Identifiers", "Append-only Tables".
 *
 * C1 Progress is compared with exactly the snapshot before the version that the entry will name.
 * C2 Files that others added are no conflict; a file to remove that is gone, or a changed table
 *    definition, is.
 * C3 What no version of the table could accept is refused before anything is tried.
 */
import { PipelineError } from '../../errors.ts';
import { ambiguousColumn, schemaMisfit } from './schema-json.ts';
import { type Snapshot, sameTableDefinition } from './snapshot.ts';
import { isAppendOnly } from './table-properties.ts';
import type { CommitOutcome, CommitRequest, NewFile } from './transaction.ts';

/** Why a request cannot become the version after a snapshot. */
export type Refusal = Extract<CommitOutcome, { readonly kind: 'fenced' | 'conflict' }>;

/**
 * Compares a request with the snapshot it would follow (C1, C2).
 * @param base the snapshot the writer worked from
 * @returns undefined when nothing stands against it
 */
export function refusalOf(
  request: CommitRequest,
  base: Snapshot,
  snapshot: Snapshot,
): Refusal | undefined {
  if (base.tableId !== snapshot.tableId) return conflict('the table was replaced by another one');
  if (!sameTableDefinition(base, snapshot)) {
    return conflict("the table's metadata or protocol changed");
  }
  for (const { appId, expected } of [...request.progress, ...(request.guards ?? [])]) {
    if (expected === 'any') continue;
    const actual = snapshot.progress(appId);
    if (actual !== expected) return { kind: 'fenced', appId, expected, actual };
  }
  if (losesRows(request) && isAppendOnlyAfter(request, snapshot)) {
    return conflict('the table has become append-only');
  }
  for (const path of request.removes ?? []) {
    if (!snapshot.file(path)) return conflict(`the file to remove is gone: ${path}`);
  }
  for (const { path } of request.adds) {
    if (snapshot.file(path)) return conflict(`the file to add is in the table: ${path}`);
  }
  return undefined;
}

const PATH = /^[A-Za-z0-9=-][A-Za-z0-9_=.-]*(?:\/[A-Za-z0-9=-][A-Za-z0-9_=.-]*)*$/;
const HIVE_NULL = '__HIVE_DEFAULT_PARTITION__';

/**
 * Refuses requests that are wrong in themselves (C3).
 * @throws PipelineError invalid
 */
export function requireValidRequest(request: CommitRequest, snapshot: Snapshot): void {
  const removes = request.removes ?? [];
  requireDistinct('files', [...request.adds.map((file) => file.path), ...removes]);
  const appIds = request.progress.map((update) => update.appId);
  requireDistinct('appIds', [...appIds, ...(request.guards ?? []).map(({ appId }) => appId)]);
  for (const { appId, expected, next } of request.progress) {
    if (next < 0n || next >= 2n ** 63n) throw refused(`progress of ${appId} is not a Java long`);
    if (typeof expected === 'bigint' && next < expected) {
      throw refused(`progress of ${appId} would go back from ${expected} to ${next}`);
    }
  }
  for (const file of request.adds) requireValidFile(file, snapshot.partitionColumns);
  if (losesRows(request) && isAppendOnlyAfter(request, snapshot)) {
    throw refused('the table is append-only, so its rows cannot be removed');
  }
  if (request.metadata?.schema) requireEvolution(request.metadata.schema, snapshot);
}

function losesRows({ removes = [], dataChange }: CommitRequest): boolean {
  return removes.length > 0 && dataChange !== false;
}

/** A commit may itself end that rows can only be added. */
function isAppendOnlyAfter({ metadata }: CommitRequest, { configuration }: Snapshot): boolean {
  return isAppendOnly({ ...configuration, ...metadata?.configuration });
}

function requireValidFile(file: NewFile, partitionColumns: readonly string[]): void {
  if (!PATH.test(file.path)) throw refused(`not a data file path: ${file.path}`);
  if (!Number.isSafeInteger(file.sizeBytes) || file.sizeBytes <= 0) {
    throw refused(`the file ${file.path} has no size`);
  }
  const columns = Object.keys(file.partitionValues);
  const complete = partitionColumns.every((column) => Object.hasOwn(file.partitionValues, column));
  if (!complete || columns.length !== partitionColumns.length) {
    throw refused(`the file ${file.path} needs partition values of ${partitionColumns.join(', ')}`);
  }
  for (const value of Object.values(file.partitionValues)) {
    if (value === '' || value === HIVE_NULL) {
      throw refused(`the file ${file.path} has a partition value that reads back as null`);
    }
  }
}

function requireEvolution(schema: NonNullable<Snapshot['schema']>, snapshot: Snapshot): void {
  const misfit = schemaMisfit(schema, snapshot.schema);
  if (misfit !== undefined) {
    throw new PipelineError('invalid', 'TM_SCHEMA_MISMATCH', `schema change refused: ${misfit}`);
  }
  const ambiguous = ambiguousColumn(schema);
  if (ambiguous !== undefined) {
    const message = `schema change refused: two columns are called ${ambiguous}`;
    throw new PipelineError('invalid', 'TM_SCHEMA_MISMATCH', message);
  }
}

function requireDistinct(what: string, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) throw refused(`${what} of one commit must differ: ${name}`);
    seen.add(name);
  }
}

function conflict(reason: string): Refusal {
  return { kind: 'conflict', reason };
}

function refused(message: string): PipelineError {
  return new PipelineError('invalid', 'TM_LOG_UNSUPPORTED', message);
}
