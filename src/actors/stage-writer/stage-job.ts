/** The queue job that says that a version wants to be covered. Pure. */
import type { Job } from '../../storage/queue/work-queue.ts';

/**
 * The job for a version of an upstream table: the same id whoever adds it, so that it is there once.
 * @param tableName of the pipeline
 * @param upstream layer of the table whose version it is; the queue is named for the next one
 */
export function stageJob(tableName: string, upstream: 'bronze' | 'silver', version: number): Job {
  const table = `${upstream}/${tableName}`;
  return { id: `${tableName}-${upstream}-v${version}`, data: { table, version } };
}
