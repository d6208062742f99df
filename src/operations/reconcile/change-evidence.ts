/**
 * What happened to a date of silver since its gold was made: the files that came and went, and the
 * operations besides the stream that brought and took them.
 *
 * - CE1 Rows that came are those of new files less those of gone ones, so files that were merely
 *   rearranged count for nothing.
 * - CE2 What the log or the store no longer holds is no evidence: a change is then explained by less.
 */
import { silverEditsAppId } from '../../pipeline/progress.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import type { EvidenceKind } from './batch-thread.ts';
import { dateOf, type ReconcileLake, unlessGone } from './lake-view.ts';

/** Evidence about one date. */
export interface DateEvidence {
  /** Silver files to count rows of. */
  readonly files: readonly { readonly path: string; readonly kind: EvidenceKind }[];
  /** Rows of the date were replaced under another schema; were taken back to an older version. */
  readonly wasRebuilt: boolean;
  readonly wasRestored: boolean;
}

const NO_EVIDENCE: DateEvidence = { files: [], wasRebuilt: false, wasRestored: false };
/** Commits that are read at most in search of edits. */
const COMMITS_READ_MAX = 20_000;

/**
 * @param since silver version that the date's gold was made from
 * @param silver the snapshot that the batch is made from
 * @throws PipelineError unavailable
 */
export async function gatherEvidence(
  lake: ReconcileLake,
  date: string,
  since: number,
  silver: Snapshot,
): Promise<DateEvidence> {
  if (since >= silver.version) return NO_EVIDENCE;
  // CE2
  const old = await unlessGone(() => lake.silver.snapshotAt(since));
  if (!old) return NO_EVIDENCE;
  const oldPaths = pathsOf(old, date);
  const newPaths = pathsOf(silver, date);
  const files: { readonly path: string; readonly kind: EvidenceKind }[] = [];
  for (const path of newPaths) if (!oldPaths.has(path)) files.push({ path, kind: 'gained' });
  for (const path of oldPaths) if (!newPaths.has(path)) files.push({ path, kind: 'lost' });
  const editsId = silverEditsAppId(lake.config.name, lake.bronze.tableId);
  if (files.length === 0 || old.progress(editsId) === silver.progress(editsId)) {
    return { ...NO_EVIDENCE, files };
  }
  return editsOf(lake, { date, since, silver, editsId, oldPaths, files });
}

async function editsOf(
  lake: ReconcileLake,
  given: {
    readonly date: string;
    readonly since: number;
    readonly silver: Snapshot;
    readonly editsId: string;
    readonly oldPaths: ReadonlySet<string>;
    readonly files: DateEvidence['files'];
  },
): Promise<DateEvidence> {
  const { date, silver, editsId, oldPaths } = given;
  const files = [...given.files];
  let wasRebuilt = false;
  let wasRestored = false;
  const after = Math.max(given.since, silver.version - COMMITS_READ_MAX);
  const commits = await unlessGone(() => lake.silver.commits(after, silver.version));
  for (const { operation, adds, removes, progress } of commits ?? []) {
    if (!progress.has(editsId)) continue;
    const added = adds.filter((file) => dateOf(file) === date);
    const removed = removes.filter(({ path, dataChange }) => dataChange && oldPaths.has(path));
    const kind = editKind(operation);
    if (added.length + removed.length === 0) continue;
    if (kind === 'rebuilt') wasRebuilt = true;
    else if (kind === 'restored') wasRestored = true;
    else for (const { path } of added) files.push({ path, kind });
  }
  return { files, wasRebuilt, wasRestored };
}

/** What the edits of silver are called in its log. */
function editKind(operation: string): 'retried' | 'replayed' | 'rebuilt' | 'restored' {
  switch (operation) {
    case 'RETRY':
      return 'retried';
    case 'REBUILD':
      return 'rebuilt';
    case 'RESTORE':
      return 'restored';
    default:
      return 'replayed';
  }
}

function pathsOf(snapshot: Snapshot, date: string): Set<string> {
  const own = snapshot.files().filter((file) => dateOf(file) === date);
  return new Set(own.map(({ path }) => path));
}
