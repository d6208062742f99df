/** Chooses the adapter that a pipeline's `state` names. */
import type { Ambient } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import type { StateStore } from './state-store.ts';

/**
 * Opens a pipeline's state.
 * @param options.readOnly for commands that only look, beside a process that runs: with embedded
 *   state, whose folder has one owner, all writes are refused; Redis takes them either way
 * @throws PipelineError invalid (bad URL; another process runs on the embedded state) | unavailable
 */
export async function createStateStore(
  config: Pick<PipelineConfig, 'name' | 'state'>,
  options: { readonly ambient: Ambient; readonly logger: Logger; readonly readOnly?: boolean },
): Promise<StateStore> {
  const { state } = config;
  const { ambient, logger } = options;
  switch (state.kind) {
    case 'embedded': {
      const embedded = await import('./embedded-state-store.ts');
      if (options.readOnly === true) return embedded.openEmbeddedStateReader({ ...state, logger });
      return embedded.openEmbeddedStateStore({ path: state.path, ambient, logger });
    }
    case 'redis': {
      const { RedisStateStore } = await import('./redis-state-store.ts');
      const prefix = `${state.prefix}:${config.name}`;
      return new RedisStateStore({ url: state.url, prefix, clock: ambient.clock, logger });
    }
  }
}
