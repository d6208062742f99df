/**
 * Waits for services at start-up: a service that stays unavailable ends the command (design 6).
 */
import { asPipelineError } from '../errors.ts';
import { errorFields } from '../logger.ts';
import type { CommandContext } from './context.ts';

/** How long a service may stay away at start-up. */
const STARTUP_PATIENCE_MS = 60_000;
/** Whoever waits less than this is not told. */
const TOLD_MS = 10_000;
const DELAY_FIRST_MS = 250;
const DELAY_MAX_MS = 5_000;

/**
 * Calls `attempt` until it does not fail as unavailable, for up to a minute.
 * @throws PipelineError the last failure, or at once any other kind
 */
export async function untilAvailable<T>(
  context: Pick<CommandContext, 'ambient' | 'logger' | 'signal' | 'terminal'>,
  attempt: () => Promise<T>,
  patienceMs: number = STARTUP_PATIENCE_MS,
): Promise<T> {
  const { clock } = context.ambient;
  const deadline = clock.monotonicMs() + patienceMs;
  let isTold = patienceMs < TOLD_MS;
  for (let delayMs = DELAY_FIRST_MS; ; delayMs = Math.min(delayMs * 2, DELAY_MAX_MS)) {
    try {
      return await attempt();
    } catch (thrown) {
      const error = asPipelineError(thrown);
      const leftMs = deadline - clock.monotonicMs();
      if (error.kind !== 'unavailable' || leftMs <= 0 || context.signal.aborted) throw error;
      if (!isTold) {
        const seconds = Math.round(leftMs / 1000);
        context.terminal.note(`${error.message}; trying again for up to ${seconds} s`);
        isTold = true;
      }
      context.logger.info('waiting for a service', { ...errorFields(error), leftMs });
      await clock.sleep(Math.min(delayMs, leftMs), context.signal);
    }
  }
}
