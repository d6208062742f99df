/**
 * Tables that a run wrote, read by delta-rs, DuckDB and Spark alike (F): all rows and values, older
 * versions, filters that skip files by partition and by statistics, and tables of which only a
 * checkpoint says what was before (I11, I12).
 *
 * One lake is streamed in many small commits to a folder; one in S3 holds generated events, of which
 * the truth is known; one in S3 holds values at the edges of types and statistics, each in a file of
 * its own. TIDEMARK_TEST_EVENTS says how many events are generated.
 */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { UsageEventGenerator } from '../../src/pipeline/generator.ts';
import type { Truth } from '../../src/pipeline/generator/usage-truth.ts';
import {
  type Answers,
  askArrowReaders,
  askSpark,
  type ForeignTable,
} from '../support/foreign-readers.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import { type JsonRow, TableReader } from '../support/pipeline-tables.ts';
import { TEST_EVENTS, USAGE_TABLES, usageDefinition } from '../support/pipeline-usage.ts';
import { sharedS3 } from '../support/servers.ts';
import { EDGES, EDGES_DEFINITION, edgeQueries, edgeRows, edgeValue } from './edge-values.ts';

/** Enough for two checkpoints, one each hundred commits. */
const COMMITS = 205;
const LINES_PER_APPEND = 40;
const STREAM_WITHIN_MS = 300_000;

interface Asked {
  readonly what: string;
  readonly table: string;
  readonly sql: string;
  readonly expected: readonly JsonRow[];
  /** Of the queries that compare with values at the edges. */
  readonly operator?: string;
  readonly notIn?: string | undefined;
}

test('tables of a run are read alike by delta-rs, DuckDB and Spark', async (t) => {
  const stream = await streamedLake(t);
  const generated = await generatedLake(t);
  const edges = await edgesLake(t);
  const tables = { ...stream.tables, ...generated.tables, ...edges.tables };
  const asked = [...stream.asked, ...generated.asked, ...edges.asked];
  const queries = asked.map(({ table, sql }) => [table, sql] as const);

  const arrow = await askArrowReaders({ tables, queries, dates: stream.dates });
  for (const reader of ['datafusion', 'dataset', 'parquet']) {
    await t.test(`delta-rs and DuckDB: ${reader}`, () => compare(reader, arrow.answers, asked));
  }

  await t.test('delta-rs finds the versions, and skips the files of other dates', () => {
    const { silver, trimmed } = arrow.tables;
    assert.equal(arrow.tables['bronze']!.version, trimmed!.version);
    const files = Object.values(silver!.pruned);
    assert.equal(files.length, 2);
    for (const left of files) assert.ok(left > 0 && left < silver!.files);
    assert.equal(
      files.reduce((sum, left) => sum + left, 0),
      silver!.files,
    );
  });

  await t.test('every table asks for reader 1 and writer 2 only', () => {
    for (const { minReader, minWriter } of Object.values(arrow.tables)) {
      assert.deepEqual([minReader, minWriter], [1, 2]);
    }
  });

  await t.test('Spark', async () => {
    // It plans each of many small queries for long.
    const some = asked.filter(({ operator }) => operator === undefined || operator === '=');
    const queries = some.map(({ table, sql }) => [table, sql] as const);
    const { answers } = await askSpark({ tables, queries });
    compare('spark', answers, some);
  });
});

function compare(reader: string, answers: Answers, asked: readonly Asked[]): void {
  asked.forEach(({ what, sql, expected, notIn }, i) => {
    if (notIn === reader) return;
    assert.deepEqual(answers[reader]![i], expected, `${what}\n${sql}`);
  });
}

