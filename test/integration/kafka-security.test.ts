/** TLS, every SASL mechanism and authorization of the Kafka source, on a real broker that demands them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { PipelineError } from '../../src/errors.ts';
import { silentLogger } from '../../src/logger.ts';
import type { KafkaSasl, KafkaTls } from '../../src/pipeline/pipeline-config.ts';
import type { ApiCall } from '../../src/storage/source/kafka-api.ts';
import { createKafkaClient } from '../../src/storage/source/kafka-client.ts';
import { BrokerConnection } from '../../src/storage/source/kafka-connection.ts';
import { createKafkaEventSource } from '../../src/storage/source/kafka-event-source.ts';
import { openKafkaRecordSink } from '../../src/storage/source/kafka-record-sink.ts';
import { WireReader, WireWriter } from '../../src/storage/source/kafka-wire.ts';
import type { KafkaSourceConfig } from '../../src/storage/source/source-context.ts';
import { startKafka } from '../../tools/servers.ts';
import { eventually } from '../support/eventually.ts';
import { kafkaConfig } from '../support/kafka-topic-fixture.ts';
import { readToEnd } from '../support/source-records.ts';

const context = { ambient: systemAmbient, logger: silentLogger };
const TOPIC = 'guarded';

const folder = mkdtempSync(join(tmpdir(), 'tidemark-security-'));
after(() => rmSync(folder, { recursive: true }));

function keytool(...args: readonly string[]): string {
  const store = [
    '-keystore',
    join(folder, 'server.p12'),
    '-storepass',
    'changeit',
    '-alias',
    'server',
  ];
  return execFileSync('keytool', [...args, ...store], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}
keytool(
  '-genkeypair',
  '-keyalg',
  'RSA',
  '-keysize',
  '2048',
  '-storetype',
  'PKCS12',
  '-dname',
  'CN=localhost',
  '-ext',
  'SAN=ip:127.0.0.1',
  '-validity',
  '2',
);
const caFile = join(folder, 'ca.pem');
writeFileSync(caFile, keytool('-exportcert', '-rfc'));

const plainLogin = 'org.apache.kafka.common.security.plain.PlainLoginModule required';
const oauthLogin = 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required';
const server = await startKafka({
  config: {
    // The listener keeps the harness's name.
    'listener.security.protocol.map': 'CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_SSL',
    'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER',
    'sasl.mechanism.inter.broker.protocol': 'PLAIN',
    'ssl.keystore.location': join(folder, 'server.p12'),
    'ssl.keystore.password': 'changeit',
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': caFile,
    'listener.name.plaintext.plain.sasl.jaas.config': `${plainLogin} username="admin" password="secret" user_admin="secret" user_guest="secret";`,
    'listener.name.plaintext.scram-sha-256.sasl.jaas.config':
      'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    'listener.name.plaintext.scram-sha-512.sasl.jaas.config':
      'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    'listener.name.plaintext.oauthbearer.sasl.jaas.config': `${oauthLogin} unsecuredLoginStringClaim_sub="admin";`,
    // Every session ends after some seconds, so that reading goes through re-authentications.
    'connections.max.reauth.ms': '12000',
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'super.users': 'User:admin;User:ANONYMOUS',
  },
});
after(() => server.stop());

const tls: KafkaTls = { caFile, certFile: undefined, keyFile: undefined, serverName: undefined };
const admin: KafkaSasl = { mechanism: 'plain', username: 'admin', password: 'secret' };

function configFor(
  sasl: KafkaSasl | undefined,
  more: Partial<KafkaSourceConfig> = {},
): KafkaSourceConfig {
  return { ...kafkaConfig(server.address, TOPIC), tls, sasl, ...more };
}

function sourceFor(t: TestContext, config: KafkaSourceConfig) {
  const source = createKafkaEventSource(config, context);
  t.after(() => source.close());
  return source;
}

/** Stores a SCRAM user, which kafkajs cannot. */
async function addScramUser(
  mechanism: 1 | 2,
  digest: string,
  name: string,
  password: string,
): Promise<void> {
  const [host = '', port = ''] = server.address.split(':');
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password, salt, 4096, digest === 'sha256' ? 32 : 64, digest);
  const w = new WireWriter(true);
  w.endStruct().array([], () => {});
  w.array([name], () =>
    w.string(name).int8(mechanism).int32(4096).bytes(salt).bytes(salted).endStruct(),
  );
  w.endStruct();
  const call: ApiCall<number> = {
    apiKey: 51,
    apiName: 'AlterUserScramCredentials',
    apiVersion: 0,
    body: w.finish(),
    decode(payload) {
      const r = new WireReader(payload, true);
      r.endStruct();
      r.int32();
      const errors = r.array(() => {
        r.string();
        const error = r.int16();
        r.nullableString();
        r.endStruct();
        return error;
      });
      return errors[0]!;
    },
  };
  const connection = await BrokerConnection.open(
    { host, port: Number(port) },
    configFor(admin),
    context,
  );
  assert.equal(await connection.request(call), 0);
  connection.close();
}

