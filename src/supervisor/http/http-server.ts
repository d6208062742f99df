/**
 * The supervisor's HTTP side: REST API, event stream, probes, metrics, queue board and page, on
 * fastify.
 *
 * Invariants (see access.ts for who may do what):
 * - HS1 Every request passes the same checks in the same order: host, budget, token, role; and for a
 *   change, origin and content type. A route that says nothing of itself needs a token.
 * - HS2 Every answer below 500 is meant; every error is a problem (RFC 9457) without a stack.
 * - HS3 Every change somebody asked for is in the audit log with its outcome (AL1).
 * - HS4 Bodies, headers, connections, streams and the time for a request are bounded.
 */
import type { Socket } from 'node:net';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import type { SupervisorConfig } from '../../pipeline/pipeline-config.ts';
import {
  type Access,
  credentialOf,
  isHostAllowed,
  isLoopback,
  isOriginAllowed,
  LOCAL_SUBJECT,
  mayUse,
  type Subject,
  TokenTable,
} from './access.ts';
import type { ActivityLog } from './activity-log.ts';
import { API_ROUTES, type ApiRoute, fastifyPath } from './api-routes.ts';
import { EventStream } from './event-stream.ts';
import { METRICS_MEDIA_TYPE, metricsText } from './metrics-text.ts';
import { openApiDocument } from './openapi.ts';
import { type PageAsset, readPageAssets } from './page-assets.ts';
import { pipelineFamilies, processFamilies, type ProcessNumbers } from './pipeline-metrics.ts';
import { HttpProblem, invalidRequest, PROBLEM_MEDIA_TYPE, problemOf } from './problem.ts';
import {
  createQueueBoard,
  QUEUE_BOARD_PATH,
  type QueueBoard,
  type QueueBoardPlace,
} from './queue-board.ts';
import { RequestBudget } from './request-budget.ts';
import { RequestCounts } from './request-counts.ts';
import type { SupervisorControl } from './supervisor-control.ts';

export interface HttpServerOptions {
  /** `supervisor.http` of the pipeline file. */
  readonly http: SupervisorConfig['http'];
  readonly control: SupervisorControl;
  readonly activity: ActivityLog;
  /** Numbers of this process, for /metrics. */
  readonly processNumbers: () => ProcessNumbers;
  /** Shown in the OpenAPI document. */
  readonly version: string;
  /** Absent when the queues are in a process's memory. */
  readonly queueBoard?: QueueBoardPlace | undefined;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/** A server that listens. */
export interface HttpServer {
  /** `http://127.0.0.1:8080` */
  readonly address: string;
  /** Ends streams and open connections. The control is the caller's to close. */
  close(): Promise<void>;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** HS1: left out, a viewer's token is needed. */
    readonly access?: Access;
    /** Where a browser itself asks, without a page's script, Basic credentials are taken too. */
    readonly takesBasic?: boolean;
  }
  interface FastifyRequest {
    subject: Subject | undefined;
    startedMs: number;
    /** What a change asked for, once it was found valid. */
    changeRequest: Readonly<Record<string, unknown>> | undefined;
    problemDetail: string | undefined;
    isAudited: boolean;
  }
}

const BODY_BYTES_MAX = 64 * 1024;
const REQUEST_TIMEOUT_MS = 15_000;
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;
const CONNECTIONS_MAX = 512;
/** Of path parameters, in characters. */
const PARAM_LENGTH_MAX = 256;

/** No script, style or frame from anywhere but here; nothing inline. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** Bull Board styles its elements inline and has a base element. */
const BOARD_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

const COMMON_HEADERS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'x-frame-options': 'DENY',
} as const;

/**
 * Starts to listen.
 * @throws PipelineError invalid when others can reach the address and there are no tokens, or when the
 *   address cannot be had
 */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { host, port } = options.http;
  const built = await buildHttpServer(options);
  try {
    const address = await built.app.listen({ host, port });
    return { address, close: () => built.close() };
  } catch (thrown) {
    await built.close();
    const { code, message } = thrown as NodeJS.ErrnoException;
    const why = code === 'EADDRINUSE' ? 'another process listens there' : message;
    throw new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      `cannot listen on ${host}:${port}: ${why}; ` +
        'set supervisor.http.port to another port, or to 0 for any free one',
      { cause: thrown },
    );
  }
}

