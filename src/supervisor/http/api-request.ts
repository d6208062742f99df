/** One request to a supervisor's REST API, for whoever calls it. */

const TIMEOUT_MS = 15_000;

/** What is asked. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** `/v1/...` */
  readonly path: string;
  readonly body?: unknown;
}

export interface ApiAnswer {
  readonly ok: boolean;
  readonly status: number;
  /** The JSON document; undefined when it is none. */
  readonly document: unknown;
}

/**
 * Asks once.
 * @param base address without a path, such as `http://127.0.0.1:8080`
 * @throws TypeError | DOMException of `fetch`, when nobody answers within 15 s or `signal` aborts
 */
export async function requestApi(
  base: string,
  { method, path, body }: ApiRequest,
  options: { readonly token?: string | undefined; readonly signal: AbortSignal },
): Promise<ApiAnswer> {
  const { token, signal } = options;
  const response = await fetch(`${base}${path}`, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(method === 'GET' ? {} : { 'content-type': 'application/json' }),
    },
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    // A redirect would carry the token to wherever it leads.
    redirect: 'error',
    ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
  });
  const document: unknown = await response.json().catch(() => undefined);
  return { ok: response.ok, status: response.status, document };
}
