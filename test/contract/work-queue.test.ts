/** Runs the work queue contract on every adapter. */
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { BullmqWorkQueue } from '../../src/storage/queue/bullmq-work-queue.ts';
import { EmbeddedWorkQueue } from '../../src/storage/queue/embedded-work-queue.ts';
import { sharedRedis, uniqueName } from '../support/servers.ts';
import { workQueueContract } from './work-queue.contract.ts';

const options = {
  ambient: systemAmbient,
  logger: silentLogger,
  retryDelays: { baseMs: 10, maxMs: 50 },
};

workQueueContract('embedded', async () => new EmbeddedWorkQueue(options));

workQueueContract(
  'BullMQ',
  async () =>
    new BullmqWorkQueue({ url: await sharedRedis(), prefix: uniqueName('queue'), ...options }),
);
