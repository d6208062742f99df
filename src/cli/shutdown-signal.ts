/**
 * SIGINT and SIGTERM as an AbortSignal: the first asks for an orderly end, a later one ends at once.
 */
import type { Clock } from '../ambient.ts';

/** A signal may reach us twice at once: from the process group and from a launcher. */
const ECHO_MS = 1_000;

/**
 * Listens from now on.
 * @param exit ends the process with 128 + the signal's number
 */
export function shutdownSignal(
  process: Pick<NodeJS.Process, 'on'>,
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
  return controller.signal;
}
