/** Issue 3: what must stop a pipeline, or a part of it, stops it loudly, and nothing else (P8, I23). */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { stringify } from 'yaml';
import { CarelessS3 } from '../support/careless-s3.ts';
import { eventually } from '../support/eventually.ts';
import {
  type Definition,
  PipelineFixture,
  type RunResult,
  type StatusResult,
} from '../support/pipeline-fixture.ts';
import { COMMAND_WITHIN_MS } from '../support/pipeline-process.ts';
import { TableReader } from '../support/pipeline-tables.ts';

const DEFINITION: Definition = {
  name: 'faults',
  commit: { maxLatency: '100ms' },
  event: {
    id: 'id',
    time: 'at',
    schema: { fields: { id: 'string', at: 'timestamp' } },
  },
  gold: [{ name: 'hourly', window: '1h', measures: { events: { fn: 'count' } } }],
};

interface ErrorResult {
  readonly error: { readonly kind: string; readonly code: string; readonly message: string };
}

/** Sends events to partitions: `events` counts per partition. */
async function produce(pipeline: PipelineFixture, events: readonly number[]): Promise<void> {
  const { client, config } = pipeline.topic!;
  const producer = client.producer();
  await producer.connect();
  for (const [partition, count] of events.entries()) {
    const { offset } = (await offsetsOf(pipeline))[partition]!;
    const messages = Array.from({ length: count }, (_, i) => ({
      partition,
      value: `{"id":"${partition}-${offset + i}","at":"2026-11-22T10:00:00Z"}`,
      timestamp: String(Date.parse('2026-11-22T10:00:01Z')),
    }));
    await producer.send({ topic: config.topic, messages });
  }
  await producer.disconnect();
}

async function offsetsOf(
  pipeline: PipelineFixture,
): Promise<readonly { readonly partition: number; readonly offset: number }[]> {
  const { admin, config } = pipeline.topic!;
  const offsets = await admin.fetchTopicOffsets(config.topic);
  return offsets
    .map(({ partition, offset }) => ({ partition, offset: Number(offset) }))
    .toSorted((a, b) => a.partition - b.partition);
}

/** Makes the broker forget records below an offset, as retention does. */
async function deleteBelow(
  pipeline: PipelineFixture,
  partition: number,
  offset: number,
): Promise<void> {
  const { admin, config } = pipeline.topic!;
  const partitions = [{ partition, offset: String(offset) }];
  await admin.deleteTopicRecords({ topic: config.topic, partitions });
}

async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
  });
  await new Promise((closed) => server.close(closed));
  return port;
}

