/** The pipeline file: defaults, environment, and every way to get it wrong (invariants C1 to C3). */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatProblem } from '../../src/config/problem.ts';
import { pipelineJsonSchema } from '../../src/config/pipeline-file.ts';
import { describeConfig, loadPipeline, parsePipeline } from '../../src/config.ts';
import { PipelineError } from '../../src/errors.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';

const root = join(import.meta.dirname, '..', '..');

const EVENT = `
event:
  id: id
  time: at
  schema:
    fields: {id: string, at: timestamp, customer: string, bytes: long, price: "decimal(18,6)"}
`;
const GOLD = `
gold: [{name: hourly, window: 1h, groupBy: [customer], measures: {n: {fn: count}}}]
`;
const MINIMAL = `name: usage\n${EVENT}${GOLD}`;

function parse(text: string, environment: Record<string, string> = {}) {
  return parsePipeline(text, { environment, cwd: '/work' });
}

function configOf(text: string, environment: Record<string, string> = {}): PipelineConfig {
  const parsed = parse(text, environment);
  assert.ok(parsed.ok, parsed.ok ? '' : parsed.problems.map(formatProblem).join('\n'));
  return parsed.config;
}

function problemsOf(text: string, environment: Record<string, string> = {}): string[] {
  const parsed = parse(text, environment);
  return parsed.ok ? [] : parsed.problems.map(formatProblem);
}

/** Asserts that exactly one problem is found, and that its text has every given part. */
function assertProblem(text: string, ...parts: string[]): void {
  const problems = problemsOf(text);
  assert.equal(problems.length, 1, problems.join('\n') || 'no problem was found');
  for (const part of parts)
    assert.ok(problems[0]!.includes(part), `${problems[0]} lacks "${part}"`);
}

test('a file of name, event and gold gets every default (C3)', () => {
  const config = configOf(MINIMAL);
  assert.deepEqual(config.source, {
    kind: 'embedded',
    path: '/work/tidemark-data/log',
    topic: 'usage',
    partitions: 4,
    key: undefined,
    maxRecordBytes: 16 * 2 ** 20,
  });
  assert.deepEqual(config.lake, { kind: 'fs', path: '/work/tidemark-data/lake' });
  assert.deepEqual(config.state, { kind: 'embedded', path: '/work/tidemark-data/state' });
  assert.deepEqual(config.commit, { maxLatencyMs: 1000, maxRows: 200_000, maxBytes: 2 ** 26 });
  assert.deepEqual(config.late, {
    afterMs: 7_200_000,
    futureToleranceMs: 300_000,
    idlePartitionMs: 60_000,
  });
  assert.deepEqual(config.event.time, { field: 'at', unit: 'rfc3339' });
  assert.equal(config.event.schemaVersion, 1);
  assert.deepEqual(config.retention.bronze, {
    hotMs: 90 * 86_400_000,
    archiveMs: 7 * 365 * 86_400_000,
  });
  assert.deepEqual(config.supervisor.http, { host: '127.0.0.1', port: 8080, tokens: [] });
  assert.deepEqual(config.limits, {
    inFlightBytes: 128 * 2 ** 20,
    batchCacheBytes: 128 * 2 ** 20,
    goldStateBytes: 256 * 2 ** 20,
    dedupBytes: 512 * 2 ** 20,
  });
  assert.equal(config.dedupBuckets, 16);
  assert.equal(config.silverWriters, 1);
});

test('a pipeline name with hyphens becomes a table name with underscores', () => {
  assert.equal(configOf(MINIMAL.replace('usage', 'api-usage-2')).tableName, 'api_usage_2');
});

