import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, systemAmbient } from '../../../../src/ambient.ts';
import { PipelineError } from '../../../../src/errors.ts';
import { API_ROUTES } from '../../../../src/supervisor/http/api-routes.ts';
import { type Problem, problemSchema } from '../../../../src/supervisor/http/api-schemas.ts';
import { buildHttpServer, startHttpServer } from '../../../../src/supervisor/http/http-server.ts';
import { eventually } from '../../../support/eventually.ts';
import {
  httpParts,
  injectedServer,
  listeningServer,
  OPERATOR_TOKEN,
  TOKENS,
  VIEWER_TOKEN,
} from '../../../support/http-fixture.ts';

type App = Awaited<ReturnType<typeof injectedServer>>['app'];
type Reply = Awaited<ReturnType<App['inject']>>;

const JSON_TYPE = { 'content-type': 'application/json' };
const READS = ['/metrics', '/openapi.json', '/v1/events'];
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** A request that each route takes. */
const EXAMPLES: Readonly<Record<string, { readonly url: string; readonly body?: object }>> = {
  placePartition: { url: '/v1/partitions/1/worker', body: { worker: 'worker-2' } },
  getPartition: { url: '/v1/partitions/1' },
  drainWorker: { url: '/v1/workers/worker-1/drain' },
};

function requestOf(route: (typeof API_ROUTES)[number], headers: Record<string, string> = {}) {
  const example = EXAMPLES[route.operationId] ?? { url: route.path };
  return {
    method: route.method,
    url: example.url,
    headers: { ...(route.body ? JSON_TYPE : {}), ...headers },
    ...(route.body ? { payload: example.body ?? {} } : {}),
  };
}

