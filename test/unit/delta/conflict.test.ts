import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planEntry } from '../../../src/storage/delta/commit-plan.ts';
import { refusalOf, requireValidRequest } from '../../../src/storage/delta/conflict.ts';
import { schemaToJson } from '../../../src/storage/delta/schema-json.ts';
import { TableSnapshot } from '../../../src/storage/delta/snapshot.ts';
import type { CommitRequest } from '../../../src/storage/delta/transaction.ts';
import { field, struct } from '../../../src/pipeline/types.ts';
import { newFile, pathOf, SCHEMA } from './harness.ts';

function table(configuration: Record<string, string> = {}, id = 'guid'): TableSnapshot {
  return TableSnapshot.start(
    {
      version: 4,
      commitInfo: { timestampMs: 5_000 },
      protocol: { minReaderVersion: 1, minWriterVersion: 2 },
      metadata: {
        id,
        format: { provider: 'parquet', options: {} },
        schemaString: schemaToJson(SCHEMA),
        partitionColumns: ['_event_date'],
        configuration,
      },
      txns: [{ appId: 'p', version: 10n }],
      adds: [{ ...newFile('live'), encodedPath: 'x', addedVersion: 1, dataChange: true }],
      removes: [],
    },
    0,
    'test',
  );
}

const request = (more: Partial<CommitRequest> = {}): CommitRequest => ({
  operation: 'WRITE',
  adds: [newFile('new')],
  progress: [],
  ...more,
});
const progress = (expected: bigint | undefined | 'any', next: bigint, appId = 'p') => ({
  progress: [{ appId, expected, next }],
});

describe('refusals', () => {
  const base = table();
  const cases: Record<string, readonly [Partial<CommitRequest>, unknown]> = {
    'the expected progress': [progress(10n, 11n), undefined],
    'a guard that holds': [{ guards: [{ appId: 'p', expected: 10n }] }, undefined],
    'a guard on progress that there must not be': [
      { guards: [{ appId: 'other', expected: undefined }] },
      undefined,
    ],
    'a guard on progress of another that moved on': [
      { ...progress(undefined, 1n, 'new'), guards: [{ appId: 'p', expected: 9n }] },
      { kind: 'fenced', appId: 'p', expected: 9n, actual: 10n },
    ],
    'the first progress of an appId': [progress(undefined, 0n, 'new'), undefined],
    'a progress that is behind the table': [
      progress(9n, 11n),
      { kind: 'fenced', appId: 'p', expected: 9n, actual: 10n },
    ],
    'a progress that is ahead of the table': [
      progress(11n, 12n),
      { kind: 'fenced', appId: 'p', expected: 11n, actual: 10n },
    ],
    'a first progress where there is one': [
      progress(undefined, 1n),
      { kind: 'fenced', appId: 'p', expected: undefined, actual: 10n },
    ],
    'a progress where there is none': [
      progress(0n, 1n, 'new'),
      { kind: 'fenced', appId: 'new', expected: 0n, actual: undefined },
    ],
    'a watermark behind the table': [progress('any', 3n), undefined],
    'a live file to remove': [{ removes: [pathOf('live')] }, undefined],
    'a missing file to remove': [
      { removes: [pathOf('gone')] },
      { kind: 'conflict', reason: `the file to remove is gone: ${pathOf('gone')}` },
    ],
    'a file that is there already': [
      { adds: [newFile('live')] },
      { kind: 'conflict', reason: `the file to add is in the table: ${pathOf('live')}` },
    ],
  };
  for (const [name, [more, expected]] of Object.entries(cases)) {
    it(`of ${name}: ${expected === undefined ? 'none' : 'yes'} (C1, C2)`, () => {
      assert.deepEqual(refusalOf(request(more), base, base), expected);
    });
  }

  it('of a table that changed or was replaced under the writer (C2)', () => {
    const changed = table({ 'delta.columnMapping.mode': 'name' });
    assert.match(JSON.stringify(refusalOf(request(), base, changed)), /metadata or protocol/);
    assert.match(JSON.stringify(refusalOf(request(), base, table({}, 'other'))), /replaced/);
    assert.equal(refusalOf(request(), base, table()), undefined, 'equal content is no change');
  });

  it('not of one that is only kept in another way (C2)', () => {
    const kept = table({ 'delta.appendOnly': 'true', 'delta.logRetentionDuration': '7 days' });
    assert.equal(refusalOf(request(), base, kept), undefined);
    const removes = [pathOf('live')];
    assert.match(JSON.stringify(refusalOf(request({ removes }), base, kept)), /append-only/);
    const lifted = { configuration: { 'delta.appendOnly': 'false' } };
    assert.equal(refusalOf(request({ removes, metadata: lifted }), base, kept), undefined);
  });
});

