/**
 * Adds the queue jobs that are missing: lost with Redis, or never added because a process ended between
 * commit and queue. Work does not wait for it, since writers look at the logs (ND1); the board and the
 * queue's numbers then say what is being done.
 *
 * - LJ1 A job is added only while its stage is behind and its queue holds no job at all: a queue with
 *   jobs is being worked on, and each of them leads to the newest version.
 */
import type { Job, WorkQueue } from '../storage/queue/work-queue.ts';

/** How far a stage is. */
export interface StagePosition {
  /** Newest upstream version. */
  readonly head: number;
  /** Upstream version that the stage covers; negative while it does not know. */
  readonly covered: number;
}

/**
 * Adds the job of the newest version where it is missing (LJ1).
 * @returns whether it did
 * @throws PipelineError unavailable
 */
export async function restoreLostJob(
  queue: WorkQueue,
  name: string,
  { head, covered }: StagePosition,
  jobOf: (version: number) => Job,
): Promise<boolean> {
  if (covered < 0 || head <= covered) return false;
  const { waiting, active, delayed } = await queue.counts(name);
  if (waiting + active + delayed > 0) return false;
  await queue.add(name, jobOf(head));
  return true;
}
