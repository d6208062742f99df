/** Starts a supervisor and its HTTP side for the commands that have one. */
import type { PipelineProcess } from '../engine/pipeline-process.ts';
import { ActivityLog } from '../supervisor/http/activity-log.ts';
import { type HttpServer, startHttpServer } from '../supervisor/http/http-server.ts';
import { createSupervisorControl } from '../supervisor/http/pipeline-control.ts';
import type { ProcessNumbers } from '../supervisor/http/pipeline-metrics.ts';
import { TIDEMARK_VERSION } from '../version.ts';
import type { CommandContext } from './context.ts';

/**
 * Starts a supervisor that serves REST, metrics, the queue board and the page.
 * @throws PipelineError invalid when the address cannot be had
 */
export async function serveHttp(
  context: CommandContext,
  pipeline: PipelineProcess,
  supervisorId: string,
): Promise<HttpServer> {
  const { ambient, logger } = context;
  const { config, ports } = pipeline;
  const activity = new ActivityLog({ clock: ambient.clock, logger, state: ports.state });
  await activity.load();
  const supervisor = pipeline.startSupervisor(supervisorId, activity.onSupervisorEvent);
  const control = createSupervisorControl({ pipeline, supervisorId, supervisor, ambient, logger });
  const { state } = config;
  try {
    const server = await startHttpServer({
      http: config.supervisor.http,
      control,
      activity,
      processNumbers,
      version: TIDEMARK_VERSION,
      ...(state.kind === 'redis'
        ? {
            queueBoard: {
              redisUrl: state.url,
              bullmqPrefix: `${state.prefix}:${config.name}:q`,
              queues: ['silver', 'gold'],
            },
          }
        : {}),
      ambient,
      logger,
    });
    return {
      address: server.address,
      close: async () => {
        await server.close();
        await control.close();
      },
    };
  } catch (thrown) {
    await control.close();
    throw thrown;
  }
}

function processNumbers(): ProcessNumbers {
  const { user, system } = process.cpuUsage();
  return {
    memoryBytes: process.memoryUsage.rss(),
    cpuSeconds: (user + system) / 1e6,
    startedAtSeconds: Math.round(performance.timeOrigin / 1000),
  };
}
