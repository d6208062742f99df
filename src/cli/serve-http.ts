/** Starts a supervisor and its HTTP side for the commands that have one. */
import type { PipelineProcess } from '../engine/pipeline-process.ts';
import type { HttpServer } from '../supervisor/http/http-server.ts';
import type { ReconciliationControl } from '../supervisor/http/pipeline-control.ts';
import { serveSupervisor } from '../supervisor/http/serve-supervisor.ts';
import type { CommandContext } from './context.ts';

/**
 * Starts a supervisor that serves REST, metrics, the queue board and the page.
 * @throws PipelineError invalid when the address cannot be had
 */
export function serveHttp(
  context: CommandContext,
  pipeline: PipelineProcess,
  supervisorId: string,
  reconciliation: ReconciliationControl,
): Promise<HttpServer> {
  const { ambient, logger } = context;
  return serveSupervisor({ pipeline, supervisorId, reconciliation, ambient, logger });
}
