/** `reconcile` as users call it: what it prints, and its exit codes. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';
import { cli, type CliRun } from '../../support/cli-host.ts';
import { SILVER_LAKE_PIPELINE, SilverLake } from '../../support/silver-lake.ts';

const DATES = ['2020-01-01', '2020-01-02', '2020-01-03'] as const;

async function lakeOf(t: TestContext) {
  const cwd = await mkdtemp(join(tmpdir(), 'tidemark-reconcile-'));
  t.after(() => rm(cwd, { recursive: true }));
  await writeFile(join(cwd, 'tidemark.yaml'), SILVER_LAKE_PIPELINE);
  const lake = await SilverLake.open();
  await lake.write(DATES.map((date) => ({ at: `${date}T08:00:00Z` })));
  await lake.stream(t);
  const run = (...argv: readonly string[]): Promise<CliRun> =>
    cli(['reconcile', ...argv], {
      cwd,
      adapters: {
        openStore: async () => lake.store,
        openCodec: async () => createParquetCodec(),
      },
    });
  return { lake, run };
}

test('what was made final is told although a date failed, whose error gives the exit code', async (t) => {
  const { lake, run } = await lakeOf(t);
  await lake.lose(DATES[1]);
  const { exitCode, stdout } = await run('--json');
  assert.equal(exitCode, 1);
  const { dates } = JSON.parse(stdout) as {
    dates: { date: string; outcome: string; error?: { kind: string; code: string } }[];
  };
  assert.deepEqual(
    dates.map(({ date, outcome, error }) => [date, outcome, error?.kind, error?.code]),
    [
      [DATES[0], 'reconciled', undefined, undefined],
      [DATES[1], 'failed', 'corrupt', 'TM_OBJECT_MISSING'],
      [DATES[2], 'reconciled', undefined, undefined],
    ],
  );
  const again = await run();
  assert.equal(again.exitCode, 1);
  assert.match(
    again.stdout,
    /^2020-01-02 failed: data file silver\/usage\/2020-01-02\/.* is gone$/m,
  );
});

test('a range takes in both ends; dates that are none and half a range are refused', async (t) => {
  const { run } = await lakeOf(t);
  const { exitCode, stdout } = await run('--from', DATES[0], '--to', DATES[1], '--json');
  assert.equal(exitCode, 0);
  const { dates } = JSON.parse(stdout) as { dates: { date: string }[] };
  assert.deepEqual(
    dates.map(({ date }) => date),
    DATES.slice(0, 2),
  );
  for (const argv of [
    ['--date', '2020-02-30'],
    ['--from', DATES[0]],
    ['--from', DATES[1], '--to', DATES[0]],
    ['--date', DATES[0], '--to', DATES[1]],
  ]) {
    assert.equal((await run(...argv)).exitCode, 2, argv.join(' '));
  }
});
