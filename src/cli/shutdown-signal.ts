/**
 * SIGINT and SIGTERM as an AbortSignal: the first asks for an orderly end, a later one ends at once.
 *
 * PE1 A process that another one started with a channel does not outlive it: the end of the channel asks
 *     for an orderly end too.
 */
import type { Clock } from '../ambient.ts';

/** A signal may reach us twice at once: from the process group and from a launcher. */
const ECHO_MS = 1_000;

/**
 * Listens from now on.
 * @param exit ends the process with 128 + the signal's number
 */
export function shutdownSignal(
  process: Pick<NodeJS.Process, 'on' | 'send' | 'connected' | 'channel'>,
  clock: Clock,
  exit: (code: number) => void,
): AbortSignal {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const numbers = { SIGINT: 2, SIGTERM: 15 } as const;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      const nowMs = clock.monotonicMs();
      if (firstMs === undefined) {
        firstMs = nowMs;
        controller.abort();
      } else if (nowMs - firstMs > ECHO_MS) {
        exit(128 + numbers[name]);
      }
    });
  }
  // PE1 There is a `send` also once the channel is closed: the parent may have died in the meantime.
  if (process.send !== undefined) {
    process.on('disconnect', () => controller.abort());
    if (process.connected !== true) controller.abort();
    // Listening alone would keep this process alive for ever.
    process.channel?.unref();
  }
  return controller.signal;
}
