/**
 * The OpenAPI 3.1 document, generated from the schemas that validate requests. Pure.
 */
import { z } from 'zod';
import { API_ROUTES, type ApiRoute } from './api-routes.ts';
import { apiSchemas, streamEventSchemas } from './api-schemas.ts';
import { PROBLEMS, type ProblemKind } from './problem.ts';

type JsonObject = { readonly [name: string]: unknown };

const SCHEMAS = '#/components/schemas/';
const PROBLEM_TYPE = 'application/problem+json';

/** Every operation may answer with these. */
const COMMON_READ: readonly ProblemKind[] = [
  'unauthorized',
  'host-not-allowed',
  'too-many-requests',
  'internal',
  'unavailable',
];
const COMMON_CHANGE: readonly ProblemKind[] = [
  'invalid-request',
  ...COMMON_READ,
  'forbidden',
  'origin-not-allowed',
  'body-too-large',
  'unsupported-media-type',
  'timeout',
];

/** What the server answers beside the operations of api-routes.ts. */
const OTHER_PATHS: JsonObject = {
  '/v1/events': {
    get: {
      operationId: 'streamEvents',
      summary: 'Status, workers and activity as they change',
      description: [
        'Server-sent events. The first is `history`; `status` and `workers` come with every reading,',
        '`activity` as it happens, with an id. A client that reconnects sends the last one as',
        '`Last-Event-ID` and gets what it missed, as far as it is kept.',
        `Data: ${Object.entries(streamEventSchemas)
          .map(([name, schema]) => `\`${name}\`: ${apiSchemas.get(schema)?.id}`)
          .join(', ')}.`,
      ].join(' '),
      tags: ['read'],
      parameters: [
        {
          name: 'Last-Event-ID',
          in: 'header',
          required: false,
          schema: { type: 'integer', minimum: 0 },
        },
      ],
      responses: {
        200: {
          description: 'A stream without end.',
          headers: {
            'tidemark-role': {
              description: 'What the caller may do.',
              schema: { type: 'string', enum: ['viewer', 'operator'] },
            },
          },
          content: { 'text/event-stream': { schema: { type: 'string' } } },
        },
        ...problemResponses(COMMON_READ),
      },
    },
  },
  '/livez': plainGet('livez', 'Whether this process answers', 'text/plain', [], []),
  '/readyz': plainGet('readyz', 'Whether it can do its work', 'text/plain', ['unavailable'], []),
  '/metrics': plainGet('metrics', 'Metrics for Prometheus', 'text/plain', COMMON_READ),
  '/openapi.json': plainGet('openapi', 'This document', 'application/json', COMMON_READ),
};

/** The document. @param version of Tidemark */
export function openApiDocument(version: string): JsonObject {
  const paths = new Map<string, Record<string, unknown>>();
  for (const route of API_ROUTES) {
    const path = paths.get(route.path) ?? {};
    path[route.method.toLowerCase()] = operationOf(route);
    paths.set(route.path, path);
  }
  return {
    openapi: '3.1.0',
    jsonSchemaDialect: 'https://json-schema.org/draft/2020-12/schema',
    info: {
      title: 'Tidemark supervisor',
      version,
      description:
        'Watches and steers one pipeline. On loopback without tokens; elsewhere every call carries ' +
        'a bearer token of the role `viewer` or `operator`. Errors are RFC 9457 problem details.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, {}],
    tags: [
      { name: 'read', description: 'For viewers.' },
      { name: 'change', description: 'For operators; each is written to the audit log.' },
    ],
    paths: { ...Object.fromEntries(paths), ...OTHER_PATHS },
    components: {
      schemas: componentSchemas(),
      responses: Object.fromEntries(
        Object.entries(PROBLEMS).map(([kind, [, title]]) => [
          kind,
          {
            description: title,
            content: { [PROBLEM_TYPE]: { schema: { $ref: `${SCHEMAS}Problem` } } },
          },
        ]),
      ),
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'A token of supervisor.http.tokens.',
        },
      },
    },
  };
}

function operationOf(route: ApiRoute): JsonObject {
  const { operationId, summary, params, body, status, response, problems } = route;
  const parameters = Object.entries(params.shape).map(([name, schema]) => ({
    name,
    in: 'path',
    required: true,
    schema: inlineSchema(schema as z.ZodType),
  }));
  const common = body ? COMMON_CHANGE : COMMON_READ;
  const invalid: readonly ProblemKind[] = parameters.length > 0 ? ['invalid-request'] : [];
  return {
    operationId,
    summary,
    tags: [route.access === 'operator' ? 'change' : 'read'],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body
      ? {
          requestBody: {
            required: isRequired(body),
            content: { 'application/json': { schema: reference(body) } },
          },
        }
      : {}),
    responses: {
      [status]: {
        description: status === 200 ? 'Done.' : 'Accepted; it is followed within a moment.',
        content: { 'application/json': { schema: reference(response) } },
      },
      ...problemResponses([...common, ...invalid, ...problems]),
    },
  };
}

/** A body that may be left out is one that an empty object satisfies. */
function isRequired(body: z.ZodType): boolean {
  return !body.safeParse({}).success;
}

function reference(schema: z.ZodType): JsonObject {
  const id = apiSchemas.get(schema)?.id;
  return id === undefined ? inlineSchema(schema) : { $ref: `${SCHEMAS}${id}` };
}

function inlineSchema(schema: z.ZodType): JsonObject {
  return withoutIdentity(z.toJSONSchema(schema));
}

/** Inside the document a schema is known by its place. */
function withoutIdentity(schema: object): JsonObject {
  return Object.fromEntries(
    Object.entries(schema).filter(([name]) => name !== '$schema' && name !== '$id'),
  );
}

function componentSchemas(): JsonObject {
  const { schemas } = z.toJSONSchema(apiSchemas, { uri: (id) => `${SCHEMAS}${id}`, io: 'input' });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, schema]) => [id, withoutIdentity(schema)]),
  );
}

/** Problems by status; kinds that share one are named together. */
function problemResponses(kinds: readonly ProblemKind[]): JsonObject {
  const byStatus = new Map<number, ProblemKind[]>();
  for (const kind of new Set(kinds)) {
    const [status] = PROBLEMS[kind];
    byStatus.set(status, [...(byStatus.get(status) ?? []), kind]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, same]) => [
      status,
      same.length === 1
        ? { $ref: `#/components/responses/${same[0]}` }
        : {
            description: same.map((kind) => PROBLEMS[kind][1]).join('; '),
            content: { [PROBLEM_TYPE]: { schema: { $ref: `${SCHEMAS}Problem` } } },
          },
    ]),
  );
}

function plainGet(
  operationId: string,
  summary: string,
  mediaType: string,
  problems: readonly ProblemKind[],
  security?: readonly JsonObject[],
): JsonObject {
  return {
    get: {
      operationId,
      summary,
      tags: ['read'],
      ...(security ? { security } : {}),
      responses: {
        200: {
          description: 'Yes.',
          content: {
            [mediaType]: {
              schema: { type: mediaType === 'application/json' ? 'object' : 'string' },
            },
          },
        },
        ...problemResponses(problems),
      },
    },
  };
}
