/**
 * The object store contract on a real S3 server, and a lost response made by a proxy before it.
 * Needs TIDEMARK_TEST_S3_ENDPOINT, TIDEMARK_TEST_S3_BUCKET, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
 */
import assert from 'node:assert/strict';
import { createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, it, type TestContext } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { probeConditionalCreate } from '../../src/storage/object-store/probe.ts';
import { S3ObjectStore } from '../../src/storage/object-store/s3-object-store.ts';
import { objectStoreContract } from '../contract/object-store.contract.ts';

function setting(name: string): string {
  const value = process.env[name];
  assert.ok(value, `${name} is not set; this test needs a real S3 server`);
  return value;
}

const endpoint = setting('TIDEMARK_TEST_S3_ENDPOINT');
const bucket = setting('TIDEMARK_TEST_S3_BUCKET');
setting('AWS_ACCESS_KEY_ID');
setting('AWS_SECRET_ACCESS_KEY');
/** Everything of this run lies below it. */
const runPrefix = `object-store-test/${systemAmbient.ids.id()}`;

function openAt(prefix: string, at = endpoint): S3ObjectStore {
  return new S3ObjectStore({
    lake: { kind: 's3', bucket, prefix, endpoint: at, region: 'us-east-1', forcePathStyle: true },
    ambient: systemAmbient,
  });
}

after(async () => {
  const store = openAt(runPrefix);
  const deletions: Promise<void>[] = [];
  for await (const { key } of store.list('')) deletions.push(store.delete(key));
  await Promise.all(deletions);
  await store.close();
});

objectStoreContract('S3', async () => {
  const prefix = `${runPrefix}/${systemAmbient.ids.id()}`;
  return { open: async () => openAt(prefix) };
});

/**
 * A proxy that passes requests on; while `dropping`, it waits for the server's answer and then closes the
 * connection instead of passing it back.
 */
async function responseDropper(t: TestContext): Promise<{ url: string; dropping: boolean }> {
  const target = new URL(endpoint);
  const state = { url: '', dropping: false };
  const server = createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    const { hostname: host, port } = target;
    const options = { host, port, method, path: url, headers, agent: false };
    const passed = httpRequest(options, (answer) => {
      if (state.dropping) {
        answer.resume().once('end', () => outgoing.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  // The Host header is signed: the server behind sees the proxy's.
  state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return state;
}

it('S1 a create whose response is lost is unknown, and the object is there, whole', async (t) => {
  const proxy = await responseDropper(t);
  const prefix = `${runPrefix}/dropped`;
  const [store, direct] = [openAt(prefix, proxy.url), openAt(prefix)];
  const body = Buffer.from('{"commitInfo":{"txnId":"mine"}}\n');
  proxy.dropping = true;
  assert.equal(await store.createIfAbsent('0.json', body), 'unknown');
  assert.deepEqual(Buffer.from((await direct.get('0.json'))!), body);
  assert.equal(await store.createIfAbsent('0.json', body), 'unknown');
  proxy.dropping = false;
  assert.equal(await store.createIfAbsent('0.json', body), 'exists');
  assert.equal(await store.createIfAbsent('1.json', body), 'created');
  await Promise.all([store.close(), direct.close()]);
});

it('S3 a large data file is one PUT and comes back byte for byte', async () => {
  const store = openAt(`${runPrefix}/large`);
  const body = Buffer.alloc(64 << 20);
  for (let i = 0; i < body.length; i += 4096) body.writeUInt32LE(i, i);
  await store.put('data.parquet', body);
  assert.equal((await store.head('data.parquet'))?.sizeBytes, body.length);
  assert.equal(Buffer.compare((await store.get('data.parquet'))!, body), 0);
  await store.close();
});

it('a listing of more than one page is complete and in order', async () => {
  const store = openAt(`${runPrefix}/pages`);
  const keys = Array.from({ length: 1100 }, (_, i) => `log/${String(i).padStart(20, '0')}.json`);
  for (let i = 0; i < keys.length; i += 60) {
    await Promise.all(keys.slice(i, i + 60).map((key) => store.put(key, Buffer.from(key))));
  }
  const listed = async (startAfter: string): Promise<string[]> => {
    const found: string[] = [];
    for await (const info of store.list('log/', { startAfter })) found.push(info.key);
    return found;
  };
  assert.deepEqual(await listed(''), keys);
  assert.deepEqual(await listed(keys[99]!), keys.slice(100));
  await store.close();
});

it('a missing bucket is told as such', async () => {
  const store = new S3ObjectStore({
    lake: {
      kind: 's3',
      bucket: 'no-such-bucket-of-tidemark',
      prefix: '',
      endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
    },
    ambient: systemAmbient,
  });
  await assert.rejects(store.get('k'), { kind: 'invalid', code: 'TM_STORE_DENIED' });
  await assert.rejects(store.createIfAbsent('k', new Uint8Array()), { kind: 'invalid' });
  await store.close();
});

it('the start-up probe accepts the server and leaves nothing behind', async () => {
  const store = openAt(`${runPrefix}/probed`);
  await probeConditionalCreate(store, systemAmbient.ids);
  for await (const { key } of store.list('')) assert.fail(`${key} was left`);
  await store.close();
});
