/**
 * Vacuum and log clean-up of the pipeline's tables: Delta's rules, and what the pipeline itself still
 * needs.
 *
 * CU1 Every commit that a follower of the table has not read, and the state it starts from, keep
 *     their log entries and their files, however old they are.
 * CU2 Below `_dedup/` only fingerprints that accompany data files are vacuumed.
 */
import { cleanUpLog } from '../../storage/delta/log-cleanup.ts';
import { logRetentionMs } from '../../storage/delta/table-properties.ts';
import { vacuum } from '../../storage/delta/vacuum.ts';
import { followedUpTo, type HousekeepingLake, type NamedTable } from './lake-tables.ts';

export interface CleanUpOptions {
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

/** What was removed, or would be. */
export interface CleanedUp {
  readonly table: string;
  readonly files: number;
  readonly bytes: number;
  /** Log entries, checkpoints and checksums. */
  readonly logFiles: number;
  /** The oldest version that can still be read, when the log was shortened. */
  readonly firstVersion: number | undefined;
}

/** Removes a table's unneeded data files and log. @throws PipelineError invalid | unavailable */
export async function cleanUpTable(
  lake: HousekeepingLake,
  named: NamedTable,
  options: CleanUpOptions & { readonly retentionMs: number },
): Promise<CleanedUp> {
  const { table, name } = named;
  const companions =
    named.role === 'silver' ? { folder: '_dedup/', dataPath: dataPathOfFingerprints } : undefined;
  // CU1
  const neededVersion = await followedUpTo(lake, named);
  const vacuumed = await vacuum(lake.delta, table, {
    ...options,
    neededVersion,
    ...(companions ? { companions } : {}),
  });
  const log = await cleanUpLog(lake.delta, {
    ...options,
    root: table.root,
    retentionMs: logRetentionMs(table.snapshot.configuration),
    neededVersion,
  });
  return { table: name, ...vacuumed, logFiles: log.files, firstVersion: log.firstVersion };
}

/** CU2 */
function dataPathOfFingerprints(path: string): string | undefined {
  return /^_dedup\/(?!index\/)(.+)\.fp$/.exec(path)?.[1]?.concat('.parquet');
}
