import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  decodeLogEntry,
  encodeLogEntry,
  type LogEntry,
} from '../../../src/storage/delta/actions.ts';
import { utf8 } from './harness.ts';

const SOURCE = '00000000000000000007.json';
const read = (text: string): LogEntry => decodeLogEntry(7, utf8(text), SOURCE);
const ADD =
  '{"add":{"path":"a.parquet","partitionValues":{},"size":1,"modificationTime":2,"dataChange":true}}';
const METADATA =
  '{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{}",' +
  '"partitionColumns":[],"configuration":{}}}';
const PROTOCOL = '{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}';

describe('log entries', () => {
  const entry: LogEntry = {
    version: 7,
    commitInfo: {
      timestampMs: 1795392000000,
      operation: 'STREAMING UPDATE',
      operationParameters: { outputMode: 'Append' },
      operationMetrics: { numOutputRows: '5' },
      readVersion: 6,
      isolationLevel: 'WriteSerializable',
      isBlindAppend: true,
      engineInfo: 'Tidemark/0.1.0',
      txnId: 'n.1',
      lineage: { from: 2n ** 60n, partitions: [1, 2] },
    },
    protocol: {
      minReaderVersion: 3,
      minWriterVersion: 7,
      readerFeatures: [],
      writerFeatures: ['appendOnly'],
    },
    metadata: {
      id: 'guid',
      name: 'n',
      description: undefined,
      format: { provider: 'parquet', options: { a: 'b' } },
      schemaString: '{"type":"struct","fields":[]}',
      partitionColumns: ['p'],
      configuration: { 'delta.appendOnly': 'true' },
      createdTimeMs: 5,
    },
    txns: [{ appId: 'a:0', version: 2n ** 63n - 1n, lastUpdatedMs: 3 }],
    adds: [
      {
        path: 'p=a b/ü.parquet',
        encodedPath: undefined,
        partitionValues: { p: 'a b', q: null },
        sizeBytes: 9,
        modifiedMs: 8,
        stats: '{"numRecords":1,"minValues":{"l":9223372036854775807}}',
        tags: { t: '1' },
        addedVersion: 7,
        dataChange: true,
      },
    ],
    removes: [
      {
        path: 'gone.parquet',
        encodedPath: 'g%6Fne.parquet',
        dataChange: false,
        deletionTimestampMs: 4,
        partitionValues: { p: null },
        sizeBytes: 3,
      },
    ],
  };

  it('come back as they were written (A4)', () => {
    assert.deepEqual(decodeLogEntry(7, encodeLogEntry(entry), SOURCE), entry);
  });

  it('have commitInfo first, one action a line, and no null (A3)', () => {
    const text = new TextDecoder().decode(encodeLogEntry(entry));
    const lines = text.split('\n');
    assert.equal(lines.pop(), '');
    assert.deepEqual(
      lines.map((line) => Object.keys(JSON.parse(line) as object)[0]),
      ['commitInfo', 'protocol', 'metaData', 'txn', 'remove', 'add'],
    );
    assert.doesNotMatch(text.replaceAll('"q":null', '').replaceAll('"p":null', ''), /:null/);
    assert.match(lines[3]!, /"version":9223372036854775807,/);
    assert.match(lines[4]!, /"extendedFileMetadata":true/);
  });

  it('keep any txn version exact (A4)', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 63n - 1n), (version) => {
        const bytes = encodeLogEntry({ ...entry, txns: [{ appId: 'a', version }] });
        assert.equal(decodeLogEntry(7, bytes, SOURCE).txns[0]!.version, version);
      }),
    );
  });

  it('of other writers are read with their unknown actions and fields (A2)', () => {
    const found = read(
      [
        '{"commitInfo":{"timestamp":1,"operation":"WRITE","operationParameters":{"mode":"Append"},"clusterId":"x","txnId":null}}',
        '{"cdc":{"path":"x","size":1}}',
        '{"domainMetadata":{"domain":"d"}}',
        '',
        '{"add":{"path":"p=2026-11-23%2010%253A00/part-0.c000.snappy.parquet","partitionValues":{"p":""},"size":5,"modificationTime":6,"dataChange":true,"stats":null,"tags":null,"deletionVector":null,"baseRowId":null,"future":{"x":1}}}',
        '{"remove":{"path":"b.parquet","dataChange":true}}',
      ].join('\n'),
    );
    assert.equal(found.adds[0]!.path, 'p=2026-11-23 10%3A00/part-0.c000.snappy.parquet');
    assert.deepEqual(found.adds[0]!.partitionValues, { p: null }, 'empty text is null');
    assert.equal(found.adds[0]!.stats, undefined);
    assert.equal(found.removes[0]!.deletionTimestampMs, undefined);
    assert.equal(found.commitInfo?.txnId, undefined);
  });

  it('repeat the spelling of a foreign path (L1)', () => {
    const found = read(ADD.replace('a.parquet', 'x%2Dy.parquet'));
    assert.equal(found.adds[0]!.path, 'x-y.parquet');
    assert.match(new TextDecoder().decode(encodeLogEntry(found)), /"path":"x%2Dy.parquet"/);
  });

  const corrupt: Record<string, readonly [string, RegExp]> = {
    'an empty file': ['', /07\.json: holds no action/],
    'half a last line': [`${ADD}\n{"add":{"path":"b.par`, /07\.json line 2: not JSON/],
    garbage: ['\u0000\u0001', /line 1: not JSON/],
    'a list': ['[]', /line 1: not a JSON object/],
    'an action that is no object': ['{"add":5}', /line 1: add is not an object/],
    'two metaData': [`${METADATA}\n${METADATA}`, /line 2: a second metaData/],
    'two protocols': [`${PROTOCOL}\n${PROTOCOL}`, /line 2: a second protocol/],
    'two adds of a path': [`${ADD}\n${ADD}`, /line 2: two actions for the file a\.parquet/],
    'two spellings of a path': [
      `${ADD}\n${ADD.replace('a.parquet', '%61.parquet')}`,
      /line 2: two actions for the file a\.parquet/,
    ],
    'add and remove of a path': [
      `${ADD}\n{"remove":{"path":"a.parquet","dataChange":true}}`,
      /line 2: two actions/,
    ],
    'two txn of an appId': [
      '{"txn":{"appId":"a","version":1}}\n{"txn":{"appId":"a","version":2}}',
      /line 2: a second txn of a/,
    ],
    'an add without size': [ADD.replace('"size":1,', ''), /size is missing/],
    'a size that is text': [ADD.replace('"size":1', '"size":"1"'), /size is not a safe integer/],
    'a txn version with a fraction': ['{"txn":{"appId":"a","version":1.5}}', /version is not/],
    'a txn version beyond 64 bits': [
      '{"txn":{"appId":"a","version":9223372036854775808}}',
      /version is not a 64-bit integer/,
    ],
    'a path that leads outside': [ADD.replace('a.parquet', '../a'), /line 1: file path with/],
  };
  for (const [name, [text, message]] of Object.entries(corrupt)) {
    it(`with ${name} are corrupt, naming the place (A1)`, () => {
      assert.throws(() => read(text), { kind: 'corrupt', code: 'TM_LOG_CORRUPT', message });
    });
  }

  it('that are not UTF-8 are corrupt', () => {
    assert.throws(() => decodeLogEntry(7, Uint8Array.of(0xff, 0xfe), SOURCE), {
      code: 'TM_LOG_CORRUPT',
    });
  });

  it('with deletion vectors or absolute paths are unsupported', () => {
    const vector = ADD.replace('"dataChange"', '"deletionVector":{"storageType":"u"},"dataChange"');
    const absolute = ADD.replace('a.parquet', 's3://elsewhere/a.parquet');
    for (const text of [vector, absolute]) {
      assert.throws(() => read(text), { kind: 'invalid', code: 'TM_LOG_UNSUPPORTED' });
    }
  });
});
