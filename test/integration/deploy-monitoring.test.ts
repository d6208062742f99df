/** Compose file, rules and dashboard, read by the libraries of those who will read them. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  composeFolder,
  composeServices,
  dashboardExpressions,
  exampleEnvironment,
  exportedMetrics,
  readProjectFile,
} from '../support/deploy-files.ts';
import { deployCheck } from '../support/deploy-tools.ts';

interface Selector {
  readonly metric: string;
  readonly labels: readonly string[];
}

/** Labels that Prometheus adds when it scrapes. */
const SCRAPED_LABELS = new Set(['job', 'instance', 'namespace', 'le']);

/** Selectors that no supervisor could answer. */
function unanswerable(selectors: readonly Selector[]): readonly Selector[] {
  const exported = exportedMetrics();
  return selectors.filter(({ metric, labels }) => {
    if (metric === 'up') return false;
    const own = exported.get(metric);
    return !own || labels.some((label) => !own.has(label) && !SCRAPED_LABELS.has(label));
  });
}

const composeFile = join(composeFolder, 'compose.yaml');
const environment = { PATH: process.env['PATH'], ...exampleEnvironment() };

test('the compose file is valid, and reads as the tests read it', async () => {
  const project = await deployCheck<{
    readonly services: Readonly<Record<string, { readonly command: readonly string[] | null }>>;
  }>(['compose', composeFile], { env: environment });
  const services = composeServices(exampleEnvironment());
  for (const name of ['supervisor', 'worker', 'writer', 'prepare']) {
    assert.deepEqual(project.services[name]?.command, services[name]?.command, name);
  }
});

test('the compose file says what to do when there is no .env', async () => {
  await assert.rejects(
    deployCheck(['compose', composeFile], { env: { PATH: process.env['PATH'] } }),
    /copy .env.example to .env/,
  );
});

test('Prometheus takes the alert rules, and every selector names a metric with its labels', async () => {
  const stdin = readProjectFile('deploy/helm/tidemark/files/rules.yaml');
  const rules = await deployCheck<{ readonly selectors: readonly Selector[] }[]>(['rules'], {
    stdin,
  });
  const selectors = rules.flatMap((rule) => rule.selectors);
  assert.ok(selectors.length >= rules.length);
  assert.deepEqual(unanswerable(selectors), []);
});

test('Prometheus takes every query of the dashboard, with metrics and labels that exist', async () => {
  const stdin = JSON.stringify(dashboardExpressions());
  const selectors = (await deployCheck<Selector[][]>(['queries'], { stdin })).flat();
  assert.deepEqual(unanswerable(selectors), []);
});
