/**
 * What a job may look like. A queue's content is untrusted when it comes back (other versions, other
 * people's jobs, edits by hand); what we add ourselves is held to the same shape. Pure.
 */
import { assert } from '../../errors.ts';
import type { Job, JobData } from './work-queue.ts';

const ID = /^[A-Za-z0-9_.-]{1,256}$/;
const ALL_DIGITS = /^\d+$/;
const QUEUE_NAME = /^[A-Za-z0-9_.-]{1,100}$/;
const FIELDS_MAX = 32;
const TEXT_MAX = 1_024;

/** @returns the job, or undefined when it is none of ours */
export function parseJob(id: unknown, data: unknown): Job | undefined {
  if (typeof id !== 'string' || !ID.test(id) || ALL_DIGITS.test(id)) return undefined;
  return isJobData(data) ? { id, data: { ...data } } : undefined;
}

/** @throws PipelineError internal: an id, a field or a name that no queue could carry */
export function assertJob(queue: string, job: Job): void {
  assert(QUEUE_NAME.test(queue), 'a queue name is made of [A-Za-z0-9_.-]', { queue });
  assert(parseJob(job.id, job.data), 'a job is an id of [A-Za-z0-9_.-] and a flat record', {
    queue,
    job: job.id,
  });
}

function isJobData(data: unknown): data is JobData {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return false;
  const entries = Object.entries(data);
  return entries.length <= FIELDS_MAX && entries.every(([key, value]) => isField(key, value));
}

function isField(key: string, value: unknown): boolean {
  if (key === '__proto__' || key.length > TEXT_MAX) return false;
  if (typeof value === 'string') return value.length <= TEXT_MAX;
  return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));
}
