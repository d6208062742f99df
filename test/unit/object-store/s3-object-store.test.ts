/** The S3 adapter against a local stub: what each answer, and each silence, is taken for (S1 to S5, E1, E2). */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { it, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { crc32 } from 'node:zlib';
import { systemAmbient } from '../../../src/ambient.ts';
import type { PipelineError } from '../../../src/errors.ts';
import {
  openS3ObjectStore,
  S3ObjectStore,
  type S3Timeouts,
} from '../../../src/storage/object-store/s3-object-store.ts';

process.env['AWS_ACCESS_KEY_ID'] = 'AKIDSTUBSTUBSTUB';
process.env['AWS_SECRET_ACCESS_KEY'] = 'stub-secret';
process.env['AWS_EC2_METADATA_DISABLED'] = 'true';

const body = Buffer.from('{"commitInfo":{}}\n');
const ambient = { clock: systemAmbient.clock, random: { next: () => 0.05 } };

interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

type Answer = (response: ServerResponse, request: Request) => void;

/** An S3 error response. */
function refusal(status: number, code: string, more = ''): Answer {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/xml' });
    response.end(`<Error><Code>${code}</Code><Message>${code} happened</Message>${more}</Error>`);
  };
}

/** Answers the requests in turn, the last answer again and again. */
function stub(t: TestContext, ...answers: Answer[]): ReturnType<typeof stubWith> {
  return stubWith(t, patient, ...answers);
}

async function stubWith(
  t: TestContext,
  timeouts: S3Timeouts,
  ...answers: Answer[]
): Promise<{ store: S3ObjectStore; requests: Request[] }> {
  const requests: Request[] = [];
  const server = createServer((incoming, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of incoming) chunks.push(chunk as Buffer);
      const { method = '', url = '', headers } = incoming;
      const request = { method, url, headers, body: Buffer.concat(chunks) };
      requests.push(request);
      answers[Math.min(requests.length, answers.length) - 1]!(response, request);
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const store = openAt((server.address() as AddressInfo).port, timeouts);
  t.after(async () => {
    await store.close();
    server.closeAllConnections();
    server.close();
  });
  return { store, requests };
}

function openAt(port: number, timeouts: S3Timeouts): S3ObjectStore {
  return new S3ObjectStore({
    lake: {
      kind: 's3',
      bucket: 'lake',
      prefix: 'prod',
      endpoint: `http://127.0.0.1:${port}`,
      region: 'us-east-1',
      forcePathStyle: true,
    },
    ambient,
    timeouts,
  });
}

const impatient = { connectMs: 1000, silenceMs: 1000 };
const patient = { connectMs: 5000, silenceMs: 5000 };
const ok: Answer = (response) => response.writeHead(200, { etag: '"x"' }).end();
const reset: Answer = (response) => response.destroy();
const silence: Answer = () => {};

it('S1 S3 a create is one conditional PUT with length and checksums', async (t) => {
  const { store, requests } = await stub(t, ok);
  assert.equal(await store.createIfAbsent('t/_delta_log/0.json', body), 'created');
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  const [request] = requests;
  assert.equal(request?.method, 'PUT');
  assert.equal(request.url.split('?')[0], '/lake/prod/t/_delta_log/0.json');
  assert.equal(request.headers['if-none-match'], '*');
  assert.equal(request.headers['content-length'], String(body.length));
  assert.equal(request.headers['x-amz-checksum-crc32'], checksum.toString('base64'));
  assert.match(String(request.headers['x-amz-content-sha256']), /^[0-9a-f]{64}$/);
  assert.equal(request.headers.expect, undefined);
  assert.deepEqual(request.body, body);
});

for (const [title, answer, expected] of [
  ['412 is exists', refusal(412, 'PreconditionFailed'), 'exists'],
  ['304 is exists', (response: ServerResponse) => response.writeHead(304).end(), 'exists'],
  ['500 is unknown', refusal(500, 'InternalError'), 'unknown'],
  ['502 is unknown', refusal(502, 'BadGateway'), 'unknown'],
  ['503 SlowDown is unknown', refusal(503, 'SlowDown'), 'unknown'],
  ['503 SlowDownWrite is unknown', refusal(503, 'SlowDownWrite'), 'unknown'],
  ['a reset connection is unknown', reset, 'unknown'],
  ['silence is unknown', silence, 'unknown'],
] as const) {
  it(`S1 E1 a create: ${title}, after one attempt`, async (t) => {
    const limits = answer === silence ? impatient : patient;
    const { store, requests } = await stubWith(t, limits, answer);
    assert.equal(await store.createIfAbsent('k', body), expected);
    assert.equal(requests.length, 1);
  });
}

for (const [title, answer, expected] of [
  ['409', refusal(409, 'ConditionalRequestConflict'), ['unavailable', 'TM_STORE_UNAVAILABLE']],
  ['429', refusal(429, 'TooManyRequests'), ['unavailable', 'TM_STORE_UNAVAILABLE']],
  ['a damaged body', refusal(400, 'BadDigest'), ['unavailable', 'TM_STORE_UNAVAILABLE']],
  ['an expired token', refusal(400, 'ExpiredToken'), ['unavailable', 'TM_STORE_UNAVAILABLE']],
  ['a skewed clock', refusal(403, 'RequestTimeTooSkewed'), ['unavailable', 'TM_STORE_UNAVAILABLE']],
  ['403', refusal(403, 'AccessDenied'), ['invalid', 'TM_STORE_DENIED']],
  ['a missing bucket', refusal(404, 'NoSuchBucket'), ['invalid', 'TM_STORE_DENIED']],
  ['another region', refusal(301, 'PermanentRedirect'), ['invalid', 'TM_CONFIG_INVALID']],
  ['501', refusal(501, 'NotImplemented'), ['invalid', 'TM_STORE_IGNORES_CONDITION']],
] as const) {
  it(`S1 E1 a create refused with ${title} is thrown, after one attempt`, async (t) => {
    const { store, requests } = await stub(t, answer);
    const [kind, code] = expected;
    await assert.rejects(store.createIfAbsent('k', body), { kind, code });
    assert.equal(requests.length, 1);
  });
}

it('E1 a create that no server heard is thrown as unavailable', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const store = openAt(port, impatient);
  await assert.rejects(store.createIfAbsent('k', body), {
    kind: 'unavailable',
    message: /creating k in s3:\/\/lake\/prod: ECONNREFUSED/,
  });
  await store.close();
});

