import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LogEntry } from '../../../src/storage/delta/actions.ts';
import { schemaToJson } from '../../../src/storage/delta/schema-json.ts';
import {
  numRecordsOf,
  sameTableDefinition,
  TableSnapshot,
} from '../../../src/storage/delta/snapshot.ts';
import { field, struct } from '../../../src/pipeline/types.ts';
import { names, newFile, pathOf, SCHEMA } from './harness.ts';

const METADATA = {
  id: 'guid',
  format: { provider: 'parquet', options: {} },
  schemaString: schemaToJson(SCHEMA),
  partitionColumns: ['_event_date'],
  configuration: {},
};
const PROTOCOL = { minReaderVersion: 1, minWriterVersion: 2 };

const entry = (version: number, more: Partial<LogEntry> = {}): LogEntry => ({
  version,
  txns: [],
  adds: [],
  removes: [],
  ...more,
});
const adds = (version: number, ...files: string[]) =>
  files.map((name) => ({ ...newFile(name), addedVersion: version, dataChange: true }));
const removes = (deletionTimestampMs: number, ...files: string[]) =>
  files.map((name) => ({ path: pathOf(name), dataChange: true, deletionTimestampMs }));
const start = (more: Partial<LogEntry> = {}): TableSnapshot =>
  TableSnapshot.start(entry(0, { protocol: PROTOCOL, metadata: METADATA, ...more }), 0, '0.json');

