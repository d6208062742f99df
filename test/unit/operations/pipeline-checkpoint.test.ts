/** Checkpoints of the pipeline: versions that cover one another, numbers that only grow. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { PipelineCheckpoints } from '../../../src/operations/checkpoints/pipeline-checkpoint.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { covers, LakeFixture } from '../../support/lake-fixture.ts';

test('a checkpoint names what gold covers, not what is newest (PC1)', async (t) => {
  const fixture = await LakeFixture.open(t);
  const { store, codec, config } = fixture;
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const open = (root: string) => DeltaTable.open(delta, root);
  const checkpoints = new PipelineCheckpoints({ config, delta, open });
  const topic = config.source.topic;

  await fixture.bronze([{ offset: 0, id: 'a' }], [covers(0, 1)], { 0: 1 });
  await fixture.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  await fixture.gold(1, 1);
  await fixture.bronze([{ offset: 1, id: 'b' }], [covers(1, 2)], { 0: 2 });
  await fixture.silver([{ offset: 1, id: 'b' }], 2, { silverRows: 1 });

  assert.equal(await checkpoints.take(), 1);
  const { tables, offsets } = await checkpoints.read(1);
  const version = (name: string) => tables.find(({ table }) => table === name)?.version;
  assert.deepEqual([version('bronze.usage'), version('silver.usage')], [1, 1]);
  assert.deepEqual(offsets, { 0: '1' });

  assert.equal(await checkpoints.take(), undefined, 'nothing has changed');
  const another = new PipelineCheckpoints({ config, delta, open });
  assert.equal(await another.take(), undefined, 'nor for another process');
  await fixture.gold(2, 2);
  assert.equal(await another.take(), 2);
  await fixture.gold(3, 2);
  // PC2: a number that is taken is passed over.
  assert.equal(await checkpoints.take(), 3);
  assert.deepEqual(await another.numbers(), [1, 2, 3]);
  assert.ok(await store.head(`checkpoints/bronze/${topic}/offsets/3`));
  await assert.rejects(checkpoints.read(9), { kind: 'invalid' });
});

test('gold that covers nothing yet is left out (PC1)', async (t) => {
  const fixture = await LakeFixture.open(t);
  const { store, codec, config } = fixture;
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const lake = { config, delta, open: (root: string) => DeltaTable.open(delta, root) };
  await fixture.bronze([{ offset: 0, id: 'a' }], [covers(0, 1)], { 0: 1 });
  await fixture.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  assert.equal(await new PipelineCheckpoints(lake).take(), 1);
  const { tables } = await new PipelineCheckpoints(lake).read(1);
  assert.deepEqual(
    tables.map(({ table, version }) => [table, version]),
    [
      ['bronze.usage', 1],
      ['bronze.usage_dlq', 0],
      ['silver.usage', 1],
    ],
  );
});

test('dead letters are those of records that silver covers there (PC1)', async (t) => {
  const fixture = await LakeFixture.open(t);
  const { store, codec, config } = fixture;
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const lake = { config, delta, open: (root: string) => DeltaTable.open(delta, root) };
  await fixture.bronze([{ offset: 0, id: 'a' }], [covers(0, 1)], { 0: 1 });
  await fixture.silver([{ offset: 0, id: 'a' }], 1, { silverRows: 1 });
  await fixture.gold(1, 1);
  for (let offset = 1; offset <= 7; offset++) {
    const record = { offset, id: undefined };
    const version = await fixture.bronze([record], [covers(offset, offset + 1)], { 0: offset + 1 });
    await fixture.deadLetters([{ ...record, flag: 'malformed_json' }], version);
    if (offset <= 2) await fixture.silver([], version, { deadLetters: 1 });
  }
  await fixture.gold(1, 3);
  const checkpoints = new PipelineCheckpoints(lake);
  await checkpoints.take();
  const dead = (await checkpoints.read(1)).tables.find(({ table }) => table === 'bronze.usage_dlq');
  assert.deepEqual([dead!.version, dead!.covers], [2, 3]);
});

test('a damaged checkpoint does not stop the next one (PC2)', async (t) => {
  const fixture = await LakeFixture.open(t);
  const { store, codec, config } = fixture;
  const delta = { store, codec, ambient: systemAmbient, logger: silentLogger };
  const lake = { config, delta, open: (root: string) => DeltaTable.open(delta, root) };
  await fixture.silver([], 0, {});
  assert.equal(await new PipelineCheckpoints(lake).take(), 1);
  const key = `checkpoints/bronze/${config.source.topic}/offsets/1`;
  await store.put(key, new TextEncoder().encode('{"check'));
  assert.equal(await new PipelineCheckpoints(lake).take(), 2);
  assert.equal((await new PipelineCheckpoints(lake).read(2)).checkpoint, 2);
});
