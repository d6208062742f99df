/**
 * Silver writers of one table, each with its dedup buckets, on a lake on local disk.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { BatchCache } from '../../../src/actors/batch-cache.ts';
import { spawn } from '../../../src/actors/runtime/actor.ts';
import { silverWriter } from '../../../src/actors/silver-writer/actor.ts';
import { rowsOfShard, shardOf } from '../../../src/actors/silver-writer/shard.ts';
import { systemAmbient } from '../../../src/ambient.ts';
import { schemaProperties } from '../../../src/engine/declared-schema.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import { columnOf } from '../../../src/pipeline/columns.ts';
import type { PipelineConfig } from '../../../src/pipeline/pipeline-config.ts';
import {
  deadLetterAppId,
  deadLetterSchemaAppId,
  type LedgerCounter,
  ledgerAppId,
  schemaMark,
  silverAppId,
} from '../../../src/pipeline/progress.ts';
import {
  bucketOfHash,
  bucketOfOffset,
  IdHasher,
} from '../../../src/pipeline/silver/fingerprints.ts';
import { silverFileSchema } from '../../../src/pipeline/silver/tables.ts';
import { primitive, struct } from '../../../src/pipeline/types.ts';
import type { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { EmbeddedWorkQueue } from '../../../src/storage/queue/embedded-work-queue.ts';
import { MemoryStateStore } from '../../../src/storage/state/memory-state-store.ts';
import { covers, type FixtureRecord, LakeFixture, TOPIC_ID } from '../../support/lake-fixture.ts';

const BUCKETS = 2;

interface Run {
  readonly config?: PipelineConfig;
  readonly onCovered?: (version: number) => void;
}

/** Starts shard `number` of `count`; `close` stops it. */
function startShard(lake: LakeFixture, number: number, count: number, run: Run = {}) {
  const { tables, store } = lake;
  const queue = new EmbeddedWorkQueue({ ambient: systemAmbient, logger: silentLogger });
  const actor = spawn(
    silverWriter({
      ...tables,
      config: run.config ?? lake.config,
      shard: shardOf(number, count, BUCKETS),
      topic: { topic: 'usage', topicId: TOPIC_ID, partitionCount: 1 },
      store,
      state: new MemoryStateStore(systemAmbient),
      queue,
      cache: new BatchCache(0),
      goldCache: new BatchCache(0),
      ambient: systemAmbient,
      logger: silentLogger,
      onCovered: run.onCovered ?? (() => undefined),
      onCommitted: () => undefined,
    }),
    { ambient: systemAmbient, logger: silentLogger },
  );
  const close = async (): Promise<void> => {
    await actor.stop();
    await queue.close();
  };
  return { actor, close };
}

/** Runs shard `number` of `count` until it covers bronze. */
async function runShard(
  lake: LakeFixture,
  number: number,
  count: number,
  config = lake.config,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const head = (await lake.tables.bronze.refresh()).version;
  const onCovered = (version: number): void => {
    if (version >= head) resolve();
  };
  const { actor, close } = startShard(lake, number, count, { config, onCovered });
  const ended = actor.stopped.then((reason) => assert.fail(`stopped: ${reason.kind}`));
  await Promise.race([promise, ended]);
  void ended.catch(() => undefined);
  await close();
}

/** Runs the only shard and stops it when a table was asked for a commit, which is done or lost. */
async function stopAtCommit(
  lake: LakeFixture,
  table: 'deadLetter' | 'silver',
  outcome: 'done' | 'lost',
  config = lake.config,
): Promise<void> {
  const target = lake.tables[table];
  const commit = target.commit.bind(target);
  const { actor, close } = startShard(lake, 0, 1, { config });
  target.commit = async (request) => {
    const pending = outcome === 'done' ? commit(request) : Promise.reject(KILLED);
    try {
      return await pending;
    } finally {
      void actor.stop();
    }
  };
  await actor.stopped;
  await close();
  target.commit = commit;
}

const KILLED = new PipelineError('unavailable', 'TM_STORE_UNAVAILABLE', 'the process was killed');

function bucketOf(id: string): number {
  const words = new Uint32Array(6);
  const bytes = new TextEncoder().encode(id);
  new IdHasher(primitive('string')).hashBytes(bytes, 0, bytes.length, words, 0);
  return bucketOfHash(words[0]!, BUCKETS);
}