it('S4 a put is tried again after 503, a reset and silence', async (t) => {
  const { store, requests } = await stubWith(
    t,
    impatient,
    refusal(503, 'SlowDown'),
    reset,
    silence,
    ok,
  );
  await store.put('k', body);
  assert.equal(requests.length, 4);
  assert.ok(requests.every((request) => request.body.equals(body)));
});

it('S4 a put gives up after some attempts, as unavailable', async (t) => {
  const { store, requests } = await stub(t, refusal(503, 'ServiceUnavailable'));
  await assert.rejects(store.put('k', body), { kind: 'unavailable' });
  assert.equal(requests.length, 4);
});

it('S3 S4 a body that breaks off is read again, and never returned short', async (t) => {
  const whole: Answer = (response) =>
    response.writeHead(200, { 'content-length': body.length }).end(body);
  const cut: Answer = (response) => {
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, 5), () => response.destroy());
  };
  const { store } = await stub(t, cut, whole);
  assert.deepEqual(Buffer.from((await store.get('k'))!), body);
  const always = await stub(t, cut);
  await assert.rejects(always.store.get('k'), { kind: 'unavailable' });
});

it('S3 a body that does not match its stored checksum is not returned', async (t) => {
  const { store } = await stub(t, (response) => {
    const headers = { 'content-length': body.length, 'x-amz-checksum-crc32': 'AAAAAA==' };
    response.writeHead(200, headers).end(body);
  });
  await assert.rejects(store.get('k'), { kind: 'unavailable' });
});

it('a range that the store ignores is cut here', async (t) => {
  const { store } = await stub(t, (response) =>
    response.writeHead(200, { 'content-length': body.length }).end(body),
  );
  const range = { start: 2, end: 12 };
  assert.equal(Buffer.from((await store.get('k', { range }))!).toString(), 'commitInfo');
});

it('S5 a read from a store that falls silent in the middle ends', async (t) => {
  const { store } = await stubWith(t, { connectMs: 5000, silenceMs: 100 }, (response) => {
    response.writeHead(200, { 'content-length': body.length });
    response.write(body.subarray(0, 5));
  });
  await assert.rejects(store.get('k'), { kind: 'unavailable' });
});

it('S5 requests that wait for a free connection do not time out, and none is lost', async (t) => {
  let running = 0;
  let most = 0;
  const slow: Answer = (response) => {
    most = Math.max(most, ++running);
    setTimeout(() => {
      running--;
      response.writeHead(200, { 'content-length': body.length }).end(body);
    }, 600);
  };
  // The last ones wait for more than twice the time that connecting may take.
  const { store, requests } = await stubWith(t, { connectMs: 1000, silenceMs: 5000 }, slow);
  const reads = await Promise.all(Array.from({ length: 300 }, (_, i) => store.get(`k${i}`)));
  assert.ok(reads.every((read) => read?.length === body.length));
  assert.equal(requests.length, 300);
  assert.ok(most > 8 && most <= 64, `${most} at once`);
});

