/**
 * Bull Board at /queues, for queues that BullMQ keeps. Loaded only where there are any.
 *
 * QB1 It only shows, and the server refuses everything but reads below its path: no retries, no promotion, no removal. Jobs are references, and writers find lost
 *     ones by themselves.
 * QB2 Its connection is its own and fails fast; an outage is a message on the board.
 */
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import { Queue } from 'bullmq';
import type { FastifyPluginCallback } from 'fastify';
import { Redis } from 'ioredis';
import { redisOptions } from '../../storage/redis.ts';

export const QUEUE_BOARD_PATH = '/queues';

/** Where the queues of BullMQ lie. */
export interface QueueBoardPlace {
  readonly redisUrl: string;
  /** BullMQ's own prefix of every key. */
  readonly bullmqPrefix: string;
  readonly queues: readonly string[];
}

/** The board as a plugin, and the end of its connection. */
export interface QueueBoard {
  readonly plugin: FastifyPluginCallback<{ prefix: string }>;
  close(): Promise<void>;
}

/** Connects and builds the board. */
export function createQueueBoard(place: QueueBoardPlace): QueueBoard {
  const { redisUrl, bullmqPrefix, queues: names } = place;
  const connection = new Redis(redisUrl, {
    ...redisOptions(`${bullmqPrefix}:board`),
    // QB2.
    maxRetriesPerRequest: 1,
    commandTimeout: 5_000,
  });
  // Reported by the requests that fail.
  connection.on('error', () => undefined);
  const queues = names.map((name) => {
    const queue = new Queue(name, {
      connection,
      prefix: bullmqPrefix,
      // The board writes nothing, its version mark included.
      skipMetasUpdate: true,
      skipWaitingForReady: true,
    });
    queue.on('error', () => undefined);
    return queue;
  });
  const adapter = new FastifyAdapter();
  createBullBoard({
    serverAdapter: adapter,
    // QB1.
    queues: queues.map(
      (queue) => new BullMQAdapter(queue, { readOnlyMode: true, allowRetries: false }),
    ),
    options: {
      uiConfig: { boardTitle: 'Tidemark queues', hideRedisDetails: true, hideDocsLink: true },
    },
  });
  adapter.setBasePath(QUEUE_BOARD_PATH);
  return {
    plugin: adapter.registerPlugin() as QueueBoard['plugin'],
    async close() {
      connection.disconnect();
      await Promise.allSettled(queues.map((queue) => queue.close()));
    },
  };
}