test('every key of the design parses, in block and in flow style', () => {
  const config = configOf(
    `
name: api-usage-events
source:
  kind: kafka
  brokers: [127.0.0.1:9092, "[::1]:9093", kafka.internal:9094]
  topic: api-usage-events
  tls: {caFile: ca.pem}
  sasl: {mechanism: scram-sha-512, username: u, password: \${PASSWORD}}
  addressMap: {"kafka.internal:9094": "127.0.0.1:19094"}
  maxRecordBytes: 1MiB
lake: {kind: s3, bucket: lake, prefix: /prod/, endpoint: http://127.0.0.1:7070, forcePathStyle: true}
state: {kind: redis, url: "redis://:\${PASSWORD}@127.0.0.1:6379", prefix: tm}
commit: {maxLatency: 250ms, maxRows: \${ROWS:-10}, maxBytes: 16KB}
late: {after: 90m, futureTolerance: 0s, idlePartition: 30s}
silver: {dedupBuckets: 4, writers: 2}
retention: {bronze: {hot: 30d, archive: 1y}}
supervisor: {http: {host: 0.0.0.0, port: 9000, tokens: [{name: ops, role: operator, token: \${TOKEN}}]}}
limits: {inFlight: 64MiB, batchCache: 0B, goldState: 1GiB}
${EVENT}${GOLD}`,
    { PASSWORD: '12345', TOKEN: 't0ken' },
  );
  assert.deepEqual(config.source, {
    kind: 'kafka',
    brokers: ['127.0.0.1:9092', '[::1]:9093', 'kafka.internal:9094'],
    topic: 'api-usage-events',
    clientId: 'api-usage-events',
    tls: {
      caFile: '/work/ca.pem',
      certFile: undefined,
      keyFile: undefined,
      serverName: undefined,
    },
    sasl: { mechanism: 'scram-sha-512', username: 'u', password: '12345' },
    addressMap: { 'kafka.internal:9094': '127.0.0.1:19094' },
    maxRecordBytes: 2 ** 20,
  });
  assert.deepEqual(config.lake, {
    kind: 's3',
    bucket: 'lake',
    prefix: 'prod',
    endpoint: 'http://127.0.0.1:7070',
    region: 'us-east-1',
    forcePathStyle: true,
  });
  assert.deepEqual(config.commit, { maxLatencyMs: 250, maxRows: 10, maxBytes: 16_000 });
  assert.equal(config.dedupBuckets, 4);
  assert.equal(config.silverWriters, 2);
  assert.equal(config.supervisor.http.tokens[0]!.token, 't0ken');
});

test('the example pipelines are valid and name the published schema', () => {
  const folder = join(root, 'examples');
  const names = readdirSync(folder);
  assert.ok(names.length >= 2);
  for (const name of names) {
    const file = join(folder, name, 'tidemark.yaml');
    loadPipeline(file, { environment: {}, cwd: '/work' });
    assert.match(
      readFileSync(file, 'utf8'),
      /^# yaml-language-server: \$schema=.*pipeline\.schema/,
    );
  }
});

test('the published JSON Schema is what the parser checks (run tools/publish-schema.ts)', () => {
  const published = readFileSync(join(root, 'schema', 'pipeline.schema.json'), 'utf8');
  assert.deepEqual(JSON.parse(published), pipelineJsonSchema());
});

test('all problems of a file come at once, in line order (C1)', () => {
  const problems = problemsOf(`name: Usage
sorce: {}
commit: {maxLatency: 5 minutes}
event:
  id: idd
  time: at
  schema: {fields: {id: string, at: long, x: bigint}}
gold:
  - {name: g, window: 7h, groupBy: [idz], measures: {m: {fn: sum}, k: {fn: median}}}
`);
  const starts = [
    'line 1, name: found "Usage"',
    'line 2, sorce: found an unknown key',
    'line 3, commit.maxLatency: found "5 minutes"; expected a duration',
    'line 5, event.id: found "idd", which is not declared',
    'line 7, event.schema.fields.x: found "bigint", which names the unknown type',
    'line 7, event.schema.fields.at: found another type for the event time; expected timestamp',
    'line 9, gold[0].measures.k.fn: found "median"; expected one of count, sum',
    'line 9, gold[0].window',
    'line 9, gold[0].groupBy[0]',
    'line 9, gold[0].measures.m: found sum without a field',
  ];
  for (const start of starts) {
    assert.ok(
      problems.some((p) => p.startsWith(start)),
      `${start} is missing from:\n${problems.join('\n')}`,
    );
  }
  assert.equal(problems.length, starts.length);
});

