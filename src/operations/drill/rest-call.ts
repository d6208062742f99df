/** Calls of a sandbox's REST API, which listens on the loopback without tokens. */
import type { Clock } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';

const TIMEOUT_MS = 15_000;
const RETRIES_MAX = 20;
const RETRY_MS = 250;

/** Where the API is. */
export interface Api {
  readonly address: string;
  readonly clock: Clock;
}

/**
 * Calls once, again while the API is busy.
 * @returns its JSON answer; undefined when what was asked for does not fit the present state
 * @throws PipelineError internal when it refuses for another reason
 */
export async function callApi<T>(
  { address, clock }: Api,
  method: 'GET' | 'POST' | 'PUT',
  path: string,
  body?: unknown,
): Promise<T | undefined> {
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(`${address}${path}`, {
      method,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(method === 'GET'
        ? {}
        : {
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify(body ?? {}),
          }),
    });
    const answer: unknown = await response.json();
    if (response.ok) return answer as T;
    if (response.status === 409 || response.status === 404) return undefined;
    const isBusy = response.status === 429 || response.status === 503;
    if (isBusy && attempt < RETRIES_MAX) {
      await clock.sleep(RETRY_MS);
      continue;
    }
    const message = `${method} ${path} was answered with ${response.status}: ${JSON.stringify(answer)}`;
    throw new PipelineError('internal', 'TM_INTERNAL', message);
  }
}
