/** Addresses of brokers, and the map from what they advertise to where they are reached. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import {
  mappedSocketFactory,
  parseBrokerAddress,
} from '../../../src/storage/source/kafka-addresses.ts';

test('an address has a host, an IPv6 one in brackets, and a port that may be left out', () => {
  assert.deepEqual(parseBrokerAddress('kafka-1:9093'), { host: 'kafka-1', port: 9093 });
  assert.deepEqual(parseBrokerAddress('[::1]:9093'), { host: '::1', port: 9093 });
  assert.deepEqual(parseBrokerAddress('kafka-1'), { host: 'kafka-1', port: 9092 });
  assert.throws(() => parseBrokerAddress(''), { code: 'TM_CONFIG_INVALID' });
});

test('a mapped broker is dialled where the map says', async (t) => {
  const server = createServer((socket) => socket.end());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const dial = mappedSocketFactory({ 'nowhere.invalid:9092': `127.0.0.1:${port}` });
  const connected = Promise.withResolvers<void>();
  const socket = dial({
    host: 'nowhere.invalid',
    port: 9092,
    ssl: null as never,
    onConnect: () => connected.resolve(),
  });
  await connected.promise;
  assert.equal(socket.remotePort, port);
  socket.destroy();
});
