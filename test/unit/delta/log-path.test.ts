import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  checkpointPartKey,
  commitKey,
  decodeFilePath,
  encodeFilePath,
  parseLogFileName,
} from '../../../src/storage/delta/log-path.ts';

describe('log file names', () => {
  const cases: Record<string, unknown> = {
    '00000000000000000010.json': { kind: 'commit', version: 10 },
    '00000000000000000010.checkpoint.parquet': {
      kind: 'checkpoint',
      version: 10,
      part: 1,
      parts: 1,
    },
    '00000000000000000010.checkpoint.0000000002.0000000003.parquet': {
      kind: 'checkpoint',
      version: 10,
      part: 2,
      parts: 3,
    },
    _last_checkpoint: undefined,
    '00000000000000000010.crc': undefined,
    '10.json': undefined,
    '00000000000000000010.json.tmp': undefined,
    '.00000000000000000010.json': undefined,
    '00000000000000000000.00000000000000000009.compacted.json': undefined,
    '00000000000000000010.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json': undefined,
  };
  for (const [name, expected] of Object.entries(cases)) {
    it(`reads ${name}`, () => assert.deepEqual(parseLogFileName(name), expected));
  }

  it('writes the names it reads', () => {
    assert.equal(commitKey('a/b', 7), 'a/b/_delta_log/00000000000000000007.json');
    assert.equal(
      checkpointPartKey('t', { version: 7, part: 1, parts: 2 }),
      't/_delta_log/00000000000000000007.checkpoint.0000000001.0000000002.parquet',
    );
  });
});

describe('file paths', () => {
  const encodings: readonly (readonly [string, string])[] = [
    ['_event_date=2026-11-23/a-1.parquet', '_event_date=2026-11-23/a-1.parquet'],
    ['a b/c%3A.parquet', 'a%20b/c%253A.parquet'],
    ['ä/#?.parquet', '%C3%A4/%23%3F.parquet'],
    ['x:y/z', 'x%3Ay/z'],
  ];
  for (const [path, encoded] of encodings) {
    it(`encodes ${path} once and decodes it once (L1)`, () => {
      assert.equal(encodeFilePath(path), encoded);
      assert.equal(decodeFilePath(encoded), path);
    });
  }

  const refused: readonly (readonly [string, string])[] = [
    ['/etc/passwd', 'invalid'],
    ['s3://other/bucket', 'invalid'],
    ['file:/etc/passwd', 'invalid'],
    ['%2Fetc/passwd', 'corrupt'],
    ['../x', 'corrupt'],
    ['a/../x', 'corrupt'],
    ['a/%2e%2e/x', 'corrupt'],
    ['a/..%2Fx', 'corrupt'],
    ['a/./x', 'corrupt'],
    ['a//x', 'corrupt'],
    ['', 'corrupt'],
    ['a%00b', 'corrupt'],
    ['a%5Cb', 'corrupt'],
    ['a\\b', 'corrupt'],
    ['a%zz', 'corrupt'],
    ['a%ff', 'corrupt'],
  ];
  for (const [encoded, kind] of refused) {
    it(`refuses ${JSON.stringify(encoded)} as ${kind} (L2)`, () => {
      assert.throws(() => decodeFilePath(encoded), { name: 'PipelineError', kind });
    });
  }

  it('accepts what another writer encoded more eagerly', () => {
    assert.equal(decodeFilePath('date%3D2026-11-23/a%2Db.parquet'), 'date=2026-11-23/a-b.parquet');
  });

  it('gives back any relative path', () => {
    const segment = fc
      .string({ unit: 'binary', minLength: 1 })
      .filter((s) => !/[\0\\/]/.test(s) && s !== '.' && s !== '..');
    fc.assert(
      fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), (segments) => {
        const path = segments.join('/');
        assert.equal(decodeFilePath(encodeFilePath(path)), path);
      }),
    );
  });

  it('refuses text without a UTF-8 form', () => {
    assert.throws(() => encodeFilePath('a\ud800'), { kind: 'invalid' });
  });
});
