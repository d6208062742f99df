/**
 * Issue 5, items 5 and 7: a producer that adds a field, removes one and changes the type of a third,
 * end to end (SD1, SD2, SA1, DS1, DS2); and dead letters that a new schema makes events (DR1 to DR4, RS1,
 * RS2; P5, P6, P8).
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { stringify } from 'yaml';
import { parsePipeline } from '../../src/config.ts';
import { PipelineError } from '../../src/errors.ts';
import { retryDeadLetters } from '../../src/operations/dead-letters/retry.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import { systemAmbient } from '../../src/ambient.ts';
import { FaultScript, FaultyObjectStore } from '../support/faulty-object-store.ts';
import { openEditedLake } from '../support/lake-operations.ts';
import { type Definition, PipelineFixture } from '../support/pipeline-fixture.ts';

type Fields = Readonly<Record<string, string | { readonly type: string; readonly required: true }>>;

const KEYS: Fields = {
  id: { type: 'string', required: true },
  at: { type: 'timestamp', required: true },
};
const V1: Fields = {
  ...KEYS,
  customer: { type: 'string', required: true },
  size: 'long',
  region: 'string',
};
const V2: Fields = { ...KEYS, customer: 'string', size: 'long', plan: 'string' };
const SUM = { n: { fn: 'count' }, size: { fn: 'sum', field: 'size' } };
const EVERYTHING = ['replay', '--rebuild', '--from', '2026-01-01'];

/** The parts of a pipeline file that a schema is about. */
function declared(version: number, fields: Fields, measures: Definition = SUM): Definition {
  return {
    name: 'meter',
    commit: { maxLatency: '100ms' },
    event: { id: 'id', time: 'at', schema: { version, fields } },
    gold: [{ name: 'daily', window: '1d', groupBy: ['customer'], measures }],
  };
}

class Meter {
  readonly pipeline: PipelineFixture;
  #definition: Definition;

  private constructor(pipeline: PipelineFixture, definition: Definition) {
    this.pipeline = pipeline;
    this.#definition = definition;
  }

  static async create(t: TestContext): Promise<Meter> {
    const definition = declared(1, V1);
    const pipeline = await PipelineFixture.create(t, { definition, on: 'folder', partitions: 2 });
    return new Meter(pipeline, definition);
  }

  /** Writes another version of the pipeline file beside the first. */
  file(name: string, definition: Definition): string {
    const file = join(this.pipeline.folder, name);
    const { source, lake, state } = this.pipeline.config;
    const places = {
      source: { kind: 'embedded', path: 'path' in source ? source.path : '', partitions: 2 },
      lake,
      state,
      supervisor: { http: { port: 0 } },
    };
    writeFileSync(file, stringify({ ...places, ...definition }));
    return file;
  }

  /** From now on commands run on this version of the pipeline file. */
  use(definition: Definition): void {
    this.#definition = definition;
    this.file('pipeline.yaml', definition);
  }