/** Usage events streamed into a folder in many small commits. */
async function streamedLake(t: TestContext) {
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition({ maxLatency: '10ms' }),
    on: 'folder',
    partitions: 2,
  });
  const truth = await stream(pipeline);
  const lake = await pipeline.lakeFolder();
  const folder = (table: keyof typeof USAGE_TABLES): string => join(lake, USAGE_TABLES[table]);

  // What a log clean-up leaves: the newest checkpoint with its commit, and what came after.
  const trimmed = join(pipeline.folder, 'trimmed');
  cpSync(folder('bronze'), trimmed, { recursive: true });
  const checkpoints = trimLog(trimmed);
  assert.ok(checkpoints >= 2, `${checkpoints} checkpoints`);
  t.diagnostic(`${truth.lines} events, ${checkpoints} checkpoints of bronze`);

  const reader = await TableReader.open(t);
  const tables: Record<string, ForeignTable> = {
    trimmed: { uri: trimmed, files: trimmed },
  };
  const asked: Asked[] = [];
  const ask = async (what: string, table: string, sql: string): Promise<void> => {
    const text = sql.replace(/\bFROM t\b/, `FROM "${table}"`);
    asked.push({ what, table, sql, expected: (await reader.rows(text)).map(numbers) });
  };
  await reader.attach('trimmed', folder('bronze'));
  for (const name of ['bronze', 'dead', 'silver', 'hourly'] as const) {
    const { version } = await reader.attach(name, folder(name));
    const middle = Math.ceil(version / 2);
    tables[name] = { uri: folder(name), files: folder(name) };
    tables[`${name}_before`] = { uri: folder(name), files: folder(name), version: middle };
    await reader.attach(`${name}_before`, folder(name), middle);
  }

  const dates = (
    await reader.rows('SELECT DISTINCT _event_date::VARCHAR AS date FROM silver ORDER BY date')
  ).map(({ date }) => date as string);
  const bronze = `SELECT count(*) AS n, count(DISTINCT _kafka_offset) AS offsets,
    sum(_value_size) AS bytes, min(_kafka_offset) AS lowest, max(_kafka_offset) AS highest FROM t`;
  const silver = `SELECT count(*) AS n, count(DISTINCT event_id) AS ids, sum(request_bytes) AS sent,
    sum(response_bytes) AS received, count(DISTINCT customer_id) AS customers FROM t`;
  const gold = `SELECT count(*) AS n, sum(requests) AS requests, sum(request_bytes) AS sent,
    sum(response_bytes) AS received, max(latency_ms_max) AS slowest FROM t`;
  for (const table of ['bronze', 'bronze_before', 'trimmed']) await ask(table, table, bronze);
  for (const table of ['silver', 'silver_before']) {
    await ask(table, table, silver);
    for (const date of dates) {
      await ask(`${table} of ${date}`, table, `${silver} WHERE _event_date = DATE '${date}'`);
    }
  }
  for (const table of ['hourly', 'hourly_before']) await ask(table, table, gold);
  await ask('dead letters', 'dead', 'SELECT count(*) AS n, max(_error) AS error FROM t');
  // DuckDB's own answers, for which the truth vouches.
  const answer = (what: string): JsonRow => asked.find((one) => one.what === what)!.expected[0]!;
  assert.deepEqual(
    [answer('bronze')['n'], answer('silver')['n'], answer('silver')['ids']],
    [truth.lines, truth.unique_valid, truth.unique_valid],
  );
  assert.deepEqual(
    [answer('hourly')['n'], answer('hourly')['requests'], answer('hourly')['received']],
    [truth.gold_hourly_rows, truth.unique_valid, truth.sum_response_bytes],
  );
  assert.ok((answer('bronze_before')['n'] as number) < truth.lines);
  return { tables, asked, dates };
}

/** Appends a little at a time to a pipeline that runs, until bronze has the commits. */
async function stream(pipeline: PipelineFixture): Promise<Truth> {
  const generator = new UsageEventGenerator({
    events: 1_000_000,
    seed: 17,
    // Half of the events are of the day before.
    startMs: Date.parse('2026-11-21T23:59:30Z'),
    spanMs: 24 * 3_600_000,
    duplicates: 0.02,
    late: 0.5,
    poison: 0.02,
  });
  const run = pipeline.start(['run']);
  const sink = await pipeline.openSink();
  const deadline = performance.now() + STREAM_WITHIN_MS;
  try {
    while ((await pipeline.version(USAGE_TABLES.bronze)) < COMMITS) {
      assert.ok(run.isRunning && performance.now() < deadline, `too slow:\n${run.stderr}`);
      const { keys, values, arrivalsMs } = generator.next(LINES_PER_APPEND)!;
      await sink.append(
        values.map((value, i) => ({ key: keys[i], value, timestampMs: arrivalsMs[i]! })),
      );
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    await sink.close();
  }
  const { code, stderr } = await run.kill('SIGTERM');
  assert.equal(code, 0, stderr);
  await pipeline.runUntilCaughtUp();
  await pipeline.verify();
  return generator.truth();
}

/** Deletes the commits before the newest checkpoint, and older checkpoints. @returns how many it had */
function trimLog(table: string): number {
  const log = join(table, '_delta_log');
  const names = readdirSync(log);
  const checkpoints = names.filter((name) => name.endsWith('.checkpoint.parquet')).toSorted();
  const newest = Number(checkpoints.at(-1)?.slice(0, 20));
  for (const name of names) {
    if (/^\d{20}\./.test(name) && Number(name.slice(0, 20)) < newest) rmSync(join(log, name));
  }
  return checkpoints.length;
}

/** Rows as the scripts print them: whole numbers that a double holds are numbers. */
function numbers(row: JsonRow): JsonRow {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      const isWhole = typeof value === 'string' && /^-?\d{1,15}$/.test(value);
      return [name, isWhole ? Number(value) : value];
    }),
  );
}

