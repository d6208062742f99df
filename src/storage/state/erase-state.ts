/** Removes what a pipeline has in its state store and queues, wherever its `state` is. */
import { rm } from 'node:fs/promises';
import type { Ambient } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';

/**
 * Erases hints, leases and jobs; nothing of the tables depends on them (P1).
 * @throws PipelineError unavailable | invalid
 */
export async function eraseState(
  config: Pick<PipelineConfig, 'name' | 'state'>,
  options: { readonly ambient: Ambient; readonly logger: Logger },
): Promise<void> {
  const { state } = config;
  if (state.kind === 'embedded') return rm(state.path, { recursive: true, force: true });
  const { eraseRedisState } = await import('./redis-state-eraser.ts');
  const { clock } = options.ambient;
  const prefix = `${state.prefix}:${config.name}`;
  await eraseRedisState({ url: state.url, prefix, clock, logger: options.logger });
}