/** The server without its socket; tests inject requests. @throws PipelineError invalid */
export async function buildHttpServer(
  options: HttpServerOptions,
): Promise<{ readonly app: FastifyInstance; close(): Promise<void> }> {
  const { http, control, activity, ambient, logger } = options;
  const tokens = new TokenTable(http.tokens);
  if (tokens.isEmpty && !isLoopback(http.host)) {
    throw new PipelineError(
      'invalid',
      'TM_CONFIG_INVALID',
      `supervisor.http.host is ${http.host}, which others can reach: set supervisor.http.tokens`,
    );
  }
  const app = Fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: PARAM_LENGTH_MAX },
    clientErrorHandler: refuseBrokenRequest,
    frameworkErrors: (error, _request, reply) => void sendProblem(reply, problemOf(error)),
  });
  app.server.headersTimeout = HEADERS_TIMEOUT_MS;
  app.server.maxConnections = CONNECTIONS_MAX;
  const counts = new RequestCounts();
  const stream = new EventStream({ control, activity, clock: ambient.clock, logger });

  takeJsonOnly(app);
  app.decorateRequest('subject', undefined);
  app.decorateRequest('startedMs', 0);
  app.decorateRequest('changeRequest', undefined);
  app.decorateRequest('problemDetail', undefined);
  app.decorateRequest('isAudited', true);
  app.addHook('onRequest', gate(tokens, ambient));
  app.addHook('onSend', async (_request, reply) => {
    reply.headers({ ...COMMON_HEADERS, ...policyOf(reply) });
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    const seconds = (ambient.clock.monotonicMs() - request.startedMs) / 1000;
    counts.add({ method: request.method, route, status: reply.statusCode }, seconds);
    if (isChange(request) && request.isAudited) {
      activity.recordChange({
        subject: request.subject?.name ?? 'unknown',
        remoteAddress: request.ip,
        action: `${request.method} ${request.url.split('?')[0]!.slice(0, PARAM_LENGTH_MAX)}`,
        request: request.changeRequest,
        status: reply.statusCode,
        problem: request.problemDetail,
      });
    }
  });
  const answerFailure = (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    const problem = problemOf(error);
    if (problem.kind === 'internal') {
      logger.error('a request failed', { route: request.routeOptions.url, ...errorFields(error) });
    }
    request.problemDetail = problem.message;
    return sendProblem(reply, problem);
  };
  app.setErrorHandler(answerFailure);
  app.setNotFoundHandler((request) => {
    throw missing(request);
  });

  for (const route of API_ROUTES) addApiRoute(app, route, control);
  addEventRoute(app, stream);
  addPlainRoutes(app, options, counts, tokens.isEmpty);
  addPage(app, await readPageAssets(), options.queueBoard === undefined);
  const board = options.queueBoard && createQueueBoard(options.queueBoard);
  if (board) await addBoard(app, board, answerFailure);
  return {
    app,
    async close() {
      stream.close();
      await app.close();
      await board?.close();
    },
  };
}

/** HS1. */
function gate(tokens: TokenTable, ambient: Ambient) {
  // Generous to people and dashboards, hard on guessing.
  const failures = new RequestBudget({ clock: ambient.clock, burst: 20, perSecond: 0.5 });
  const changes = new RequestBudget({ clock: ambient.clock, burst: 30, perSecond: 5 });
  return async (request: FastifyRequest): Promise<void> => {
    request.startedMs = ambient.clock.monotonicMs();
    const { headers, ip } = request;
    if (!isHostAllowed(headers.host, !tokens.isEmpty)) {
      throw new HttpProblem('host-not-allowed', 'Use the address that the supervisor listens on.');
    }
    const { access = 'viewer', takesBasic = false } = request.routeOptions.config;
    if (tokens.isEmpty) {
      request.subject = LOCAL_SUBJECT;
    } else if (access !== 'public') {
      if (!failures.hasLeft(ip)) throw tooMany(request);
      const token = credentialOf(headers.authorization, { basic: takesBasic });
      request.subject = token === undefined ? undefined : tokens.find(token);
      if (!request.subject) {
        if (headers.authorization !== undefined) failures.take(ip);
        throw unauthorized(takesBasic);
      }
    }
    if (request.subject && !mayUse(request.subject.role, access)) {
      throw new HttpProblem('forbidden', 'This needs a token of the role operator.');
    }
    if (isChange(request)) {
      if (!changes.take(request.subject?.name ?? ip)) throw tooMany(request);
      requireOwnJson(headers);
    }
  };
}