it('a missing bucket is no missing object', async (t) => {
  const { store } = await stub(t, refusal(404, 'NoSuchBucket'));
  await assert.rejects(store.get('k'), { kind: 'invalid', message: /bucket does not exist/ });
  const noKey = await stub(t, refusal(404, 'NoSuchKey'));
  assert.equal(await noKey.store.get('k'), undefined);
});

it('a skewed clock is explained, with both times', async (t) => {
  const times = '<RequestTime>20260101T000000Z</RequestTime><ServerTime>2026-01-02</ServerTime>';
  const { store } = await stub(t, refusal(403, 'RequestTimeTooSkewed', times));
  await assert.rejects(store.createIfAbsent('k', body), (error: PipelineError) => {
    assert.match(error.message, /clock.*NTP/);
    assert.equal(error.context['requestTime'], '20260101T000000Z');
    assert.equal(error.context['storeTime'], '2026-01-02');
    return true;
  });
});

it('E2 an error shows no credentials, however deeply it is inspected', async (t) => {
  const echo =
    '<AWSAccessKeyId>AKIDSTUBSTUBSTUB</AWSAccessKeyId><StringToSign>signed</StringToSign>';
  const { store } = await stub(t, refusal(403, 'SignatureDoesNotMatch', echo));
  const asks = [() => store.createIfAbsent('k', body), () => store.get('k'), () => store.head('k')];
  for (const ask of asks) {
    const error: unknown = await ask().then(
      () => assert.fail('refused'),
      (thrown: unknown) => thrown,
    );
    const shown = inspect(error, { depth: Infinity, showHidden: true });
    assert.match(shown, /TM_STORE_DENIED/);
    assert.doesNotMatch(shown, /AKID|stub-secret|StringToSign|authorization|Signature=/i);
  }
});

function listing(keys: readonly string[], next?: string): Answer {
  const contents = keys.map((key) => `<Contents><Key>prod/${key}</Key><Size>1</Size></Contents>`);
  const more = next ? `<NextContinuationToken>${next}</NextContinuationToken>` : '';
  return (response) =>
    response.end(
      `<ListBucketResult><IsTruncated>${next !== undefined}</IsTruncated>${more}` +
        `<EncodingType>url</EncodingType>${contents.join('')}</ListBucketResult>`,
    );
}

async function keysOf(store: S3ObjectStore, startAfter = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const info of store.list('t/', { startAfter })) keys.push(info.key);
  return keys;
}

it('a listing follows its pages, drops repeated keys and folder markers', async (t) => {
  const { store, requests } = await stub(
    t,
    listing(['t/', 't/-', 't/0', 't/a+b'], 'more'),
    refusal(503, 'SlowDown'),
    listing(['t/a+b', 't/c%25', 't/d/', 't/e//f']),
  );
  assert.deepEqual(await keysOf(store, 't/.'), ['t/0', 't/a b', 't/c%']);
  const query = (index: number): URLSearchParams =>
    new URL(requests[index]!.url, 'http://stub').searchParams;
  assert.equal(query(0).get('prefix'), 'prod/t/');
  assert.equal(query(0).get('start-after'), 'prod/t/.');
  assert.equal(query(2).get('continuation-token'), 'more');
});

it('a listing out of order, or cut without a token, is refused', async (t) => {
  const disordered = await stub(t, listing(['t/2', 't/1']));
  await assert.rejects(keysOf(disordered.store), { kind: 'invalid', message: /out of order/ });
  const cut = await stub(t, (response) =>
    response.end('<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>'),
  );
  await assert.rejects(keysOf(cut.store), { kind: 'unavailable' });
});

it('missing credentials are told when the store is opened', async () => {
  const saved = process.env['AWS_ACCESS_KEY_ID'];
  delete process.env['AWS_ACCESS_KEY_ID'];
  process.env['AWS_CONFIG_FILE'] = process.env['AWS_SHARED_CREDENTIALS_FILE'] = '/dev/null';
  try {
    const lake = {
      kind: 's3',
      bucket: 'lake',
      prefix: '',
      endpoint: undefined,
      region: 'us-east-1',
      forcePathStyle: false,
    } as const;
    await assert.rejects(openS3ObjectStore({ lake, ambient }), {
      kind: 'invalid',
      code: 'TM_STORE_DENIED',
      message: /no AWS credentials found/,
    });
  } finally {
    process.env['AWS_ACCESS_KEY_ID'] = saved;
  }
});
