/**
 * Issue 5, item 6: replay and rebuild change nothing that is right, bring back what is lost (RP1 to RP3),
 * survive being killed (RB1, RB2), and leave the stream alone (RB3, SE1, SE2, ET1; P5, P6, P8).
 */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { replay } from '../../src/operations/replay/replay.ts';
import { parseRange } from '../../src/operations/silver-edit/bronze-range.ts';
import { UsageEventGenerator } from '../../src/pipeline/generator.ts';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';
import { openEditedLake } from '../support/lake-operations.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import type { TidemarkProcess } from '../support/pipeline-process.ts';
import { replayLog, TableReader } from '../support/pipeline-tables.ts';
import {
  assertUsage,
  attachUsage,
  loadLines,
  USAGE_TABLES,
  usageDefinition,
} from '../support/pipeline-usage.ts';

const { silver: SILVER } = USAGE_TABLES;
/** Before every record. */
const FROM = '2026-11-01';
const DAY = '2026-11-22';
const REBUILD = ['replay', '--rebuild', '--from', FROM];

interface Replayed {
  readonly added: number;
  readonly versions: readonly number[];
  readonly gold: readonly { measure: string; before: number | null; after: number | null }[];
}

interface Rebuilt {
  readonly dates: readonly {
    readonly date: string;
    readonly state: 'rebuilt' | 'current' | 'refused';
    readonly rows: number;
    readonly changed: number;
  }[];
}

test('a day replayed 100 times changes not one row and writes no version', async (t) => {
  const { pipeline, reader } = await filledPipeline(t, { events: 6_000, hours: 24 });
  const lake = await pipeline.lakeFolder();
  const content = async (): Promise<unknown> => {
    await attachUsage(reader, lake);
    const hash = (view: string): string =>
      `(SELECT bit_xor(hash(rows)) FROM ${view} AS rows) AS ${view}, (SELECT count(*) FROM ${view}) AS ${view}_rows`;
    return reader.row(`SELECT ${['bronze', 'silver', 'dead', 'hourly', 'daily'].map(hash).join()}`);
  };
  const versions = (): Promise<number[]> =>
    Promise.all(Object.values(USAGE_TABLES).map((table) => pipeline.version(table)));
  const before = { content: await content(), versions: await versions() };

  const edited = await openEditedLake(t, pipeline.config);
  for (let time = 1; time < 100; time++) {
    const { added, bronzeRows } = await replay(edited, parseRange({ date: DAY }), {
      dryRun: false,
    });
    assert.equal(added, 0);
    assert.ok(bronzeRows > 5_000);
  }
  const last = await pipeline.json<Replayed>(['replay', '--date', DAY]);
  assert.deepEqual([last.added, last.versions], [0, []]);
  assert.deepEqual({ content: await content(), versions: await versions() }, before);
});

test('rows that silver lost come back by a replay, whole and once', async (t) => {
  const { pipeline, reader, truth } = await filledPipeline(t, { events: 10_000, hours: 60 });
  const { silver } = await openEditedLake(t, pipeline.config);
  const lost = silver.snapshot.files().filter((_, i) => i % 2 === 0);
  assert.ok(lost.length > 1 && lost.length < silver.snapshot.fileCount);
  await silver.commit({
    operation: 'DELETE',
    adds: [],
    removes: lost.map(({ path }) => path),
    progress: [],
  });
  const rows = lost.reduce((sum, { stats }) => sum + Number(/\d+/.exec(stats!)![0]), 0);

  const dry = await pipeline.json<Replayed>(['replay', '--from', FROM, '--dry-run']);
  assert.equal(dry.added, rows);
  const requests = dry.gold.filter(({ measure }) => measure === 'requests');
  const gained = requests.reduce((sum, g) => sum + Number(g.after) - Number(g.before ?? 0), 0);
  assert.equal(gained, 2 * rows, 'the totals of both aggregates, before any commit');
  assert.equal(await pipeline.version(SILVER), silver.snapshot.version);

  const done = await pipeline.json<Replayed>(['replay', '--from', FROM]);
  assert.equal(done.added, rows);
  assert.equal((await pipeline.json<Replayed>(['replay', '--from', FROM])).added, 0);
  await pipeline.runUntilCaughtUp();
  await attachUsage(reader, await pipeline.lakeFolder());
  await assertUsage(reader, truth);
  await pipeline.verify();
});

