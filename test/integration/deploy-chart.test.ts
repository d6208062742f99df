/** The Helm chart: linted, rendered in its variants, and decoded strictly as Kubernetes would. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { loadPipeline } from '../../src/config.ts';
import { chartFolder, heapBytes, memoryBytes, readProjectFile } from '../support/deploy-files.ts';
import { deployCheck, helm, renderChart, templateChart } from '../support/deploy-tools.ts';

const ROLES = ['supervisor', 'worker', 'writer'] as const;

const EVERYTHING = {
  image: { digest: `sha256:${'0'.repeat(64)}`, pullSecrets: [{ name: 'registry' }] },
  secrets: { s3: { name: 'lake-key' } },
  env: [
    { name: 'KAFKA_PASSWORD', valueFrom: { secretKeyRef: { name: 'kafka', key: 'password' } } },
  ],
  extraVolumes: [{ name: 'ca', secret: { secretName: 'kafka-ca' } }],
  extraVolumeMounts: [{ name: 'ca', mountPath: '/etc/kafka-ca', readOnly: true }],
  serviceAccount: { annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/tidemark' } },
  podLabels: { team: 'data' },
  podAnnotations: { note: 'x' },
  supervisor: {
    nodeSelector: { pool: 'system' },
    priorityClassName: 'high',
    ingress: {
      enabled: true,
      className: 'nginx',
      annotations: { note: 'x' },
      tls: [{ hosts: ['tidemark.example.com'], secretName: 'tls' }],
    },
  },
  worker: {
    tolerations: [{ key: 'spot', operator: 'Exists' }],
    affinity: { podAntiAffinity: {} },
    autoscaling: { mode: 'hpa' },
  },
  networkPolicy: {
    ingressFrom: [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }],
    kafka: { to: [{ ipBlock: { cidr: '10.0.0.0/16' } }], ports: [9093, 9094] },
    extraEgress: [{ ports: [{ protocol: 'TCP', port: 8443 }] }],
  },
  metrics: {
    serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
    prometheusRule: { enabled: true },
    dashboard: { enabled: true },
  },
};

const keda = (trigger: string) => ({
  worker: { autoscaling: { mode: 'keda', keda: { trigger, authenticationRef: 'kafka' } } },
});

const VARIANTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  defaults: {},
  everything: EVERYTHING,
  'KEDA on Kafka': keda('kafka'),
  'KEDA on Prometheus': keda('prometheus'),
  bare: {
    serviceAccount: { create: false },
    podDisruptionBudget: { enabled: false },
    networkPolicy: { enabled: false },
    secrets: { redis: { name: '' } },
  },
};

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly data: Readonly<Record<string, string>>;
}

interface Container {
  readonly args: readonly string[];
  readonly env: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: unknown;
  }[];
  readonly resources: { readonly limits: { readonly memory: string } };
  readonly startupProbe: unknown;
  readonly livenessProbe: unknown;
  readonly readinessProbe?: unknown;
  readonly securityContext: unknown;
  readonly volumeMounts: readonly { readonly name: string; readonly readOnly?: boolean }[];
}

interface DeploymentSpec {
  readonly replicas?: number;
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
  readonly template: {
    readonly metadata: { readonly labels: Readonly<Record<string, string>> };
    readonly spec: {
      readonly terminationGracePeriodSeconds: number;
      readonly securityContext: { readonly runAsNonRoot: boolean };
      readonly containers: readonly [Container];
    };
  };
}

async function manifestsOf(
  values: Readonly<Record<string, unknown>>,
): Promise<readonly Manifest[]> {
  const documents = parseAllDocuments(await renderChart(values));
  return documents
    .map((document) => document.toJS() as Manifest | null)
    .filter((one) => one !== null);
}

function deploymentOf(manifests: readonly Manifest[], role: string): DeploymentSpec {
  const found = manifests.find(
    ({ kind, metadata }) => kind === 'Deployment' && metadata.name.endsWith(`-${role}`),
  );
  assert.ok(found, role);
  return found.spec as unknown as DeploymentSpec;
}

const kindsOf = (manifests: readonly Manifest[]): Set<string> =>
  new Set(manifests.map(({ kind }) => kind));

test('helm lint finds nothing', async () => {
  const { exitCode, stdout, stderr } = await helm(['lint', '--strict', chartFolder]);
  assert.equal(exitCode, 0, stdout + stderr);
});

for (const [name, values] of Object.entries(VARIANTS)) {
  test(`Kubernetes knows every field of what is rendered: ${name}`, async () => {
    const rendered = await renderChart(values);
    const { documents } = await deployCheck<{ documents: number }>(['manifests'], {
      stdin: rendered,
    });
    assert.ok(documents >= 5);
  });
}

test('the strict decoding notices a misspelled field, so it proves something', async () => {
  const rendered = await renderChart();
  const misspelled = rendered.replace('terminationGracePeriodSeconds', 'terminationGraceSeconds');
  await assert.rejects(
    deployCheck(['manifests'], { stdin: misspelled }),
    /unknown field "spec.template.spec.terminationGraceSeconds"/,
  );
});

test('a release has a Deployment per role, each with its own count', async () => {
  const manifests = await manifestsOf({
    supervisor: { replicas: 3 },
    worker: { replicas: 5 },
    writer: { replicas: 4 },
  });
  const counts = ROLES.map((role) => deploymentOf(manifests, role).replicas);
  assert.deepEqual(counts, [3, 5, 4]);
});

test('selectors find the pods of their own role only', async () => {
  const manifests = await manifestsOf({});
  const labels = ROLES.map((role) => deploymentOf(manifests, role).template.metadata.labels);
  const matches = (selector: Readonly<Record<string, string>>): number =>
    labels.filter((own) => Object.entries(selector).every(([key, value]) => own[key] === value))
      .length;
  for (const role of ROLES) {
    assert.equal(matches(deploymentOf(manifests, role).selector.matchLabels), 1, role);
  }
  for (const { kind, metadata, spec } of manifests) {
    if (kind !== 'PodDisruptionBudget') continue;
    const { matchLabels } = spec['selector'] as { matchLabels: Record<string, string> };
    assert.equal(matches(matchLabels), 1, metadata.name);
  }
});

test('pods are unprivileged, probed, bounded, and get longer to end than they take to drain', async () => {
  const manifests = await manifestsOf({ drainGraceSeconds: 40 });
  for (const role of ROLES) {
    const { spec } = deploymentOf(manifests, role).template;
    const [container] = spec.containers;
    assert.equal(spec.securityContext.runAsNonRoot, true);
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    assert.ok(container.startupProbe && container.livenessProbe, role);
    assert.equal(container.readinessProbe !== undefined, role === 'supervisor');
    const heap = container.env.find(({ name }) => name === 'NODE_OPTIONS')?.value;
    assert.ok(heapBytes(heap) <= memoryBytes(container.resources.limits.memory) / 2, role);
    assert.deepEqual(container.args, [
      role,
      '-c',
      '/etc/tidemark/pipeline.yaml',
      '--id',
      '$(POD_NAME)',
      '--grace',
      '40s',
    ]);
    assert.ok(spec.terminationGracePeriodSeconds >= 45, role);
  }
});

test('secrets are named, never contained', async () => {
  const manifests = await manifestsOf(EVERYTHING);
  assert.ok(!kindsOf(manifests).has('Secret'));
  for (const role of ROLES) {
    const [container] = deploymentOf(manifests, role).template.spec.containers;
    const secret = container.env.filter(({ name }) => /TOKEN|KEY|PASSWORD|URL/.test(name));
    assert.ok(secret.length >= 5);
    assert.ok(secret.every(({ value, valueFrom }) => value === undefined && valueFrom));
  }
});

for (const [mode, kind] of [
  ['hpa', 'HorizontalPodAutoscaler'],
  ['keda', 'ScaledObject'],
] as const) {
  test(`with ${mode} the autoscaler alone decides how many workers run`, async () => {
    const manifests = await manifestsOf({ worker: { autoscaling: { mode } } });
    assert.equal(deploymentOf(manifests, 'worker').replicas, undefined);
    assert.equal(deploymentOf(manifests, 'writer').replicas, 2);
    const scalers = manifests.filter((one) => /Autoscaler|ScaledObject/.test(one.kind));
    assert.deepEqual(
      scalers.map((one) => one.kind),
      [kind],
    );
    const target = scalers[0]!.spec['scaleTargetRef'] as { name: string };
    assert.equal(target.name, 'events-tidemark-worker');
  });
}

test('KEDA watches the group to which the pipeline commits', async () => {
  const manifests = await manifestsOf({ worker: { autoscaling: { mode: 'keda' } } });
  const { spec } = manifests.find(({ kind }) => kind === 'ScaledObject')!;
  const [trigger] = spec['triggers'] as { metadata: Record<string, string> }[];
  const pipeline = pipelineOf(manifests);
  assert.equal(pipeline.source.kind, 'kafka');
  if (pipeline.source.kind !== 'kafka') return;
  assert.equal(trigger!.metadata['consumerGroup'], `tidemark-${pipeline.source.clientId}`);
  assert.equal(trigger!.metadata['topic'], pipeline.source.topic);
  // A float in a text would be 50000.0 or 5e+04.
  assert.equal(trigger!.metadata['lagThreshold'], '50000');
});

test('nothing is reached but DNS, Kafka, Redis and S3, and nobody reaches workers', async () => {
  const manifests = await manifestsOf({});
  const policies = manifests.filter(({ kind }) => kind === 'NetworkPolicy');
  const [all, supervisor] = policies.map(({ spec }) => spec);
  assert.deepEqual(all!['ingress'], []);
  const egress = all!['egress'] as { ports: { port: number }[] }[];
  const ports = egress.flatMap((rule) => rule.ports.map(({ port }) => port));
  assert.deepEqual([...new Set(ports)], [53, 9092, 6379, 443]);
  const ingress = supervisor!['ingress'] as { ports: unknown[]; from: unknown[] }[];
  assert.equal(ingress.length, 1);
  assert.ok(ingress[0]!.from.length > 0, 'an empty list would let everybody in');
});

test('the mounted pipeline file is valid, listens for others and asks them for tokens', async () => {
  const { http } = pipelineOf(await manifestsOf({})).supervisor;
  assert.deepEqual([http.host, http.port], ['0.0.0.0', 8080]);
  assert.deepEqual(
    http.tokens.map(({ role }) => role),
    ['operator', 'viewer'],
  );
});

function pipelineOf(manifests: readonly Manifest[]): ReturnType<typeof loadPipeline> {
  const map = manifests.find(({ metadata }) => metadata.name.endsWith('-pipeline'));
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-chart-'));
  try {
    writeFileSync(join(folder, 'pipeline.yaml'), map?.data['pipeline.yaml'] ?? '');
    const environment = {
      REDIS_URL: 'redis://redis:6379',
      TIDEMARK_OPERATOR_TOKEN: 'operator-token',
      TIDEMARK_VIEWER_TOKEN: 'viewer-token',
    };
    return loadPipeline('pipeline.yaml', { environment, cwd: folder });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a change of the pipeline makes new pods', async () => {
  const annotations = async (values: Readonly<Record<string, unknown>>) =>
    /checksum\/pipeline: \w+/.exec(await renderChart(values))?.[0];
  assert.notEqual(
    await annotations({}),
    await annotations({ pipeline: { late: { after: '3h' } } }),
  );
});

test('rules and dashboard reach the cluster as they are in the chart', async () => {
  const manifests = await manifestsOf({ metrics: EVERYTHING.metrics });
  const dashboard = manifests.find(({ metadata }) => metadata.name.endsWith('-dashboard'));
  const file = readProjectFile('deploy/helm/tidemark/files/dashboard.json');
  assert.deepEqual(JSON.parse(dashboard!.data['tidemark.json']!), JSON.parse(file));
  const rules = manifests.find(({ kind }) => kind === 'PrometheusRule');
  const checked = await deployCheck<unknown[]>(['rules'], { stdin: JSON.stringify(rules!.spec) });
  assert.ok(checked.length > 8);
});

const REFUSED: Readonly<Record<string, readonly [Readonly<Record<string, unknown>>, RegExp]>> = {
  'an unknown key': [{ wroker: {} }, /wroker/],
  'no replicas': [{ writer: { replicas: 0 } }, /replicas/],
  'an embedded source': [{ pipeline: { source: { kind: 'embedded' } } }, /kind/],
  'embedded state': [{ pipeline: { state: { kind: 'embedded' } } }, /kind/],
  'an HTTP side of the pipeline file': [{ pipeline: { supervisor: {} } }, /pipeline/],
  'another autoscaler': [{ worker: { autoscaling: { mode: 'vpa' } } }, /mode/],
  'no memory limit': [{ worker: { resources: { limits: { memory: null } } } }, /memory/],
};

for (const [name, [values, named]] of Object.entries(REFUSED)) {
  test(`values are refused: ${name}`, async () => {
    const { exitCode, stderr } = await templateChart(values);
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /values don't meet the specifications/);
    assert.match(stderr, named);
  });
}