async function silverIds(lake: LakeFixture): Promise<string[]> {
  const { silver } = lake.tables;
  const ids: string[] = [];
  for (const { path } of (await silver.refresh()).files()) {
    const bytes = await lake.store.get(`${silver.root}/${path}`);
    const batch = lake.codec.decode(bytes!, silverFileSchema(lake.config.event));
    const { data, offsets } = columnOf(batch, 'id')!;
    for (let row = 0; row < batch.length; row++) {
      ids.push(new TextDecoder().decode(data!.subarray(offsets![row]!, offsets![row + 1]!)));
    }
  }
  return ids.sort((a, b) => a.localeCompare(b));
}

/** Sum of a ledger counter over writers. */
function total(lake: LakeFixture, counter: LedgerCounter): bigint {
  const { bronze, silver } = lake.tables;
  return [0, 1].reduce((sum, writer) => {
    const id = ledgerAppId(lake.config.name, bronze.tableId, writer, counter);
    return sum + (silver.snapshot.progress(id) ?? 0n);
  }, 0n);
}

function events(first: number, ids: readonly (string | undefined)[]): FixtureRecord[] {
  return ids.map((id, i) => ({ offset: first + i, id }));
}

async function addBronze(lake: LakeFixture, first: number, ids: readonly (string | undefined)[]) {
  const next = first + ids.length;
  const coverage = [covers(first, next)];
  await lake.bronze(events(first, ids), coverage, { 0: next });
}

async function openLake(t: TestContext): Promise<LakeFixture> {
  const lake = await LakeFixture.open(t);
  await addBronze(lake, 0, ['a', 'b', 'c', 'd', undefined, 'a']);
  await addBronze(lake, 6, ['e', 'f', 'b', undefined, 'g', 'h']);
  return lake;
}

const ALL = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];

const rowsOf = (table: DeltaTable): number | undefined => table.snapshot.numRecords();

test('SH1 two writers derive each row once, each into files of its own', async (t) => {
  const lake = await openLake(t);
  await Promise.all([runShard(lake, 0, 2), runShard(lake, 1, 2)]);
  assert.deepEqual(await silverIds(lake), ALL);
  assert.equal(rowsOf(lake.tables.deadLetter), 2);
  assert.equal(total(lake, 'bronzeRows'), 12n);
  assert.equal(total(lake, 'duplicates'), 2n);
  for (const file of lake.tables.silver.snapshot.files()) {
    const kinds = [0, 1].map((number) => rowsOfShard(file, shardOf(number, 2, BUCKETS)));
    assert.deepEqual(new Set(kinds), new Set(['all', 'none']));
  }
});

test('the number of writers may change between runs: ids stay single', async (t) => {
  const lake = await openLake(t);
  await runShard(lake, 0, 1);
  await addBronze(lake, 12, ['a', 'h', 'i', 'j', 'k']);
  await Promise.all([runShard(lake, 0, 2), runShard(lake, 1, 2)]);
  await addBronze(lake, 17, ['i', 'j', 'k', 'b', 'l']);
  await runShard(lake, 0, 1);
  assert.deepEqual(await silverIds(lake), [...ALL, 'i', 'j', 'k', 'l']);
});

test('SW4 buckets that stand apart are brought level, none is derived twice or left out', async (t) => {
  const lake = await openLake(t);
  await runShard(lake, 1, 2);
  const odd = ALL.filter((id) => bucketOf(id) === 1);
  assert.deepEqual(await silverIds(lake), odd);
  await addBronze(lake, 12, ['a', 'b', 'm', undefined]);
  await runShard(lake, 0, 1);
  assert.deepEqual(await silverIds(lake), [...ALL, 'm']);
  assert.equal(rowsOf(lake.tables.deadLetter), 3);
  assert.equal(total(lake, 'bronzeRows'), 16n);
  const { bronze, silver } = lake.tables;
  const covered = [0, 1].map((bucket) =>
    silver.snapshot.progress(silverAppId(lake.config.name, bronze.tableId, bucket)),
  );
  assert.deepEqual(covered, [3n, 3n]);
});

test('SW1 dead letters of one bucket that outran silver are not written again', async (t) => {
  const lake = await openLake(t);
  const { bronze, deadLetter } = lake.tables;
  // As if the writer of bucket 1 had been killed between its two commits.
  await deadLetter.commit({
    operation: 'STREAMING UPDATE',
    adds: [],
    progress: [
      {
        appId: deadLetterAppId(lake.config.name, bronze.tableId, 1),
        expected: undefined,
        next: 2n,
      },
    ],
  });
  await runShard(lake, 0, 1);
  assert.deepEqual(await silverIds(lake), ALL);
  const written = rowsOf(deadLetter) ?? 0;
  const poison = [4, 9].filter((offset) => bucketOfOffset(0, offset, 0, BUCKETS) === 0);
  assert.equal(written, poison.length);
  assert.equal(total(lake, 'deadLetters'), 2n);
});

