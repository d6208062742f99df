/**
 * TLS and SASL settings for kafkajs, from the pipeline file.
 * - S1 Nothing that opens the door travels in the clear: PLAIN and OAUTHBEARER need TLS, a token
 *   endpoint needs https (or the loopback).
 * - S2 Files are read anew for each connection, so that rotated certificates and tokens are picked up.
 */
import { readFile } from 'node:fs/promises';
import type { ConnectionOptions } from 'node:tls';
import type { OauthbearerProviderResponse, SASLOptions } from 'kafkajs';
import type { Clock } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { KafkaSasl, KafkaTls } from '../../pipeline/pipeline-config.ts';

/** A token is renewed this long before it ends. */
const TOKEN_MARGIN_MS = 30_000;
const TOKEN_TIMEOUT_MS = 10_000;
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/**
 * Refuses settings that would send a secret in the clear (S1).
 * @throws PipelineError invalid TM_CONFIG_INVALID
 */
export function checkSecurity(tls: KafkaTls | undefined, sasl: KafkaSasl | undefined): void {
  if (!sasl) return;
  if (!tls && (sasl.mechanism === 'plain' || sasl.mechanism === 'oauthbearer')) {
    throw invalid(
      `source.sasl: ${sasl.mechanism} would send the secret in the clear; set source.tls or use scram-sha-512`,
    );
  }
  if (sasl.mechanism === 'oauthbearer' && sasl.token.kind === 'client-credentials') {
    const url = URL.parse(sasl.token.tokenUrl);
    if (!url) throw invalid('source.sasl.token: tokenUrl is not a URL');
    if (url.protocol !== 'https:' && !LOOPBACK.has(url.hostname)) {
      throw invalid('source.sasl.token: tokenUrl must be https, it receives the client secret');
    }
  }
}

/**
 * Options for a TLS socket.
 * @returns null without TLS
 * @throws PipelineError invalid when a file cannot be read
 */
export async function tlsOptions(tls: KafkaTls | undefined): Promise<ConnectionOptions | null> {
  if (!tls) return null;
  const [ca, cert, key] = await Promise.all(
    [tls.caFile, tls.certFile, tls.keyFile].map(readSecret),
  );
  return {
    rejectUnauthorized: true,
    ...(ca ? { ca } : {}),
    ...(cert ? { cert } : {}),
    ...(key ? { key } : {}),
    ...(tls.serverName ? { servername: tls.serverName } : {}),
  };
}

/** Options for kafkajs's SASL handshake; null without SASL. */
export function saslOptions(sasl: KafkaSasl | undefined, clock: Clock): SASLOptions | null {
  if (!sasl) return null;
  if (sasl.mechanism !== 'oauthbearer') return { ...sasl };
  const { token } = sasl;
  if (token.kind === 'file') {
    return {
      mechanism: 'oauthbearer',
      oauthBearerProvider: async () => ({ value: ((await readSecret(token.path)) ?? '').trim() }),
    };
  }
  let cached: { readonly value: string; readonly untilMs: number } | undefined;
  return {
    mechanism: 'oauthbearer',
    async oauthBearerProvider(): Promise<OauthbearerProviderResponse> {
      if (!cached || clock.monotonicMs() >= cached.untilMs) {
        const { value, lifetimeMs } = await requestToken(token);
        cached = { value, untilMs: clock.monotonicMs() + lifetimeMs - TOKEN_MARGIN_MS };
      }
      return { value: cached.value };
    },
  };
}

type ClientCredentials = Extract<
  Extract<KafkaSasl, { mechanism: 'oauthbearer' }>['token'],
  { kind: 'client-credentials' }
>;

/** The client credentials grant of RFC 6749, section 4.4. */
async function requestToken(
  token: ClientCredentials,
): Promise<{ readonly value: string; readonly lifetimeMs: number }> {
  const form = new URLSearchParams({ grant_type: 'client_credentials' });
  if (token.scope) form.set('scope', token.scope);
  const credentials = [token.clientId, token.clientSecret].map(encodeURIComponent).join(':');
  let response: Response;
  try {
    response = await fetch(token.tokenUrl, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
      body: form,
      redirect: 'error',
      signal: AbortSignal.timeout(TOKEN_TIMEOUT_MS),
    });
  } catch (cause) {
    throw unavailable('the OAuth token endpoint does not answer', cause);
  }
  if (response.status >= 500) throw unavailable('the OAuth token endpoint fails', undefined);
  const body = (await response.json().catch(() => undefined)) as
    | { access_token?: unknown; expires_in?: unknown }
    | undefined;
  if (!response.ok || typeof body?.access_token !== 'string') {
    throw new PipelineError('invalid', 'TM_SOURCE_DENIED', 'the OAuth token endpoint refused', {
      context: { status: response.status },
    });
  }
  const seconds = typeof body.expires_in === 'number' ? body.expires_in : 300;
  return { value: body.access_token, lifetimeMs: seconds * 1000 };
}

async function readSecret(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new PipelineError('invalid', 'TM_CONFIG_INVALID', `source: cannot read ${path}`, {
      cause,
    });
  }
}

function invalid(message: string): PipelineError {
  return new PipelineError('invalid', 'TM_CONFIG_INVALID', message);
}

function unavailable(message: string, cause: unknown): PipelineError {
  return new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', message, { cause });
}
