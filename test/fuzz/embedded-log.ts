/**
 * The embedded log: with any of its files damaged, what it gives out are the records that were
 * appended, at their offsets and without a hole, or it refuses by an error (E2, W1, W2, P8).
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { openEmbeddedEventSource } from '../../src/storage/source/embedded-event-source.ts';
import { EmbeddedLog } from '../../src/storage/source/embedded-log.ts';
import {
  headsPath,
  listSegments,
  manifestPath,
  segmentPath,
} from '../../src/storage/source/embedded-log-files.ts';
import { encodeRecordBatch } from '../../src/storage/source/record-batch-encoder.ts';
import { readToEnd } from '../support/source-records.ts';
import { attempted, type FuzzTarget, property } from './fuzz-target.ts';
import { byteDamage } from './mutation.ts';

const context = { ambient: systemAmbient, logger: silentLogger };
const configOf = (path: string) => ({
  kind: 'embedded' as const,
  path,
  topic: 'events',
  partitions: 1,
  key: undefined,
  maxRecordBytes: 1 << 20,
});

const VALUES = Array.from({ length: 12 }, (_, i) => `value ${i}`);

/** A log of several segments. @returns their first offsets */
async function writeLog(path: string): Promise<readonly bigint[]> {
  const log = await EmbeddedLog.open(configOf(path), context, { segmentBytesMax: 250 });
  for (let at = 0; at < VALUES.length; at += 2) {
    const records = VALUES.slice(at, at + 2).map((value) => ({
      timestampMs: 1_790_000_000_000,
      value: Buffer.from(value),
    }));
    const batch = Buffer.from(encodeRecordBatch(records, { baseOffset: 0n }));
    await log.append([{ partition: 0, batch }]);
  }
  await log.close();
  return listSegments(path, 0);
}

interface Change {
  readonly file: string;
  /** undefined: the file is gone. */
  readonly damage: ((bytes: Uint8Array) => Buffer) | undefined;
}

function changesOf(log: string, segments: readonly bigint[]): fc.Arbitrary<Change[]> {
  return fc.array(
    fc.record({
      file: fc.oneof(
        {
          weight: 6,
          arbitrary: fc.constantFrom(...segments).map((first) => segmentPath(log, 0, first)),
        },
        { weight: 2, arbitrary: fc.constant(headsPath(log)) },
        { weight: 1, arbitrary: fc.constant(manifestPath(log)) },
      ),
      damage: fc.option(byteDamage, { freq: 8, nil: undefined }),
    }),
    { minLength: 1, maxLength: 2 },
  );
}

async function holdsFor(whole: string, copy: string, changes: readonly Change[]): Promise<void> {
  rmSync(copy, { recursive: true, force: true });
  cpSync(whole, copy, { recursive: true });
  for (const { file, damage } of changes) {
    if (!damage) await rm(file, { force: true });
    else await writeFile(file, damage(await readFile(file).catch(() => Buffer.alloc(0))));
  }
  const { value: read } = await attempted(['corrupt', 'invalid', 'unavailable'], async () => {
    const source = await openEmbeddedEventSource(configOf(copy), context);
    try {
      return await readToEnd(source, 0);
    } finally {
      await source.close();
    }
  });
  if (!read) return;
  const values = read.rows.map(({ value }) => String(value));
  // Without its first segments a log begins later, as after retention.
  const first = Number(read.rows[0]?.offset ?? 0n);
  assert.deepEqual(values, VALUES.slice(first, first + values.length));
  assert.deepEqual(
    read.rows.map(({ offset }) => Number(offset)),
    values.map((_, i) => first + i),
  );
  assert.deepEqual(read.gaps, []);
  // What the heads promise is there: only with the heads gone may an end be taken for a torn tail.
  const touchesHeads = changes.some(({ file }) => file === headsPath(copy));
  if (!touchesHeads) assert.equal(first + values.length, VALUES.length);
}

export const embeddedLog: FuzzTarget = {
  name: 'embedded-log',
  runs: 400,
  open: async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tidemark-fuzz-log-'));
    const [whole, copy] = [join(folder, 'whole'), join(folder, 'copy')];
    const segments = await writeLog(whole);
    assert.ok(segments.length >= 3, `${segments.length} segments`);
    return {
      property: property(changesOf(copy, segments), (changes) => holdsFor(whole, copy, changes)),
      close: () => rmSync(folder, { recursive: true }),
    };
  },
};
