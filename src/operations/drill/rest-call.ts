/** Calls of a sandbox's REST API, which listens on the loopback without tokens. */
import type { Clock } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import { type ApiRequest, requestApi } from '../../supervisor/http/api-request.ts';

const RETRIES_MAX = 20;
const RETRY_MS = 250;

/** Where the API is. */
export interface Api {
  readonly address: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Calls once, again while the API is busy.
 * @returns its JSON answer; undefined when what was asked for does not fit the present state
 * @throws PipelineError internal when it refuses for another reason
 */
export async function callApi<T>(
  { address, clock, signal }: Api,
  method: ApiRequest['method'],
  path: string,
  body?: unknown,
): Promise<T | undefined> {
  for (let attempt = 1; ; attempt++) {
    const { ok, status, document } = await requestApi(address, { method, path, body }, { signal });
    if (ok) return document as T;
    if (status === 409 || status === 404) return undefined;
    const isBusy = status === 429 || status === 503;
    if (isBusy && attempt < RETRIES_MAX) {
      await clock.sleep(RETRY_MS);
      continue;
    }
    const message = `${method} ${path} was answered with ${status}: ${JSON.stringify(document)}`;
    throw new PipelineError('internal', 'TM_INTERNAL', message);
  }
}