describe('snapshot', () => {
  it('reconciles adds, removes and txn of successive versions', () => {
    const first = start({ adds: adds(0, 'a', 'b'), txns: [{ appId: 'p', version: 1n }] });
    const second = first.apply(
      entry(1, {
        adds: adds(1, 'c'),
        removes: removes(5, 'a', 'unknown'),
        txns: [
          { appId: 'p', version: 2n },
          { appId: 'q', version: 7n },
        ],
      }),
      '1.json',
    );
    const third = second.apply(
      entry(2, { adds: adds(2, 'a'), removes: removes(6, 'b') }),
      '2.json',
    );

    assert.deepEqual(names(third.files()), ['a', 'c']);
    assert.deepEqual(names(third.tombstones()), ['b', 'unknown']);
    assert.deepEqual([third.fileCount, third.totalBytes, third.numRecords()], [2, 200, 20]);
    assert.deepEqual(Object.fromEntries(third.progressEntries()), { p: 2n, q: 7n });
    assert.equal(third.file(pathOf('a'))?.addedVersion, 2);

    assert.deepEqual(names(first.files()), ['a', 'b'], 'an older snapshot stays as it was (N1)');
    assert.deepEqual([first.fileCount, first.totalBytes, first.progress('p')], [2, 200, 1n]);
    assert.deepEqual([first.progress('q'), first.tombstones().length], [undefined, 0]);
    assert.deepEqual(names(second.files()), ['b', 'c']);
  });

  it('counts bytes once when a file is added again', () => {
    const again = [{ ...adds(1, 'a')[0]!, sizeBytes: 70 }];
    const snapshot = start({ adds: adds(0, 'a') }).apply(entry(1, { adds: again }), '1.json');
    assert.deepEqual([snapshot.fileCount, snapshot.totalBytes], [1, 70]);
  });

  it('never lets time go back (N3)', () => {
    const times = [1000, 500, undefined, 2000];
    let snapshot = start({ commitInfo: { timestampMs: 1000 } });
    const seen = [snapshot.timestampMs];
    times.slice(1).forEach((timestampMs, i) => {
      snapshot = snapshot.apply(entry(i + 1, { commitInfo: { timestampMs } }), 'x');
      seen.push(snapshot.timestampMs);
    });
    assert.deepEqual(seen, [1000, 1000, 1000, 2000]);
  });

  it('refuses a version out of turn (N2)', () => {
    assert.throws(() => start().apply(entry(2), '2.json'), { kind: 'internal' });
  });

  it('drops the tombstones that expired, and only those', () => {
    const snapshot = start({ adds: adds(0, 'a', 'b') }).apply(
      entry(1, { removes: [...removes(10, 'a'), ...removes(20, 'b')] }),
      '1.json',
    );
    assert.deepEqual(names(snapshot.withoutTombstonesBefore(20).tombstones()), ['b']);
    assert.deepEqual(names(snapshot.tombstones()), ['a', 'b']);
  });

  it('needs protocol and metaData to start from', () => {
    for (const missing of [{ protocol: undefined }, { metadata: undefined }]) {
      assert.throws(() => start(missing), { code: 'TM_LOG_CORRUPT', message: /0\.json/ });
    }
  });

  const invariant = struct([
    { ...field('amount', 'long'), metadata: { 'delta.invariants': '{}' } },
    field('_event_date', 'date'),
  ]);
  const nested = struct([field('s', invariant), field('_event_date', 'date')]);
  const unsupported: Record<string, readonly [Partial<LogEntry>, RegExp]> = {
    'reader version 2': [
      { protocol: { minReaderVersion: 2, minWriterVersion: 5 } },
      /reader version 2/,
    ],
    'writer version 4': [
      { protocol: { minReaderVersion: 1, minWriterVersion: 4 } },
      /writer version 4/,
    ],
    'a reader feature': [
      {
        protocol: {
          minReaderVersion: 3,
          minWriterVersion: 7,
          readerFeatures: ['deletionVectors'],
          writerFeatures: ['deletionVectors', 'appendOnly'],
        },
      },
      /the feature deletionVectors,/,
    ],
    'a writer feature': [
      {
        protocol: {
          minReaderVersion: 1,
          minWriterVersion: 7,
          writerFeatures: ['inCommitTimestamp'],
        },
      },
      /inCommitTimestamp/,
    ],
    'an invariant': [
      { metadata: { ...METADATA, schemaString: schemaToJson(invariant) } },
      /delta\.invariants of column amount/,
    ],
    'an invariant of a member': [
      { metadata: { ...METADATA, schemaString: schemaToJson(nested) } },
      /delta\.invariants of column s\.amount/,
    ],
    'another file format': [
      { metadata: { ...METADATA, format: { provider: 'orc', options: {} } } },
      /orc/,
    ],
  };
  for (const [name, [change, message]] of Object.entries(unsupported)) {
    it(`refuses a table with ${name}, from the start or on the way (S1, S2)`, () => {
      const expected = { kind: 'invalid', code: 'TM_LOG_UNSUPPORTED', message };
      assert.throws(() => start(change), expected);
      assert.throws(() => start().apply(entry(1, change), '1.json'), expected);
    });
  }

  it('accepts writer version 7 with nothing but what version 2 implies', () => {
    const protocol = {
      minReaderVersion: 1,
      minWriterVersion: 7,
      writerFeatures: ['appendOnly', 'invariants'],
    };
    assert.equal(start({ protocol }).protocol, protocol);
  });

  it('sees whether the definition of the table changed', () => {
    const base = start();
    const same = base.apply(entry(1, { adds: adds(1, 'a'), metadata: { ...METADATA } }), '1.json');
    const other = base.apply(
      entry(1, { metadata: { ...METADATA, configuration: { x: '1' } } }),
      '1.json',
    );
    assert.equal(sameTableDefinition(base, same), true);
    assert.equal(sameTableDefinition(base, other), false);
  });

  const stats: readonly (readonly [string | undefined, number | undefined])[] = [
    ['{"numRecords":12}', 12],
    ['{"numRecords":12,"minValues":{}}', 12],
    ['{"minValues":{"a":9007199254740993}, "numRecords": 3}', 3],
    ['{"numRecords":1.5}', undefined],
    ['{"minValues":{}}', undefined],
    ['{"numRecords":', undefined],
    ['null', undefined],
    [undefined, undefined],
  ];
  for (const [text, expected] of stats) {
    it(`counts ${expected} rows in ${text}`, () => assert.equal(numRecordsOf(text), expected));
  }
});