  get config(): PipelineConfig {
    const file = { ...this.#definition, lake: this.pipeline.config.lake };
    const parsed = parsePipeline(stringify(file), {
      environment: {},
      cwd: this.pipeline.folder,
    });
    assert.ok(parsed.ok);
    return parsed.config;
  }

  async send(...events: readonly object[]): Promise<void> {
    const sink = await this.pipeline.openSink();
    const timestampMs = Date.parse('2026-11-22T10:00:00Z');
    await sink.append(
      events.map((event) => ({ key: undefined, value: JSON.stringify(event), timestampMs })),
    );
    await sink.close();
    await this.pipeline.runUntilCaughtUp();
  }

  sql(query: string): Promise<readonly Record<string, unknown>[]> {
    return this.pipeline.json(['sql', query]);
  }
}

const event = (id: string, more: object): object => ({ id, at: '2026-11-22T09:59:00Z', ...more });

test('a producer adds a field, removes one and changes a type: nothing is lost', async (t) => {
  const meter = await Meter.create(t);
  const { pipeline } = meter;
  const old = event('old', { customer: 'c', size: 1, region: 'eu' });
  const early = event('early', { customer: 'c', size: 2, plan: 'gold' });
  const text = event('text', { customer: 'c', size: '3 kB', plan: 'free' });
  await meter.send(old, early, text);
  const shown = await pipeline.json<{ rescued: { field: string; rows: number }[] }>([
    'schema',
    'show',
  ]);
  assert.deepEqual(
    shown.rescued.map(({ field, rows }) => [field, rows]),
    [
      ['plan', 2],
      ['size', 1],
    ],
    'users learn of it before they change anything',
  );

  const retyped = meter.file('retyped.yaml', declared(2, { ...V2, size: 'string' }, { n: SUM.n }));
  const refused = await pipeline.command(['schema', 'check', retyped]);
  assert.equal(refused.code, 1);
  assert.match(refused.stdout, /"kind": "retyped"/);
  const sameVersion = meter.file('same-version.yaml', declared(1, V2));
  assert.equal((await pipeline.command(['schema', 'check', sameVersion])).code, 1);

  const bytes = { ...SUM, plans: { fn: 'countDistinct', field: 'plan' } };
  const v2 = declared(2, V2, bytes);
  const file = meter.file('v2.yaml', v2);
  const check = await pipeline.json<{ silver: { changes: { kind: string; name: string }[] } }>([
    'schema',
    'check',
    file,
  ]);
  assert.deepEqual(
    check.silver.changes.map(({ kind, name }) => `${kind} ${name}`),
    ['now optional customer', 'added plan', 'removed region'],
  );
  const v1 = declared(1, V1);
  meter.use(v2);
  const early2 = await pipeline.command(['run', '--until-caught-up']);
  assert.equal(early2.code, 2, 'a schema that was not applied stops loudly');
  assert.match(early2.stderr, /schema apply/);
  meter.use(v1);
  await pipeline.json(['schema', 'apply', file]);
  const versions = await pipeline.version('silver/meter');
  await pipeline.json(['schema', 'apply', file]);
  assert.equal(await pipeline.version('silver/meter'), versions, 'applying twice commits once');

  await meter.send(early);
  meter.use(v2);
  await meter.send(early, old, text, event('new', { size: 4, plan: 'free' }));
  const [counts] = await meter.sql(
    'SELECT count(*)::INT AS rows, count(DISTINCT id)::INT AS ids FROM silver.meter',
  );
  assert.deepEqual(counts, { rows: 4, ids: 4 }, 'copies under both schemas are duplicates');
  assert.deepEqual(await meter.sql('SELECT 1 FROM bronze.meter_dlq'), []);

  const dry = await pipeline.json<{ dates: { changed: number; gold: unknown[] }[] }>([
    ...EVERYTHING,
    '--dry-run',
  ]);
  assert.deepEqual(
    dry.dates.map(({ changed, gold }) => [changed, gold]),
    [[3, []]],
    'count and sum of gold stay: old, early and text read differently, new does not',
  );
  await pipeline.json(EVERYTHING);
  await pipeline.runUntilCaughtUp();
  assert.deepEqual(
    await meter.sql(
      'SELECT id, size, plan, region, _rescued, _schema_version AS v FROM silver.meter ORDER BY id',
    ),
    [
      { id: 'early', size: '2', plan: 'gold', region: null, _rescued: null, v: 2 },
      { id: 'new', size: '4', plan: 'free', region: null, _rescued: null, v: 2 },
      { id: 'old', size: '1', plan: null, region: null, _rescued: '{"region":"eu"}', v: 2 },
      { id: 'text', size: null, plan: 'free', region: null, _rescued: '{"size":"3 kB"}', v: 2 },
    ],
  );
  assert.deepEqual(
    await meter.sql(
      'SELECT customer, n, size, plans FROM gold.daily ORDER BY customer NULLS FIRST',
    ),
    [
      { customer: null, n: '1', size: '4', plans: '1' },
      { customer: 'c', n: '3', size: '3', plans: '2' },
    ],
  );
  await meter.send(old, early, text);
  assert.equal((await meter.sql('SELECT id FROM silver.meter')).length, 4);
  await pipeline.verify();
});

test('dead letters that a new schema makes events go to silver, each once', async (t) => {
  const meter = await Meter.create(t);
  const { pipeline } = meter;
  const lost = event('lost', { size: 5 });
  await meter.send(event('a', { customer: 'c', size: 1 }), lost, lost, event('a', { size: 9 }));
  const poison = ['dlq', 'ls', '--flag', 'missing_required:customer'];
  assert.equal((await pipeline.json<{ rows: number }[]>(poison))[0]!.rows, 3);
  const untouched = await pipeline.json<{ unchanged: number }>(['dlq', 'retry']);
  assert.equal(untouched.unchanged, 3);

  const v2 = declared(2, V2);
  await pipeline.json(['schema', 'apply', meter.file('v2.yaml', v2)]);
  meter.use(v2);
  const dry = await pipeline.json<object>(['dlq', 'retry', '--dry-run']);
  const became = { looked: 3, silverRows: 1, duplicates: 1, conflicts: 1, unchanged: 0 };
  assert.deepEqual(dry, { dryRun: true, ...became, versions: [] });

  // The process dies after silver has the rows and before the dead letters are gone.
  const script = new FaultScript();
  const deadLog = /_dlq\/_delta_log\/\d+\.json$/;
  script.next('createIfAbsent', { kind: 'unavailable' }, { key: deadLog, times: 100 });
  const cut = await openEditedLake(t, meter.config, (store) => {
    return new FaultyObjectStore(store, { plan: script.plan, clock: systemAmbient.clock });
  });
  const selection = { flag: undefined, date: undefined, dryRun: false };
  await assert.rejects(
    retryDeadLetters(cut, selection),
    (thrown) => thrown instanceof PipelineError && thrown.kind === 'unavailable',
  );
  assert.equal((await meter.sql('SELECT id FROM silver.meter')).length, 2);
  assert.equal((await meter.sql('SELECT 1 FROM bronze.meter_dlq')).length, 3);

  const after = await pipeline.json<object>(['dlq', 'retry']);
  assert.deepEqual(after, {
    dryRun: false,
    looked: 1,
    silverRows: 0,
    duplicates: 0,
    conflicts: 0,
    unchanged: 1,
    versions: [],
  });
  const dead = await pipeline.json<{ flags: string[]; value: string }[]>(['dlq', 'show']);
  assert.deepEqual(
    dead.map(({ flags, value }) => [flags, (JSON.parse(value) as { size: number }).size]),
    [[['conflicting_duplicate'], 9]],
  );
  await meter.send(lost);
  assert.deepEqual(await meter.sql('SELECT n, size FROM gold.daily ORDER BY size'), [
    { n: '1', size: '1' },
    { n: '1', size: '5' },
  ]);
  const { stages } = await pipeline.verify();
  assert.deepEqual(
    [stages.bronzeRows, stages.silverRows, stages.duplicates, stages.conflicts, stages.deadLetters],
    [5, 2, 2, 1, 0],
  );
});