function unsignedToken(subject: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const nowSeconds = Math.floor(Date.now() / 1000);
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: nowSeconds, exp: nowSeconds + 3600 })}.`;
}

const setup = (async () => {
  const client = await createKafkaClient(configFor(admin), context);
  const kafkaAdmin = client.admin();
  await kafkaAdmin.connect();
  await eventually(() =>
    kafkaAdmin.createTopics({
      waitForLeaders: false,
      topics: [{ topic: TOPIC, numPartitions: 1 }],
    }),
  );
  await kafkaAdmin.disconnect();
  const sink = await openKafkaRecordSink(configFor(admin), context);
  await eventually(() => sink.append([{ key: 'k', value: 'v', timestampMs: Date.now() }]));
  await sink.close();
})();

/** Mechanisms by name, each with what a test needs for it. */
const mechanisms: Record<string, (t: TestContext) => Promise<KafkaSasl>> = {
  PLAIN: async () => admin,
  'SCRAM-SHA-256': async () => {
    await addScramUser(1, 'sha256', 'admin', 'scram secret');
    return { mechanism: 'scram-sha-256', username: 'admin', password: 'scram secret' };
  },
  'SCRAM-SHA-512': async () => {
    await addScramUser(2, 'sha512', 'admin', 'scram secret');
    return { mechanism: 'scram-sha-512', username: 'admin', password: 'scram secret' };
  },
  'OAUTHBEARER from a file': async () => {
    const path = join(folder, 'token');
    writeFileSync(path, `${unsignedToken('admin')}\n`);
    return { mechanism: 'oauthbearer', token: { kind: 'file', path } };
  },
  'OAUTHBEARER by client credentials': async (t) => {
    const endpoint = createServer((request, response) => {
      let form = '';
      request.on('data', (chunk) => (form += String(chunk)));
      request.on('end', () => {
        const right =
          request.headers.authorization ===
            `Basic ${Buffer.from('me:s%26cret').toString('base64')}` &&
          form === 'grant_type=client_credentials&scope=kafka';
        response.statusCode = right ? 200 : 401;
        response.end(JSON.stringify({ access_token: unsignedToken('admin'), expires_in: 3600 }));
      });
    });
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    t.after(() => endpoint.close());
    const tokenUrl = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/token`;
    return {
      mechanism: 'oauthbearer',
      token: {
        kind: 'client-credentials',
        tokenUrl,
        clientId: 'me',
        clientSecret: 's&cret',
        scope: 'kafka',
      },
    };
  },
};

for (const [name, make] of Object.entries(mechanisms)) {
  test(`reads over TLS with ${name}`, async (t) => {
    await setup;
    const sasl = await make(t);
    const source = sourceFor(t, configFor(sasl));
    const content = await eventually(() => readToEnd(source, 0));
    assert.deepEqual(
      content.rows.map(({ value }) => String(value)),
      ['v'],
    );
  });
}

test('reading goes on through the end of a session', async (t) => {
  await setup;
  const source = sourceFor(t, configFor(admin));
  const reader = await source.openPartition(0);
  const endMs = performance.now() + 15_000;
  while (performance.now() < endMs) {
    const result = await reader.fetch({ offset: 1n, maxBytes: 1024, maxWaitMs: 400 });
    assert.equal(result.kind, 'records');
    assert.equal((await source.offsets(0)).latest, 1n);
  }
});

function denied(error: unknown): boolean {
  return (
    error instanceof PipelineError && error.kind === 'invalid' && error.code === 'TM_SOURCE_DENIED'
  );
}

test('wrong credentials are denied, and no secret is in the error', async (t) => {
  await setup;
  for (const mechanism of ['plain', 'scram-sha-512'] as const) {
    const source = sourceFor(t, configFor({ mechanism, username: 'admin', password: 'hunter2' }));
    await assert.rejects(source.describe(), (error: PipelineError) => {
      assert.ok(!JSON.stringify([error.message, error.context]).includes('hunter2'));
      return denied(error);
    });
  }
});

test('a user without rights on the topic is denied', async (t) => {
  await setup;
  const source = sourceFor(
    t,
    configFor({ mechanism: 'plain', username: 'guest', password: 'secret' }),
  );
  await assert.rejects(source.describe(), denied);
});

test('a server whose certificate is not trusted is not talked to', async (t) => {
  await setup;
  const source = sourceFor(t, configFor(admin, { tls: { ...tls, caFile: undefined } }));
  await assert.rejects(
    source.describe(),
    (error: PipelineError) => error.kind === 'unavailable' && /certificate/.test(error.message),
  );
});

test('a certificate file that is not there is named', async (t) => {
  const source = sourceFor(t, configFor(admin, { tls: { ...tls, caFile: '/nowhere/ca.pem' } }));
  await assert.rejects(
    source.describe(),
    (error: PipelineError) =>
      error.code === 'TM_CONFIG_INVALID' && error.message.includes('/nowhere/ca.pem'),
  );
});
