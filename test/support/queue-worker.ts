/**
 * A process that takes jobs and never finishes them, to be killed: prints the id of each job it takes.
 * Arguments: Redis URL, prefix, queue, lock and stalled-check time in milliseconds.
 */
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { BullmqWorkQueue } from '../../src/storage/queue/bullmq-work-queue.ts';

const [url = '', prefix = '', queue = '', lockMs = '', stalledCheckMs = ''] = process.argv.slice(2);
const timings = { lockMs: Number(lockMs), stalledCheckMs: Number(stalledCheckMs) };
const workQueue = new BullmqWorkQueue({
  url,
  prefix,
  ambient: systemAmbient,
  logger: silentLogger,
  timings,
});
await workQueue.consume(queue, (job) => {
  console.log(job.id);
  return new Promise(() => undefined);
});
