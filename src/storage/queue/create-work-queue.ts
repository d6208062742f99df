/** Chooses the work queue that goes with a pipeline's `state`. */
import type { Ambient } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import type { WorkQueue } from './work-queue.ts';

/**
 * Opens a pipeline's queues.
 * @throws PipelineError invalid for a bad URL
 */
export async function createWorkQueue(
  config: Pick<PipelineConfig, 'name' | 'state'>,
  options: { readonly ambient: Ambient; readonly logger: Logger },
): Promise<WorkQueue> {
  const { state } = config;
  // Loaded on demand: BullMQ would slow down every command on local tables.
  switch (state.kind) {
    case 'embedded': {
      const { EmbeddedWorkQueue } = await import('./embedded-work-queue.ts');
      return new EmbeddedWorkQueue(options);
    }
    case 'redis': {
      const { BullmqWorkQueue } = await import('./bullmq-work-queue.ts');
      const prefix = `${state.prefix}:${config.name}`;
      return new BullmqWorkQueue({ url: state.url, prefix, ...options });
    }
  }
}
