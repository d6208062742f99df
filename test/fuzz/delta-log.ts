/**
 * The Delta log reader: a log with some of its files damaged opens as the table that its entries
 * say, or is refused by an error that names a file of it (faults 91 to 100).
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { silentLogger } from '../../src/logger.ts';
import { LogReader } from '../../src/storage/delta/log-reader.ts';
import type { Snapshot } from '../../src/storage/delta/snapshot.ts';
import { MemoryObjectStore } from '../../src/storage/object-store/memory-object-store.ts';
import {
  append,
  codec,
  committed,
  openTable,
  pathOf,
  ROOT,
  virtualAmbient,
  world,
} from '../unit/delta/harness.ts';
import { attempted, type FuzzTarget, type OpenTarget, property } from './fuzz-target.ts';
import { byteDamage, lineDamage } from './mutation.ts';

const LOG = `${ROOT}/_delta_log/`;
const clock = virtualAmbient().clock;

interface Original {
  /** By name within the log's folder. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly newest: Snapshot;
  readonly commits: readonly string[];
  readonly checkpoints: readonly string[];
  /** Checksums and `_last_checkpoint`. */
  readonly hints: readonly string[];
}

/** A log with a checkpoint in its middle. */
async function writeLog(): Promise<Original> {
  const { process, store } = world();
  const { env } = process({ checkpointInterval: 4 });
  const table = await openTable(env);
  for (let i = 1; i <= 7; i++) {
    const removes = i % 3 === 0 ? [pathOf(`f${i - 1}`)] : [];
    const progress = [{ appId: 'usage:0', expected: 'any' as const, next: 2n ** 53n + BigInt(i) }];
    committed(await table.commit({ ...append(`f${i}`), removes, progress }));
    await table.idle();
  }
  const files = new Map<string, Uint8Array>();
  for await (const { key } of store.list(LOG)) {
    files.set(key.slice(LOG.length), (await store.get(key))!);
  }
  const names = [...files.keys()];
  return {
    files,
    newest: table.snapshot,
    commits: names.filter((name) => name.endsWith('.json')),
    checkpoints: names.filter((name) => name.endsWith('.parquet')),
    hints: names.filter((name) => !/\.(?:json|parquet)$/.test(name)),
  };
}

/** What is done to one file. */
type Change = readonly [name: string, damage: ((bytes: Uint8Array) => Uint8Array) | undefined];

const changeOf = (some: readonly string[]): fc.Arbitrary<Change> =>
  fc.tuple(
    fc.constantFrom(...some),
    fc.oneof(
      byteDamage,
      { weight: 3, arbitrary: lineDamage },
      { weight: 1, arbitrary: fc.constant(undefined) },
    ),
  );

/** A log after `changes`. */
async function damagedLog(
  original: Original,
  changes: readonly Change[],
  without: readonly string[] = [],
) {
  const store = new MemoryObjectStore({ clock });
  const files = new Map(original.files);
  for (const name of without) files.delete(name);
  for (const [name, damage] of changes) {
    const bytes = files.get(name);
    if (!bytes) continue;
    if (damage) files.set(name, damage(bytes));
    else files.delete(name);
  }
  for (const [name, bytes] of files) await store.put(LOG + name, bytes);
  return { files, reader: new LogReader({ store, codec, logger: silentLogger, root: ROOT }) };
}

const KINDS = ['corrupt', 'invalid'] as const;

/** @returns the table; undefined when it was refused */
async function opened(reader: LogReader, version?: number): Promise<Snapshot | undefined> {
  const { value, refused } = await attempted(KINDS, () => reader.load(version));
  if (refused) assert.ok(refused.message.includes(LOG), `names no file: ${refused.message}`);
  return value?.snapshot;
}

function livePaths(snapshot: Snapshot): string[] {
  return snapshot
    .files()
    .map(({ path }) => path)
    .sort();
}

function sameTable(actual: Snapshot, expected: Snapshot): void {
  assert.equal(actual.version, expected.version);
  assert.deepEqual(livePaths(actual), livePaths(expected));
  assert.deepEqual([...actual.progressEntries()], [...expected.progressEntries()]);
}

/** What the entries say, as plainly as can be. */
function replayed(files: ReadonlyMap<string, Uint8Array>, version: number): string[] {
  const live = new Set<string>();
  for (const name of [...files.keys()].filter((one) => one.endsWith('.json')).toSorted()) {
    if (Number(name.slice(0, 20)) > version) break;
    const bytes = files.get(name)!;
    for (const line of Buffer.from(bytes).toString().split('\n')) {
      if (line.trim() === '') continue;
      const { add, remove } = JSON.parse(line) as Record<string, { path: string } | null>;
      if (remove) live.delete(decodeURIComponent(remove.path));
      if (add) live.add(decodeURIComponent(add.path));
    }
  }
  return [...live].sort();
}

/** Entries are the truth: what opens is what they say, and nothing else. */
const entries = (original: Original) =>
  property(
    fc.tuple(
      fc.array(changeOf(original.commits), { minLength: 1, maxLength: 2 }),
      fc.option(fc.nat(7), { nil: undefined }),
    ),
    async ([changes, version]) => {
      const shortcuts = [...original.checkpoints, ...original.hints];
      const { files, reader } = await damagedLog(original, changes, shortcuts);
      const snapshot = await opened(reader, version);
      if (!snapshot) return;
      assert.deepEqual(livePaths(snapshot), replayed(files, snapshot.version));
      assert.ok(snapshot.totalBytes >= 0 && Number.isSafeInteger(snapshot.totalBytes));
      snapshot.numRecords();
      snapshot.tombstones();
    },
  );

/** Checksums and hints change nothing while entries and checkpoints are there (R1). */
const hints = (original: Original) =>
  property(fc.array(changeOf(original.hints), { minLength: 1, maxLength: 3 }), async (changes) => {
    const { reader } = await damagedLog(original, changes);
    const { snapshot } = (await reader.load())!;
    sameTable(snapshot, original.newest);
  });

/** A damaged checkpoint never stops a reader that has the entries; without them it may be refused. */
const checkpoints = (original: Original) =>
  property(fc.tuple(changeOf(original.checkpoints), fc.boolean()), async ([change, isTrimmed]) => {
    const without = isTrimmed ? original.commits.slice(0, 4) : [];
    const { reader } = await damagedLog(original, [change], without);
    const snapshot = await opened(reader);
    if (snapshot) assert.equal(snapshot.fileCount, original.newest.fileCount);
    else assert.ok(isTrimmed, 'the entries would have been enough');
  });

const over = (some: (original: Original) => OpenTarget['property']) => async () => ({
  property: some(await writeLog()),
});

export const logEntries: FuzzTarget = { name: 'log-entries', runs: 800, open: over(entries) };
export const logHints: FuzzTarget = { name: 'log-hints', runs: 400, open: over(hints) };
export const logCheckpoints: FuzzTarget = {
  name: 'log-checkpoints',
  runs: 400,
  open: over(checkpoints),
};
