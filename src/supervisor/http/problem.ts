/**
 * Problem details (RFC 9457): the only form of error this server gives. They say what to do, and
 * never hold a stack, a path of this machine or a credential.
 */
import type { ZodError } from 'zod';
import { asPipelineError } from '../../errors.ts';
import type { Problem } from './api-schemas.ts';
import type { Refusal } from './supervisor-control.ts';

/** Kinds of problems, with their status and title. */
export const PROBLEMS = {
  'invalid-request': [400, 'The request is not valid'],
  unauthorized: [401, 'A token is needed'],
  forbidden: [403, 'The token does not allow this'],
  'origin-not-allowed': [403, 'Another site may not ask for this'],
  'not-found': [404, 'There is no such thing'],
  'method-not-allowed': [405, 'The method does not fit here'],
  timeout: [408, 'The request took too long to arrive'],
  conflict: [409, 'It does not fit the present state'],
  'body-too-large': [413, 'The body is too large'],
  'unsupported-media-type': [415, 'The body must be JSON'],
  'host-not-allowed': [421, 'This server does not answer to that name'],
  'too-many-requests': [429, 'Too many requests'],
  internal: [500, 'A bug in Tidemark'],
  'not-supported': [501, 'Not supported here'],
  unavailable: [503, 'A service does not answer'],
} as const satisfies Readonly<Record<string, readonly [number, string]>>;

export type ProblemKind = keyof typeof PROBLEMS;

export const PROBLEM_MEDIA_TYPE = 'application/problem+json; charset=utf-8';

/** Thrown inside the server to end a request; its error handler is the only one to catch it. */
export class HttpProblem extends Error {
  readonly kind: ProblemKind;
  readonly errors: Problem['errors'];
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    kind: ProblemKind,
    detail: string,
    more: {
      readonly errors?: Problem['errors'];
      readonly headers?: Readonly<Record<string, string>>;
    } = {},
  ) {
    super(detail);
    this.name = 'HttpProblem';
    this.kind = kind;
    this.errors = more.errors;
    this.headers = more.headers ?? {};
  }

  get status(): number {
    return PROBLEMS[this.kind][0];
  }

  /** The body of the answer. */
  get body(): Problem {
    const [status, title] = PROBLEMS[this.kind];
    return {
      type: `urn:tidemark:problem:${this.kind}`,
      title,
      status,
      detail: this.message,
      ...(this.errors ? { errors: this.errors } : {}),
    };
  }
}

/** What a request's part got wrong. */
export function invalidRequest(part: 'path' | 'body', error: ZodError): HttpProblem {
  const errors = error.issues.map(({ path, message }) => ({
    path: [part, ...path].map(String).join('.'),
    message,
  }));
  const first = errors[0];
  const detail = first ? `${first.path}: ${first.message}` : `The ${part} is not valid.`;
  return new HttpProblem('invalid-request', detail, { errors });
}

/** A control's refusal as a problem. */
export function refused(refusal: Refusal): HttpProblem {
  switch (refusal.kind) {
    case 'not-found':
      return new HttpProblem('not-found', `There is no ${refusal.what}.`);
    case 'conflict':
    case 'not-supported':
      return new HttpProblem(refusal.kind, refusal.why);
  }
}

/** Kinds of fastify's own errors, by the status it gives them. */
const BY_STATUS: ReadonlyMap<number, ProblemKind> = new Map([
  [400, 'invalid-request'],
  [404, 'not-found'],
  [408, 'timeout'],
  [413, 'body-too-large'],
  [414, 'invalid-request'],
  [415, 'unsupported-media-type'],
]);

/** Anything that a handler threw, as a problem; nobody learns more of a bug than that it is one. */
export function problemOf(thrown: unknown): HttpProblem {
  if (thrown instanceof HttpProblem) return thrown;
  const status = (thrown as { readonly statusCode?: unknown } | null)?.statusCode;
  const kind = typeof status === 'number' ? BY_STATUS.get(status) : undefined;
  if (kind !== undefined) {
    const { message } = thrown as Error;
    return new HttpProblem(kind, message);
  }
  const error = asPipelineError(thrown);
  if (error.kind === 'unavailable') {
    return new HttpProblem('unavailable', `${error.code}: ${error.message}`, {
      headers: { 'retry-after': '5' },
    });
  }
  return new HttpProblem('internal', 'The log of this server says more.');
}
