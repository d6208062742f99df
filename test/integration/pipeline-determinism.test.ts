/**
 * One topic through pipelines that share nothing else: other numbers of workers, batches and time
 * zones, with and without kills. Silver and gold are the same to the last row (P9, I15).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Definition, PipelineFixture } from '../support/pipeline-fixture.ts';
import { TableReader } from '../support/pipeline-tables.ts';
import { TEST_EVENTS, usageDefinition, usageHash } from '../support/pipeline-usage.ts';

interface Variant {
  readonly what: string;
  readonly workers: number;
  readonly kills: number;
  readonly changes: Definition;
  readonly timeZone: string;
}

const VARIANTS: readonly Variant[] = [
  { what: '1 worker, whole batches', workers: 1, kills: 0, changes: {}, timeZone: 'UTC' },
  {
    what: '2 workers, batches of 1,500, Kathmandu',
    workers: 2,
    kills: 0,
    changes: { commit: { maxRows: 1_500, maxLatency: '50ms' } },
    timeZone: 'Asia/Kathmandu',
  },
  {
    what: '4 workers, batches of 700, Los Angeles, killed three times',
    workers: 4,
    kills: 3,
    changes: { commit: { maxRows: 700, maxLatency: '20ms' } },
    timeZone: 'America/Los_Angeles',
  },
];

/** A kill comes when bronze has moved, or nothing of it was left. */
const PROGRESS_WITHIN_MS = 10_000;

test('workers, batches, time zones and kills change no row of silver and gold', async (t) => {
  const origin = await PipelineFixture.create(t, { definition: usageDefinition(), on: 'servers' });
  await origin.json(['generate', '--events', String(TEST_EVENTS)]);
  const hashes: string[] = [];
  for (const { what, workers, kills, changes, timeZone } of VARIANTS) {
    const pipeline = await origin.sibling(changes, { TZ: timeZone });
    for (let kill = 1; kill <= kills; kill += 1) await killUnderWay(pipeline, workers);
    const { failures } = await pipeline.runUntilCaughtUp(['--workers', String(workers)]);
    assert.deepEqual(failures, []);
    await pipeline.verify();
    const reader = await TableReader.open(t);
    const hash = await usageHash(reader, await pipeline.lakeFolder());
    t.diagnostic(`${hash}  ${what}`);
    hashes.push(hash);
  }
  assert.equal(new Set(hashes).size, 1, hashes.join('\n'));
});

async function killUnderWay(pipeline: PipelineFixture, workers: number): Promise<void> {
  const table = 'bronze/api_usage_events';
  const before = await pipeline.version(table);
  const process = pipeline.start(['run', '--workers', String(workers)]);
  const deadline = performance.now() + PROGRESS_WITHIN_MS;
  while ((await pipeline.version(table)) === before && performance.now() < deadline) {
    assert.ok(process.isRunning, process.stderr);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await process.kill();
}
