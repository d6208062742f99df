/** The state store on a Redis that dies, freezes, fills up, or must not be trusted. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import { systemAmbient } from '../../src/ambient.ts';
import { PipelineError } from '../../src/errors.ts';
import { silentLogger } from '../../src/logger.ts';
import { RedisStateStore } from '../../src/storage/state/redis-state-store.ts';
import { startRedis, type TestServer } from '../../tools/servers.ts';
import { eventually } from '../support/eventually.ts';

const LONG_MS = 60_000;
const COMMAND_TIMEOUT_MS = 1_000;

async function redisServer(t: TestContext, args: readonly string[] = []): Promise<TestServer> {
  const server = await startRedis({ args });
  t.after(() => server.stop());
  return server;
}

function storeOn(t: TestContext, server: TestServer, credentials = ''): RedisStateStore {
  const store = new RedisStateStore({
    url: `redis://${credentials}${server.address}`,
    prefix: 'tidemark:test',
    clock: systemAmbient.clock,
    logger: silentLogger,
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
  });
  t.after(() => store.close());
  return store;
}

/** Another client, for what the store itself would never do. */
function bystander(t: TestContext, server: TestServer): Redis {
  const client = new Redis(`redis://${server.address}`);
  client.on('error', () => undefined);
  t.after(() => client.disconnect());
  return client;
}

const failure =
  (kind: string, code: string, message?: RegExp) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof PipelineError, String(thrown));
    assert.deepEqual([thrown.kind, thrown.code], [kind, code], thrown.message);
    if (message) assert.match(thrown.message, message);
    return true;
  };
const unavailable = failure('unavailable', 'TM_STATE_UNAVAILABLE');

test('a dead Redis fails calls at once, and one that comes back empty serves again by itself', async (t) => {
  const server = await redisServer(t);
  const store = storeOn(t, server);
  await store.setHash('partition:0', { nextOffset: '7' });
  const before = await store.acquireLease('leader', 'a', LONG_MS);
  await server.kill();

  await assert.rejects(store.getHash('partition:0'), unavailable);
  const started = performance.now();
  await assert.rejects(store.setHash('partition:0', { nextOffset: '8' }), unavailable);
  await assert.rejects(store.check(), unavailable);
  assert.ok(performance.now() - started < COMMAND_TIMEOUT_MS);

  await server.restart();
  await eventually(() => store.check());
  // RD1: what failed was not sent later.
  assert.deepEqual(await store.getHash('partition:0'), {});
  assert.ok(before && !(await store.renewLease(before, LONG_MS)));
  const after = await store.acquireLease('leader', 'b', LONG_MS);
  assert.ok(after && after.epoch > before.epoch, 'RS2: epochs grow although the counter is lost');
});

test('a store that was never reachable says so within the timeout', async (t) => {
  const server = await redisServer(t);
  await server.kill();
  const store = storeOn(t, server);
  await assert.rejects(store.check(), unavailable);
  await server.restart();
  await eventually(() => store.check());
});

test('a frozen Redis fails calls within the command timeout, and serves when it thaws', async (t) => {
  const server = await redisServer(t);
  const store = storeOn(t, server);
  await store.setHash('a', { x: '1' });
  await server.kill('SIGSTOP');
  const started = performance.now();
  await assert.rejects(store.getHash('a'), unavailable);
  assert.ok(performance.now() - started < 3 * COMMAND_TIMEOUT_MS, 'RS3');
  await server.kill('SIGCONT');
  await eventually(async () => assert.equal((await store.getHash('a'))['x'], '1'));
});

test('a full Redis is unavailable for writes, not broken, and its state can still be read', async (t) => {
  const server = await redisServer(t);
  const store = storeOn(t, server);
  const admin = bystander(t, server);
  await store.setHash('a', { x: '1' });
  await admin.config('SET', 'maxmemory', '1');
  await assert.rejects(store.setHash('a', { x: '2' }), unavailable);
  await assert.rejects(store.acquireLease('leader', 'a', LONG_MS), unavailable);
  assert.equal((await store.getHash('a'))['x'], '1');
  await admin.config('SET', 'maxmemory', '0');
  await store.setHash('a', { x: '3' });
});

test('a Redis that may evict keys is refused with the remedy', async (t) => {
  const server = await redisServer(t, ['--maxmemory-policy', 'allkeys-lru']);
  await assert.rejects(
    storeOn(t, server).check(),
    failure('invalid', 'TM_STATE_UNSAFE', /allkeys-lru.*noeviction/),
  );
});

test('a replica is refused at the check, and unavailable for writes', async (t) => {
  const primary = await redisServer(t);
  const [host, port] = primary.address.split(':');
  const replica = await redisServer(t, ['--replicaof', `${host} ${port}`]);
  const store = storeOn(t, replica);
  await assert.rejects(store.check(), failure('invalid', 'TM_STATE_UNSAFE', /replica/));
  await assert.rejects(store.setHash('a', { x: '1' }), unavailable);
});

test('a Redis that forbids CONFIG is checked all the same', async (t) => {
  const server = await redisServer(t, ['--rename-command', 'CONFIG', '']);
  assert.deepEqual(await storeOn(t, server).check(), []);
});

test('a wrong password is refused with the remedy and without the password', async (t) => {
  const server = await redisServer(t, ['--requirepass', 'right']);
  const store = storeOn(t, server, ':wrong-secret@');
  await assert.rejects(store.check(), (thrown) => {
    failure('invalid', 'TM_CONFIG_INVALID', /credentials/)(thrown);
    assert.ok(!JSON.stringify(thrown).includes('wrong-secret'));
    return true;
  });
  assert.ok(!store.description.includes('wrong-secret'));
  assert.deepEqual(await storeOn(t, server, ':right@').check(), []);
});

test('keys of somebody else below the prefix are told as such', async (t) => {
  const server = await redisServer(t);
  await bystander(t, server).set('tidemark:test:h:a', 'text');
  await assert.rejects(
    storeOn(t, server).getHash('a'),
    failure('invalid', 'TM_STATE_UNSAFE', /prefix/),
  );
});

test('FLUSHALL while leases are held frees them, and no renewal revives them', async (t) => {
  const server = await redisServer(t);
  const store = storeOn(t, server);
  const lease = await store.acquireLease('leader', 'a', LONG_MS);
  assert.ok(lease);
  await bystander(t, server).flushall();
  assert.equal(await store.renewLease(lease, LONG_MS), false);
  const next = await store.acquireLease('leader', 'b', LONG_MS);
  assert.ok(next && next.epoch > lease.epoch);
});

test('connections that the server closes again and again cost single calls only', async (t) => {
  const server = await redisServer(t);
  const store = storeOn(t, server);
  const admin = bystander(t, server);
  let failed = 0;
  for (let round = 0; round < 20; round += 1) {
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await eventually(async () => {
      try {
        await store.setHash('a', { round: `${round}` });
      } catch (thrown) {
        failed += 1;
        unavailable(thrown);
        throw thrown;
      }
    });
  }
  assert.equal((await store.getHash('a'))['round'], '19');
  assert.ok(failed > 0, 'the fault was there');
});