function requireOwnJson(headers: FastifyRequest['headers']): void {
  const { origin, host } = headers;
  const site = headers['sec-fetch-site'];
  const fetchSite = typeof site === 'string' ? site : undefined;
  if (!isOriginAllowed({ origin, host, fetchSite })) {
    throw new HttpProblem('origin-not-allowed', 'Changes come from this page or from a program.');
  }
  const type = headers['content-type'];
  // A program may leave an empty body out; what a form sends always has a type.
  const isBare = type === undefined && !Number(headers['content-length'] ?? 0);
  if (!isBare && !/^application\/json\s*(?:;|$)/i.test(type ?? '')) {
    throw new HttpProblem('unsupported-media-type', 'Send `content-type: application/json`.');
  }
}

function unauthorized(takesBasic: boolean): HttpProblem {
  // A browser asks for Basic credentials by itself where a page's script cannot send a header.
  const challenge = `${takesBasic ? 'Basic' : 'Bearer'} realm="tidemark", charset="UTF-8"`;
  return new HttpProblem('unauthorized', 'Send `Authorization: Bearer TOKEN`.', {
    headers: { 'www-authenticate': challenge },
  });
}

function tooMany(request: FastifyRequest): HttpProblem {
  request.isAudited = false;
  return new HttpProblem('too-many-requests', 'Wait a few seconds, then try again.', {
    headers: { 'retry-after': '5' },
  });
}

function isChange(request: FastifyRequest): boolean {
  return request.method !== 'GET' && request.method !== 'HEAD';
}

/** Only JSON is read, without keys that reach prototypes; an empty body is an empty object. */
function takeJsonOnly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0) return done(null, {});
    return parse(request, body as string, done);
  });
}

function addApiRoute(app: FastifyInstance, route: ApiRoute, control: SupervisorControl): void {
  const { method, access } = route;
  app.route({
    method,
    url: fastifyPath(route.path),
    config: { access },
    handler: async (request, reply) => {
      const params = route.params.safeParse(request.params);
      if (!params.success) throw invalidRequest('path', params.error);
      const body = route.body?.safeParse(request.body ?? {});
      if (body && !body.success) throw invalidRequest('body', body.error);
      request.isAudited = route.isChange?.(body?.data) ?? true;
      request.changeRequest = body?.data as FastifyRequest['changeRequest'];
      const answer = await route.run(control, { params: params.data, body: body?.data });
      return reply.code(route.status).header('cache-control', 'no-store').send(answer);
    },
  });
}

function addEventRoute(app: FastifyInstance, stream: EventStream): void {
  app.route({
    method: 'GET',
    url: '/v1/events',
    exposeHeadRoute: false,
    config: { access: 'viewer' },
    handler: (request, reply) => {
      if (stream.isFull) throw tooMany(request);
      const lastEventId = Number(request.headers['last-event-id'] ?? 0);
      reply.hijack();
      reply.raw.writeHead(200, {
        ...COMMON_HEADERS,
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        // For proxies that would gather the events.
        'x-accel-buffering': 'no',
        // What the caller may do, so that a page shows what works.
        'tidemark-role': request.subject?.role ?? 'viewer',
      });
      stream.attach(reply.raw, Number.isSafeInteger(lastEventId) ? lastEventId : 0);
    },
  });
}

function addPlainRoutes(
  app: FastifyInstance,
  options: HttpServerOptions,
  counts: RequestCounts,
  isLocal: boolean,
): void {
  const { control } = options;
  const plain = 'text/plain; charset=utf-8';
  app.get('/livez', { config: { access: 'public' } }, (_request, reply) =>
    reply.type(plain).header('cache-control', 'no-store').send('alive\n'),
  );
  app.get('/readyz', { config: { access: 'public' } }, (_request, reply) => {
    const { isReady, why } = control.readiness();
    // Whoever has no token learns no more than the answer.
    if (!isReady)
      throw new HttpProblem('unavailable', isLocal && why ? `Not ready: ${why}.` : 'Not ready.');
    return reply.type(plain).header('cache-control', 'no-store').send('ready\n');
  });
  app.get('/metrics', { config: { access: 'viewer' } }, async (_request, reply) => {
    const status = await control.status();
    const text = metricsText([
      ...pipelineFamilies(status, control.commitDurations),
      ...processFamilies(options.processNumbers(), counts.all()),
    ]);
    return reply.type(METRICS_MEDIA_TYPE).header('cache-control', 'no-store').send(text);
  });
  const document = openApiDocument(options.version);
  app.get('/openapi.json', { config: { access: 'viewer' } }, (_request, reply) =>
    reply.header('cache-control', 'no-cache').send(document),
  );
}

