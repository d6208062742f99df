/** Requests to the REST API: whatever the body, the answer is 2xx or a problem with a 4xx status. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type Clock, systemAmbient } from '../../src/ambient.ts';
import { API_ROUTES } from '../../src/supervisor/http/api-routes.ts';
import { problemSchema } from '../../src/supervisor/http/api-schemas.ts';
import { buildHttpServer } from '../../src/supervisor/http/http-server.ts';
import { httpParts } from '../support/http-fixture.ts';
import { type FuzzTarget, property } from './fuzz-target.ts';
import { byteDamage, jsonDamage } from './mutation.ts';

const BODIES = [
  '{}',
  '{"worker":"worker-2"}',
  '{"worker":null}',
  '{"draining":true}',
  '{"strategy":"sticky","dryRun":true}',
  '{"date":"2026-11-22"}',
  '{"dates":["2026-11-22"],"force":true}',
];

const body = fc.oneof(
  fc
    .tuple(fc.constantFrom(...BODIES), jsonDamage)
    .map(([text, damage]) => Buffer.from(damage(text))),
  fc
    .tuple(fc.constantFrom(...BODIES), byteDamage)
    .map(([text, damage]) => damage(Buffer.from(text))),
  fc.jsonValue({ maxDepth: 5 }).map((value) => Buffer.from(JSON.stringify(value))),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(1_000, 100_000).map((deep) => Buffer.from('['.repeat(deep) + ']'.repeat(deep))),
  fc.constantFrom(60_000, 70_000, 1_000_000).map((size) => Buffer.from(`"${'x'.repeat(size)}"`)),
);

const contentType = fc.oneof(
  { weight: 8, arbitrary: fc.constant('application/json') },
  fc.constantFrom(
    'application/json; charset=utf-8',
    'application/json; charset=utf-16',
    'application/JSON;',
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/merge-patch+json',
    'x',
    '/',
  ),
);

const segment = fc.oneof(
  fc.constantFrom(
    '0',
    '1',
    '-1',
    '99',
    '1e3',
    '00',
    '9007199254740993',
    'worker-1',
    '..',
    '%2e%2e',
  ),
  fc.constantFrom('%', '%00', '%ff', '%F0%9F%98%80', '__proto__', ' ', "'", 'a'.repeat(300), ''),
  fc.string({ maxLength: 12 }).map(encodeURIComponent),
);

const request = fc.record({
  operation: fc.constantFrom(...API_ROUTES.map(({ operationId }) => operationId)),
  segment,
  body,
  contentType,
  query: fc.oneof(
    { weight: 4, arbitrary: fc.constant('') },
    fc.string({ maxLength: 10 }).map((text) => `?${encodeURIComponent(text)}=1&a=%ff`),
  ),
});

type Request = typeof request extends fc.Arbitrary<infer R> ? R : never;

type App = Awaited<ReturnType<typeof buildHttpServer>>['app'];

async function holdsFor(
  app: App,
  { operation, segment: part, body: payload, ...given }: Request,
): Promise<void> {
  const route = API_ROUTES.find(({ operationId }) => operationId === operation)!;
  const reply = await app.inject({
    method: route.method,
    url: route.path.replace(/\{\w+\}/, part) + given.query,
    headers: route.method === 'GET' ? {} : { 'content-type': given.contentType },
    ...(route.method === 'GET' ? {} : { payload }),
  });
  const { statusCode: status } = reply;
  if (status >= 200 && status < 300) {
    route.response.parse(reply.json());
    return;
  }
  const notSupported = route.operationId === 'startReconciliation' && status === 501;
  assert.ok(notSupported || (status >= 400 && status < 500), `${status}: ${reply.body}`);
  assert.notEqual(status, 429);
  assert.match(String(reply.headers['content-type']), /^application\/problem\+json/);
  assert.equal(problemSchema.parse(reply.json()).status, status);
}

export const restBodies: FuzzTarget = {
  name: 'rest-bodies',
  runs: 800,
  open: async () => {
    // Between two looks at the clock every budget has refilled.
    let nowMs = 0;
    const clock: Clock = Object.create(systemAmbient.clock, {
      monotonicMs: { value: () => (nowMs += 60_000) },
    });
    const { options } = httpParts();
    const server = await buildHttpServer({ ...options, ambient: { ...systemAmbient, clock } });
    return {
      property: property(request, (given) => holdsFor(server.app, given)),
      close: () => server.close(),
    };
  },
};