test('a misspelt key, field or type comes with what was probably meant', () => {
  assertProblem(`${MINIMAL}lat: {}`, 'lat: found an unknown key', 'did you mean "late"?');
  assertProblem(`${MINIMAL}commit: {maxRow: 3}`, 'commit.maxRow', 'did you mean "maxRows"?');
  assertProblem(
    MINIMAL.replace('[customer]', '[custmer]'),
    'gold[0].groupBy[0]',
    'did you mean "customer"?',
  );
  assertProblem(MINIMAL.replace('bytes: long', 'bytes: lnog'), 'did you mean long?');
  assertProblem(MINIMAL.replace('bytes: long', 'bytes: timestamp_ntz'), 'did you mean timestamp?');
});

test('a variable that is not set is one problem, with its line and the remedy', () => {
  assertProblem(
    `${MINIMAL}supervisor: {http: {tokens: [{name: a, role: viewer, token: \${NOPE}}]}}`,
    'line 10, supervisor.http.tokens[0].token',
    'set NOPE, or give a default as ${NOPE:-default}',
  );
});

test('an escaped reference and one in a comment are left alone', () => {
  const text = `# \${NOT_SET}\n${MINIMAL}lake: {kind: fs, path: "a$\${b}"}`;
  assert.deepEqual(configOf(text).lake, { kind: 'fs', path: '/work/a${b}' });
});

test('characters that mask references are ordinary ones in a file', () => {
  for (const path of ['\uE0000\uE001', '\uE00099\uE001', '\uE000']) {
    const literal = configOf(`${MINIMAL}lake: {kind: fs, path: "a${path}\${b:-c}"}`, {});
    assert.deepEqual(literal.lake, { kind: 'fs', path: `/work/a${path}c` });
  }
  const escaped = configOf(`${MINIMAL}lake: {kind: fs, path: "\\uE0009\\uE001"}`);
  assert.deepEqual(escaped.lake, { kind: 'fs', path: '/work/\uE0009\uE001' });
});

test('secrets and values from the environment never appear in a message (C2)', () => {
  const problems = problemsOf(
    `name: \${SECRET}
source: {kind: embedded, partitions: \${SECRET}, key: \${SECRET}}
state: {kind: redis, url: "http://user:hunter2@host"}
${EVENT}
gold: [{name: g, window: \${SECRET}, groupBy: [\${SECRET}], measures: {n: {fn: count}}}]`,
    { SECRET: 'S3cr3t Value' },
  );
  assert.ok(problems.length >= 5, problems.join('\n'));
  assert.doesNotMatch(problems.join('\n'), /S3cr3t|hunter2/);
});

test('describeConfig hides passwords, tokens and credentials in URLs (C2)', () => {
  const config = configOf(
    `${MINIMAL}
source: {kind: kafka, brokers: ["b:1"], topic: t, sasl: {mechanism: oauthbearer, tokenUrl: "https://id/t", clientId: c, clientSecret: hunter2}}
state: {kind: redis, url: "rediss://user:hunter2@host:1/0"}
supervisor: {http: {tokens: [{name: ops, role: operator, token: hunter2}]}}`,
  );
  const shown = JSON.stringify(describeConfig(config));
  assert.doesNotMatch(shown, /hunter2|user/);
  assert.match(shown, /rediss:\/\/\*\*\*:\*\*\*@host:1\/0/);
  assert.match(shown, /"name":"ops"/);
});

