/** `sql` and `status` over a small lake. */
import assert from 'node:assert/strict';
import { utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import type { Adapters } from '../../../src/cli/context.ts';
import { PipelineError } from '../../../src/errors.ts';
import { DuckDbLakeQuery } from '../../../src/storage/query/duckdb-lake-query.ts';
import type { EventSource } from '../../../src/storage/source/event-source.ts';
import type { StateStore } from '../../../src/storage/state/state-store.ts';
import type { WorkQueue } from '../../../src/storage/queue/work-queue.ts';
import { cli } from '../../support/cli-host.ts';
import {
  covers,
  FIXTURE_PIPELINE,
  LakeFixture,
  openLakeStore,
} from '../../support/lake-fixture.ts';

async function lakeOf(t: TestContext) {
  const lake = await LakeFixture.open(t);
  await writeFile(join(lake.folder, 'tidemark.yaml'), FIXTURE_PIPELINE);
  await lake.bronze(
    [
      { offset: 0, id: 'a' },
      { offset: 1, id: 'b' },
    ],
    [covers(0, 2)],
    { 0: 2 },
  );
  await lake.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  await lake.silver([{ offset: 1, id: 'b' }], 1, { silverRows: 1 });
  const run = (argv: readonly string[], adapters: Partial<Adapters> = {}, stdin = '') =>
    cli(argv, {
      cwd: lake.folder,
      stdin,
      adapters: {
        openStore: openLakeStore,
        openCodec: async () => lake.codec,
        openQuery: ({ store }) =>
          DuckDbLakeQuery.open({
            store,
            ambient: systemAmbient,
            cacheFolder: join(lake.folder, 'cache'),
          }),
        ...adapters,
      },
    });
  return { lake, run };
}

test('the offset continuity query that users run works as written', async (t) => {
  const { run } = await lakeOf(t);
  const { exitCode, stdout } = await run([
    'sql',
    'SELECT _kafka_partition, MIN(_kafka_offset), MAX(_kafka_offset), COUNT(*), ' +
      'MAX(_kafka_offset)-MIN(_kafka_offset)+1-COUNT(*) AS missing FROM bronze.usage GROUP BY 1',
    '--json',
  ]);
  assert.equal(exitCode, 0);
  assert.deepEqual(JSON.parse(stdout), [
    {
      _kafka_partition: 0,
      'min(_kafka_offset)': '0',
      'max(_kafka_offset)': '1',
      'count_star()': '2',
      missing: '0',
    },
  ]);
});

test('duplicates and lateness of silver are asked as users ask them', async (t) => {
  const { run } = await lakeOf(t);
  const duplicates = 'SELECT id, COUNT(*) FROM silver.usage GROUP BY id HAVING COUNT(*) > 1';
  assert.equal((await run(['sql', duplicates, '--json'])).stdout, '[]\n');
  const late =
    'SELECT COUNT(*) FILTER (_is_late_arriving) AS late, AVG(_arrival_delay_seconds) AS delay FROM silver.usage';
  assert.deepEqual(JSON.parse((await run(['sql', late, '--json'])).stdout), [
    { late: '0', delay: 0 },
  ]);
});

test('a version may be named, the query may come from stdin, and text is a table', async (t) => {
  const { run } = await lakeOf(t);
  const sql = 'SELECT id, _kafka_offset AS n, customer = NULL AS x FROM silver.usage ORDER BY id';
  const newest = await run(['sql', sql]);
  assert.equal(newest.stdout, 'id  n  x\n--  -  ----\na   0  NULL\nb   1  NULL\n');
  const first = await run(['sql', '-', '--at', 'silver.usage=1', '--json'], {}, sql);
  assert.deepEqual(JSON.parse(first.stdout), [{ id: 'a', n: '0', x: null }]);
});

const REFUSED: Readonly<Record<string, readonly [argv: readonly string[], said: RegExp]>> = {
  'an unknown table': [['FROM silver.usge'], /no table silver\.usge; did you mean silver\.usage\?/],
  'an unknown version': [['FROM silver.usage', '--at', 'silver.usage=99'], /has no version 99/],
  'a version of a table that is not read': [
    ['FROM silver.usage', '--at', 'gold.hourly=1'],
    /gold\.hourly, which the query does not read/,
  ],
  'a version that is none': [['FROM silver.usage', '--at', 'x'], /TABLE=VERSION/],
  'a write': [['DELETE FROM silver.usage'], /Only queries are allowed|Can only delete/],
};
for (const [what, [argv, said]] of Object.entries(REFUSED)) {
  test(`sql refuses ${what} with 2`, async (t) => {
    const { run } = await lakeOf(t);
    const { exitCode, stderr } = await run(['sql', ...argv]);
    assert.equal(exitCode, 2);
    assert.match(stderr, said);
  });
}

const source = (latest: bigint): Partial<EventSource> => ({
  describe: async () => ({ topic: 'usage', topicId: 't', partitionCount: 2 }),
  offsets: async () => ({ earliest: 0n, latest }),
  close: async () => {},
});

test('status joins logs, source, hints of living workers and queues', async (t) => {
  const { run } = await lakeOf(t);
  const hints = new Map<string, Record<string, string>>([
    ['member:w1', { roles: 'worker' }],
    ['partition:0', { worker: 'w1', state: 'running', reason: 'of an earlier stop' }],
    ['partition:1', { worker: 'dead', state: 'running' }],
    ['writer:gold', { worker: 'w1', state: 'failed', reason: 'a sum exceeds its column' }],
    ['writer:silver:0', { worker: 'w1', state: 'running' }],
  ]);
  const state: Partial<StateStore> = {
    keys: async (prefix) => [...hints.keys()].filter((key) => key.startsWith(prefix)),
    getHash: async (key) => hints.get(key)!,
    leaseHolder: async () => ({ owner: 'w1', epoch: 1 }),
    close: async () => {},
  };
  const counts = { waiting: 1, active: 0, delayed: 0, completed: 5, failed: 0 };
  const queue: Partial<WorkQueue> = {
    counts: async (name) => ({ name, ...counts }),
    close: async () => {},
  };
  const { exitCode, stdout } = await run(['status', '--json'], {
    openSource: async () => source(2n ** 60n) as EventSource,
    openState: async (_config, options) => {
      assert.equal(options?.readOnly, true, 'a run may own the embedded state');
      return state as StateStore;
    },
    openQueue: async () => queue as WorkQueue,
  });
  assert.equal(exitCode, 0);
  const status = JSON.parse(stdout) as Record<string, Record<string, unknown>[]>;
  assert.deepEqual(status['partitions'], [
    {
      topic: 'usage',
      partition: 0,
      worker: 'w1',
      nextOffset: 2,
      endOffset: '1152921504606846976',
      lag: '1152921504606846974',
      watermark: '2026-11-22T00:00:00.000Z',
      state: 'running',
      reason: null,
    },
    {
      topic: 'usage',
      partition: 1,
      worker: null,
      nextOffset: null,
      endOffset: '1152921504606846976',
      lag: '1152921504606846976',
      watermark: null,
      state: 'not running',
      reason: null,
    },
  ]);
  assert.deepEqual(status['writers'], [
    { unit: 'silver:0', worker: 'w1', state: 'running', reason: null },
    { unit: 'gold', worker: 'w1', state: 'failed', reason: 'a sum exceeds its column' },
  ]);
  assert.deepEqual(
    status['tables']!.map(({ name, version, rows, files }) => [name, version, rows, files]),
    [
      ['bronze.usage', 1, 2, 1],
      ['bronze.usage_dlq', 0, 0, 0],
      ['silver.usage', 2, 2, 2],
      ['gold.hourly', 0, 0, 0],
    ],
  );
  assert.deepEqual(status['queues'], [
    { name: 'silver', ...counts },
    { name: 'gold', ...counts },
  ]);
});

test('a fresh heartbeat shows a worker whose lease others cannot see', async (t) => {
  const { run } = await lakeOf(t);
  const shown = async (heartbeatMs: number): Promise<unknown> => {
    const state: Partial<StateStore> = {
      keys: async (prefix) => (prefix === 'member:' ? ['member:w1'] : ['partition:0']),
      getHash: async (key) =>
        key === 'member:w1'
          ? { roles: 'worker', heartbeatMs: String(heartbeatMs) }
          : { worker: 'w1', state: 'running' },
      leaseHolder: async () => undefined,
      close: async () => {},
    };
    const { stdout } = await run(['status', '--json'], {
      openState: async () => state as StateStore,
    });
    return (JSON.parse(stdout) as { partitions: { worker: unknown }[] }).partitions[0]!.worker;
  };
  assert.equal(await shown(Date.now() + 60_000), 'w1');
  assert.equal(await shown(Date.now() - 60_000), null);
});

test('status tells what it can when services are away, and names them', async (t) => {
  const { run } = await lakeOf(t);
  const away = async (): Promise<never> => {
    throw new PipelineError('invalid', 'TM_SOURCE_DENIED', 'no entry');
  };
  const adapters = { openSource: away, openState: away, openQueue: away };
  const { exitCode, stdout } = await run(['status', '--json'], adapters);
  assert.equal(exitCode, 2);
  const status = JSON.parse(stdout) as {
    partitions: Record<string, unknown>[];
    remarks: string[];
  };
  assert.equal(status.partitions[0]!['nextOffset'], 2);
  assert.equal(status.partitions[0]!['lag'], null);
  assert.deepEqual(status.remarks, ['source: no entry', 'state: no entry', 'queue: no entry']);
  const shown = await run(['status'], {
    openSource: async () => {
      throw new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', 'no answer');
    },
  });
  assert.equal(shown.exitCode, 3);
  assert.match(shown.stdout, /usage +0 +2 +- +- /);
});

test('vacuum keeps for as long as the pipeline file says, unless it is told otherwise', async (t) => {
  const { lake, run } = await lakeOf(t);
  const file = join(lake.folder, 'tidemark.yaml');
  await writeFile(file, `${FIXTURE_PIPELINE}housekeeping: {vacuumRetain: 30d}\n`);
  if (lake.config.lake.kind !== 'fs') throw new Error('the lake is not a local folder');
  const orphan = 'silver/usage/2026-11-22/orphan.parquet';
  await lake.store.put(orphan, new Uint8Array(10));
  const tenDaysAgo = systemAmbient.clock.nowMs() / 1000 - 10 * 86_400;
  await utimes(join(lake.config.lake.path, orphan), tenDaysAgo, tenDaysAgo);
  const vacuumed = async (...more: readonly string[]): Promise<number> => {
    const { stdout } = await run(['table', 'vacuum', 'silver.usage', '--json', ...more]);
    return (JSON.parse(stdout) as { files: number }[])[0]!.files;
  };
  assert.equal(await vacuumed(), 0);
  assert.equal(await vacuumed('--retain', '7d'), 1);
});
