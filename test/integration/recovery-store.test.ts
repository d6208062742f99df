/**
 * Issue 4: an S3 that refuses, is slow, or keeps what it says it did not take (66, 70, 71), and a full
 * disk (84). Whole pipelines; what single requests do is in the object store's own tests.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { PipelineFixture, type StatusResult } from '../support/pipeline-fixture.ts';
import { TableReader } from '../support/pipeline-tables.ts';
import {
  assertExact,
  eventRecords,
  pause,
  PipelineWatch,
  RECOVERY_DEFINITION,
  SteadyLoad,
} from '../support/recovery.ts';
import { type Trouble, TroubledS3 } from '../support/troubled-s3.ts';

const WITHIN_MS = 60_000;
const TROUBLE_MS = 8_000;
const STRUCK_MIN = 10;

test('an S3 that refuses, is slow or loses its answers costs time, nothing else (P3, I1, I2)', async (t) => {
  const s3 = await TroubledS3.start(t);
  const pipeline = await PipelineFixture.create(t, {
    definition: RECOVERY_DEFINITION,
    on: 'servers',
    s3Endpoint: s3.endpoint,
  });
  const run = pipeline.start(['run', '--workers', '2']);
  const load = await SteadyLoad.start(t, pipeline);
  const watch = await PipelineWatch.open(t, pipeline);
  await watch.untilCommit('gold', WITHIN_MS);

  /** @param counted what the trouble must strike often before it ends, however slow the machine is */
  const bringTrouble = async (
    t: TestContext,
    trouble: Trouble,
    counted?: keyof typeof s3.counts,
  ): Promise<void> => {
    s3.trouble = trouble;
    await pause(TROUBLE_MS);
    if (counted) await eventually(() => s3.counts[counted] > STRUCK_MIN, { withinMs: WITHIN_MS });
    s3.trouble = {};
    const tookMs = await watch.untilBronzeHasAll(WITHIN_MS);
    await watch.untilCommit('gold', WITHIN_MS);
    t.diagnostic(`${t.name}: bronze has all ${(tookMs / 1_000).toFixed(1)} s after it ended`);
  };
  await t.test('every second request refused with 503', (t) =>
    bringTrouble(t, { refused: 0.5 }, 'refused'),
  );
  await t.test('every request refused with 503', (t) => bringTrouble(t, { refused: 1 }));
  await t.test('every request half a second late', (t) => bringTrouble(t, { delayMs: 500 }));
  await t.test('a third of the writes land without an answer', (t) =>
    bringTrouble(t, { lost: 0.33 }, 'lost'),
  );

  const events = await load.stop();
  await watch.caughtUp();
  const { stdout } = await run.kill('SIGTERM');
  const { restarts } = JSON.parse(stdout) as { restarts: number };
  assert.equal(restarts, 0, 'no process had to be started anew');
  await assertExact(t, pipeline, events);
});

test('a full disk is waited out on the embedded default (84)', async (t) => {
  const lake = mountSmall(t, 24);
  if (lake === undefined) {
    return t.skip('tmpfs cannot be mounted here: it takes root and CAP_SYS_ADMIN');
  }
  const pipeline = await PipelineFixture.create(t, {
    definition: { ...RECOVERY_DEFINITION, lake: { kind: 'fs', path: lake } },
    on: 'folder',
  });
  const { folder } = pipeline;
  const sendEvents = async (from: number, count: number): Promise<void> => {
    const file = join(folder, `events-${from}.ndjson`);
    writeFileSync(
      file,
      eventRecords(from, count)
        .map(({ value }) => `${value}\n`)
        .join(''),
    );
    await pipeline.json(['run', '--input', file, '--until-caught-up']);
  };
  await sendEvents(0, 5_000);

  const filler = join(lake, 'filler');
  const { bavail, bsize } = statfsSync(lake);
  writeFileSync(filler, Buffer.alloc(bavail * bsize - 64 * 1024));
  const more = join(folder, 'more.ndjson');
  writeFileSync(
    more,
    eventRecords(5_000, 20_000)
      .map(({ value }) => `${value}\n`)
      .join(''),
  );
  const run = pipeline.start(['run', '--input', more, '--until-caught-up']);
  await eventually(() => run.stderr.includes('TM_DISK_FULL'), { withinMs: WITHIN_MS });
  await pause(1_000);
  assert.ok(run.isRunning, run.stderr);
  const { partitions } = await pipeline.json<StatusResult>(['status']);
  assert.ok(
    partitions.every(({ state }) => state !== 'failed'),
    JSON.stringify(partitions),
  );

  rmSync(filler);
  const startedMs = performance.now();
  const { code, stderr } = await run.ended();
  assert.equal(code, 0, stderr);
  t.diagnostic(
    `caught up ${((performance.now() - startedMs) / 1_000).toFixed(1)} s after there was room`,
  );
  const reader = await TableReader.open(t);
  await reader.attach('silver', join(lake, 'silver/recovery'));
  await reader.attach('gold', join(lake, 'gold/hourly'));
  assert.deepEqual(
    await reader.row(`SELECT count(*)::INT AS rows, count(DISTINCT id)::INT AS ids,
      (SELECT sum(events) FROM gold)::INT AS counted FROM silver`),
    { rows: 25_000, ids: 25_000, counted: 25_000 },
  );
  await pipeline.verify();
});

/** @returns a folder on a file system of its own; undefined where mounting is refused */
function mountSmall(t: TestContext, megabytes: number): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-small-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tidemark', folder], {
      stdio: 'ignore',
    });
  } catch {
    rmdirSync(folder);
    return undefined;
  }
  t.after(() => {
    execFileSync('umount', ['-l', folder]);
    rmdirSync(folder);
  });
  return folder;
}
