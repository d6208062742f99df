/**
 * What a retry takes out of the dead-letter table, stored before its silver commit: two tables cannot
 * change in one commit, so whoever comes next finishes what a crash between them left.
 *
 * Invariants:
 * - RS1 A statement counts if silver's txn names it and the dead-letter table's does not yet; then its
 *   rows go. Any other one is of a retry that never committed, or that is done.
 * - RS2 Rows are named by their Kafka coordinates, so it does not matter which files they lie in by now.
 */
import { dataFilePath } from '../../actors/file-settings.ts';
import { PipelineError } from '../../errors.ts';
import { dateText, deadLetterRetryAppId } from '../../pipeline/progress.ts';
import { DEAD_LETTER_DATE } from '../../pipeline/silver/tables.ts';
import type { Snapshot } from '../../storage/delta/delta-table.ts';
import type { NewFile } from '../../storage/delta/transaction.ts';
import { mayHoldOffsets } from '../silver-edit/bronze-range.ts';
import type { EditedLake } from '../silver-edit/edited-lake.ts';
import type { Coordinates } from '../silver-edit/edit-thread.ts';
import type { SilverEdit } from '../silver-edit/silver-edit.ts';

/** Dead letters that a retry settles. */
export interface RetryStatement {
  /** `_dlq_date`s of the rows. */
  readonly dates: readonly string[];
  readonly gone: Coordinates;
  readonly conflicts: Coordinates;
}

/** Files of dead letters that were rewritten. */
export interface RewrittenLetters {
  readonly adds: readonly NewFile[];
  /** Paths. */
  readonly removes: readonly string[];
}

const ATTEMPTS_MAX = 20;

function folderOf(lake: EditedLake): string {
  return `${lake.deadLetter.root}/_retries/`;
}

/** Name of the retry's progress in both tables. */
export function retryIdOf({ context, bronze }: EditedLake): string {
  return deadLetterRetryAppId(context.config.name, bronze.tableId);
}

/** Whether a retry is in silver whose dead letters are still there (RS1). */
export function isPending(lake: EditedLake, silver: Snapshot): boolean {
  const id = retryIdOf(lake);
  return silver.progress(id) !== lake.deadLetter.snapshot.progress(id);
}

/** Stores a statement under the txn version that the silver commit will have. */
export async function storeStatement(
  lake: EditedLake,
  version: bigint,
  statement: RetryStatement,
): Promise<void> {
  const body = new TextEncoder().encode(JSON.stringify(statement));
  await lake.context.store.put(`${folderOf(lake)}${version}.json`, body);
}

/**
 * Finishes the last retry, if it is unfinished, and clears away statements.
 * @returns which files of dead letters took the place of which; undefined when nothing was open
 * @throws PipelineError corrupt when the statement is gone, unavailable when others were always faster
 */
export async function finishRetry(edit: SilverEdit): Promise<RewrittenLetters | undefined> {
  const { lake } = edit;
  const { deadLetter, silver, context } = lake;
  const id = retryIdOf(lake);
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const [dead, own] = [await deadLetter.refresh(), await silver.refresh()];
    const wanted = own.progress(id);
    const done = dead.progress(id);
    if (wanted === undefined || wanted === done) {
      await clearStatements(lake, wanted);
      return undefined;
    }
    const { adds, removes } = await rewrite(edit, dead, await readStatement(lake, wanted));
    const outcome = await deadLetter.commit({
      operation: 'DELETE',
      operationParameters: { predicate: '["retried"]' },
      adds,
      removes,
      progress: [{ appId: id, expected: done, next: wanted }],
      lineage: { stage: 'dead-letter-retry', retry: String(wanted) },
      signal: context.signal,
    });
    if (outcome.kind === 'committed') {
      await clearStatements(lake, wanted);
      return { adds, removes };
    }
    context.logger.info('the dead letters changed meanwhile; looking again', { ...outcome });
  }
  throw new PipelineError(
    'unavailable',
    'TM_COMMIT_FENCED',
    'other writers of the dead letters were faster each time; the next `dlq retry` finishes this one',
  );
}

async function readStatement(lake: EditedLake, version: bigint): Promise<RetryStatement> {
  const bytes = await lake.read(`${folderOf(lake)}${version}.json`);
  return JSON.parse(new TextDecoder().decode(bytes)) as RetryStatement;
}

/** RS2 */
async function rewrite(
  { lake, thread }: SilverEdit,
  dead: Snapshot,
  { dates, gone, conflicts }: RetryStatement,
): Promise<RewrittenLetters> {
  const { ambient, store } = lake.context;
  const adds: NewFile[] = [];
  const removes: string[] = [];
  const offsets = [gone, conflicts].flatMap((rows) => Object.values(rows).flat()).map(BigInt);
  for (const file of dead.files()) {
    const { path, partitionValues } = file;
    if (!dates.includes(partitionValues[DEAD_LETTER_DATE] ?? '')) continue;
    if (!mayHoldOffsets(file, offsets)) continue;
    const parquet = await lake.read(`${lake.deadLetter.root}/${path}`);
    const rewritten = await thread.call('rewriteDeadLetters', { parquet, gone, conflicts });
    if (!rewritten.touched) continue;
    removes.push(path);
    if (rewritten.file === undefined) continue;
    const { dateDays, parquet: bytes, stats } = rewritten.file;
    const newPath = dataFilePath(dateDays, ambient.ids.id());
    await store.put(`${lake.deadLetter.root}/${newPath}`, bytes);
    adds.push({
      path: newPath,
      partitionValues: { [DEAD_LETTER_DATE]: dateText(dateDays) },
      sizeBytes: bytes.byteLength,
      modifiedMs: Math.round(ambient.clock.nowMs()),
      stats,
    });
  }
  return { adds, removes };
}

/** Deletes the statements that do not count any more; those of later edits are of retries under way. */
async function clearStatements(lake: EditedLake, done: bigint | undefined): Promise<void> {
  const { store } = lake.context;
  const keys: string[] = [];
  for await (const { key } of store.list(folderOf(lake))) {
    const version = /\/(\d+)\.json$/.exec(key)?.[1];
    if (version !== undefined && done !== undefined && BigInt(version) <= done) keys.push(key);
  }
  for (const key of keys) await store.delete(key);
}
