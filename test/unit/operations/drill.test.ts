/** What a drill makes, breaks and reports, in parts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parsePipeline } from '../../../src/config.ts';
import { difference } from '../../../src/operations/drill/audit.ts';
import { drillFile } from '../../../src/operations/drill/definition.ts';
import { drillReport } from '../../../src/operations/drill/drill-report.ts';
import type { ScenarioResult } from '../../../src/operations/drill/drill.ts';
import { Feed } from '../../../src/operations/drill/feed.ts';
import { withOutages } from '../../../src/operations/drill/outages.ts';
import { TcpProxy } from '../../../src/operations/drill/tcp-proxy.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import type { NewRecord } from '../../../src/storage/source/record-sink.ts';
import { systemAmbient } from '../../../src/ambient.ts';
import { someAdapters } from '../../support/cli-host.ts';

test('a drill uses the services of a pipeline, under names of its own, without its secrets', () => {
  const text = JSON.stringify({
    name: 'mine',
    source: {
      kind: 'kafka',
      brokers: ['k:9092'],
      topic: 'orders',
      tls: { caFile: '/ca.pem' },
      sasl: { mechanism: 'scram-sha-512', username: 'u', password: 'kafka-secret' },
    },
    lake: { kind: 's3', bucket: 'lake', prefix: 'prod', region: 'eu-west-1' },
    state: { kind: 'redis', url: 'redis://:redis-secret@r:6379', prefix: 'team' },
    event: {
      id: 'id',
      time: 'at',
      schema: { version: 1, fields: { id: 'string', at: 'timestamp' } },
    },
    gold: [{ name: 'g', window: '1h', groupBy: ['id'], measures: { n: { fn: 'count' } } }],
  });
  const mine = parsePipeline(text, { environment: {}, cwd: '/' });
  assert.ok(mine.ok);
  const { definition, variables } = drillFile(mine.config, { name: 'drill-x', folder: '/tmp/x' });
  const written = JSON.stringify(definition);
  assert.doesNotMatch(written, /secret"|kafka-secret|redis-secret|orders|"mine"/);

  const parsed = parsePipeline(written, { environment: variables, cwd: '/tmp/x' });
  assert.ok(parsed.ok);
  const { source, lake, state, reconcile } = parsed.config;
  assert.ok(source.kind === 'kafka' && lake.kind === 's3' && state.kind === 'redis');
  assert.deepEqual([source.topic, source.clientId], ['drill-x', 'drill-x']);
  assert.deepEqual(source.sasl, mine.config.source.kind === 'kafka' && mine.config.source.sasl);
  assert.equal(source.tls?.caFile, '/ca.pem');
  assert.equal(lake.prefix, 'prod/drill-x');
  assert.deepEqual([state.url, state.prefix], ['redis://:redis-secret@r:6379', 'team']);
  assert.equal(reconcile.enabled, false);
});

test('without a pipeline everything is embedded, below the folder of the drill', () => {
  const { definition } = drillFile(undefined, { name: 'drill-x', folder: '/tmp/x' });
  const parsed = parsePipeline(JSON.stringify(definition), { environment: {}, cwd: '/' });
  assert.ok(parsed.ok);
  const { source, lake, state } = parsed.config;
  assert.ok(source.kind === 'embedded' && lake.kind === 'fs' && state.kind === 'embedded');
  assert.deepEqual(
    [source.path, lake.path, state.path],
    ['/tmp/x/log', '/tmp/x/lake', '/tmp/x/state'],
  );
});

test('the worst table says what was lost and what was doubled', () => {
  const checks = [
    { what: 'bronze rows', expected: 10, actual: 12, countsRows: true },
    { what: 'silver distinct ids', expected: 9, actual: 6, countsRows: true },
    { what: 'drill_daily requests', expected: 9, actual: 8, countsRows: true },
    { what: 'silver request bytes', expected: 900, actual: 100, countsRows: false },
  ];
  assert.deepEqual(difference(checks), { lost: 3, duplicated: 2 });
  assert.deepEqual(difference([]), { lost: 0, duplicated: 0 });
});

test('a feed knows what it sent: events once, copies as copies (FE1)', async () => {
  const sent: NewRecord[] = [];
  const sink = {
    description: 'memory',
    append: async (records: readonly NewRecord[]) => void sent.push(...records),
    close: async () => {},
  };
  const feed = new Feed({ sink, clock: systemAmbient.clock, rate: 100, seed: 3 });
  await feed.flood({ records: 3_000, late: 0.5 });
  await feed.repeatAll(true);
  const truth = feed.truth();
  const events = sent.flatMap(({ value }): { event_id: string; response_bytes: number }[] => {
    try {
      return [JSON.parse(value.toString())];
    } catch {
      return [];
    }
  });
  const byId = new Map(events.map((event) => [event.event_id, event]));
  const bytes = [...byId.values()].reduce((sum, event) => sum + event.response_bytes, 0);
  assert.equal(feed.produced, sent.length);
  assert.deepEqual(
    { ...truth, late: truth.late > 1_400, requestBytes: 0 },
    {
      records: sent.length,
      events: byId.size,
      late: true,
      invalid: sent.length - events.length,
      requestBytes: 0,
      responseBytes: bytes,
    },
  );
  assert.equal(events.length, 2 * byId.size);
  await feed.close();
});

test('a proxy that is cut drops connections and refuses new ones until it is restored (TP1)', async (t) => {
  const server = createServer((socket) => socket.pipe(socket).on('error', () => {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const proxy = await TcpProxy.open({ host: '127.0.0.1', port });
  t.after(async () => {
    await proxy.close();
    server.close();
  });
  const dial = (): Socket => {
    const [host, proxyPort] = proxy.address.split(':');
    return connect({ host: host!, port: Number(proxyPort) }).on('error', () => {});
  };
  const echo = async (socket: Socket): Promise<string> => {
    socket.write('hello');
    const [data] = (await once(socket, 'data')) as [Buffer];
    return data.toString();
  };
  const closed = (socket: Socket): Promise<void> =>
    new Promise((resolve) => socket.once('close', () => resolve()));
  const first = dial();
  assert.equal(await echo(first), 'hello');
  proxy.cut();
  await closed(first);
  await closed(dial());
  proxy.restore();
  const last = dial();
  assert.equal(await echo(last), 'hello');
  last.destroy();
});

test('an outage fails every call of a store, and of two commits one has landed (OU1)', async (t) => {
  const folder = newFolder(t);
  const store = new MemoryObjectStore(systemAmbient);
  const adapters = withOutages(someAdapters({ openStore: async () => store }), folder);
  const broken = await adapters.openStore(undefined as never);
  const body = Buffer.from('x');
  await broken.put('a', body);
  writeFileSync(join(folder, 'store'), '');
  await assert.rejects(broken.get('a'), { kind: 'unavailable' });
  await assert.rejects(broken.put('b', body), { kind: 'unavailable' });
  assert.equal(await broken.createIfAbsent('c', body), 'unknown');
  assert.equal(await broken.createIfAbsent('d', body), 'unknown');
  rmSync(join(folder, 'store'));
  assert.ok(await broken.get('c'));
  assert.equal(await broken.get('d'), undefined);
});

test('a report shows each scenario with its lag, escaped, without script or network', () => {
  const result: ScenarioResult = {
    scenario: 'crash',
    breaks: 'SIGKILL <all>',
    promised: { commitAgainMs: 10_000, caughtUpMs: 60_000 },
    verdict: 'broken',
    problems: ['silver rows: 1 instead of 2 & more'],
    records: 2,
    events: 2,
    lost: 1,
    duplicated: 0,
    recovery: { commitAgainMs: 1_500, caughtUpMs: undefined },
    fault: { brokenMs: 100, overMs: 300, produced: 2 },
    lag: [
      { atMs: 0, produced: 0, bronze: 0, silver: 0, gold: 0 },
      { atMs: 1_000, produced: 370, bronze: 300, silver: 200, gold: 100 },
    ],
    checks: [],
    seconds: 3,
  };
  const html = drillReport({ ok: false, on: 'Kafka', seconds: 3, scenarios: [result] }, 0);
  assert.match(html, /SIGKILL &lt;all>/);
  assert.match(html, /1 instead of 2 &amp; more/);
  assert.match(html, /aria-label="Lag of crash, at most 500 records, over 1 s"/);
  assert.match(html, /<td>1.5 s<\/td><td>never<\/td>/);
  assert.doesNotMatch(html, /<script|https?:|NaN|undefined/);
});

function newFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-outage-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}
