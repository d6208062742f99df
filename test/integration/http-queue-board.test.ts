/** Bull Board over the queues of a pipeline on Redis: it shows them, and only that. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { OPERATOR_TOKEN, TOKENS } from '../support/http-fixture.ts';
import { eventText, servePipeline } from '../support/served-pipeline.ts';
import { sharedRedis, uniqueName } from '../support/servers.ts';

interface BoardQueues {
  readonly queues: readonly {
    readonly name: string;
    readonly counts: Readonly<Record<string, number>>;
    readonly readOnlyMode: boolean;
    readonly jobs: readonly { readonly id: string; readonly data: unknown }[];
  }[];
}

const redis = async () => ({ url: await sharedRedis(), prefix: uniqueName('board') });

test('the board shows every queue with their jobs, which hold references only', async (t) => {
  const { address, append } = await servePipeline(t, { redis: await redis() });
  const page = await fetch(`${address}/queues`);
  assert.equal(page.status, 200);
  const html = await page.text();
  assert.match(html, /Tidemark queues/);
  const script = /src="(static\/js\/main[^"]+)"/.exec(html)?.[1];
  assert.equal((await fetch(`${address}/queues/${script}`)).status, 200);
  await append([eventText(1, Date.now())]);
  const board = await eventually(
    async () => {
      const response = await fetch(
        `${address}/queues/api/queues?activeQueue=silver&status=completed`,
      );
      const { queues } = (await response.json()) as BoardQueues;
      const stages = queues.filter(({ name }) => name !== 'maintenance');
      assert.ok(stages.every(({ counts }) => (counts['completed'] ?? 0) > 0));
      return queues;
    },
    { withinMs: 30_000 },
  );
  assert.deepEqual(board.map(({ name }) => name).toSorted(), ['gold', 'maintenance', 'silver']);
  assert.ok(board.every(({ readOnlyMode }) => readOnlyMode));
  const { jobs } = board.find(({ name }) => name === 'silver')!;
  assert.deepEqual(Object.keys(jobs[0]!.data as object).toSorted(), ['table', 'version']);
});

test('QB1 the board changes nothing', async (t) => {
  const { address, append } = await servePipeline(t, { redis: await redis() });
  await append([eventText(1, Date.now())]);
  const completed = async (): Promise<BoardQueues['queues'][number]> => {
    const response = await fetch(
      `${address}/queues/api/queues?activeQueue=silver&status=completed`,
    );
    const { queues } = (await response.json()) as BoardQueues;
    return queues.find(({ name }) => name === 'silver')!;
  };
  const id = await eventually(async () => (await completed()).jobs[0]?.id ?? false, {
    withinMs: 30_000,
  });
  const attempts: readonly (readonly [string, string])[] = [
    ['PUT', `/queues/api/queues/silver/${id}/clean`],
    ['PUT', `/queues/api/queues/silver/${id}/retry`],
    ['PUT', `/queues/api/queues/silver/${id}/promote`],
    ['PUT', '/queues/api/queues/silver/clean/completed'],
    ['PUT', '/queues/api/queues/silver/pause'],
    ['PUT', '/queues/api/queues/silver/empty'],
    ['PUT', '/queues/api/queues/silver/obliterate'],
    ['PUT', '/queues/api/queues/pause'],
    ['POST', '/queues/api/queues/silver/add'],
    ['PATCH', `/queues/api/queues/silver/${id}/update-data`],
  ];
  for (const [method, path] of attempts) {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ name: 'x', data: {}, options: {} });
    const { status } = await fetch(`${address}${path}`, { method, headers, body });
    assert.equal(status, 405, `${method} ${path}`);
  }
  assert.equal((await completed()).jobs[0]?.id, id);
});

test('AC3 with tokens the board takes Basic credentials, and nothing else does', async (t) => {
  const { address } = await servePipeline(t, { redis: await redis(), tokens: TOKENS });
  const ask = (path: string, authorization?: string) =>
    fetch(`${address}${path}`, { headers: authorization ? { authorization } : {} });
  const basic = `Basic ${Buffer.from(`anybody:${OPERATOR_TOKEN}`).toString('base64')}`;
  const refused = await ask('/queues');
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('www-authenticate') ?? '', /^Basic /);
  assert.equal((await ask('/queues/api/queues')).status, 401);
  assert.equal((await ask('/queues', basic)).status, 200);
  assert.equal((await ask('/queues/api/queues', basic)).status, 200);
  assert.equal((await ask('/v1/status', basic)).status, 401);
  assert.equal((await ask('/v1/status', `Bearer ${OPERATOR_TOKEN}`)).status, 200);
});