/** The fixture's pipeline file with a second schema version, in which `customer` is required. */
async function declareStricter(lake: LakeFixture): Promise<PipelineConfig> {
  const { event } = lake.config;
  const fields = event.schema.fields.map((field) =>
    field.name === 'customer' ? { ...field, nullable: false } : field,
  );
  const stricter = { ...event, schemaVersion: 2, schema: struct(fields) };
  const outcome = await lake.tables.silver.commit({
    operation: 'CHANGE SCHEMA',
    adds: [],
    progress: [],
    metadata: { configuration: schemaProperties(stricter) },
  });
  assert.equal(outcome.kind, 'committed');
  return { ...lake.config, event: stricter };
}

test("SW1 a span whose dead letters are in is finished under their schema, later ones under the file's", async (t) => {
  for (const isStricterLater of [true, false]) {
    const lake = await LakeFixture.open(t);
    const stricter = await declareStricter(lake);
    const [before, after] = isStricterLater ? [lake.config, stricter] : [stricter, lake.config];
    await addBronze(lake, 0, ['a', undefined]);
    await stopAtCommit(lake, 'silver', 'lost', before);
    assert.deepEqual(await silverIds(lake), []);
    await addBronze(lake, 2, ['b', undefined]);
    await runShard(lake, 0, 1, after);
    assert.deepEqual(await silverIds(lake), isStricterLater ? ['a'] : ['b']);
    await lake.tables.deadLetter.refresh();
    assert.equal(rowsOf(lake.tables.deadLetter), 3);
    assert.equal(total(lake, 'deadLetters'), 3n);
    // And back to the first file: the mark of the schema follows each change, down too.
    await addBronze(lake, 4, ['c', undefined]);
    await stopAtCommit(lake, 'silver', 'lost', after);
    await runShard(lake, 0, 1, before);
    assert.deepEqual(await silverIds(lake), isStricterLater ? ['a'] : ['b', 'c']);
    await lake.tables.deadLetter.refresh();
    assert.equal(rowsOf(lake.tables.silver)! + rowsOf(lake.tables.deadLetter)!, 6);
  }
});

test('SW1 dead letters of a schema that silver does not declare stop the writer, which says so', async (t) => {
  const lake = await openLake(t);
  const { bronze, deadLetter } = lake.tables;
  await deadLetter.commit({
    operation: 'STREAMING UPDATE',
    adds: [],
    progress: [0, 1].flatMap((bucket) => [
      {
        appId: deadLetterAppId(lake.config.name, bronze.tableId, bucket),
        expected: undefined,
        next: 2n,
      },
      {
        appId: deadLetterSchemaAppId(lake.config.name, bronze.tableId, bucket),
        expected: undefined,
        next: schemaMark(2, 9),
      },
    ]),
  });
  const onCovered = (version: number): void => {
    if (version > 0) void actor.stop();
  };
  const { actor, close } = startShard(lake, 0, 1, { onCovered });
  assert.equal(actor.name, 'silver-writer/0');
  const reason = await actor.stopped;
  assert.ok(reason.kind === 'failed');
  assert.match(reason.error.message, /schema version 9, which silver does not declare/);
  assert.deepEqual(await silverIds(lake), []);
  await close();
});

test('SW1 a writer that is stopped after the dead letters still commits the silver rows', async (t) => {
  const lake = await openLake(t);
  await stopAtCommit(lake, 'deadLetter', 'done');
  assert.equal(rowsOf(lake.tables.deadLetter), 2);
  assert.deepEqual(await silverIds(lake), ALL);
});

test('a bronze version that came and was covered while silver was read is no damage', async (t) => {
  const lake = await openLake(t);
  const { silver } = lake.tables;
  const refresh = silver.refresh.bind(silver);
  silver.refresh = async () => {
    silver.refresh = refresh;
    await systemAmbient.clock.sleep(20);
    await addBronze(lake, 12, ['i']);
    // The former owner, which does not know yet that it is one.
    await runShard(lake, 0, 1);
    return refresh();
  };
  await runShard(lake, 0, 1);
  assert.deepEqual(await silverIds(lake), [...ALL, 'i']);
});
