/**
 * Who may ask for what. Pure but for hashing.
 *
 * AC1 Without tokens only this machine is served, and only under a loopback name: a page of another
 *     site that points its own name at 127.0.0.1 (DNS rebinding) gets nothing.
 * AC2 With tokens every request but probes and the page's own files carries one; it is looked up by
 *     its hash, so that neither memory dumps nor timing give it away.
 * AC3 No cookies, no CORS. A change carries JSON and, when a browser sends it, an Origin that is this
 *     server. Basic credentials, which a browser repeats by itself, open the read-only board alone.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { HttpToken } from '../../pipeline/pipeline-config.ts';

export type Role = 'viewer' | 'operator';

/** What a route asks of its caller. */
export type Access = 'public' | Role;

/** Whoever sent a request. */
export interface Subject {
  readonly name: string;
  readonly role: Role;
}

/** On a server without tokens everybody on this machine is one and may do everything. */
export const LOCAL_SUBJECT: Subject = { name: 'local', role: 'operator' };

const LOOPBACK_NAME = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;
const LOOPBACK_ADDRESS = /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/;

/** Whether an address is this machine's own. */
export function isLoopback(address: string): boolean {
  return LOOPBACK_ADDRESS.test(address);
}

/** AC1. @param host the header, with or without a port */
export function isHostAllowed(host: string | undefined, hasTokens: boolean): boolean {
  const name = /^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/.exec(
    host ?? '',
  )?.[1];
  if (name === undefined) return false;
  return hasTokens || LOOPBACK_NAME.test(name.toLowerCase());
}

/** AC3: programs send neither header; a browser sends both and cannot be made to lie. */
export function isOriginAllowed(headers: {
  readonly origin: string | undefined;
  readonly host: string | undefined;
  readonly fetchSite: string | undefined;
}): boolean {
  const { origin, host, fetchSite } = headers;
  if (fetchSite !== undefined && fetchSite !== 'same-origin' && fetchSite !== 'none') return false;
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === new URL(`http://${host}`).host;
}

/** Whether somebody with `role` may use a route that asks for `access`. */
export function mayUse(role: Role, access: Access): boolean {
  return access !== 'operator' || role === 'operator';
}

/** Credentials of an Authorization header: a bearer token, or the password of Basic. */
export function credentialOf(
  authorization: string | undefined,
  allowed: { readonly basic: boolean },
): string | undefined {
  const match = /^(Bearer|Basic) +([\x21-\x7e]{1,1024})$/i.exec(authorization ?? '');
  if (!match) return undefined;
  const [, scheme, credential] = match;
  if (scheme!.toLowerCase() === 'bearer') return credential;
  if (!allowed.basic) return undefined;
  const decoded = Buffer.from(credential!, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  return colon < 0 ? undefined : decoded.slice(colon + 1);
}

/** Tokens by their hashes (AC2). */
export class TokenTable {
  readonly #entries: readonly { readonly hash: Buffer; readonly subject: Subject }[];

  constructor(tokens: readonly HttpToken[]) {
    this.#entries = tokens.map(({ name, role, token }) => ({
      hash: sha256(token),
      subject: { name, role },
    }));
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** Compares with every entry, so that the time taken does not tell which one was near. */
  find(token: string): Subject | undefined {
    const hash = sha256(token);
    let found: Subject | undefined;
    for (const entry of this.#entries) {
      if (timingSafeEqual(entry.hash, hash)) found = entry.subject;
    }
    return found;
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
