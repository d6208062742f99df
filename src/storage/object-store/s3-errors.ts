/**
 * What a failed S3 request means: whether it can have taken effect, and which PipelineError it is.
 *
 * E1 `refused` (any 3xx or 4xx) and `not-sent` left nothing behind. Everything else is `open`: no response, and
 *    also every 5xx, SlowDown included. A gateway answers 502 to 504 for a request that it passed on, and
 *    MinIO answers 503 SlowDownWrite when it lost its write quorum half way (cmd/api-errors.go:
 *    errErasureWriteQuorum). Calling such a create "not committed" loses or doubles data.
 * E2 No object of the SDK leaves this file: its errors refer to sockets and so to signed requests.
 */
import { type ErrorContext, PipelineError } from '../../errors.ts';

/** What is known about a failed request. */
export interface S3Failure {
  readonly effect: 'refused' | 'not-sent' | 'open';
  /** HTTP status, when there was a response. */
  readonly status: number | undefined;
  /** S3's error code such as `NoSuchKey`, or the system's such as `ECONNRESET`. */
  readonly name: string;
  readonly message: string;
  readonly context: ErrorContext;
}

/** The fields of an SDK or system error that matter here. */
interface ErrorLike {
  readonly name?: string;
  readonly message?: string;
  readonly code?: unknown;
  readonly syscall?: string;
  readonly errors?: readonly unknown[];
  readonly RequestTime?: unknown;
  readonly ServerTime?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
}

/** Refused by the store for a reason that passes. */
const PASSING: ReadonlySet<string> = new Set([
  'BadDigest',
  'ConditionalRequestConflict',
  'ExpiredToken',
  'ExpiredTokenException',
  'IncompleteBody',
  'OperationAborted',
  'RequestExpired',
  'RequestTimeout',
  'RequestTimeTooSkewed',
  'SlowDown',
  'TokenRefreshRequired',
  'XAmzContentChecksumMismatch',
  'XAmzContentSHA256Mismatch',
]);
const PASSING_STATUS: ReadonlySet<number> = new Set([408, 409, 425, 429]);

/** Raised by the TLS handshake, before a byte of the request is sent. */
const HANDSHAKE = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT_)/;
/** The request handler's words for a socket that never connected; it sets no code. */
const NEVER_CONNECTED = /did not establish a connection/;

/** Judges what the SDK threw. */
export function readS3Failure(thrown: unknown): S3Failure {
  const error = thrown as ErrorLike;
  const status = error.$metadata?.httpStatusCode;
  const code = typeof error.code === 'string' ? error.code : undefined;
  const name = status === undefined ? (code ?? error.name ?? 'Error') : (error.name ?? `${status}`);
  const requestId = error.$metadata?.requestId;
  return {
    effect: effectOf(error, status, code),
    status,
    name,
    message: error.message ?? name,
    context: {
      status,
      s3Code: name,
      ...(requestId === undefined ? {} : { requestId }),
      ...skew(error),
    },
  };
}

function effectOf(
  error: ErrorLike,
  status: number | undefined,
  code: string | undefined,
): S3Failure['effect'] {
  if (status !== undefined) return status >= 300 && status < 500 ? 'refused' : 'open';
  const everyAttempt = (error.errors ?? [error]) as readonly ErrorLike[];
  const neverSent =
    error.name === 'CredentialsProviderError' ||
    error.name === 'TokenProviderError' ||
    HANDSHAKE.test(code ?? '') ||
    NEVER_CONNECTED.test(error.message ?? '') ||
    everyAttempt.every((each) => each.syscall === 'connect' || each.syscall === 'getaddrinfo');
  return neverSent ? 'not-sent' : 'open';
}

function skew(error: ErrorLike): ErrorContext {
  if (error.name !== 'RequestTimeTooSkewed') return {};
  return { requestTime: String(error.RequestTime), storeTime: String(error.ServerTime) };
}

/**
 * The PipelineError for a failure.
 * @param subject what was asked of which store, for the message; without credentials
 */
export function s3Error(failure: S3Failure, subject: string): PipelineError {
  const { name, status, message } = failure;
  const fail = (
    kind: 'unavailable' | 'invalid',
    code: ConstructorParameters<typeof PipelineError>[1],
    text: string,
  ): PipelineError =>
    new PipelineError(kind, code, `${subject}: ${text}`, {
      context: failure.context,
      // A new error without fields (E2); its message is the store's or the system's own words.
      cause: new Error(`${name}: ${message}`),
    });

  if (name === 'RequestTimeTooSkewed') {
    return fail(
      'unavailable',
      'TM_STORE_UNAVAILABLE',
      "this machine's clock and the store's differ too much; synchronise it (NTP)",
    );
  }
  if (name === 'NoSuchBucket') {
    return fail('invalid', 'TM_STORE_DENIED', 'the bucket does not exist; create it first');
  }
  if (status === 301 || status === 307 || name === 'AuthorizationHeaderMalformed') {
    return fail('invalid', 'TM_CONFIG_INVALID', 'the bucket is in another region; set lake.region');
  }
  const passes = PASSING.has(name) || (status !== undefined && PASSING_STATUS.has(status));
  // A response to HEAD has no body and so no code: an expired token is a bare 400 there.
  const bare400 = status === 400 && (name === '400' || name === 'BadRequest' || name === 'Unknown');
  if (failure.effect !== 'refused' || passes || bare400) {
    return fail('unavailable', 'TM_STORE_UNAVAILABLE', `${name}: ${message}`);
  }
  if (status === 401 || status === 403) {
    return fail(
      'invalid',
      'TM_STORE_DENIED',
      `access denied (${name}); needed: GetObject, PutObject, DeleteObject and ListBucket on the prefix`,
    );
  }
  return fail('invalid', 'TM_STORE_DENIED', `the store refused the request: ${name}: ${message}`);
}
