/**
 * What a process with a supervisor does for the tables besides the stream: reconciliation on request
 * and daily, housekeeping on a timer.
 */
import { Maintenance, type MaintenanceTask } from '../engine/maintenance.ts';
import type { PipelineProcess } from '../engine/pipeline-process.ts';
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
    close: async () => void (await Promise.all([maintenance.close(), reconciliation.close()])),
  };
}

function tasksOf(
  { config, delta }: PipelineProcess,
  reconciliation: ReconciliationDesk,
): readonly MaintenanceTask[] {
  const catalog = new LakeCatalog(delta);
  const open = (root: string) => catalog.table(root);
  const housekeeping = housekeepingTasks({ config, delta, open });
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
