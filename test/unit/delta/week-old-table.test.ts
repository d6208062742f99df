/** A table that ran for a week at a commit a second: what it takes to open it (R3). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { schemaToJson } from '../../../src/storage/delta/schema-json.ts';
import { encodeLogEntry, type LogEntry } from '../../../src/storage/delta/actions.ts';
import { writeCheckpoint } from '../../../src/storage/delta/checkpoint-writer.ts';
import { DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import { LogReader } from '../../../src/storage/delta/log-reader.ts';
import { TableSnapshot } from '../../../src/storage/delta/snapshot.ts';
import { newFile, ROOT, SCHEMA, START_MS, versionKey, world } from './harness.ts';

const NEWEST = 604_800;
const TAIL = 99;
/** A day of them: tables are created with that retention. */
const TOMBSTONES = 86_400;
const LIVE = 1_300;

test('opening it takes the checkpoint and its tail, and no listing', async (t) => {
  const { store, process } = world();
  const { env, link } = process();
  const file = (name: string) => {
    return { ...newFile(name), encodedPath: undefined, addedVersion: undefined, dataChange: true };
  };
  const entry = (version: number, more: Partial<LogEntry>): LogEntry => ({
    version,
    commitInfo: { timestampMs: START_MS, operation: 'STREAMING UPDATE', txnId: `n${version}` },
    txns: [{ appId: 'p', version: BigInt(version) }],
    adds: [],
    removes: [],
    ...more,
  });
  const first = NEWEST - TAIL;
  const checkpointed = entry(first, {
    protocol: { minReaderVersion: 1, minWriterVersion: 2 },
    metadata: {
      id: 'week',
      format: { provider: 'parquet', options: {} },
      schemaString: schemaToJson(SCHEMA),
      partitionColumns: ['_event_date'],
      configuration: {},
    },
    adds: Array.from({ length: LIVE }, (_, i) => file(`live${i}`)),
    removes: Array.from({ length: TOMBSTONES }, (_, i) => {
      return { ...file(`gone${i}`), deletionTimestampMs: START_MS, stats: undefined };
    }),
  });
  const reader = new LogReader({ ...env, root: ROOT });
  const options = { ...env, clock: env.ambient.clock, reader, root: ROOT };
  await writeCheckpoint(options, TableSnapshot.start(checkpointed, START_MS, 'test'), 0);
  for (let version = first; version <= NEWEST; version++) {
    const adds = [file(`new${version}`)];
    await store.put(versionKey(version), encodeLogEntry(entry(version, { adds })));
  }

  link.calls.length = 0;
  const startedMs = performance.now();
  const { snapshot } = (await DeltaTable.open(env, ROOT))!;
  t.diagnostic(`opened in ${Math.round(performance.now() - startedMs)} ms`);
  assert.deepEqual([snapshot.version, snapshot.fileCount], [NEWEST, LIVE + TAIL]);
  assert.equal(snapshot.tombstones().length, TOMBSTONES);
  assert.ok(link.calls.every(({ operation }) => operation !== 'list'));
  // The hint, three heads, checkpoint with commit and checksum, the tail and the look beyond it.
  assert.ok(link.calls.length <= 7 + TAIL + 32, `${link.calls.length} requests`);
});
