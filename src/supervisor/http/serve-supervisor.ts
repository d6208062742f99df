/**
 * A supervisor with its HTTP side: what the commands `run` and `supervisor` start.
 */
import process from 'node:process';
import type { Ambient } from '../../ambient.ts';
import type { PipelineProcess } from '../../engine/pipeline-process.ts';
import type { Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import type { WorkQueue } from '../../storage/queue/work-queue.ts';
import { TIDEMARK_VERSION } from '../../version.ts';
import type { Supervisor } from '../supervisor.ts';
import { ActivityLog } from './activity-log.ts';
import { startHttpServer } from './http-server.ts';
import { createSupervisorControl, type ReconciliationControl } from './pipeline-control.ts';
import type { ProcessNumbers } from './pipeline-metrics.ts';
import type { QueueBoardPlace } from './queue-board.ts';

export interface ServeSupervisorOptions {
  readonly pipeline: Pick<
    PipelineProcess,
    'config' | 'ports' | 'tables' | 'delta' | 'startSupervisor'
  >;
  readonly supervisorId: string;
  readonly reconciliation?: ReconciliationControl;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/** A supervisor that can be asked over HTTP. */
export interface ServedSupervisor {
  readonly supervisor: Supervisor;
  /** `http://127.0.0.1:8080` */
  readonly address: string;
  /** Ends the HTTP side; call it before the pipeline's own close, which ends the supervisor. */
  close(): Promise<void>;
}

/**
 * Starts a supervisor and its HTTP side at `supervisor.http` of the pipeline file.
 * @throws PipelineError invalid when the address cannot be had; the supervisor goes on
 */
export async function serveSupervisor(options: ServeSupervisorOptions): Promise<ServedSupervisor> {
  const { pipeline, supervisorId, reconciliation, ambient, logger } = options;
  const { config, ports } = pipeline;
  const { clock } = ambient;
  const activity = new ActivityLog({ clock, logger, state: ports.state });
  await activity.load();
  const supervisor = pipeline.startSupervisor(supervisorId, activity.onSupervisorEvent);
  const control = createSupervisorControl({
    pipeline,
    supervisorId,
    supervisor,
    ...(reconciliation ? { reconciliation } : {}),
    ambient,
    logger,
  });
  try {
    const server = await startHttpServer({
      http: config.supervisor.http,
      control,
      activity,
      processNumbers: () => numbersOfThisProcess(ambient),
      version: TIDEMARK_VERSION,
      queueBoard: queueBoardPlace(config, ports.queue),
      ambient,
      logger,
    });
    return {
      supervisor,
      address: server.address,
      async close() {
        await server.close();
        await control.close();
      },
    };
  } catch (thrown) {
    await control.close();
    throw thrown;
  }
}

/** Where BullMQ keeps the queues; undefined when they are in memory. */
function queueBoardPlace(
  config: PipelineConfig,
  queue: WorkQueue & { readonly bullmqPrefix?: string },
): QueueBoardPlace | undefined {
  const { bullmqPrefix } = queue;
  if (config.state.kind !== 'redis' || bullmqPrefix === undefined) return undefined;
  return { redisUrl: config.state.url, bullmqPrefix, queues: ['silver', 'gold', 'maintenance'] };
}

function numbersOfThisProcess({ clock }: Ambient): ProcessNumbers {
  const { user, system } = process.cpuUsage();
  return {
    memoryBytes: process.memoryUsage.rss(),
    cpuSeconds: (user + system) / 1e6,
    startedAtSeconds: Math.round(clock.nowMs() / 1000 - process.uptime()),
  };
}
