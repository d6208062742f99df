/** A Kafka broker that says what a test tells it to, for answers that a real one gives only in bad luck. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { API, NO_TOPIC_ID } from '../../src/storage/source/kafka-api.ts';
import { WireReader, WireWriter } from '../../src/storage/source/kafka-wire.ts';

/** What one fetched partition answers. */
export interface FakeFetch {
  readonly error?: number;
  readonly latest?: bigint;
  readonly records?: Uint8Array;
  readonly divergedAt?: bigint;
  /** The broker closes the connection instead of answering. */
  readonly hangUp?: boolean;
  readonly throttleMs?: number;
}

/** One partition of a fetch request as the broker reads it. */
export interface FakeFetchRequest {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly leaderEpoch: number;
  readonly lastFetchedEpoch: number;
}

/** Changing these changes the answers from then on. */
export interface FakeBroker {
  readonly port: number;
  topicId: string;
  metadataError: number;
  partitions: number;
  /** Port of the broker that leads all partitions. */
  leaderPort: number;
  leaderEpoch: number;
  fetchVersionMax: number;
  onFetch: (request: FakeFetchRequest) => FakeFetch;
  /** Sees a whole fetch request first; by default passes each partition to `onFetch`. */
  onFetchRequest: (requests: readonly FakeFetchRequest[]) => FakeBroker['onFetch'];
  /** Counts of requests, by API key. */
  readonly requests: Map<number, number>;
}

/** Starts a broker on the loopback; it ends with the test. */
export async function startFakeBroker(t: TestContext): Promise<FakeBroker> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    let held = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      held = Buffer.concat([held, chunk as Buffer]);
      while (held.length >= 4 && held.length >= 4 + held.readInt32BE(0)) {
        const end = 4 + held.readInt32BE(0);
        answer(broker, socket, held.subarray(4, end));
        held = held.subarray(end);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const broker: FakeBroker = {
    port,
    topicId: '11111111-1111-4111-8111-111111111111',
    metadataError: 0,
    partitions: 1,
    leaderPort: port,
    leaderEpoch: 5,
    fetchVersionMax: API.fetch.max,
    onFetch: () => ({}),
    onFetchRequest: () => broker.onFetch,
    requests: new Map(),
  };
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return broker;
}

function answer(broker: FakeBroker, socket: Socket, request: Buffer): void {
  const header = new WireReader(request, false);
  const [apiKey, version, correlationId] = [header.int16(), header.int16(), header.int32()];
  const clientIdBytes = Buffer.byteLength(header.string());
  const body = request.subarray(8 + 2 + clientIdBytes);
  broker.requests.set(apiKey, (broker.requests.get(apiKey) ?? 0) + 1);
  const answers: Record<number, () => WireWriter | undefined> = {
    [API.apiVersions.key]: () => apiVersions(broker),
    [API.metadata.key]: () => metadata(broker),
    [API.fetch.key]: () => fetchAnswer(broker, version, body),
  };
  const writer = answers[apiKey]?.();
  if (!writer) return void socket.destroy();
  const payload = writer.finish();
  const frame = Buffer.alloc(8);
  frame.writeInt32BE(4 + payload.length, 0);
  frame.writeInt32BE(correlationId, 4);
  socket.write(Buffer.concat([frame, payload]));
}

function apiVersions(broker: FakeBroker): WireWriter {
  const versions = Object.values(API).map(({ key, min, max }) => ({
    key,
    min,
    max: key === API.fetch.key ? broker.fetchVersionMax : max,
  }));
  const writer = new WireWriter(false);
  return writer
    .int16(0)
    .array(versions, ({ key, min, max }) => writer.int16(key).int16(min).int16(max));
}

function metadata(broker: FakeBroker): WireWriter {
  const w = new WireWriter(true);
  w.endStruct().int32(0);
  w.array([broker.leaderPort], (port) =>
    w.int32(port).string('127.0.0.1').int32(port).nullString().endStruct(),
  );
  w.nullString().int32(broker.leaderPort);
  w.array([broker], ({ metadataError, topicId, partitions }) => {
    w.int16(metadataError)
      .string('topic')
      .uuid(metadataError ? NO_TOPIC_ID : topicId)
      .int8(0);
    w.array(metadataError ? [] : Array.from({ length: partitions }, (_, i) => i), (partition) => {
      w.int16(0).int32(partition).int32(broker.leaderPort).int32(broker.leaderEpoch);
      for (let replicas = 0; replicas < 3; replicas++) w.array([], () => {});
      w.endStruct();
    });
    w.int32(0).endStruct();
  });
  return w.endStruct();
}

function fetchAnswer(broker: FakeBroker, version: number, body: Buffer): WireWriter | undefined {
  const flexible = version >= 12;
  const r = new WireReader(body, flexible);
  r.endStruct();
  r.raw(4 + 4 + 4 + 4 + 1 + 4 + 4);
  const requests = r
    .array(() => {
      const topic = version >= 13 ? r.uuid() : r.string();
      const partitions = r.array(() => {
        const partition = r.int32();
        const leaderEpoch = r.int32();
        const offset = r.int64();
        const lastFetchedEpoch = flexible ? r.int32() : -1;
        r.raw(12);
        r.endStruct();
        return { topic, partition, offset, leaderEpoch, lastFetchedEpoch };
      });
      r.endStruct();
      return partitions;
    })
    .flat();
  const respond = broker.onFetchRequest(requests);
  const fetched = requests.map((request) => ({ request, result: respond(request) }));
  if (fetched.some(({ result }) => result.hangUp)) return undefined;
  const throttleMs = Math.max(0, ...fetched.map(({ result }) => result.throttleMs ?? 0));
  const w = new WireWriter(flexible);
  w.endStruct().int32(throttleMs).int16(0).int32(0);
  w.array([requests[0]!.topic], (topic) => {
    if (version >= 13) w.uuid(topic);
    else w.string(topic);
    w.array(fetched, ({ request, result }) => {
      const { error = 0, latest = 0n, records = new Uint8Array(0), divergedAt } = result;
      w.int32(request.partition).int16(error).int64(latest).int64(latest).int64(0n);
      w.array([], () => {})
        .int32(-1)
        .bytes(records);
      if (divergedAt === undefined) w.endStruct();
      else {
        // One tagged field: tag 0 of 13 bytes, the diverging epoch.
        w.raw(Uint8Array.of(1, 0, 13))
          .int32(1)
          .int64(divergedAt)
          .endStruct();
      }
    });
    w.endStruct();
  });
  return w.endStruct();
}
