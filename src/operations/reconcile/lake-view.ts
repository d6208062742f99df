/**
 * What a reconciliation sees of the lake at one moment: gold by date, silver at one version, and how
 * far time has come. Read from the Delta logs alone (P1).
 *
 * - LV1 Gold is read before silver, so the silver version is one that every gold table has at most
 *   reached: a batch made from it never lacks rows that its gold had.
 */
import { asPipelineError } from '../../errors.ts';
import { type DateState, dateState, type PartitionClock } from '../../pipeline/gold/closing.ts';
import { parseGoldTags, type ReconciliationNote } from '../../pipeline/gold/gold-tags.ts';
import { dateDaysOf } from '../../pipeline/gold/silver-files.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  bronzeVersionsIn,
  goldAppId,
  goldEditsAppId,
  goldLateAppId,
  parseBronzeAppId,
  watermarkAppId,
} from '../../pipeline/progress.ts';
import type { DeltaEnvironment, DeltaTable } from '../../storage/delta/delta-table.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';

/** The tables that a reconciliation works on. */
export interface ReconcileLake {
  readonly config: PipelineConfig;
  readonly delta: DeltaEnvironment;
  readonly bronze: DeltaTable;
  readonly silver: DeltaTable;
  /** By aggregate name. */
  readonly gold: ReadonlyMap<string, DeltaTable>;
}

/** One date of one gold table. */
export interface GoldDate {
  readonly files: readonly LiveFile[];
  /** Silver version it is final at; undefined while the stream updates it. */
  readonly finalVersion: number | undefined;
  /** Last silver version that brought late rows for it once it was final. */
  readonly lateVersion: number | undefined;
  readonly revision: number;
  readonly note: ReconciliationNote | undefined;
}

/** One gold table. */
export interface GoldView {
  readonly aggregate: string;
  readonly table: DeltaTable;
  readonly snapshot: Snapshot;
  /** Silver version that the stream has brought it to. */
  readonly covered: number;
  readonly edits: bigint | undefined;
  readonly dates: ReadonlyMap<string, GoldDate>;
}

export interface LakeView {
  readonly gold: readonly GoldView[];
  readonly silver: Snapshot;
  /** Silver's files by date. */
  readonly silverFiles: ReadonlyMap<string, readonly LiveFile[]>;
  readonly clocks: readonly PartitionClock[];
  readonly nowMs: number;
}

/** Why a date of a gold table has to be computed again. */
export type Need = 'not final' | 'late data';

/** @throws PipelineError unavailable | corrupt */
export async function viewLake(lake: ReconcileLake): Promise<LakeView> {
  // LV1
  const gold = await Promise.all(
    [...lake.gold].map(async ([aggregate, table]) =>
      goldView(lake, aggregate, table, await table.refresh()),
    ),
  );
  const [silver, bronze] = await Promise.all([lake.silver.refresh(), lake.bronze.refresh()]);
  return {
    gold,
    silver,
    silverFiles: Map.groupBy(silver.files(), dateOf),
    clocks: partitionClocks(lake.config, bronze, silver, await bronzeInSilver(lake, silver)),
    nowMs: lake.delta.ambient.clock.nowMs(),
  };
}

/** @returns undefined when the date is final and nothing came for it since, or it has no rows */
export function needOf(view: LakeView, gold: GoldView, date: string): Need | undefined {
  const known = gold.dates.get(date);
  if (!known && !view.silverFiles.has(date)) return undefined;
  if (known?.finalVersion === undefined) return 'not final';
  return (known.lateVersion ?? 0) > known.finalVersion ? 'late data' : undefined;
}

/** Dates with rows in silver or gold that some gold table needs computed, ascending. */
export function datesInNeed(view: LakeView): string[] {
  const dates = new Set([
    ...view.silverFiles.keys(),
    ...view.gold.flatMap((g) => [...g.dates.keys()]),
  ]);
  dates.delete('');
  return [...dates]
    .filter((date) => view.gold.some((gold) => needOf(view, gold, date) !== undefined))
    .toSorted();
}

/** @see dateState */
export function stateOfDate(config: PipelineConfig, view: LakeView, date: string): DateState {
  return dateState(dateDaysOf(date), view.clocks, config.late, view.nowMs);
}

function goldView(
  { config, silver }: ReconcileLake,
  aggregate: string,
  table: DeltaTable,
  snapshot: Snapshot,
): GoldView {
  const dates = new Map<string, GoldDate>();
  for (const [date, files] of Map.groupBy(snapshot.files(), dateOf)) {
    const tags = files.flatMap((file) => parseGoldTags(file.tags) ?? []);
    const finals = tags.flatMap(({ finalVersion }) => finalVersion ?? []);
    const late = snapshot.progress(goldLateAppId(config.name, silver.tableId, date));
    dates.set(date, {
      files,
      finalVersion: finals.length === 0 ? undefined : Math.max(...finals),
      lateVersion: late === undefined ? undefined : Number(late),
      revision: Math.max(0, ...tags.map(({ revision }) => revision)),
      note: tags.find(({ note }) => note !== undefined)?.note,
    });
  }
  return {
    aggregate,
    table,
    snapshot,
    covered: Number(snapshot.progress(goldAppId(config.name, silver.tableId)) ?? 0n),
    edits: snapshot.progress(goldEditsAppId(config.name, silver.tableId)),
    dates,
  };
}

/** Bronze as all of silver has taken it in; undefined when its log no longer goes back to there. */
function bronzeInSilver(
  { config, bronze }: ReconcileLake,
  silver: Snapshot,
): Promise<Snapshot | undefined> {
  const versions = bronzeVersionsIn(silver, config, bronze.tableId);
  return unlessGone(() => bronze.snapshotAt(Math.min(...versions)));
}

/** Every partition that ever had records; those of a topic that is gone are idle. */
function partitionClocks(
  config: PipelineConfig,
  bronze: Snapshot,
  silver: Snapshot,
  taken: Snapshot | undefined,
): PartitionClock[] {
  const clocks: PartitionClock[] = [];
  for (const [appId, next] of bronze.progressEntries()) {
    const of = parseBronzeAppId(config.name, config.source.topic, appId);
    if (!of) continue;
    const { topicId, partition } = of;
    clocks.push({
      partition,
      watermarkMicros: silver.progress(watermarkAppId(config.name, topicId, partition)),
      arrivedMs: bronze.progressUpdatedMs(appId),
      isAheadOfSilver: (taken?.progress(appId) ?? -1n) < next,
    });
  }
  return clocks;
}

/** @returns undefined when the log or the store no longer holds what is read */
export async function unlessGone<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (thrown) {
    if (asPipelineError(thrown).code === 'TM_OBJECT_MISSING') return undefined;
    throw thrown;
  }
}

/** The date of a file of silver or gold. */
export function dateOf(file: LiveFile): string {
  return file.partitionValues['_event_date'] ?? '';
}
