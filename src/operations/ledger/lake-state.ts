/**
 * The tables of a pipeline at versions that can be compared.
 *
 * E1 Downstream tables are read before upstream ones, and every comparison is made at the upstream
 *    version that the downstream table covers: while the stream runs, lag is no violation.
 */
import { COVERAGE_TAG, parseCoverage } from '../../pipeline/bronze.ts';
import type { AggregateConfig, PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  bronzeVersionsIn,
  bucketAppIds,
  deadLetterAppId,
  deadLetterRetryAppId,
  goldAppId,
  parseBronzeAppId,
  tableRoots,
} from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import { numRecordsOf, type Snapshot } from '../../storage/delta/snapshot.ts';
import type { CommitSummary, LiveFile } from '../../storage/delta/transaction.ts';
import { PipelineError } from '../../errors.ts';
import type { StatedCoverage } from '../../pipeline/ledger/ledger-evidence.ts';

/** Times that tables are read while a retry of dead letters moves them. */
const LOOKS_MAX = 5;

/** A table at the version that is compared. */
export interface TableAt {
  readonly table: DeltaTable;
  readonly snapshot: Snapshot;
}

/** Everything that is compared. */
export interface LakeState {
  readonly gold: readonly (TableAt & { readonly aggregate: AggregateConfig })[];
  readonly silver: TableAt;
  readonly dead: TableAt & {
    /** Rows whose span silver has not: its dead letters are committed first (SW1). */
    readonly rowsAhead: number;
    /** A retry took letters into silver, and was cut off before it took them out of here. */
    readonly isRetryUnfinished: boolean;
  };
  readonly bronze: TableAt;
  /** Bronze rows that retention moved away; undefined when it never did. */
  readonly archive: TableAt | undefined;
  /** Lowest and highest bronze version that a dedup bucket of silver covers. */
  readonly covered: { readonly lowest: number; readonly highest: number };
}

/**
 * Reads the tables' newest versions.
 * @param open opens the table at a root; undefined when there is none
 * @throws PipelineError invalid `TM_USAGE` when the pipeline has no tables yet | corrupt | unavailable
 */
export async function readLakeState(
  config: PipelineConfig,
  open: (root: string) => Promise<DeltaTable | undefined>,
): Promise<LakeState> {
  const roots = tableRoots(config);
  const required = async (root: string): Promise<TableAt> => {
    const table = await open(root);
    if (table) return { table, snapshot: await table.refresh() };
    throw new PipelineError(
      'invalid',
      'TM_USAGE',
      `The lake has no table ${root}; run the pipeline first.`,
    );
  };
  const gold: LakeState['gold'][number][] = [];
  for (const aggregate of config.gold) {
    gold.push({ aggregate, ...(await required(roots.gold.get(aggregate.name)!)) });
  }
  const retryId = deadLetterRetryAppId(config.name, (await required(roots.bronze)).table.tableId);
  const retryOf = ({ snapshot }: TableAt): bigint => snapshot.progress(retryId) ?? 0n;
  let silver = await required(roots.silver);
  let dead = await required(roots.deadLetter);
  // Of the two commits of a retry silver's is the first; one that stays away is lost, which totals tell.
  for (let look = 1; look < LOOKS_MAX && retryOf(dead) > retryOf(silver); look++) {
    silver = await required(roots.silver);
    dead = await required(roots.deadLetter);
  }
  const bronze = await required(roots.bronze);
  const archive = await open(roots.archive);
  const bronzeId = bronze.table.tableId;
  const covered = bronzeVersionsIn(silver.snapshot, config, bronzeId);
  const stored = bucketAppIds(config, bronzeId, deadLetterAppId);
  const isAhead = ({ progress }: Pick<CommitSummary, 'progress'>): boolean =>
    stored.some((appId, i) => Number(progress.get(appId) ?? 0n) > covered[i]!);
  const isDeadAhead = isAhead({ progress: new Map(dead.snapshot.progressEntries()) });
  const goldId = goldAppId(config.name, silver.table.tableId);
  return {
    // One that has not begun has nothing to compare, and appears as a whole (GW6).
    gold: gold.filter(
      ({ snapshot }) => snapshot.fileCount > 0 || snapshot.progress(goldId) !== undefined,
    ),
    silver,
    dead: {
      ...dead,
      rowsAhead: isDeadAhead ? await rowsOfNewest(dead, isAhead) : 0,
      isRetryUnfinished: retryOf(silver) > retryOf(dead),
    },
    bronze,
    archive: archive && { table: archive, snapshot: await archive.refresh() },
    covered: { lowest: Math.min(...covered), highest: Math.max(...covered) },
  };
}

/** Rows that the newest commits brought, down to the last one of which `isAhead` holds. */
async function rowsOfNewest(
  { table, snapshot }: TableAt,
  isAhead: (commit: CommitSummary) => boolean,
): Promise<number> {
  let rows = 0;
  for (let version = snapshot.version; version > 0; version--) {
    const [commit] = await table.commits(version - 1, version);
    const isOfStream = commit?.lineage?.['stage'] === 'dead-letter';
    if (!commit || (isOfStream && !isAhead(commit))) break;
    if (!isOfStream) continue;
    for (const { stats } of commit.adds) rows += numRecordsOf(stats) ?? 0;
  }
  return rows;
}

/**
 * Files that retention moved to the archive. One that is still in bronze at `snapshot` counts there:
 * it is added to the archive first, then taken out of bronze.
 */
export function archivedFiles({ archive }: LakeState, snapshot: Snapshot): readonly LiveFile[] {
  return archive?.snapshot.files().filter(({ path }) => !snapshot.file(path)) ?? [];
}

/** What files' tags state, by partition. */
export function statedCoverage(files: readonly LiveFile[]): Map<number, StatedCoverage[]> {
  const stated = files.flatMap((file): StatedCoverage[] => {
    const tag = file.tags?.[COVERAGE_TAG];
    if (tag === undefined) return [];
    return parseCoverage(tag).map((part) => ({ ...part, version: file.addedVersion }));
  });
  return Map.groupBy(stated, ({ partition }) => partition);
}

/** Where a partition's progress stands. */
export interface PartitionProgress {
  /** Exclusive. */
  readonly next: bigint;
  readonly topicIds: readonly string[];
}

/** What bronze's txns state, by partition. */
export function statedProgress(
  config: PipelineConfig,
  bronze: Snapshot,
): Map<number, PartitionProgress> {
  const found = new Map<number, PartitionProgress>();
  for (const [appId, next] of bronze.progressEntries()) {
    const of = parseBronzeAppId(config.name, config.source.topic, appId);
    if (!of) continue;
    const { topicId, partition } = of;
    const before = found.get(partition);
    found.set(partition, {
      next: before && before.next > next ? before.next : next,
      topicIds: [...(before?.topicIds ?? []), topicId],
    });
  }
  return found;
}
