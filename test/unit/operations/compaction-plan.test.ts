/** Which files are rewritten together, and what the new file says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isSmall,
  mergedTags,
  planBins,
} from '../../../src/operations/housekeeping/compaction-plan.ts';
import { COVERAGE_TAG, parseCoverage } from '../../../src/pipeline/bronze.ts';
import type { LiveFile } from '../../../src/storage/delta/transaction.ts';

const TARGET = { fileBytes: 1_000, fileRows: 100 };

function file(path: string, more: Partial<LiveFile> & { readonly rows?: number } = {}): LiveFile {
  const { rows = 10, ...rest } = more;
  return {
    path,
    partitionValues: { _event_date: '2026-11-22' },
    sizeBytes: 100,
    modifiedMs: 0,
    stats: JSON.stringify({ numRecords: rows }),
    addedVersion: 1,
    dataChange: true,
    ...rest,
  };
}

const paths = (bins: readonly (readonly LiveFile[])[]): string[] =>
  bins.map((bin) => bin.map(({ path }) => path).join(''));

test('a file is small by its bytes and by its rows', () => {
  assert.equal(isSmall(file('a'), TARGET), true);
  assert.equal(isSmall(file('a', { sizeBytes: 500 }), TARGET), false);
  assert.equal(isSmall(file('a', { rows: 50 }), TARGET), false);
});

test('bins hold one partition, in the order in which the rows came (CP1)', () => {
  const other = { partitionValues: { _event_date: '2026-11-23' } };
  const files = [
    file('c', { modifiedMs: 3 }),
    file('x', other),
    file('a', { modifiedMs: 1 }),
    file('b', { modifiedMs: 1 }),
    file('y', other),
  ];
  assert.deepEqual(paths(planBins(files, TARGET, 2)), ['abc', 'xy']);
});

test('a bin ends at the bytes or the rows of a file, and one file alone is none', () => {
  const bytes = 'abcdefg'.split('').map((name) => file(name, { sizeBytes: 300, rows: 1 }));
  assert.deepEqual(paths(planBins(bytes, TARGET, 2)), ['abc', 'def']);
  const rows = 'abcde'.split('').map((name) => file(name, { rows: 40 }));
  assert.deepEqual(paths(planBins(rows, TARGET, 2)), ['ab', 'cd']);
  assert.deepEqual(planBins(rows, TARGET, 3), []);
});

test('files with other tags stay apart, and the new file keeps them (CP2)', () => {
  const first = { tags: { 'tidemark.shard': '0/2', 'tidemark.eventTime': '5,9' } };
  const second = { tags: { 'tidemark.shard': '1/2', 'tidemark.eventTime': '1,2' } };
  const files = [file('a', first), file('x', second), file('b', { ...first }), file('y', second)];
  const bins = planBins(files, TARGET, 2);
  assert.deepEqual(paths(bins), ['ab', 'xy']);
  assert.deepEqual(mergedTags(bins[0]!), {
    'tidemark.shard': '0/2',
    'tidemark.eventTime': '5,9',
  });
});

test('the range of event times is only stated when every file states its own', () => {
  const tagged = file('a', { tags: { 'tidemark.eventTime': '-5,9' } });
  const wider = file('b', { tags: { 'tidemark.eventTime': '-9,2' } });
  assert.deepEqual(mergedTags([tagged, wider]), { 'tidemark.eventTime': '-9,9' });
  assert.equal(mergedTags([tagged, file('c')]), undefined);
});

test('merged coverage states the same offsets, rows and gaps (CP3)', () => {
  const covering = (text: string): LiveFile => file('a', { tags: { [COVERAGE_TAG]: text } });
  const merged = mergedTags([
    covering('[{"partition":0,"from":4,"to":6,"rows":1,"gaps":[[4,5,"marker"]]}]'),
    file('none'),
    covering(
      '[{"partition":0,"from":0,"to":4,"rows":3,"gaps":[[3,4,"marker"]]},{"partition":1,"from":9007199254740993,"to":9007199254740995,"rows":2,"gaps":[]}]',
    ),
    covering('[{"partition":0,"from":8,"to":9,"rows":1,"gaps":[]}]'),
  ]);
  assert.deepEqual(parseCoverage(merged![COVERAGE_TAG]!), [
    { partition: 0, from: 0n, to: 6n, rows: 4, gaps: [{ from: 3n, to: 5n, kind: 'marker' }] },
    { partition: 0, from: 8n, to: 9n, rows: 1, gaps: [] },
    { partition: 1, from: 9_007_199_254_740_993n, to: 9_007_199_254_740_995n, rows: 2, gaps: [] },
  ]);
});