// The one that waits a minute costs nothing beside the others.
describe('loud stops', { concurrency: 2 }, () => {
  test('a service that stays away for a minute at start-up ends the command with 3', async (t) => {
    const brokers = [`127.0.0.1:${await closedPort()}`];
    const pipeline = await PipelineFixture.create(t, {
      definition: { ...DEFINITION, source: { kind: 'kafka', brokers, topic: 'away' } },
      on: 'folder',
    });
    const startedMs = performance.now();
    const { code, stdout, stderr } = await pipeline.command(['run', '--until-caught-up']);
    assert.equal(code, 3, stderr);
    assert.ok(performance.now() - startedMs > 59_000, 'it gave up early');
    const { error } = JSON.parse(stdout) as ErrorResult;
    assert.equal(error.code, 'TM_SOURCE_UNAVAILABLE');
    assert.match(stderr, /Kafka.*; trying again for up to 60 s/);
  });

  test('a store that ignores If-None-Match is refused at start with 2 (76)', async (t) => {
    const s3 = await CarelessS3.start(t);
    const place = { bucket: 'lake', endpoint: s3.endpoint, forcePathStyle: true };
    const pipeline = await PipelineFixture.create(t, {
      definition: { ...DEFINITION, lake: { kind: 's3', ...place } },
      on: 'folder',
    });
    const { code, stdout } = await pipeline.command(['run', '--until-caught-up']);
    assert.equal(code, 2);
    const { error } = JSON.parse(stdout) as ErrorResult;
    assert.equal(error.code, 'TM_STORE_IGNORES_CONDITION');
    assert.match(error.message, /AWS S3, versitygw 1\.8/);
    assert.deepEqual([...s3.objects.keys()], [], 'nothing was written but the probe');
  });

  test('a pipeline file with unknown keys ends with 2 and names each with its remedy', async (t) => {
    const pipeline = await PipelineFixture.create(t, { definition: DEFINITION, on: 'folder' });
    writeFileSync(pipeline.file, stringify({ ...DEFINITION, comit: {}, late: { aftr: '2h' } }));
    const { code, stdout } = await pipeline.command(['run', '--until-caught-up']);
    assert.equal(code, 2);
    const { error } = JSON.parse(stdout) as {
      error: { code: string; problems: { path: string }[] };
    };
    assert.equal(error.code, 'TM_CONFIG_INVALID');
    assert.deepEqual(error.problems.map(({ path }) => path).toSorted(), ['comit', 'late.aftr']);
  });

  test('records deleted before they were read stop their partition, and the other goes on (35)', async (t) => {
    const pipeline = await PipelineFixture.create(t, {
      definition: DEFINITION,
      on: 'servers',
      partitions: 2,
    });
    await produce(pipeline, [10, 10]);
    await pipeline.runUntilCaughtUp();
    await produce(pipeline, [10, 10]);
    await deleteBelow(pipeline, 0, 15);

    const process = pipeline.start(['run']);
    const [stopped, other] = await eventually(
      async () => {
        const { partitions } = await pipeline.json<StatusResult>(['status']);
        const [first, second] = partitions;
        assert.deepEqual([first!.state, second!.lag], ['failed', 0]);
        return [first!, second!] as const;
      },
      { withinMs: COMMAND_WITHIN_MS },
    );
    assert.equal(stopped.nextOffset, 10);
    assert.match(stopped.reason ?? '', /next offset 10 .* offsets 10 to 14 were deleted/);
    assert.deepEqual([other.state, other.reason], ['running', null]);
    const { code, stdout } = await process.kill('SIGTERM');
    assert.equal(code, 1);
    const { failures } = JSON.parse(stdout) as RunResult;
    assert.deepEqual(
      failures.map(({ unit }) => unit),
      ['partition:0'],
    );

    // Waiting for it to catch up does not wait for what has stopped.
    await produce(pipeline, [0, 5]);
    const again = await pipeline.command(['run', '--until-caught-up']);
    assert.equal(again.code, 1, again.stderr);
    assert.match((JSON.parse(again.stdout) as RunResult).failures[0]!.reason, /were deleted/);
    assert.deepEqual(await rowsByPartition(pipeline, await TableReader.open(t)), [
      { _kafka_partition: 0, rows: '10', last: '9' },
      { _kafka_partition: 1, rows: '25', last: '24' },
    ]);
    await pipeline.verify();
  });

  test('a topic that was deleted and made anew stops every partition (37)', async (t) => {
    const pipeline = await PipelineFixture.create(t, {
      definition: DEFINITION,
      on: 'servers',
      partitions: 2,
    });
    await produce(pipeline, [10, 10]);
    await pipeline.runUntilCaughtUp();
    const versions = await versionsOf(pipeline);
    await pipeline.topic!.recreate(2);
    // Fewer records than were read in one partition, more in the other.
    await produce(pipeline, [3, 30]);

    const { code, stdout, stderr } = await pipeline.command(['run', '--until-caught-up']);
    assert.equal(code, 1, stderr);
    const { failures } = JSON.parse(stdout) as RunResult;
    assert.deepEqual(failures.map(({ unit }) => unit).toSorted(), ['partition:0', 'partition:1']);
    for (const { reason } of failures) assert.match(reason, /deleted and created again/);
    assert.deepEqual(await versionsOf(pipeline), versions, 'no commits afterwards');
  });

  test('a partition whose records were all deleted before the first run holds up nothing', async (t) => {
    const pipeline = await PipelineFixture.create(t, {
      definition: DEFINITION,
      on: 'servers',
      partitions: 2,
    });
    await produce(pipeline, [10, 10]);
    await deleteBelow(pipeline, 0, 10);
    const run = await pipeline.runUntilCaughtUp();
    assert.deepEqual([run.bronzeRows, run.failures], [10, []]);
    await pipeline.verify();
  });
});

async function versionsOf(pipeline: PipelineFixture): Promise<readonly number[]> {
  const tables = ['bronze/faults', 'bronze/faults_dlq', 'silver/faults', 'gold/hourly'];
  return Promise.all(tables.map((table) => pipeline.version(table)));
}

async function rowsByPartition(pipeline: PipelineFixture, reader: TableReader) {
  await reader.attach('silver', join(await pipeline.lakeFolder(), 'silver/faults'));
  return reader.rows(`SELECT _kafka_partition, count(*) AS rows, max(_kafka_offset) AS last
    FROM silver GROUP BY ALL ORDER BY ALL`);
}
