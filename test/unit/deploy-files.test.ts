/** The files of deploy/ agree with the code, with each other and with what they promise. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadPipeline } from '../../src/config.ts';
import { parseDurationMs } from '../../src/config/quantity.ts';
import { nameOfRoot } from '../../src/storage/query/lake-catalog.ts';
import {
  alertRules,
  composeFolder,
  composeServices,
  dashboardExpressions,
  exampleEnvironment,
  exportedMetrics,
  heapBytes,
  memoryBytes,
  metricNamesIn,
  projectDir,
  readProjectFile,
  runsTidemark,
} from '../support/deploy-files.ts';

const services = composeServices(exampleEnvironment());
const own = Object.entries(services).filter(([, service]) => runsTidemark(service));
const dockerfile = readProjectFile('deploy/Dockerfile');

test('every metric of the dashboard and the alerts is one that supervisors export', () => {
  const exported = exportedMetrics();
  const expressions = [...dashboardExpressions(), ...alertRules().map(({ expr }) => expr)];
  const used = new Set(expressions.flatMap(metricNamesIn));
  assert.ok(used.size > 15, 'the dashboard looks at the pipeline');
  assert.deepEqual(
    [...used].filter((name) => !exported.has(name)),
    [],
  );
});

test('the dashboard shows what an operator asks for', () => {
  const used = new Set(dashboardExpressions().flatMap(metricNamesIn));
  const asked = [
    'tidemark_hop_lag_seconds',
    'tidemark_rows_total',
    'tidemark_commit_duration_seconds_bucket',
    'tidemark_late_rows_total',
    'tidemark_duplicates_total',
    'tidemark_dead_letters_total',
    'tidemark_actor_restarts_total',
    'tidemark_queue_jobs',
    'tidemark_memory_bytes',
    'tidemark_partition_watermark_seconds',
  ];
  assert.deepEqual(
    asked.filter((name) => !used.has(name)),
    [],
  );
});

test('every alert has a severity, a summary and a runbook, and every runbook an alert', () => {
  const alerts = alertRules();
  for (const { alert, labels, annotations } of alerts) {
    assert.match(labels['severity'] ?? '', /^(warning|critical)$/, alert);
    assert.ok(annotations['summary'] && annotations['description'], alert);
  }
  const runbooks = [...readProjectFile('deploy/runbooks/README.md').matchAll(/^## (\w+)$/gm)];
  assert.deepEqual(
    runbooks.map(([, name]) => name),
    alerts.map(({ alert }) => alert),
  );
});

test('the alert on missing commits looks at bronze, by the name that supervisors give it', () => {
  const { expr } = alertRules().find(({ alert }) => alert === 'TidemarkNoCommits')!;
  const [, only, but] = /table=~"(.+?)", table!~"(.+?)"/.exec(expr)!;
  const isWatched = (root: string): boolean => {
    const name = nameOfRoot(root);
    return new RegExp(`^(?:${only})$`).test(name) && !new RegExp(`^(?:${but})$`).test(name);
  };
  const roots = ['bronze/events', 'bronze/events_dlq', 'silver/events', 'gold/events_hourly'];
  assert.deepEqual(roots.filter(isWatched), ['bronze/events']);
});

test('every service of the compose file drops all capabilities and has bounds', () => {
  for (const [name, service] of Object.entries(services)) {
    assert.deepEqual(service.cap_drop, ['ALL'], name);
    assert.deepEqual(service.security_opt, ['no-new-privileges:true'], name);
    assert.ok(memoryBytes(service.deploy.resources.limits.memory) > 0, name);
    assert.ok(Number(service.deploy.resources.limits.cpus) > 0, name);
  }
});

test("Tidemark's services have a read-only root and a heap well below their memory limit", () => {
  assert.deepEqual(own.map(([name]) => name).toSorted(), [
    'generate',
    'prepare',
    'supervisor',
    'worker',
    'writer',
  ]);
  for (const [name, service] of own) {
    assert.equal(service.read_only, true, name);
    const limit = memoryBytes(service.deploy.resources.limits.memory);
    assert.ok(heapBytes(service.environment?.['NODE_OPTIONS']) <= limit / 2, name);
  }
});

test('a service gets longer to stop than it takes to drain', () => {
  for (const name of ['supervisor', 'worker', 'writer']) {
    const { command = [], stop_grace_period: stop = '' } = services[name]!;
    const graceMs = parseDurationMs(command[command.indexOf('--grace') + 1]!)!;
    assert.ok(parseDurationMs(stop)! >= graceMs + 5_000, name);
  }
});

test('two supervisors start, so that one stands by', () => {
  assert.equal(services['supervisor']?.deploy.replicas, 2);
});

test('ports are published on loopback only', () => {
  for (const [name, { ports = [] }] of Object.entries(services)) {
    for (const port of ports) assert.match(port, /^127\.0\.0\.1:/, name);
  }
});

test('images are pinned to exact versions', () => {
  for (const [name, { image }] of Object.entries(services)) {
    if (image !== 'tidemark:local') assert.match(image, /:v?\d+\.\d+\.\d+(-\w+)?$/, name);
  }
  const { devDependencies } = JSON.parse(readProjectFile('package.json')) as {
    readonly devDependencies: Readonly<Record<string, string>>;
  };
  assert.match(dockerfile, new RegExp(`^ARG NODE_IMAGE=node:${devDependencies['node']}-`, 'm'));
});

test('what the compose file mounts is there', () => {
  for (const [name, { volumes = [] }] of Object.entries(services)) {
    const sources = volumes
      .filter((volume) => typeof volume === 'string')
      .map((volume) => volume.split(':')[0]!)
      .filter((source) => source.startsWith('.'));
    for (const source of sources) assert.ok(existsSync(join(composeFolder, source)), name);
  }
});

test('Redis keeps every key, as BullMQ needs it', () => {
  const command = services['redis']?.command ?? [];
  assert.equal(command[command.indexOf('--maxmemory-policy') + 1], 'noeviction');
});

test("the compose file's pipeline is valid in the environment that its services get", () => {
  for (const [, service] of own) {
    const environment = Object.fromEntries(
      Object.entries(service.environment ?? {}).map(([name, value]) => [name, String(value)]),
    );
    const config = loadPipeline('pipeline.yaml', { environment, cwd: composeFolder });
    assert.equal(config.supervisor.http.host, '0.0.0.0');
    assert.deepEqual(
      config.supervisor.http.tokens.map(({ role }) => role),
      ['operator', 'viewer'],
    );
  }
});

test('the image runs as a numbered user, starts by tini and holds only what exists', () => {
  assert.match(dockerfile, /^USER [1-9]\d*:[1-9]\d*$/m);
  assert.match(dockerfile, /^ENTRYPOINT \["\/usr\/bin\/tini", "--", "node", /m);
  assert.match(dockerfile, /^HEALTHCHECK /m);
  const ignored = readProjectFile('deploy/Dockerfile.dockerignore');
  const copies = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)];
  const sources = copies.flatMap(([, names]) => names!.split(' '));
  assert.ok(sources.length >= 5);
  for (const source of sources) {
    assert.ok(existsSync(join(projectDir, source)), source);
    assert.match(ignored, new RegExp(`^!${source.replaceAll('.', '\\.')}$`, 'm'), source);
  }
});