const REFUSED: Readonly<Record<string, readonly [text: string, ...parts: string[]]>> = {
  'SASL PLAIN without TLS': [
    `${MINIMAL}source: {kind: kafka, brokers: ["b:1"], topic: t, sasl: {mechanism: plain, username: u, password: p}}`,
    'source.sasl.mechanism',
    'scram-sha-512',
  ],
  'Kafka without a topic': [`${MINIMAL}source: {kind: kafka, brokers: ["b:1"]}`, 'source.topic'],
  'a token from two places': [
    `${MINIMAL}source: {kind: kafka, brokers: ["b:1"], topic: t, sasl: {mechanism: oauthbearer, tokenFile: f, clientId: c}}`,
    'either tokenFile, or tokenUrl',
  ],
  'a token URL in clear': [
    `${MINIMAL}source: {kind: kafka, brokers: ["b:1"], topic: t, sasl: {mechanism: oauthbearer, tokenUrl: "http://id.example/t", clientId: c, clientSecret: s}}`,
    'an https URL',
  ],
  'an open address without tokens': [
    `${MINIMAL}supervisor: {http: {host: 0.0.0.0}}`,
    'supervisor.http.host',
    'tokens',
  ],
  'one name for two tokens': [
    `${MINIMAL}supervisor: {http: {tokens: [{name: a, role: viewer, token: x}, {name: a, role: viewer, token: y}]}}`,
    'supervisor.http.tokens[1].name',
  ],
  'a column that differs by case only': [
    MINIMAL.replace('bytes: long', 'Customer: long'),
    'event.schema.fields.Customer',
  ],
  'a column of the reserved kind': [
    MINIMAL.replace('bytes: long', '_bytes: long'),
    'does not start with "_"',
  ],
  'a column name that Parquet readers refuse': [
    MINIMAL.replace('bytes: long', '"by tes": long'),
    'rename it',
  ],
  'a field type with a rest': [MINIMAL.replace('bytes: long', 'bytes: "long>"'), 'left over'],
  'an event time that is no timestamp': [MINIMAL.replace('at: timestamp', 'at: long'), 'timestamp'],
  'an id that is a number with a fraction': [
    MINIMAL.replace('{id: string', '{id: double'),
    'event.id',
  ],
  'grouping by a list': [
    MINIMAL.replace('customer: string', 'customer: array<string>'),
    'gold[0].groupBy[0]',
  ],
  'the sum of a text': [
    MINIMAL.replace('{fn: count}', '{fn: sum, field: customer}'),
    'gold[0].measures.n.field',
    'a number',
  ],
  'a measure named like the window': [
    MINIMAL.replace('{n: {fn', '{window_start: {fn'),
    'window_start',
  ],
  'a window that does not divide a day': [MINIMAL.replace('1h', '7h'), 'gold[0].window'],
  'two aggregates of one name': [
    MINIMAL.replace('gold: [', 'gold: [{name: hourly, window: 1d, measures: {n: {fn: count}}}, '),
    'gold[1].name',
  ],
  'an aggregate named like the report': [
    MINIMAL.replace('hourly', 'usage_reconciliation'),
    'reconciliation',
  ],
  'hot longer than archive': [`${MINIMAL}retention: {bronze: {hot: 8y}}`, 'retention.bronze.hot'],
  'an index too small for a span': [`${MINIMAL}limits: {dedup: 63MiB}`, 'limits.dedup'],
  'a budget that no record fits': [`${MINIMAL}limits: {inFlight: 1MiB}`, 'maxRecordBytes'],
  'aliases that multiply beyond all measure': [
    `${MINIMAL}a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]`,
    'Excessive alias count',
  ],
  'a doubled key': [`${MINIMAL}name: again`, 'a key that is there twice'],
  'a number with a unit missing': [`${MINIMAL}late: {after: 3}`, 'late.after: found 3', '2h'],
  'an empty section': [`${MINIMAL}late:`, 'found an empty value', 'a mapping with after'],
};

for (const [what, [text, ...parts]] of Object.entries(REFUSED)) {
  test(`${what} is refused with path and remedy`, () => assertProblem(text, ...parts));
}

test('a missing file is an invalid configuration that names the way out', () => {
  assert.throws(
    () => loadPipeline('none.yaml', { environment: {}, cwd: '/nowhere' }),
    (thrown) =>
      thrown instanceof PipelineError &&
      thrown.code === 'TM_CONFIG_INVALID' &&
      thrown.message.includes('tidemark init'),
  );
});
