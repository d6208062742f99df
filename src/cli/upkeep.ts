/**
 * What a process with a supervisor does for the tables besides the stream: reconciliation on request
 * and daily, housekeeping on a timer.
 */
import { Maintenance, type MaintenanceTask } from '../engine/maintenance.ts';
import type { PipelineProcess } from '../engine/pipeline-process.ts';
import { errorFields } from '../logger.ts';
import { PipelineCheckpoints } from '../operations/checkpoints/pipeline-checkpoint.ts';
import type { HousekeepingLake } from '../operations/housekeeping/lake-tables.ts';
import { housekeepingTasks } from '../operations/housekeeping/schedule.ts';
import { ReconciliationDesk } from '../operations/reconcile/reconciliation-desk.ts';
import { LakeCatalog } from '../storage/query/lake-catalog.ts';
import type { CommandContext } from './context.ts';

/** Upkeep of a running pipeline. */
export interface Upkeep {
  readonly reconciliation: ReconciliationDesk;
  /** Ends what runs; call it before the pipeline's own close. */
  close(): Promise<void>;
}

/** @param options.isScheduled also do what is due by the clock; else only what is asked for */
export function startUpkeep(
  { ambient, logger }: CommandContext,
  pipeline: PipelineProcess,
  options: { readonly isScheduled: boolean },
): Upkeep {
  const { config, delta, tables, ports } = pipeline;
  const reconciliation = new ReconciliationDesk({ config, delta, ...tables });
  const tasks = options.isScheduled ? tasksOf(pipeline, reconciliation) : [];
  const maintenance = new Maintenance({ tasks, queue: ports.queue, ambient, logger });
  return {
    reconciliation,
    close: async () => {
      await Promise.all([maintenance.close(), reconciliation.close()]);
      await lastCheckpoint(lakeOf(pipeline));
    },
  };
}

function tasksOf(
  pipeline: PipelineProcess,
  reconciliation: ReconciliationDesk,
): readonly MaintenanceTask[] {
  const { config } = pipeline;
  const housekeeping = housekeepingTasks(lakeOf(pipeline));
  if (!config.reconcile.enabled) return housekeeping;
  const daily: MaintenanceTask = {
    name: 'reconcile',
    dailyAtMinute: config.reconcile.atMinute,
    // By then a partition that gets nothing shows as idle.
    firstAfterMs: config.late.idlePartitionMs,
    run: (signal) => reconciliation.reconcileDue(signal),
  };
  return [daily, ...housekeeping];
}

function lakeOf({ config, delta }: PipelineProcess): HousekeepingLake {
  const catalog = new LakeCatalog(delta);
  return { config, delta, open: (root) => catalog.table(root) };
}

/** What a run leaves behind is described, however short it was. */
async function lastCheckpoint(lake: HousekeepingLake): Promise<void> {
  try {
    await new PipelineCheckpoints(lake).take();
  } catch (thrown) {
    lake.delta.logger.info('no last checkpoint was taken', errorFields(thrown));
  }
}