describe('invalid requests (C3)', () => {
  const day = { _event_date: '2026-11-23' };
  const withFile = (more: object): Partial<CommitRequest> => ({ adds: [newFile('a', more)] });
  const invalid: Record<string, Partial<CommitRequest>> = {
    'a path twice': { adds: [newFile('a'), newFile('a')] },
    'a path added and removed': { adds: [newFile('live')], removes: [pathOf('live')] },
    'a path with a blank': withFile({ path: 'a b.parquet' }),
    'a path with a colon': withFile({ path: 'a:b.parquet' }),
    'an absolute path': withFile({ path: '/a.parquet' }),
    'a path that leads outside': withFile({ path: 'a/../../b.parquet' }),
    'a path in a hidden folder': withFile({ path: '_x/a.parquet' }),
    'a path of a hidden file': withFile({ path: 'x/.a.parquet' }),
    'no partition value': withFile({ partitionValues: {} }),
    'a partition value too many': withFile({ partitionValues: { ...day, x: '1' } }),
    'an empty partition value': withFile({ partitionValues: { _event_date: '' } }),
    "Hive's null as text": withFile({
      partitionValues: { _event_date: '__HIVE_DEFAULT_PARTITION__' },
    }),
    'an empty file': withFile({ sizeBytes: 0 }),
    'a size that is no integer': withFile({ sizeBytes: 1.5 }),
    'an appId twice': {
      progress: [
        { appId: 'p', expected: 10n, next: 11n },
        { appId: 'p', expected: 'any', next: 12n },
      ],
    },
    'progress that goes back': progress(10n, 9n),
    'progress beyond a Java long': progress(10n, 2n ** 63n),
    'progress below zero': progress('any', -1n),
    'a schema that drops a column': { metadata: { schema: struct([field('event_id', 'string')]) } },
    'a schema that changes a type': {
      metadata: {
        schema: struct(
          SCHEMA.fields.map((f) => (f.name === 'amount' ? field('amount', 'string') : f)),
        ),
      },
    },
    'a schema with a new required column': {
      metadata: { schema: struct([...SCHEMA.fields, field('x', 'long', false)]) },
    },
    'a schema with an ambiguous column': {
      metadata: { schema: struct([...SCHEMA.fields, field('AMOUNT', 'long')]) },
    },
  };
  for (const [name, more] of Object.entries(invalid)) {
    it(`: ${name}`, () => {
      assert.throws(() => requireValidRequest(request(more), table()), { kind: 'invalid' });
    });
  }

  it(': removing rows of an append-only table, but not rearranging them', () => {
    const appendOnly = table({ 'delta.appendOnly': 'true' });
    const removes = [pathOf('live')];
    assert.throws(() => requireValidRequest(request({ removes }), appendOnly), {
      message: /append-only/,
    });
    requireValidRequest(request({ removes, dataChange: false }), appendOnly);
    requireValidRequest(request({ removes }), table());
  });
});

describe('the planned entry', () => {
  const attempt = { txnId: 'n.1', nowMs: 9_000.7 };

  it('says what the commit is and comes from (B1)', () => {
    const lineage = { topic: 't' };
    const entry = planEntry(request({ ...progress(10n, 11n), lineage }), table(), attempt)!;
    assert.equal(entry.version, 5);
    assert.deepEqual(entry.commitInfo, {
      timestampMs: 9_000,
      operation: 'WRITE',
      operationParameters: {},
      readVersion: 4,
      isolationLevel: 'WriteSerializable',
      isBlindAppend: true,
      operationMetrics: {},
      engineInfo: 'Tidemark/0.1.0',
      txnId: 'n.1',
      lineage,
    });
    assert.deepEqual(entry.txns, [{ appId: 'p', version: 11n, lastUpdatedMs: 9_000 }]);
  });

  it('is not older than the version before it (B2)', () => {
    const removes = [pathOf('live')];
    const entry = planEntry(request({ removes }), table(), { txnId: 'n', nowMs: 1_000 })!;
    assert.equal(entry.commitInfo?.timestampMs, 5_000);
    assert.equal(entry.removes[0]!.deletionTimestampMs, 5_000);
  });

  it('removes a file with all that is known of it', () => {
    const { removes, commitInfo } = planEntry(
      request({ removes: [pathOf('live')], dataChange: false }),
      table(),
      attempt,
    )!;
    const { path, partitionValues, sizeBytes, stats } = newFile('live');
    assert.deepEqual(removes, [
      {
        path,
        encodedPath: 'x',
        dataChange: false,
        deletionTimestampMs: 9_000,
        partitionValues,
        sizeBytes,
        stats,
      },
    ]);
    assert.equal(commitInfo?.isBlindAppend, false);
  });

  it('raises a watermark and never lowers it', () => {
    const raised = planEntry(request(progress('any', 12n)), table(), attempt)!;
    assert.equal(raised.txns[0]!.version, 12n);
    assert.deepEqual(planEntry(request(progress('any', 9n)), table(), attempt)!.txns, []);
    const nothing = { adds: [], ...progress('any', 9n) };
    assert.equal(planEntry(request(nothing), table(), attempt), undefined);
  });

  it('carries a change of schema and properties and keeps the rest of the metadata', () => {
    const schema = struct([...SCHEMA.fields, field('extra', 'string')]);
    const base = table({ a: '1', b: '1' });
    const metadata = { schema, configuration: { b: '2' } };
    const entry = planEntry(request({ adds: [], metadata }), base, attempt)!;
    assert.deepEqual(entry.metadata, {
      ...base.metadata,
      schemaString: schemaToJson(schema),
      configuration: { a: '1', b: '2' },
    });
  });
});
