/**
 * Issue 3: SIGKILL of the whole process group at ten random moments, and in the end the same tables as
 * those of a run that nothing disturbed (P1, P2, P9, I15).
 *
 * `TIDEMARK_TEST_SEED` repeats the moments of an earlier run, as far as machines repeat themselves.
 */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { UsageEventGenerator } from '../../src/pipeline/generator.ts';
import { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';
import { PipelineFixture, type PipelineOptions } from '../support/pipeline-fixture.ts';
import { TableReader } from '../support/pipeline-tables.ts';
import {
  assertSameUsage,
  assertUsage,
  attachUsage,
  loadLines,
  TEST_EVENTS,
  USAGE_TABLES,
  type UsageTable,
  usageDefinition,
} from '../support/pipeline-usage.ts';

const KILLS = 10;
/** A kill does not wait longer than this for the tables to move. */
const PROGRESS_WITHIN_MS = 30_000;
/** Tables whose commits say when; bronze more often, since most is still to be done then. */
const WATCHED: readonly UsageTable[] = [
  'bronze',
  'bronze',
  'bronze',
  'silver',
  'silver',
  'dead',
  'hourly',
  'daily',
];
const SEED = Number(process.env['TIDEMARK_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

test('ten SIGKILLs on Kafka, Redis, BullMQ and S3 leave the tables of an undisturbed run', (t) =>
  crashAndCompare(t, 'servers'));

test('ten SIGKILLs on embedded source, state and folder leave the tables of an undisturbed run', (t) =>
  crashAndCompare(t, 'folder'));

async function crashAndCompare(t: TestContext, on: PipelineOptions['on']): Promise<void> {
  t.diagnostic(`TIDEMARK_TEST_SEED=${SEED}`);
  const random = new SeededRandom(on === 'servers' ? SEED : SEED + 1);
  // Small batches, so that there is always a commit under way.
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition({ maxRows: 2_000, maxLatency: '100ms' }),
    on,
  });
  const events = new EventFeed(pipeline);
  for (let kill = 1; kill <= KILLS; kill += 1) {
    // New events for every life: what it does between start and end is never nothing.
    await events.append(Math.ceil(TEST_EVENTS / (KILLS + 1)));
    const what = await killOnce(pipeline, random);
    t.diagnostic(`kill ${kill}: ${what}`);
  }
  const { lines, truth } = await events.finish();

  // Redis and BullMQ hold what ten dead processes left; the embedded state, their locks.
  const last = await pipeline.runUntilCaughtUp(['--workers', '2']);
  assert.deepEqual(last.failures, []);
  const reader = await TableReader.open(t);
  await loadLines(reader, [lines]);
  const lake = await pipeline.lakeFolder();
  await attachUsage(reader, lake);
  await assertUsage(reader, truth);
  await pipeline.verify();

  const undisturbed = await pipeline.sibling();
  await undisturbed.runUntilCaughtUp();
  await assertSameUsage(reader, lake, await undisturbed.lakeFolder());
}

/** Starts a run and kills it: soon, or when a table chosen at random has moved. */
async function killOnce(pipeline: PipelineFixture, random: SeededRandom): Promise<string> {
  const workers = 1 + random.below(2);
  const isEarly = random.unit() < 0.2;
  const table = USAGE_TABLES[WATCHED[random.below(WATCHED.length)]!];
  // Later stages take what several bronze commits brought in one of their own.
  const commits = table === USAGE_TABLES.bronze ? 1 + random.below(2) : 1;
  const restMs = random.below(isEarly ? 3_000 : 300);

  const before = await pipeline.version(table);
  const process = pipeline.start(['run', '--workers', String(workers)]);
  if (!isEarly) {
    const deadline = performance.now() + PROGRESS_WITHIN_MS;
    while ((await pipeline.version(table)) < before + commits && performance.now() < deadline) {
      assert.ok(process.isRunning, `the run ended by itself:\n${process.stderr}`);
      await pause(20);
    }
  }
  await pause(restMs);
  assert.ok(process.isRunning, `the run ended by itself:\n${process.stderr}`);
  const after = await pipeline.version(table);
  const { signal } = await process.kill();
  assert.equal(signal, 'SIGKILL');
  const when = isEarly ? 'after its start' : `after ${commits} more in ${table}`;
  return `${restMs} ms ${when} (version ${before} to ${after}), ${workers} workers`;
}

/** Generated events, appended to the source piece by piece. */
class EventFeed {
  readonly #pipeline: PipelineFixture;
  readonly #generator = new UsageEventGenerator({
    events: TEST_EVENTS,
    seed: 13,
    startMs: 1_795_305_600_000,
    spanMs: 24 * 3_600_000,
    duplicates: 0.05,
    late: 0.02,
    poison: 0.02,
  });
  /** NDJSON of everything appended. */
  readonly #lines: string;

  constructor(pipeline: PipelineFixture) {
    this.#pipeline = pipeline;
    this.#lines = join(pipeline.folder, 'lines.ndjson');
  }

  async append(linesMax: number): Promise<void> {
    const sink = await this.#pipeline.openSink();
    try {
      for (let left = linesMax; left > 0; ) {
        const chunk = this.#generator.next(Math.min(left, 5_000));
        if (!chunk) return;
        left -= chunk.values.length;
        const { keys, values, arrivalsMs } = chunk;
        appendFileSync(this.#lines, `${values.join('\n')}\n`);
        await sink.append(
          values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! })),
        );
      }
    } finally {
      await sink.close();
    }
  }

  /** Appends the rest; the file of all lines, and the truth about them. */
  async finish(): Promise<{ readonly lines: string; readonly truth: Truth }> {
    await this.append(TEST_EVENTS);
    return { lines: this.#lines, truth: this.#generator.truth() };
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
