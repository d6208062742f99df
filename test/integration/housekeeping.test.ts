/**
 * Compaction, restore, vacuum and log clean-up while a pipeline runs and after it: not one row
 * changes, foreign readers agree, and the pipeline goes on.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Ambient, systemAmbient } from '../../src/ambient.ts';
import { type CrashPoint, listenToCrashPoints } from '../../src/crash-points.ts';
import { silentLogger } from '../../src/logger.ts';
import { cleanUpTable } from '../../src/operations/housekeeping/clean-up.ts';
import { openNamedTables } from '../../src/operations/housekeeping/lake-tables.ts';
import type { Optimized } from '../../src/operations/housekeeping/optimize.ts';
import { UsageEventGenerator } from '../../src/pipeline/generator.ts';
import { DeltaTable } from '../../src/storage/delta/delta-table.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { eventually } from '../support/eventually.ts';
import { askArrowReaders, askSpark } from '../support/foreign-readers.ts';
import { openLakeStore } from '../support/lake-fixture.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import { USAGE_TABLES, usageDefinition } from '../support/pipeline-usage.ts';

const DAY_MS = 86_400_000;
/** Enough for a checkpoint of bronze and one of silver, one each hundred commits. */
const COMMITS = 230;
const LINES_PER_APPEND = 40;
const WITHIN_MS = 240_000;

interface ListedTable {
  readonly name: string;
  readonly files: number;
  readonly rows: number;
}

