/**
 * The supervisor's API as this page uses it. The token is in this tab's session storage and goes out
 * as a header, never as a cookie or in an address.
 */

const TOKEN = 'tidemark-token';

export function storedToken() {
  return sessionStorage.getItem(TOKEN);
}

/** @param {string | null} token */
export function storeToken(token) {
  if (token === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

function headers(more = {}) {
  const token = storedToken();
  return token === null ? more : { ...more, authorization: `Bearer ${token}` };
}

/** What the server refused, in its own words (RFC 9457). */
export class ApiProblem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new ApiProblem(response.status, body.detail ?? `The server answered ${response.status}.`);
}

/** Asks for a change. @throws ApiProblem | TypeError when the server is away */
export async function change(method, path, body = {}) {
  const response = await fetch(path, {
    method,
    headers: headers({ 'content-type': 'application/json' }),
    body: JSON.stringify(body),
  });
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 10_000;

/**
 * Follows the event stream until `signal` aborts, coming back after every loss. Fetch rather than
 * EventSource: only fetch can send the token as a header.
 * @param {{
 *   signal: AbortSignal,
 *   opened: (role: string) => void,
 *   event: (name: string, data: any) => void,
 *   lost: (problem: Error) => 'retry' | 'stop',
 * }} listener
 */
export async function followEvents({ signal, opened, event, lost }) {
  let lastEventId = '';
  let delayMs = RETRY_FIRST_MS;
  while (!signal.aborted) {
    try {
      const more = lastEventId === '' ? {} : { 'last-event-id': lastEventId };
      const response = await fetch('v1/events', { headers: headers(more), signal });
      if (!response.ok) throw await problemOf(response);
      opened(response.headers.get('tidemark-role') ?? 'viewer');
      delayMs = RETRY_FIRST_MS;
      for await (const block of blocks(response.body)) {
        const { name, id, data } = parsed(block);
        if (id !== undefined) lastEventId = id;
        if (data !== undefined) event(name, JSON.parse(data));
      }
      throw new Error('The stream ended.');
    } catch (problem) {
      if (signal.aborted || lost(problem) === 'stop') return;
    }
    await new Promise((wake) => setTimeout(wake, delayMs));
    delayMs = Math.min(delayMs * 2, RETRY_MAX_MS);
  }
}

/** Texts between blank lines. */
async function* blocks(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n\n');
    rest = parts.pop();
    yield* parts;
  }
}

function parsed(block) {
  const event = { name: 'message', id: undefined, data: undefined };
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) event.name = line.slice(7);
    else if (line.startsWith('id: ')) event.id = line.slice(4);
    else if (line.startsWith('data: ')) event.data = line.slice(6);
  }
  return event;
}