/** Generated events in S3; the truth about them is what every reader must find. */
async function generatedLake(t: TestContext) {
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition(),
    on: 'servers',
  });
  const shape = ['--events', String(TEST_EVENTS), '--seed', '23'];
  const truth = await pipeline.json<Truth>(['generate', ...shape]);
  const { seconds } = await pipeline.runUntilCaughtUp();
  t.diagnostic(`${truth.lines} events into S3 in ${seconds.toFixed(1)} s`);
  const asked: Asked[] = [
    {
      what: 'generated bronze',
      table: 'generated_bronze',
      sql: 'SELECT count(*) AS n, sum(_value_size) AS bytes FROM t',
      expected: [{ n: truth.lines, bytes: truth.bytes - truth.lines }],
    },
    {
      what: 'generated silver',
      table: 'generated_silver',
      sql: `SELECT count(*) AS n, count(DISTINCT event_id) AS ids, sum(request_bytes) AS sent,
        sum(response_bytes) AS received FROM t`,
      expected: [
        {
          n: truth.unique_valid,
          ids: truth.unique_valid,
          sent: truth.sum_request_bytes,
          received: truth.sum_response_bytes,
        },
      ],
    },
    ...(['hourly', 'daily'] as const).map((table) => ({
      what: `generated ${table}`,
      table: `generated_${table}`,
      sql: `SELECT count(*) AS n, sum(requests) AS requests, sum(request_bytes) AS sent,
        sum(response_bytes) AS received FROM t`,
      expected: [
        {
          n: table === 'hourly' ? truth.gold_hourly_rows : truth.gold_daily_rows,
          requests: truth.unique_valid,
          sent: truth.sum_request_bytes,
          received: truth.sum_response_bytes,
        },
      ],
    })),
  ];
  const lake = await pipeline.lakeFolder();
  const tables: Record<string, ForeignTable> = {};
  for (const name of ['bronze', 'silver', 'hourly', 'daily'] as const) {
    tables[`generated_${name}`] = await remoteTable(pipeline, lake, USAGE_TABLES[name]);
  }
  return { tables, asked };
}

/** A table in S3, which delta-rs reads there, with a local copy for those who cannot. */
async function remoteTable(
  pipeline: PipelineFixture,
  copy: string,
  table: string,
): Promise<ForeignTable> {
  const { lake } = pipeline.config;
  assert.ok(lake.kind === 's3');
  const { endpoint, region } = await sharedS3();
  return {
    uri: `s3://${lake.bucket}/${lake.prefix}/${table}`,
    options: {
      AWS_ENDPOINT_URL: endpoint,
      AWS_REGION: region,
      AWS_ALLOW_HTTP: 'true',
      AWS_ACCESS_KEY_ID: process.env['AWS_ACCESS_KEY_ID'] ?? '',
      AWS_SECRET_ACCESS_KEY: process.env['AWS_SECRET_ACCESS_KEY'] ?? '',
    },
    files: join(copy, table),
  };
}

/** Values at the edges, in S3, each in a file of its own. */
async function edgesLake(t: TestContext) {
  const pipeline = await PipelineFixture.create(t, {
    definition: EDGES_DEFINITION,
    on: 'servers',
    partitions: 1,
  });
  const sink = await pipeline.openSink();
  await sink.append(
    EDGES.map((edge) => ({ key: undefined, value: edgeValue(edge), timestampMs: 0 })),
  );
  await sink.close();
  const run = await pipeline.runUntilCaughtUp();
  assert.equal(run.silverRows, EDGES.length);

  const edges = await remoteTable(pipeline, await pipeline.lakeFolder(), 'silver/edges');
  const asked: Asked[] = [
    { what: 'rows', table: 'edges', sql: edgeRows.sql, expected: edgeRows.expected },
    ...edgeQueries().map((query) => ({ table: 'edges', ...query })),
  ];
  return { tables: { edges }, asked };
}
