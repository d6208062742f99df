/** SX1, SX2: an index that follows a gold table. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SlotIndex } from '../../../src/actors/gold-writer/slot-index.ts';
import { finalTags, streamingTags } from '../../../src/pipeline/gold/gold-tags.ts';
import type { Snapshot } from '../../../src/storage/delta/snapshot.ts';
import type { CommitSummary, LiveFile } from '../../../src/storage/delta/transaction.ts';

const DATE = '2026-11-22';

function file(path: string, tags: Readonly<Record<string, string>> | undefined): LiveFile {
  return {
    path,
    partitionValues: { _event_date: DATE },
    sizeBytes: 1,
    modifiedMs: 0,
    stats: undefined,
    tags,
    addedVersion: undefined,
    dataChange: true,
  };
}

const final = (path: string, slot: number, finalVersion: number): LiveFile =>
  file(path, finalTags({ slot, events: 1, finalVersion, revision: 1, note: undefined }));

function indexOf(...files: readonly LiveFile[]): SlotIndex {
  const snapshot: Pick<Snapshot, 'version' | 'progress' | 'files'> = {
    version: 3,
    progress: () => undefined,
    files: () => files.map((one) => ({ ...one, encodedPath: undefined })),
  };
  return new SlotIndex('gold/x', 'edits', snapshot as Snapshot);
}

function commit(version: number, given: Partial<CommitSummary>): CommitSummary {
  return {
    version,
    timestampMs: 0,
    operation: '',
    adds: [],
    removes: [],
    progress: new Map(),
    lineage: undefined,
    metadataChanged: false,
    ...given,
  };
}

const removed = (path: string) => ({ path, dataChange: true });

test('SX1 a commit moves slots to their new files, and is taken in once', () => {
  const index = indexOf(file('a', streamingTags(0, 1)), file('b', streamingTags(1, 1)));
  const replaced = commit(4, { adds: [file('c', streamingTags(0, 2))], removes: [removed('a')] });
  assert.deepEqual([...index.advance([replaced])], []);
  index.advance([replaced]);
  assert.deepEqual([[...index.filesOf(0)], [...index.filesOf(1)]], [['c'], ['b']]);
  assert.equal(index.version, 4);
  index.advance([commit(6, { removes: [removed('c')] })]);
  assert.equal(index.version, 4, 'a gap is not skipped');
});

test('SX1 an edit names the dates it touched, and makes them final or no longer so', () => {
  const index = indexOf(file('a', streamingTags(0, 1)));
  const edit = commit(4, {
    adds: [final('f', 0, 7), final('g', 1, 7)],
    removes: [removed('a')],
    progress: new Map([['edits', 1n]]),
  });
  assert.deepEqual([...index.advance([edit])], [DATE]);
  assert.equal(index.finalVersion(DATE), 7);
  assert.equal(index.edits, 1n);
  const restored = commit(5, {
    adds: [file('a', streamingTags(0, 1))],
    removes: [removed('f'), removed('g')],
    progress: new Map([['edits', 2n]]),
  });
  assert.deepEqual([...index.advance([restored])], [DATE]);
  assert.equal(index.finalVersion(DATE), undefined);
});

test('SX2 a file of another program is refused, at the start and later', () => {
  assert.throws(() => indexOf(file('x', undefined)), { code: 'TM_SCHEMA_MISMATCH' });
  const index = indexOf();
  const foreign = commit(4, { adds: [file('x', {})] });
  assert.throws(() => index.advance([foreign]), { kind: 'invalid' });
});