function problemIn(reply: Reply, status: number): Problem {
  assert.equal(reply.statusCode, status, reply.body);
  assert.match(String(reply.headers['content-type']), /^application\/problem\+json/);
  const problem = problemSchema.parse(reply.json());
  assert.equal(problem.status, status);
  assert.ok(!/\bat .*:\d+:\d+|node_modules|\/src\//.test(reply.body), reply.body);
  return problem;
}

test('every route answers what it declares', async (t) => {
  const { app } = await injectedServer(t);
  for (const route of API_ROUTES) {
    const reply = await app.inject(requestOf(route));
    if (route.operationId === 'startReconciliation') {
      problemIn(reply, 501);
      continue;
    }
    assert.equal(reply.statusCode, route.status, `${route.operationId}: ${reply.body}`);
    route.response.parse(reply.json());
    assert.equal(reply.headers['cache-control'], 'no-store');
  }
});

test('AC2 every route but probes and the page asks for a token, and changes for an operator', async (t) => {
  const { app } = await injectedServer(t, { tokens: TOKENS, host: '0.0.0.0' });
  for (const route of API_ROUTES) {
    const refused = await app.inject(requestOf(route));
    problemIn(refused, 401);
    assert.match(String(refused.headers['www-authenticate']), /^Bearer /);
    const viewer = await app.inject(requestOf(route, bearer(VIEWER_TOKEN)));
    if (route.access === 'operator') problemIn(viewer, 403);
    else assert.equal(viewer.statusCode, route.status);
    const operator = await app.inject(requestOf(route, bearer(OPERATOR_TOKEN)));
    assert.ok([route.status, 501].includes(operator.statusCode), operator.body);
  }
  for (const url of READS) problemIn(await app.inject(url), 401);
  problemIn(await app.inject('/nowhere'), 401);
  for (const url of ['/', '/assets/page.js', '/livez', '/readyz']) {
    assert.equal((await app.inject(url)).statusCode, 200, url);
  }
});

test('AC1 without tokens a name that is not loopback gets nothing, the page included', async (t) => {
  const { app } = await injectedServer(t);
  for (const url of ['/', '/v1/status', '/livez', '/metrics']) {
    problemIn(await app.inject({ url, headers: { host: 'rebound.example:8080' } }), 421);
  }
});

test('AC3 a change from another site is refused, whatever it looks like', async (t) => {
  const { app, control } = await injectedServer(t);
  const pause = (headers: Record<string, string>) =>
    app.inject({ method: 'POST', url: '/v1/pause', headers, payload: '{}' });
  problemIn(await pause({ ...JSON_TYPE, origin: 'https://evil.example' }), 403);
  problemIn(await pause({ ...JSON_TYPE, 'sec-fetch-site': 'cross-site' }), 403);
  problemIn(await pause({ 'content-type': 'text/plain' }), 415);
  problemIn(await pause({ 'content-type': 'application/x-www-form-urlencoded' }), 415);
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  problemIn(await app.inject({ method: 'POST', url: '/v1/pause', headers: form }), 415);
  problemIn(await pause({}), 415);
  assert.deepEqual(control.asked, []);
  const own = await pause({ ...JSON_TYPE, host: 'localhost:80', origin: 'http://localhost' });
  assert.equal(own.statusCode, 200, own.body);
  for (const reply of [own, await app.inject('/v1/status')]) {
    const cors = Object.keys(reply.headers).filter((name) => name.startsWith('access-control'));
    assert.deepEqual(cors, []);
  }
});

test('a change that needs no body takes a request without one, as curl -X POST sends it', async (t) => {
  const { app, control } = await injectedServer(t);
  const bare = { method: 'POST' as const, url: '/v1/pause' };
  problemIn(await app.inject({ ...bare, headers: { origin: 'https://evil.example' } }), 403);
  assert.equal((await app.inject(bare)).statusCode, 200);
  assert.equal(control.asked.length, 1);
});

test('HS4 bodies are bounded, are JSON and say nothing unknown', async (t) => {
  const { app, control } = await injectedServer(t);
  const rebalance = (payload: string) =>
    app.inject({ method: 'POST', url: '/v1/rebalance', headers: JSON_TYPE, payload });
  problemIn(await rebalance(`{"strategy": "${'x'.repeat(70_000)}"}`), 413);
  problemIn(await rebalance('{"strategy": '), 400);
  problemIn(await rebalance('[]'), 400);
  problemIn(await rebalance('{"__proto__": {"dryRun": true}}'), 400);
  problemIn(await rebalance('{"constructor": {"prototype": {}}}'), 400);
  const { errors } = problemIn(await rebalance('{"strategy": "wild", "colour": 1}'), 400);
  assert.deepEqual(errors?.map(({ path }) => path).toSorted(), ['body', 'body.strategy']);
  assert.deepEqual(control.asked, []);
  assert.equal((await rebalance('')).statusCode, 200);
  assert.deepEqual(control.asked, [{ rebalance: 'sticky', dryRun: false }]);
});

test('paths are validated, and a wrong method is told from a wrong path', async (t) => {
  const { app } = await injectedServer(t);
  problemIn(await app.inject('/v1/partitions/minus'), 400);
  problemIn(await app.inject('/v1/partitions/-1'), 400);
  problemIn(await app.inject('/v1/partitions/99'), 404);
  problemIn(await app.inject('/v1/nothing'), 404);
  problemIn(await app.inject('/assets/../http/access.ts'), 404);
  problemIn(await app.inject('/%'), 400);
  const drain = { method: 'POST' as const, headers: JSON_TYPE, payload: {} };
  problemIn(await app.inject({ ...drain, url: '/v1/workers/worker-7/drain' }), 404);
  for (const length of [200, 2_000]) {
    const url = `/v1/workers/${'w'.repeat(length)}/drain`;
    problemIn(await app.inject({ ...drain, url }), 400);
  }
  const wrong = await app.inject({ method: 'POST', url: '/v1/status', headers: JSON_TYPE });
  problemIn(wrong, 405);
  assert.equal(wrong.headers['allow'], 'GET');
});

test('HS2 an outage is 503 with a hint, a bug is 500 without a word of it', async (t) => {
  const { app, control, logLines } = await injectedServer(t);
  control.failure = new PipelineError('unavailable', 'TM_STATE_UNAVAILABLE', 'Redis is away');
  const outage = await app.inject('/v1/status');
  assert.match(problemIn(outage, 503).detail, /Redis is away/);
  assert.equal(outage.headers['retry-after'], '5');
  control.failure = new TypeError('secret detail of a bug');
  const { detail } = problemIn(await app.inject('/v1/status'), 500);
  assert.ok(!detail.includes('secret'));
  assert.ok(logLines.some((line) => String(line['error']).includes('secret detail')));
});

test('a refusal of the control is a problem that says why', async (t) => {
  const { app } = await injectedServer(t);
  const place = (worker: unknown) =>
    app.inject({
      method: 'PUT',
      url: '/v1/partitions/1/worker',
      headers: JSON_TYPE,
      payload: { worker },
    });
  assert.match(problemIn(await place('worker-9'), 409).detail, /no live worker/);
  problemIn(await place('../../etc'), 400);
  problemIn(await place(7), 400);
  assert.equal((await place(null)).statusCode, 202);
});

test('HS3 AL1 every change is audited with subject and outcome, and kept in the state store', async (t) => {
  const { app, logLines, state, activity } = await injectedServer(t, { tokens: TOKENS });
  const ask = (token: string | undefined, url: string, payload: object) =>
    app.inject({
      method: 'POST',
      url,
      headers: { ...JSON_TYPE, ...(token ? bearer(token) : {}) },
      payload,
    });
  await ask(OPERATOR_TOKEN, '/v1/rebalance', { strategy: 'even' });
  await ask(OPERATOR_TOKEN, '/v1/rebalance', { strategy: 'even', dryRun: true });
  await ask(VIEWER_TOKEN, '/v1/pause', {});
  await ask(undefined, '/v1/pause', {});
  await ask(OPERATOR_TOKEN, '/v1/workers/worker-7/drain', {});
  const audited = await eventually(() => {
    const lines = logLines.filter(({ message }) => message === 'audit: change requested');
    assert.equal(lines.length, 4);
    return lines;
  });
  assert.deepEqual(
    audited.map(({ subject, action, status }) => [subject, action, status]),
    [
      ['ops', 'POST /v1/rebalance', 200],
      ['eyes', 'POST /v1/pause', 403],
      ['unknown', 'POST /v1/pause', 401],
      ['ops', 'POST /v1/workers/worker-7/drain', 404],
    ],
  );
  assert.deepEqual(audited[0]?.['request'], { strategy: 'even', dryRun: false });
  assert.equal(audited[3]?.['outcome'], 'There is no live worker worker-7.');
  assert.equal(Object.keys(await state.getHash('audit')).length, 4);
  assert.equal(activity.after(0).length, 4);
  const everything = JSON.stringify([logLines, await state.getHash('audit'), activity.after(0)]);
  for (const { token } of TOKENS) assert.ok(!everything.includes(token));
});

test('guessing tokens is slowed down, and does not shut out those who have none to guess', async (t) => {
  const { app } = await injectedServer(t, { tokens: TOKENS });
  const statuses: number[] = [];
  for (let guess = 0; guess < 25; guess += 1) {
    const headers = bearer(`guess-${guess}-aaaaaaaa`);
    statuses.push((await app.inject({ url: '/v1/status', headers })).statusCode);
  }
  assert.deepEqual(new Set(statuses.slice(0, 20)), new Set([401]));
  assert.equal(statuses.at(-1), 429);
  assert.equal((await app.inject('/livez')).statusCode, 200);
});

test('changes are limited too, and what is over the limit is not carried out', async (t) => {
  const { options, control } = httpParts();
  // No budget refills while this clock stands still.
  const clock: Clock = Object.create(systemAmbient.clock, { monotonicMs: { value: () => 0 } });
  const server = await buildHttpServer({ ...options, ambient: { ...systemAmbient, clock } });
  t.after(() => server.close());
  const replies = await Promise.all(
    Array.from({ length: 60 }, () =>
      server.app.inject({ method: 'POST', url: '/v1/pause', headers: JSON_TYPE, payload: {} }),
    ),
  );
  const refused = replies.filter(({ statusCode }) => statusCode === 429);
  assert.equal(refused.length, 30);
  assert.equal(control.asked.length, replies.length - refused.length);
});

test('the page loads nothing from elsewhere, runs no inline script and cannot be framed', async (t) => {
  const { app } = await injectedServer(t);
  const page = await app.inject('/');
  const policy = String(page.headers['content-security-policy']);
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.ok(!policy.includes('unsafe'));
  assert.equal(page.headers['x-content-type-options'], 'nosniff');
  assert.ok(
    !/https?:\/\//.test(page.body.replaceAll('http://www.w3.org', '')),
    'no foreign address',
  );
  assert.ok(!/<script(?![^>]*src=)|\son\w+=|style=/.test(page.body), 'nothing inline');
  const etag = String(page.headers['etag']);
  const again = await app.inject({ url: '/', headers: { 'if-none-match': etag } });
  assert.equal(again.statusCode, 304);
});

test('/queues says where the board is when the queues are in memory', async (t) => {
  const { app } = await injectedServer(t);
  const page = await app.inject('/queues');
  assert.equal(page.statusCode, 200);
  assert.match(page.body, /No queue board here/);
});

test('readiness follows the control, and tells only this machine why', async (t) => {
  const local = await injectedServer(t);
  assert.equal((await local.app.inject('/readyz')).statusCode, 200);
  local.control.isReady = false;
  assert.match(problemIn(await local.app.inject('/readyz'), 503).detail, /state store/);
  assert.equal((await local.app.inject('/livez')).statusCode, 200);
  const open = await injectedServer(t, { tokens: TOKENS });
  open.control.isReady = false;
  assert.equal(problemIn(await open.app.inject('/readyz'), 503).detail, 'Not ready.');
});

test('a supervisor that stands by exposes nothing that its leader exposes too (PM1)', async (t) => {
  const { app, control } = await injectedServer(t);
  const leading = (await app.inject('/metrics')).body;
  assert.match(leading, /^tidemark_supervisor_leading 1$/m);
  assert.match(leading, /^tidemark_rows_total\{stage="bronze"\} 3000$/m);
  control.show({ supervisor: { id: 'b', isLeading: false, leader: 'a' } });
  const standby = (await app.inject('/metrics')).body;
  assert.match(standby, /^tidemark_supervisor_leading 0$/m);
  assert.match(standby, /^process_resident_memory_bytes 1$/m);
  assert.ok(!/tidemark_(rows|partition|queue)/.test(standby));
});

test('an address that others reach is refused without tokens, a taken one is named', async (t) => {
  const { options, address } = await listeningServer(t);
  const isInvalid = (says: RegExp) => (error: unknown) =>
    error instanceof PipelineError && error.kind === 'invalid' && says.test(error.message);
  await assert.rejects(
    buildHttpServer({ ...options, http: { ...options.http, host: '0.0.0.0' } }),
    isInvalid(/set supervisor\.http\.tokens/),
  );
  const port = Number(new URL(address).port);
  await assert.rejects(
    startHttpServer({ ...options, http: { ...options.http, port } }),
    isInvalid(/another process listens there/),
  );
});

test('HS4 what is no HTTP gets a problem and a closed connection', async (t) => {
  const { address } = await listeningServer(t);
  const { connect } = await import('node:net');
  const { port } = new URL(address);
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1');
    let text = '';
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('close', () => resolve(text));
    socket.on('error', reject);
    socket.write('NONSENSE\r\n\r\n');
  });
  assert.match(answer, /^HTTP\/1\.1 400 /);
  problemSchema.parse(JSON.parse(answer.split('\r\n\r\n')[1]!));
});
