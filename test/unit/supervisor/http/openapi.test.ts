import assert from 'node:assert/strict';
import { test } from 'node:test';
import { API_ROUTES } from '../../../../src/supervisor/http/api-routes.ts';
import { openApiDocument } from '../../../../src/supervisor/http/openapi.ts';
import { injectedServer } from '../../../support/http-fixture.ts';

type Json = { readonly [name: string]: Json };

const document = openApiDocument('1.2.3') as Json;

/** Every `$ref` of the document. */
function references(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, part]) =>
    name === '$ref' ? [String(part)] : references(part),
  );
}

function resolve(reference: string): unknown {
  assert.ok(reference.startsWith('#/'), reference);
  return reference
    .slice(2)
    .split('/')
    .reduce<unknown>((at, name) => (at as Json | undefined)?.[name], document);
}

test('it is OpenAPI 3.1 and every reference leads somewhere', () => {
  assert.equal(document['openapi'], '3.1.0');
  const found = references(document);
  assert.ok(found.length > 50);
  for (const reference of found) assert.equal(typeof resolve(reference), 'object', reference);
});

test('every route of design 7 is in it, with its body, answer and errors', () => {
  const paths = document['paths']!;
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  assert.deepEqual(operations.toSorted(), [
    'GET /livez',
    'GET /metrics',
    'GET /openapi.json',
    'GET /readyz',
    'GET /v1/assignments',
    'GET /v1/events',
    'GET /v1/partitions/{p}',
    'GET /v1/reconciliations',
    'GET /v1/status',
    'GET /v1/tables',
    'GET /v1/workers',
    'POST /v1/pause',
    'POST /v1/rebalance',
    'POST /v1/reconciliations',
    'POST /v1/resume',
    'POST /v1/workers/{id}/drain',
    'PUT /v1/partitions/{p}/worker',
  ]);
  for (const route of API_ROUTES) {
    const operation = paths[route.path]![route.method.toLowerCase()]!;
    const responses = Object.keys(operation['responses']!);
    assert.ok(responses.includes(String(route.status)));
    for (const status of ['401', '421', '429', '500', '503']) assert.ok(responses.includes(status));
    assert.equal('requestBody' in operation, route.body !== undefined);
    for (const status of route.body ? ['400', '403', '413', '415'] : []) {
      assert.ok(responses.includes(status), `${route.operationId} ${status}`);
    }
    const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    const parameters = (operation['parameters'] ?? []) as unknown as readonly { name: string }[];
    assert.deepEqual(
      parameters.map(({ name }) => name),
      inPath,
    );
  }
  const ids = Object.values(paths).flatMap((methods) =>
    Object.values(methods).map((operation) => JSON.stringify(operation['operationId'])),
  );
  assert.equal(new Set(ids).size, ids.length);
});

test('schemas say what the server takes: defaults, choices, nothing unknown', () => {
  const schemas = document['components']!['schemas']!;
  const rebalance = schemas['Rebalance']!;
  assert.deepEqual(rebalance['properties']!['strategy']!['enum'], ['sticky', 'even']);
  assert.equal(rebalance['properties']!['dryRun']!['default'], false);
  assert.equal(rebalance['additionalProperties'], false);
  assert.equal(rebalance['required'], undefined);
  assert.deepEqual(schemas['Place']!['required'], ['worker']);
  assert.ok('$ref' in schemas['Status']!['properties']!['hops']!['items']!);
});

test('the server serves it', async (t) => {
  const { app } = await injectedServer(t);
  const served = await app.inject('/openapi.json');
  assert.deepEqual(served.json(), JSON.parse(JSON.stringify(document)));
});
