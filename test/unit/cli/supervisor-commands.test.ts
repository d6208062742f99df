/** `workers`, `rebalance`, `pause`, `resume` and `drain` against a server over a control in memory. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { stringify } from 'yaml';
import { cli } from '../../support/cli-host.ts';
import {
  type HttpParts,
  listeningServer,
  OPERATOR_TOKEN,
  TOKENS,
  VIEWER_TOKEN,
} from '../../support/http-fixture.ts';

type Run = (
  args: readonly string[],
  environment?: Readonly<Record<string, string>>,
) => ReturnType<typeof cli>;

/** A pipeline file that leads to `port`, and a way to run commands on it. */
function commandLine(t: TestContext, http: Readonly<Record<string, unknown>>): Run {
  const cwd = mkdtempSync(join(tmpdir(), 'tidemark-cli-'));
  t.after(() => rmSync(cwd, { recursive: true, force: true }));
  const pipeline = {
    name: 'usage-events',
    event: {
      id: 'id',
      time: 'at',
      schema: { version: 1, fields: { id: 'string', at: 'timestamp' } },
    },
    gold: [{ name: 'hourly', window: '1h', groupBy: [], measures: { n: { fn: 'count' } } }],
    supervisor: { http },
  };
  writeFileSync(join(cwd, 'tidemark.yaml'), stringify(pipeline));
  return (args, environment = {}) => cli(args, { cwd, environment });
}

async function world(
  t: TestContext,
  tokens: typeof TOKENS = [],
  fileTokens: typeof TOKENS = [],
): Promise<HttpParts & { readonly run: Run; readonly address: string }> {
  const parts = await listeningServer(t, { tokens });
  const port = Number(new URL(parts.address).port);
  return { ...parts, run: commandLine(t, { port, tokens: fileTokens }) };
}

test('each command asks the supervisor for what it is named after', async (t) => {
  const { run, control } = await world(t);
  const runs = [
    ['pause'],
    ['resume'],
    ['rebalance'],
    ['rebalance', '--strategy', 'even', '--dry-run'],
    ['drain', 'worker-1'],
    ['drain', 'worker-1', '--undo'],
  ];
  for (const args of runs) {
    const { exitCode, stdout, stderr } = await run(args);
    assert.equal(exitCode, 0, stderr);
    assert.notEqual(stdout, '');
  }
  assert.deepEqual(control.asked, [
    { isPaused: true },
    { isPaused: false },
    { rebalance: 'sticky', dryRun: false },
    { rebalance: 'even', dryRun: true },
    { drain: 'worker-1', draining: true },
    { drain: 'worker-1', draining: false },
  ]);
});

test('workers lists them as a table, and as one JSON document', async (t) => {
  const { run } = await world(t);
  const text = await run(['workers']);
  assert.match(text.stdout, /^worker-1 +running +0 1 +1 +gold +128\.0 MiB/m);
  const { stdout } = await run(['workers', '--json']);
  const { workers } = JSON.parse(stdout) as { workers: { id: string; units: string[] }[] };
  assert.deepEqual(
    workers.map(({ id }) => id),
    ['worker-1', 'worker-2'],
  );
});

test('rebalance says what moves, and --json gives the moves', async (t) => {
  const { run } = await world(t);
  const planned = await run(['rebalance', '--dry-run']);
  assert.match(planned.stdout, /^1 unit would move:/);
  assert.match(planned.stdout, /^partition:2 +worker-1 +worker-2$/m);
  const { stdout } = await run(['rebalance', '--json']);
  assert.equal((JSON.parse(stdout) as { outcome: string }).outcome, 'carried out');
});

test('the token comes from TIDEMARK_TOKEN, else from the operator of the pipeline file', async (t) => {
  const bare = await world(t, TOKENS);
  const without = await bare.run(['pause']);
  assert.equal(without.exitCode, 2);
  assert.match(without.stderr, /put it into TIDEMARK_TOKEN/);
  const wrong = await bare.run(['pause'], { TIDEMARK_TOKEN: 'nobody-knows-me-000' });
  assert.match(wrong.stderr, /does not know this token/);
  const viewer = await bare.run(['pause'], { TIDEMARK_TOKEN: VIEWER_TOKEN });
  assert.equal(viewer.exitCode, 2);
  assert.match(viewer.stderr, /role operator/);
  const operator = await bare.run(['pause'], { TIDEMARK_TOKEN: OPERATOR_TOKEN });
  assert.equal(operator.exitCode, 0, operator.stderr);

  const own = await world(t, TOKENS, TOKENS);
  assert.equal((await own.run(['pause'])).exitCode, 0);
  const elsewhere = await own.run(['pause', '--url', own.address]);
  assert.equal(elsewhere.exitCode, 2, 'the token of the file goes nowhere else');
});

test('what cannot be is refused in words with exit code 2', async (t) => {
  const { run, control } = await world(t);
  const refusals: readonly (readonly [readonly string[], RegExp])[] = [
    [['drain', 'worker-7'], /There is no live worker worker-7/],
    [['drain', '../x'], /no worker's name/],
    [['drain'], /missing required argument/i],
    [['rebalance', '--strategy', 'wild'], /sticky or even/],
    [['pause', '--url', 'ftp://x'], /--url takes a URL/],
    [['pause', '--url', 'http://user:secret@host'], /--url takes a URL/],
  ];
  for (const [args, says] of refusals) {
    const { exitCode, stderr } = await run(args);
    assert.equal(exitCode, 2, args.join(' '));
    assert.match(stderr, says);
  }
  assert.deepEqual(control.asked, []);
});

test('a supervisor that is not there ends the command with 3, an unknown port with 2', async (t) => {
  const absent = await commandLine(t, { port: 9 })(['workers']);
  assert.equal(absent.exitCode, 3);
  assert.match(absent.stderr, /no supervisor answers at http:\/\/127\.0\.0\.1:9/);
  const unknown = await commandLine(t, { port: 0 })(['workers']);
  assert.equal(unknown.exitCode, 2);
  assert.match(unknown.stderr, /give --url/);
});
