/**
 * What the leading supervisor does for the tables on a timer: checkpoints of the pipeline, compaction,
 * retention, vacuum and log clean-up. Each task may run again, or elsewhere, at any time.
 */
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { PipelineCheckpoints } from '../checkpoints/pipeline-checkpoint.ts';
import { applyRetention } from '../retention/archive-bronze.ts';
import { cleanUpTable } from './clean-up.ts';
import type { CompactionTarget } from './compaction-plan.ts';
import { type HousekeepingLake, openNamedTables } from './lake-tables.ts';
import { COMPACTED_ROWS_MAX, optimizeTable } from './optimize.ts';

/** A task that is repeated; the next run begins `everyMs` after the last one ended. */
export interface HousekeepingTask {
  readonly name: string;
  readonly everyMs: number;
  /** @throws PipelineError; the next run tries again */
  run(signal: AbortSignal): Promise<void>;
}

/** Bins of fewer files wait for more, so that a row is not rewritten at every run. */
const FILES_MIN = 16;
/** A file may be written for this long before its commit is seen by those who read it. */
const AGE_MIN_MS = 300_000;
/** Of a core. */
const SHARE = 0.25;

/** What compaction makes of small files. */
export function compactionTarget({ housekeeping }: PipelineConfig): CompactionTarget {
  return { fileBytes: housekeeping.targetFileBytes, fileRows: COMPACTED_ROWS_MAX };
}

/** The tasks of a pipeline; none when its file turns housekeeping off. */
export function housekeepingTasks(lake: HousekeepingLake): readonly HousekeepingTask[] {
  const { housekeeping } = lake.config;
  const { logger } = lake.delta;
  const checkpoints = new PipelineCheckpoints(lake);
  const checkpoint: HousekeepingTask = {
    name: 'checkpoint',
    everyMs: housekeeping.checkpointEveryMs,
    run: async () => void (await checkpoints.take()),
  };
  if (!housekeeping.enabled) return [checkpoint];
  return [
    checkpoint,
    {
      name: 'optimize',
      everyMs: housekeeping.optimizeEveryMs,
      run: async (signal) => {
        for (const named of await openNamedTables(lake)) {
          if (signal.aborted) return;
          const done = await optimizeTable(lake, named, {
            target: compactionTarget(lake.config),
            ageMinMs: AGE_MIN_MS,
            filesMin: FILES_MIN,
            share: SHARE,
            signal,
          });
          if (done.filesRemoved > 0) logger.info('optimized', { ...done });
        }
      },
    },
    {
      name: 'clean-up',
      everyMs: housekeeping.cleanUpEveryMs,
      run: async (signal) => {
        const { archived, expired } = await applyRetention(lake, { signal });
        if (archived.files > 0) logger.info('moved to the archive', { ...archived });
        if (expired.files > 0) logger.info('removed from the archive', { ...expired });
        for (const named of await openNamedTables(lake)) {
          if (signal.aborted) return;
          const retentionMs = housekeeping.vacuumRetainMs;
          const done = await cleanUpTable(lake, named, { retentionMs, signal });
          if (done.files + done.logFiles > 0) logger.info('cleaned up', { ...done });
        }
      },
    },
  ];
}