test('a rebuild that is killed goes on where it was, and a second one does nothing', async (t) => {
  const { pipeline, reader, truth } = await filledPipeline(t, { events: 40_000, hours: 240 });
  const before = await pipeline.version(SILVER);
  const process = pipeline.start(REBUILD);
  await reached(pipeline, process, before + 2);
  assert.equal((await process.kill()).signal, 'SIGKILL');
  const killedAt = await pipeline.version(SILVER);

  const { dates } = await pipeline.json<Rebuilt>(REBUILD);
  const states = dates.map(({ state }) => state);
  assert.equal(states.filter((state) => state === 'current').length, killedAt - before);
  assert.ok(states.includes('rebuilt') && !states.includes('refused'), states.join());
  assert.equal(await pipeline.version(SILVER), before + dates.length, 'one commit per date');
  assert.ok(dates.every(({ changed }) => changed === 0));

  const again = await pipeline.json<Rebuilt>(REBUILD);
  assert.ok(again.dates.every(({ state }) => state === 'current'));
  await pipeline.runUntilCaughtUp();
  await attachUsage(reader, await pipeline.lakeFolder());
  await assertUsage(reader, truth);
  await pipeline.verify();
});

test('replay and rebuild go on beside the running stream', async (t) => {
  const { pipeline, reader, append } = await filledPipeline(t, { events: 30_000, hours: 60 });
  const truth = await append(30_000);
  const process = pipeline.start(['run']);
  await reached(pipeline, process, (await pipeline.version(SILVER)) + 1);
  const { dates } = await pipeline.json<Rebuilt>(REBUILD);
  assert.ok(dates.every(({ state }) => state === 'rebuilt'));
  assert.equal((await pipeline.json<Replayed>(['replay', '--from', FROM])).added, 0);
  assert.ok(process.isRunning, process.stderr);
  await process.kill('SIGTERM');

  await pipeline.runUntilCaughtUp();
  await attachUsage(reader, await pipeline.lakeFolder());
  await assertUsage(reader, truth);
  await pipeline.verify();
  const { transactions } = replayLog(join(await pipeline.lakeFolder(), SILVER));
  const edits = [...transactions].filter(([appId]) => appId.includes(':silver-edits:'));
  assert.deepEqual(
    edits.map(([, count]) => count),
    [dates.length],
  );
});

/** A pipeline that has taken in generated events, and the lines loaded for comparison. */
async function filledPipeline(
  t: TestContext,
  options: { readonly events: number; readonly hours: number },
): Promise<{
  readonly pipeline: PipelineFixture;
  readonly reader: TableReader;
  readonly truth: Truth;
  /** Appends further events of the same generator. */
  readonly append: (events: number) => Promise<Truth>;
}> {
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition({ maxRows: 2_000, maxLatency: '200ms' }),
    on: 'folder',
  });
  const generator = new UsageEventGenerator({
    events: 2 * options.events,
    seed: 29,
    startMs: Date.parse(`${DAY}T00:00:00Z`),
    spanMs: 2 * options.hours * 3_600_000,
    duplicates: 0.05,
    late: 0.02,
    poison: 0.01,
  });
  const lines = join(pipeline.folder, 'lines.ndjson');
  const reader = await TableReader.open(t);
  const append = async (events: number): Promise<Truth> => {
    const sink = await pipeline.openSink();
    for (let left = events; left > 0; ) {
      const { keys, values, arrivalsMs } = generator.next(Math.min(left, 5_000))!;
      left -= values.length;
      appendFileSync(lines, `${values.join('\n')}\n`);
      await sink.append(
        values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! })),
      );
    }
    await sink.close();
    await loadLines(reader, [lines]);
    return generator.truth();
  };
  const truth = await append(options.events);
  await pipeline.runUntilCaughtUp();
  return { pipeline, reader, truth, append };
}

/** Waits until silver has a version. */
async function reached(
  pipeline: PipelineFixture,
  process: TidemarkProcess,
  version: number,
): Promise<void> {
  const deadline = performance.now() + 60_000;
  while ((await pipeline.version(SILVER)) < version) {
    assert.ok(process.isRunning && performance.now() < deadline, process.stderr);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
