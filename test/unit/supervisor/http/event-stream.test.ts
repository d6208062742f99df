import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statusSchema, streamEventSchemas } from '../../../../src/supervisor/http/api-schemas.ts';
import { WATCHERS_MAX } from '../../../../src/supervisor/http/event-stream.ts';
import { eventually } from '../../../support/eventually.ts';
import { listeningServer, TOKENS, VIEWER_TOKEN } from '../../../support/http-fixture.ts';

interface ServerEvent {
  readonly event: string | undefined;
  readonly id: string | undefined;
  readonly data: unknown;
}

/** A stream whose events gather in `events` until it is left. */
async function watch(address: string, headers: Record<string, string> = {}) {
  const leaving = new AbortController();
  const response = await fetch(`${address}/v1/events`, { headers, signal: leaving.signal });
  const events: ServerEvent[] = [];
  const reading = (async () => {
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      const blocks = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n\n');
      rest = blocks.pop()!;
      for (const block of blocks) {
        const field = (name: string): string | undefined =>
          new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
        const data = field('data');
        events.push({ event: field('event'), id: field('id'), data: data && JSON.parse(data) });
      }
    }
  })();
  reading.catch(() => undefined);
  return { response, events, ended: reading, leave: () => leaving.abort() };
}

const named = (events: readonly ServerEvent[], name: string) =>
  events.filter(({ event }) => event === name);

test('a watcher gets the past, the present and what comes', async (t) => {
  const { address, control, activity } = await listeningServer(t);
  activity.onSupervisorEvent({ kind: 'member-joined', memberId: 'worker-1' });
  const { response, events, leave } = await watch(address);
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  assert.equal(response.headers.get('tidemark-role'), 'operator');
  await eventually(() => named(events, 'workers').length === 1);
  assert.deepEqual(
    events.flatMap(({ event }) => event ?? []),
    ['history', 'activity', 'status', 'workers'],
  );
  control.show({ pipeline: 'changed' });
  activity.onSupervisorEvent({ kind: 'member-lost', memberId: 'worker-1' });
  await eventually(() => named(events, 'activity').length === 2);
  const statuses = named(events, 'status').map(({ data }) => statusSchema.parse(data));
  assert.deepEqual(
    statuses.map(({ pipeline }) => pipeline),
    ['usage-events', 'changed'],
  );
  for (const { event, data } of events) {
    if (event) streamEventSchemas[event as keyof typeof streamEventSchemas].parse(data);
  }
  leave();
});

test('a watcher that comes back gets the activities it missed and no other', async (t) => {
  const { address, activity } = await listeningServer(t);
  const joined = (memberId: string) =>
    activity.onSupervisorEvent({ kind: 'member-joined', memberId });
  joined('worker-1');
  joined('worker-2');
  const first = await watch(address);
  await eventually(() => named(first.events, 'activity').length === 2);
  first.leave();
  const lastId = named(first.events, 'activity')[1]!.id!;
  joined('worker-3');
  const second = await watch(address, { 'last-event-id': lastId });
  await eventually(() => named(second.events, 'status').length === 1);
  const missed = named(second.events, 'activity').map(
    ({ data }) => (data as { text: string }).text,
  );
  assert.deepEqual(missed, ['worker-3 joined']);
  second.leave();
});

test('HS4 streams are bounded in number, and a place becomes free again', async (t) => {
  const { address } = await listeningServer(t);
  const watchers = await Promise.all(Array.from({ length: WATCHERS_MAX }, () => watch(address)));
  const refused = await fetch(`${address}/v1/events`);
  assert.equal(refused.status, 429);
  await refused.body?.cancel();
  watchers[0]!.leave();
  await eventually(async () => {
    const { response, leave } = await watch(address);
    leave();
    return response.status === 200;
  });
  for (const { leave } of watchers) leave();
});

test('a stream needs a token like everything else', async (t) => {
  const { address } = await listeningServer(t, { tokens: TOKENS });
  const refused = await fetch(`${address}/v1/events`);
  assert.equal(refused.status, 401);
  await refused.body?.cancel();
  const { response, leave } = await watch(address, { authorization: `Bearer ${VIEWER_TOKEN}` });
  assert.equal(response.headers.get('tidemark-role'), 'viewer');
  leave();
});

test('closing the server ends its streams and lets go of the control', async (t) => {
  const { address, control, options } = await listeningServer(t);
  const { startHttpServer } = await import('../../../../src/supervisor/http/http-server.ts');
  const other = await startHttpServer(options);
  assert.equal(control.listeners, 2);
  const { ended } = await watch(other.address);
  await other.close();
  await ended;
  assert.equal(control.listeners, 1);
  assert.equal((await fetch(`${address}/livez`)).status, 200);
});