test('tables are compacted, restored and cleaned up while the stream goes on', async (t) => {
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition({ maxLatency: '10ms' }),
    on: 'folder',
    partitions: 2,
  });
  const generator = new UsageEventGenerator({
    events: 1_000_000,
    seed: 23,
    startMs: Date.parse('2026-11-21T23:59:30Z'),
    spanMs: DAY_MS,
    duplicates: 0.02,
    late: 0.1,
    poison: 0.02,
  });
  const sink = await pipeline.openSink();
  const append = async (): Promise<void> => {
    const { keys, values, arrivalsMs } = generator.next(LINES_PER_APPEND)!;
    await sink.append(
      values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! })),
    );
  };
  const listed = async (name: string): Promise<ListedTable> => {
    const tables = await pipeline.json<readonly ListedTable[]>(['table', 'ls']);
    return tables.find((table) => table.name === name)!;
  };
  const bronzeName = USAGE_TABLES.bronze.replace('/', '.');
  const silverName = USAGE_TABLES.silver.replace('/', '.');

  const run = pipeline.start(['run']);
  const deadline = performance.now() + WITHIN_MS;
  while ((await pipeline.version(USAGE_TABLES.silver)) < COMMITS) {
    assert.ok(run.isRunning && performance.now() < deadline, `too slow:\n${run.stderr}`);
    await append();
    await new Promise((resolve) => setTimeout(resolve, 15));
  }

  await t.test('compaction beside the stream leaves a few files and every row', async () => {
    const before = await listed(silverName);
    let isOptimizing = true;
    const optimizing = pipeline
      .json<readonly Optimized[]>(['table', 'optimize', '--all', '--min-age', '1s'])
      .finally(() => {
        isOptimizing = false;
      });
    while (isOptimizing) {
      await append();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const optimized = await optimizing;
    for (const name of [bronzeName, silverName]) {
      const done = optimized.find(({ table }) => table === name)!;
      assert.ok(done.filesRemoved > COMMITS / 2 && done.filesAdded < 10, JSON.stringify(done));
      t.diagnostic(`${name}: ${done.filesRemoved} files became ${done.filesAdded}`);
    }
    const after = await listed(silverName);
    assert.ok(after.rows > before.rows, 'the stream went on');
    // Both proofs read the same totals once the stream stands still.
    await eventually(() => pipeline.verify());
  });

  await t.test('a restore of silver is found by verify and repaired by replay', async () => {
    const lost = await pipeline.json<{ readonly filesRemoved: number }>([
      'table',
      'restore',
      silverName,
      '--version',
      '40',
    ]);
    assert.ok(lost.filesRemoved > 0);
    assert.equal((await pipeline.command(['verify'])).code, 1);
    await pipeline.json(['replay', '--from', '2026-11-01', '--to', '2026-12-31']);
    await pipeline.verify();
  });

  await t.test('checkpoints name versions that cover one another', async () => {
    interface Checkpoint {
      readonly checkpoint: number;
      readonly offsets: Readonly<Record<string, string>>;
      readonly tables: readonly { readonly table: string; readonly version: number }[];
    }
    const newest = await eventually(
      async () => (await pipeline.json<readonly Checkpoint[]>(['checkpoint', 'ls']))[0] ?? false,
      { withinMs: 60_000 },
    );
    assert.ok(newest);
    const shown = await pipeline.json<Checkpoint>(['checkpoint', 'show', `${newest.checkpoint}`]);
    assert.deepEqual(shown, newest);
    const at = shown.tables
      .filter(({ table }) => table === bronzeName)
      .map(({ table, version }) => `${table}=${version}`);
    const covered = await pipeline.json<readonly { readonly p: number; readonly n: string }[]>([
      'sql',
      `SELECT _kafka_partition AS p, max(_kafka_offset) + 1 AS n FROM ${bronzeName} GROUP BY 1`,
      '--at',
      at[0]!,
    ]);
    for (const { p, n } of covered) assert.equal(shown.offsets[p], n, `partition ${p}`);
  });

  await sink.close();
  const { code, stderr } = await run.kill('SIGTERM');
  assert.equal(code, 0, stderr);
  await pipeline.runUntilCaughtUp();

  const lake = await pipeline.lakeFolder();
  const tables = Object.fromEntries(
    (['bronze', 'silver', 'hourly'] as const).map((name) => {
      const folder = join(lake, USAGE_TABLES[name]);
      return [name, { uri: folder, files: folder }];
    }),
  );
  const queries = [
    ['bronze', 'SELECT count(*) AS n, count(DISTINCT _kafka_offset) AS o FROM t'],
    ['silver', 'SELECT count(*) AS n, count(DISTINCT event_id) AS o FROM t'],
    ['hourly', 'SELECT count(*) AS n, sum(requests) AS o FROM t'],
  ] as const;
  const before = await askArrowReaders({ tables, queries });
  for (const answers of Object.values(before.answers)) {
    assert.deepEqual(answers, Object.values(before.answers)[0]);
  }

  await t.test('vacuum and log clean-up of a month later change no answer', async () => {
    const monthLater = { ...systemAmbient, clock: shiftedClock(systemAmbient, 30 * DAY_MS) };
    const store = await openLakeStore(pipeline.config);
    const codec = createParquetCodec();
    const delta = { store, codec, ambient: monthLater, logger: silentLogger };
    const open = (root: string) => DeltaTable.open(delta, root);
    const named = await openNamedTables({ config: pipeline.config, delta, open });
    const filesIn = (): { readonly data: number; readonly log: number } => {
      const all = readdirSync(lake, { recursive: true, encoding: 'utf8' });
      const log = all.filter((path) => path.includes('_delta_log/')).length;
      return { data: all.filter((path) => path.endsWith('.parquet')).length, log };
    };
    const filesBefore = filesIn();
    const lakeOf = { config: pipeline.config, delta, open };
    const struck = new Set<CrashPoint>();
    for (const one of named) {
      for (const point of ['m.vacuum.deleted', 'm.cleanup.deleted'] as const) {
        // Whoever ends here has deleted some objects, and remembers nothing.
        listenToCrashPoints((passed) => {
          if (passed === point) throw new Error('struck');
        });
        await cleanUpTable(lakeOf, one, { retentionMs: 7 * DAY_MS }).catch((thrown: Error) => {
          assert.equal(thrown.message, 'struck');
          struck.add(point);
        });
        listenToCrashPoints(undefined);
      }
    }
    assert.equal(struck.size, 2, 'both places were passed');
    assert.deepEqual((await askArrowReaders({ tables, queries })).answers, before.answers);
    await pipeline.verify();
    for (const one of named) {
      await cleanUpTable(lakeOf, one, { retentionMs: 7 * DAY_MS });
      const again = await cleanUpTable(lakeOf, one, { retentionMs: 7 * DAY_MS });
      assert.deepEqual([again.files, again.logFiles], [0, 0], one.name);
    }
    const filesAfter = filesIn();
    const dataFiles = filesBefore.data - filesAfter.data;
    const logFiles = filesBefore.log - filesAfter.log;
    await store.close();
    assert.ok(dataFiles > COMMITS && logFiles > COMMITS, `${dataFiles} files, ${logFiles} of logs`);
    t.diagnostic(`removed ${dataFiles} data files and ${logFiles} log files`);
    const log = readdirSync(join(lake, USAGE_TABLES.silver, '_delta_log'));
    assert.ok(log.some((name) => name.endsWith('.crc')));
    assert.ok(!log.includes('00000000000000000000.json'));
    const after = await askArrowReaders({ tables, queries });
    assert.deepEqual(after.answers, before.answers);
    const spark = await askSpark({ tables, queries });
    assert.deepEqual(spark.answers['spark'], Object.values(before.answers)[0]);
  });

  await t.test('the pipeline goes on from the cleaned-up tables', async () => {
    await pipeline.verify();
    const later = await pipeline.openSink();
    const { keys, values, arrivalsMs } = generator.next(LINES_PER_APPEND)!;
    await later.append(
      values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! })),
    );
    await later.close();
    const { bronzeRows } = await pipeline.runUntilCaughtUp();
    assert.equal(bronzeRows, LINES_PER_APPEND);
    await pipeline.verify();
  });
});

function shiftedClock({ clock }: Ambient, byMs: number): Ambient['clock'] {
  return {
    nowMs: () => clock.nowMs() + byMs,
    monotonicMs: () => clock.monotonicMs(),
    after: (delayMs, callback, options) => clock.after(delayMs, callback, options),
    sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
    yieldTurn: () => clock.yieldTurn(),
  };
}
