/** What deploy/ holds, read as its users would read it. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';
import { pipelineFamilies, processFamilies } from '../../src/supervisor/http/pipeline-metrics.ts';
import { nameOfRoot } from '../../src/storage/query/lake-catalog.ts';
import type { Status } from '../../src/supervisor/http/api-schemas.ts';

export const projectDir = resolve(import.meta.dirname, '../..');
export const composeFolder = join(projectDir, 'deploy/compose');
export const chartFolder = join(projectDir, 'deploy/helm/tidemark');

export function readProjectFile(path: string): string {
  return readFileSync(join(projectDir, path), 'utf8');
}

/** A service of the compose file, in the notations that the file uses. */
export interface ComposeService {
  readonly image: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly (string | { readonly type: string; readonly target: string })[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly stop_grace_period?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly deploy: {
    readonly replicas?: number;
    readonly resources: { readonly limits: { readonly cpus: string; readonly memory: string } };
  };
}

/** Variables of the example of an .env file. */
export function exampleEnvironment(): Record<string, string> {
  const lines = readProjectFile('deploy/compose/.env.example').split('\n');
  return Object.fromEntries(
    lines
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

/** The services of compose.yaml, merges done and `${NAME:?hint}` replaced from `environment`. */
export function composeServices(
  environment: Readonly<Record<string, string>>,
): Readonly<Record<string, ComposeService>> {
  const text = readProjectFile('deploy/compose/compose.yaml').replace(
    /\$\{(\w+):\?[^}]*\}/g,
    (_, name: string) => {
      const value = environment[name];
      if (value === undefined) throw new Error(`compose.yaml needs ${name}`);
      return value;
    },
  );
  const file = parse(text, { merge: true }) as { services: Record<string, ComposeService> };
  return file.services;
}

/** Whether a service runs Tidemark's own image. */
export function runsTidemark(service: ComposeService): boolean {
  return service.build !== undefined;
}

/** `512m`, `1536Mi`, `3g` in bytes. */
export function memoryBytes(text: string): number {
  const match = /^(\d+)([mg])i?$/i.exec(text);
  if (!match) throw new Error(`${text} is no amount of memory`);
  return Number(match[1]) * (match[2]!.toLowerCase() === 'g' ? 2 ** 30 : 2 ** 20);
}

/** Heap that NODE_OPTIONS allows, bytes. */
export function heapBytes(nodeOptions: string | number | undefined): number {
  const match = /^--max-old-space-size=(\d+)$/.exec(String(nodeOptions));
  if (!match) throw new Error(`${nodeOptions} sets no heap`);
  return Number(match[1]) * 2 ** 20;
}

/** Every expression of the dashboard, its variables replaced by texts that parse. */
export function dashboardExpressions(): readonly string[] {
  const dashboard = JSON.parse(readProjectFile('deploy/helm/tidemark/files/dashboard.json')) as {
    readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
    readonly annotations: { readonly list: readonly { readonly expr: string }[] };
  };
  return [
    ...dashboard.panels.flatMap(({ targets }) => targets ?? []),
    ...dashboard.annotations.list,
  ].map(({ expr }) => expr.replaceAll('$job', 'tidemark'));
}

/** Alerts of the rule file. */
export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export function alertRules(): readonly AlertRule[] {
  const file = parse(readProjectFile('deploy/helm/tidemark/files/rules.yaml')) as {
    readonly groups: readonly { readonly rules: readonly AlertRule[] }[];
  };
  return file.groups.flatMap(({ rules }) => rules);
}

/** Names of samples in an expression. */
export function metricNamesIn(expression: string): readonly string[] {
  return expression.match(/\b(?:tidemark|process)_\w+/g) ?? [];
}

/**
 * What a leading supervisor exports: label names by the name of a sample, from a pipeline in which
 * every family has one.
 */
export function exportedMetrics(): ReadonlyMap<string, ReadonlySet<string>> {
  const families = [
    ...processFamilies({ memoryBytes: 1, cpuSeconds: 1, startedAtSeconds: 1 }, []),
    ...pipelineFamilies(
      BUSY,
      new Map([['bronze', { buckets: [{ seconds: 1, count: 1 }], count: 1, sumSeconds: 1 }]]),
    ),
  ];
  const labels = new Map<string, Set<string>>();
  for (const { name, samples } of families) {
    for (const { suffix = '', labels: own = {} } of samples) {
      const known = labels.get(`${name}${suffix}`) ?? new Set<string>();
      for (const label of Object.keys(own)) known.add(label);
      labels.set(`${name}${suffix}`, known);
    }
  }
  return labels;
}

const INSTANT = '2026-11-23T00:00:00Z';

const BUSY: Status = {
  pipeline: 'events',
  readAt: INSTANT,
  health: 'ok',
  findings: [],
  isPaused: false,
  supervisor: { id: 'a', isLeading: true, leader: 'a' },
  partitions: [
    {
      topic: 'events',
      partition: 0,
      worker: 'w',
      nextOffset: 1,
      endOffset: 2,
      lag: 1,
      lagSeconds: 1,
      watermark: INSTANT,
      state: 'running',
      reason: null,
    },
  ],
  writers: [{ unit: 'gold', worker: 'w', state: 'running', reason: null }],
  hops: [
    { stage: 'bronze', behind: 1, lagSeconds: 1 },
    { stage: 'silver', behind: 1, lagSeconds: 1 },
    { stage: 'gold', behind: 1, lagSeconds: 1 },
  ],
  tables: [
    {
      name: nameOfRoot('bronze/events'),
      version: 1,
      rows: 1,
      files: 1,
      bytes: 1,
      committedAt: INSTANT,
    },
  ],
  queues: [{ name: 'silver', waiting: 0, active: 0, delayed: 0, completed: 0, failed: 0 }],
  ledger: {
    checkedAt: INSTANT,
    ok: true,
    records: 3_000,
    events: 2_900,
    duplicates: 90,
    conflicts: 0,
    deadLetters: 10,
  },
  totals: {
    bronzeRows: 1,
    silverRows: 1,
    duplicates: 1,
    conflicts: 1,
    deadLetters: 1,
    late: 1,
    restarts: 1,
  },
  rates: { recordsPerSecond: 1, eventsPerSecond: 1 },
  memory: { processBytes: 1, inFlightBytes: 1 },
  workers: { alive: 1, draining: 0 },
};
