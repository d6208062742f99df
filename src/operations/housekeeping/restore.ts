/**
 * A table as it was at an older version, as a new version: in one commit the files of then come back
 * and those of since go.
 *
 * RE1 Progress is not taken back (delta#1813), so the stream does not derive again what a restore took
 *     out: for silver `replay` does, for gold `reconcile`.
 * RE2 What nothing could bring back is not taken out: bronze and the archive keep everything (P4), and
 *     nothing derives dead letters a second time.
 * RE3 A restore is an edit: it and the stream exclude each other by the count of edits and the
 *     progress of the buckets, so that the stream's index is never behind the table.
 * RE4 The ledger knows by how many rows silver is short of what was derived, until a replay has settled
 *     each: put back, or found to be replaced by a copy that came meanwhile (P6).
 * RE5 Nothing is restored unless every file of the old version is there.
 */
import { PipelineError } from '../../errors.ts';
import { ledgerTotals, movedTotals } from '../../pipeline/ledger/ledger-totals.ts';
import {
  bucketAppIds,
  goldAppId,
  goldEditsAppId,
  silverAppId,
  silverEditsAppId,
  tableRoots,
} from '../../pipeline/progress.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import type { ProgressGuard, ProgressUpdate } from '../../storage/delta/transaction.ts';
import { commitFailed, type HousekeepingLake, type NamedTable } from './lake-tables.ts';

export interface RestoreOptions {
  readonly version: number;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

/** What a restore changed, or would change. */
export interface Restored {
  readonly table: string;
  readonly toVersion: number;
  /** The version that it became; undefined when nothing had to be changed, or of a dry run. */
  readonly version: number | undefined;
  readonly filesAdded: number;
  readonly filesRemoved: number;
  /** What has to be done for the other tables to agree with it again. */
  readonly remedy: string;
}

/** The stream commits about once a second; a restore has to get in between. */
const ATTEMPTS_MAX = 100;
/** Objects asked for side by side. */
const CONCURRENCY = 32;

/**
 * Restores a table.
 * @throws PipelineError invalid (a table of RE2, no such version), corrupt (its files are gone), unavailable
 */
export async function restoreTable(
  lake: HousekeepingLake,
  named: NamedTable,
  options: RestoreOptions,
): Promise<Restored> {
  const { table, name } = named;
  const remedy = remedyOf(named);
  const target = await table.snapshotAt(options.version);
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const base = await table.refresh();
    const back = target.files().filter(({ path }) => !base.file(path));
    const gone = base.files().filter(({ path }) => !target.file(path));
    const done = {
      table: name,
      toVersion: options.version,
      filesAdded: back.length,
      filesRemoved: gone.length,
      remedy,
    };
    if (attempt === 1) {
      await requireObjects(
        lake,
        table.root,
        back.map(({ path }) => path),
      );
    }
    if (options.dryRun || back.length + gone.length === 0) return { ...done, version: undefined };
    const { edits, guards } = await exclusion(lake, named, base, target);
    const outcome = await table.commit({
      operation: 'RESTORE',
      operationParameters: { version: String(options.version) },
      operationMetrics: {
        numRestoredFiles: String(back.length),
        numRemovedFiles: String(gone.length),
      },
      adds: back,
      removes: gone.map(({ path }) => path),
      progress: edits,
      guards,
      basedOn: base,
      lineage: { stage: 'restore', toVersion: options.version },
      ...(options.signal ? { signal: options.signal } : {}),
    });
    if (outcome.kind === 'committed') return { ...done, version: outcome.version };
    if (outcome.kind === 'unknown') throw commitFailed(table, outcome);
  }
  throw new PipelineError(
    'unavailable',
    'TM_COMMIT_FENCED',
    `the stream changed ${table.root} first each time; nothing was restored: \`tidemark pause\` it and try again`,
  );
}

/** RE2 */
function remedyOf({ role, name }: NamedTable): string {
  switch (role) {
    case 'silver':
      return 'Rows that came since are not in silver now: `tidemark replay` brings them back.';
    case 'gold':
      return 'Windows that changed since are old now: `tidemark reconcile` computes them again.';
    case 'other':
      return 'Nothing depends on this table.';
    case 'bronze':
    case 'archive':
    case 'dead-letter':
      throw new PipelineError(
        'invalid',
        'TM_USAGE',
        `${name} cannot be restored: records that came since would be lost for good (P4); ` +
          'query an older version with `tidemark sql --at`.',
      );
  }
}

/** RE3 */
async function exclusion(
  lake: HousekeepingLake,
  { role }: NamedTable,
  base: Snapshot,
  target: Snapshot,
): Promise<{
  readonly edits: readonly ProgressUpdate[];
  readonly guards: readonly ProgressGuard[];
}> {
  const { config } = lake;
  const roots = tableRoots(config);
  const idOf = async (root: string): Promise<string> => (await lake.open(root))?.tableId ?? '';
  const edit = (appId: string): ProgressUpdate => {
    const expected = base.progress(appId);
    return { appId, expected, next: (expected ?? 0n) + 1n };
  };
  const guard = (appId: string): ProgressGuard => ({ appId, expected: base.progress(appId) });
  switch (role) {
    case 'silver': {
      const bronzeId = await idOf(roots.bronze);
      const guards = bucketAppIds(config, bronzeId, silverAppId).map(guard);
      const edits = [
        edit(silverEditsAppId(config.name, bronzeId)),
        ...shortage(config.name, bronzeId, base, target),
      ];
      return { edits, guards };
    }
    case 'gold': {
      const silverId = await idOf(roots.silver);
      const edits = [edit(goldEditsAppId(config.name, silverId))];
      return { edits, guards: [guard(goldAppId(config.name, silverId))] };
    }
    default:
      return { edits: [], guards: [] };
  }
}

/** RE4 */
function shortage(
  pipeline: string,
  bronzeTableId: string,
  base: Snapshot,
  target: Snapshot,
): readonly ProgressUpdate[] {
  const rows = target.numRecords();
  if (rows === undefined) return [];
  const { silverRows, lacking } = ledgerTotals(pipeline, bronzeTableId, base.progressEntries());
  const short = silverRows > BigInt(rows) ? silverRows - BigInt(rows) : 0n;
  const moved = short > lacking ? { takenOut: short - lacking } : { putBack: lacking - short };
  return movedTotals(pipeline, bronzeTableId, base, moved);
}

/** RE5 */
async function requireObjects(
  { delta }: HousekeepingLake,
  root: string,
  paths: readonly string[],
): Promise<void> {
  for (let from = 0; from < paths.length; from += CONCURRENCY) {
    const keys = paths.slice(from, from + CONCURRENCY).map((path) => `${root}/${path}`);
    const found = await Promise.all(keys.map((key) => delta.store.head(key)));
    const missing = keys.find((_, i) => found[i] === undefined);
    if (missing === undefined) continue;
    throw new PipelineError(
      'corrupt',
      'TM_OBJECT_MISSING',
      `${missing} has been vacuumed; the version cannot be restored`,
      { context: { table: root } },
    );
  }
}
