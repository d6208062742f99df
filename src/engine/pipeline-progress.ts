/** How far each stage is, read from the Delta logs alone (P1). */
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { bronzeAppId, bronzeVersionsIn, goldAppId } from '../pipeline/progress.ts';
import type { EventSource, TopicInfo } from '../storage/source/event-source.ts';
import type { PipelineTables } from './tables.ts';

interface PartitionProgress {
  /** Exclusive offset that bronze has; undefined while it has nothing and begins at `earliest`. */
  readonly next: bigint | undefined;
  readonly earliest: bigint;
  /** Exclusive. */
  readonly latest: bigint;
}

export interface PipelineProgress {
  readonly partitions: ReadonlyMap<number, PartitionProgress>;
  /** Bronze version that every dedup bucket of silver covers, and bronze's head. */
  readonly silver: { readonly covered: number; readonly head: number };
  /** Silver version that every gold table covers, and silver's head. */
  readonly gold: { readonly covered: number; readonly head: number };
}

/**
 * Reads the newest progress.
 * @throws PipelineError unavailable
 */
export async function readProgress(
  config: PipelineConfig,
  tables: PipelineTables,
  source: EventSource,
  topic: TopicInfo,
): Promise<PipelineProgress> {
  const ranges = await Promise.all(
    Array.from({ length: topic.partitionCount }, (_, partition) => source.offsets(partition)),
  );
  const [bronze, silver, ...gold] = await Promise.all([
    tables.bronze.refresh(),
    tables.silver.refresh(),
    ...[...tables.gold.values()].map((table) => table.refresh()),
  ]);
  const silverCovered = bronzeVersionsIn(silver, config, bronze.tableId);
  const goldId = goldAppId(config.name, silver.tableId);
  const goldCovered = gold.map((snapshot) => Number(snapshot.progress(goldId) ?? 0n));
  return {
    partitions: new Map(
      ranges.map(({ earliest, latest }, p): [number, PartitionProgress] => {
        const appId = bronzeAppId(config.name, topic.topic, topic.topicId, p);
        return [p, { next: bronze.progress(appId), earliest, latest }];
      }),
    ),
    silver: { covered: Math.min(...silverCovered), head: bronze.version },
    gold: { covered: Math.min(...goldCovered, Number.POSITIVE_INFINITY), head: silver.version },
  };
}

/** Whether bronze has what the source has, and silver has bronze; `except` partitions do not count. */
export function isSilverDone(progress: PipelineProgress, except: ReadonlySet<number>): boolean {
  for (const [partition, { next, earliest, latest }] of progress.partitions) {
    if (!except.has(partition) && (next ?? earliest) < latest) return false;
  }
  return progress.silver.covered >= progress.silver.head;
}

/** Whether gold has all that the source has; `except` partitions do not count. */
export function isCaughtUp(progress: PipelineProgress, except: ReadonlySet<number>): boolean {
  return isSilverDone(progress, except) && progress.gold.covered >= progress.gold.head;
}
