/**
 * Tables that Spark and delta-rs made: of the kinds that Tidemark supports, queries answer what their
 * makers answer, at every version; the others are refused with what they need, also where a pipeline's
 * own table should be (P8).
 */
import assert from 'node:assert/strict';
import { cpSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { PipelineError } from '../../src/errors.ts';
import { silentLogger } from '../../src/logger.ts';
import { openFsObjectStore } from '../../src/storage/object-store/fs-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { DuckDbLakeQuery } from '../../src/storage/query/duckdb-lake-query.ts';
import { LakeCatalog } from '../../src/storage/query/lake-catalog.ts';
import { queryRows } from '../../src/storage/query/lake-query.ts';
import { makeGoldenTables } from '../support/golden-tables.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import { USAGE_TABLES, usageDefinition } from '../support/pipeline-usage.ts';

/** What the refusal of each table has to say, beside its file. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  cdf: /writer version 4|changeDataFeed/,
  'check-constraint': /writer version 3|checkConstraints/,
  clustering: /clustering/,
  'column-defaults': /allowColumnDefaults/,
  'column-mapping-id': /columnMapping|reader version 2/,
  'column-mapping-name': /columnMapping|reader version 2/,
  'deletion-vectors': /deletion ?vectors/i,
  'domain-metadata': /domainMetadata/,
  generated: /writer version 4|generatedColumns/,
  'iceberg-compat': /icebergCompatV2/,
  identity: /writer version 6|identityColumns/,
  'in-commit-timestamps': /inCommitTimestamp/,
  invariant: /delta\.invariants of column id/,
  'row-tracking': /rowTracking/,
  'shallow-clone': /absolute file path \(shallow clones are not supported\)/,
  'timestamp-ntz': /timestampNtz|timestamp_ntz/,
  'type-widening': /typeWidening/,
  'v2-checkpoint': /v2Checkpoint/,
  'v2-checkpoint-trimmed': /v2Checkpoint/,
  variant: /variantType/,
  void: /column n has the unsupported type "void"/,
};

test('tables of other writers', async (t) => {
  const golden = await makeGoldenTables(t);
  const lake = dirname(golden.folder);
  const store = await openFsObjectStore({
    path: lake,
    ambient: systemAmbient,
    logger: silentLogger,
  });
  const codec = createParquetCodec();
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const query = await DuckDbLakeQuery.open({ store, ambient: systemAmbient, cacheFolder: lake });
  t.after(async () => {
    await query.close();
    await store.close();
  });

  for (const [name, versions] of Object.entries(golden.read)) {
    await t.test(`${name} is read as its maker reads it`, async () => {
      const table = `bronze.${name}`;
      for (const [version, expected] of Object.entries(versions)) {
        const at = new Map(version === 'newest' ? [] : [[table, Number(version)]]);
        // A reader of its own, so that nothing of another version is in memory.
        const tables = await new LakeCatalog(delta).queried([table], at);
        const rows = await queryRows(query, `SELECT * FROM bronze."${name}" ORDER BY id`, tables);
        assert.deepEqual(rows, expected, `version ${version}`);
      }
    });
  }

  await t.test('progress of a stream of Spark is exact beyond 2^53', async () => {
    const table = await new LakeCatalog(delta).table('bronze/checkpoint-parts-trimmed');
    assert.equal(table?.snapshot.progress('stream'), 9_007_199_254_740_997n);
  });

  for (const [kind, reason] of Object.entries(REFUSED)) {
    await t.test(`a table with ${kind} is refused by name and file (P8)`, async () => {
      const root = `bronze/refused-${kind}`;
      await assert.rejects(new LakeCatalog(delta).table(root), (thrown) => {
        assert.ok(thrown instanceof PipelineError, String(thrown));
        assert.equal(thrown.kind, 'invalid', thrown.message);
        assert.equal(thrown.code, 'TM_LOG_UNSUPPORTED');
        assert.match(thrown.message, reason);
        assert.ok(thrown.message.includes(`${root}/_delta_log/`), thrown.message);
        return true;
      });
    });
  }

  await t.test('where a table of the pipeline should be, it stops the run (P8)', async (t2) => {
    const pipeline = await PipelineFixture.create(t2, {
      definition: usageDefinition({}),
      on: 'folder',
    });
    const root = USAGE_TABLES.silver;
    const own = join(await pipeline.lakeFolder(), root);
    for (const [name, reason] of [
      ['refused-deletion-vectors', REFUSED['deletion-vectors']!],
      ['changed', /silver\/api_usage_events.*(?:partition|column)/],
    ] as const) {
      cpSync(join(golden.folder, name), own, { recursive: true });
      const { code, stderr } = await pipeline.command(['run', '--until-caught-up']);
      rmSync(own, { recursive: true });
      assert.notEqual(code, 0);
      assert.match(stderr, reason);
      assert.ok(stderr.includes(root), stderr);
    }
  });
});
