/**
 * The tables that housekeeping works on, by the part that they play in the pipeline, and how far
 * those who follow a table have come.
 */
import { PipelineError } from '../../errors.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { bronzeVersionsIn, goldAppId, tableRoots } from '../../pipeline/progress.ts';
import { nameOfRoot } from '../../storage/query/lake-catalog.ts';
import type { DeltaEnvironment, DeltaTable } from '../../storage/delta/delta-table.ts';
import type { CommitOutcome } from '../../storage/delta/transaction.ts';

export type TableRole = 'bronze' | 'dead-letter' | 'silver' | 'gold' | 'archive' | 'other';

/** A pipeline's tables, opened by those who have them. */
export interface HousekeepingLake {
  readonly config: PipelineConfig;
  readonly delta: DeltaEnvironment;
  /** Opens the table at a root; undefined when there is none. */
  open(root: string): Promise<DeltaTable | undefined>;
}

/** A table as commands name it. */
export interface NamedTable {
  /** As queries name it: `silver.api_usage_events`; the archive is `archive.<name>`. */
  readonly name: string;
  readonly role: TableRole;
  readonly table: DeltaTable;
}

/** Where each table of the pipeline is, and what it is; not all of them need to be there. */
function tablePlaces(
  config: PipelineConfig,
): readonly { readonly name: string; readonly role: TableRole; readonly root: string }[] {
  const roots = tableRoots(config);
  const place = (role: TableRole, root: string) => ({ name: nameOfRoot(root), role, root });
  return [
    place('bronze', roots.bronze),
    place('dead-letter', roots.deadLetter),
    place('silver', roots.silver),
    ...[...roots.gold.values()].map((root) => place('gold', root)),
    place('other', `gold/${config.tableName}_reconciliation`),
    place('archive', roots.archive),
  ];
}

/** The tables that are there, at their newest versions. @throws PipelineError unavailable | corrupt */
export async function openNamedTables(lake: HousekeepingLake): Promise<readonly NamedTable[]> {
  const found: NamedTable[] = [];
  for (const { name, role, root } of tablePlaces(lake.config)) {
    const table = await lake.open(root);
    if (!table) continue;
    await table.refresh();
    found.push({ name, role, table });
  }
  return found;
}

/**
 * The version of a table that all who follow it as a stream have covered: they read its commits after
 * that one, and its state as of that one. A gold table that covers nothing yet begins with silver's
 * newest state and follows from there.
 * @throws PipelineError unavailable | corrupt
 */
export async function followedUpTo(
  lake: HousekeepingLake,
  { role, table }: NamedTable,
): Promise<number> {
  const { config } = lake;
  const roots = tableRoots(config);
  switch (role) {
    case 'bronze': {
      const silver = await (await lake.open(roots.silver))?.refresh();
      return silver ? Math.min(...bronzeVersionsIn(silver, config, table.tableId)) : 0;
    }
    case 'silver': {
      const appId = goldAppId(config.name, table.tableId);
      const covered = await Promise.all(
        [...roots.gold.values()].map(async (root) =>
          (await (await lake.open(root))?.refresh())?.progress(appId),
        ),
      );
      const begun = covered.filter((version) => version !== undefined);
      return Math.min(table.snapshot.version, ...begun.map(Number));
    }
    default:
      return table.snapshot.version;
  }
}

/** An outcome of a commit that an operation cannot go on from; what to do about it. */
export function commitFailed(
  { root }: DeltaTable,
  outcome: Exclude<CommitOutcome, { readonly kind: 'committed' }>,
): PipelineError {
  if (outcome.kind === 'unknown') {
    return new PipelineError(
      'unavailable',
      'TM_COMMIT_UNKNOWN',
      `the store did not say whether version ${outcome.version} of ${root} was written; ` +
        'run the command again, it goes on from what is there',
      { context: { version: outcome.version } },
    );
  }
  return new PipelineError(
    'unavailable',
    'TM_COMMIT_FENCED',
    `another program changed ${root} meanwhile; nothing is lost, run the command again`,
    { context: { ...outcome } },
  );
}