function addPage(
  app: FastifyInstance,
  assets: ReadonlyMap<string, PageAsset>,
  withoutBoard: boolean,
): void {
  const serve = (url: string, asset: PageAsset): void => {
    app.get(url, { config: { access: 'public' } }, (request, reply) => {
      reply.header('cache-control', 'no-cache').header('etag', asset.etag);
      if (request.headers['if-none-match'] === asset.etag) return reply.code(304).send();
      return reply.type(asset.mediaType).send(asset.bytes);
    });
  };
  for (const asset of assets.values()) {
    if (asset.name === 'index.html') serve('/', asset);
    else if (asset.name === 'queues.html') {
      if (withoutBoard) serve(QUEUE_BOARD_PATH, asset);
    } else serve(`/assets/${asset.name}`, asset);
  }
}

/** QB1: whatever routes the board has, only those that read are open. */
async function addBoard(
  app: FastifyInstance,
  board: QueueBoard,
  answerFailure: (error: unknown, request: FastifyRequest, reply: FastifyReply) => FastifyReply,
): Promise<void> {
  await app.register(async (scope) => {
    scope.addHook('onRoute', (route) => {
      route.config = { ...route.config, takesBasic: true };
      // The board's own handler would answer without our headers, and with the words of Redis.
      route.errorHandler = (error, request, reply) =>
        void answerFailure(boardProblem(error), request, reply);
    });
    scope.addHook('onRequest', async (request) => {
      if (isChange(request)) throw new HttpProblem('method-not-allowed', 'The board only shows.');
    });
    await scope.register(board.plugin, { prefix: QUEUE_BOARD_PATH });
  });
}

/** What fails on the board is Redis, unless the server itself refused. */
function boardProblem(error: unknown): unknown {
  const isOurs = error instanceof HttpProblem || (error as { statusCode?: unknown }).statusCode;
  return isOurs ? error : new HttpProblem('unavailable', 'Redis does not answer.');
}

function policyOf(reply: FastifyReply): Record<string, string> {
  const isBoard = reply.request.routeOptions.config.takesBasic === true;
  return { 'content-security-policy': isBoard ? BOARD_POLICY : PAGE_POLICY };
}

function sendProblem(reply: FastifyReply, problem: HttpProblem): FastifyReply {
  return reply
    .code(problem.status)
    .headers({ ...problem.headers, 'cache-control': 'no-store' })
    .type(PROBLEM_MEDIA_TYPE)
    .send(JSON.stringify(problem.body));
}

/** 405 where another method fits the path, else 404. */
function missing(request: FastifyRequest): HttpProblem {
  const path = request.url.split('?')[0]!;
  const allowed = API_ROUTES.filter((route) => pathPattern(route.path).test(path)).map(
    ({ method }) => method,
  );
  if (allowed.length === 0) return new HttpProblem('not-found', 'There is nothing at this path.');
  return new HttpProblem('method-not-allowed', `Use ${allowed.join(' or ')}.`, {
    headers: { allow: allowed.join(', ') },
  });
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`);
}

/** HS4: what is no HTTP, or comes too slowly, is answered without fastify. */
function refuseBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const isLate = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const problem = isLate
    ? new HttpProblem('timeout', 'The request did not arrive in time.')
    : new HttpProblem('invalid-request', 'This is no HTTP that the server understands.');
  const body = JSON.stringify(problem.body);
  socket.end(
    `HTTP/1.1 ${problem.status} ${isLate ? 'Request Timeout' : 'Bad Request'}\r\n` +
      `content-type: ${PROBLEM_MEDIA_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `connection: close\r\n\r\n${body}`,
  );
}
