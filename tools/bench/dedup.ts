/**
 * The dedup index at a given number of ids: `node tools/bench/dedup.ts --ids 100000000`, or
 * `npm run bench -- --only dedup --ids 100000000`. The table's fingerprints are made from numbers
 * (seeded, no Parquet behind them: the index never reads any); the index, its threads, its objects
 * and the table's log are the real ones, on local disk. Each phase is a process of its own.
 *
 * - BD1 Every verdict is known beforehand: a wrong one ends the benchmark with exit code 1.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ComputeThread } from '../../src/actors/runtime/compute-thread.ts';
import { DedupArchive } from '../../src/actors/silver-writer/dedup-archive.ts';
import type { DedupThreadApi } from '../../src/actors/silver-writer/dedup-thread.ts';
import { shardOf } from '../../src/actors/silver-writer/shard.ts';
import { systemAmbient } from '../../src/ambient.ts';
import { byteText, groupDigits } from '../../src/cli/text-table.ts';
import { silentLogger } from '../../src/logger.ts';
import {
  bytesOfWords,
  FINGERPRINT_WORDS,
  fingerprintKey,
} from '../../src/pipeline/silver/fingerprints.ts';
import { primitive, struct } from '../../src/pipeline/types.ts';
import { DeltaTable } from '../../src/storage/delta/delta-table.ts';
import type { NewFile } from '../../src/storage/delta/transaction.ts';
import { openFsObjectStore } from '../../src/storage/object-store/fs-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { type DedupIndexApi, writeFingerprint } from './dedup-index-thread.ts';

const ROOT = 'silver/bench';
const FILE_ROWS = 65_536;
const FILES_PER_COMMIT = 16;
const BATCH_ROWS = 20_000;
const DUPLICATE_SHARE = 0.02;
const MEMORY_BYTES = 512 * 2 ** 20;

/** What one phase measured. */
export interface DedupFigures {
  readonly loadS: number;
  readonly settleS: number;
  readonly indexBytes: number;
  readonly rssBytes: number;
  readonly peakRssBytes: number;
  readonly lookups: number;
  readonly idsPerSecond: number;
  readonly idsPerSecondWithArchiving: number;
}

const event = {
  id: 'id',
  time: { field: 'at', unit: 'rfc3339' as const },
  schemaVersion: 1,
  schema: struct([
    { name: 'id', type: primitive('string'), nullable: false },
    { name: 'at', type: primitive('timestamp'), nullable: false },
  ]),
};

async function openTable(folder: string) {
  const ambient = systemAmbient;
  const store = await openFsObjectStore({ path: folder, ambient, logger: silentLogger });
  const env = { store, codec: createParquetCodec(), ambient, logger: silentLogger };
  const silver = await DeltaTable.create(env, {
    root: ROOT,
    schema: event.schema,
    partitionColumns: [],
    configuration: {},
    description: 'benchmark',
  });
  return { store, silver };
}

function newFile(rows: number): NewFile {
  return {
    path: `2026-11-23/part-${systemAmbient.ids.id()}.parquet`,
    partitionValues: {},
    sizeBytes: 1,
    modifiedMs: 0,
    stats: JSON.stringify({ numRecords: rows }),
  };
}

/** A table with the fingerprints of events 0 to `ids`, without an index. */
async function makeTable(folder: string, ids: number): Promise<void> {
  const { store, silver } = await openTable(folder);
  let adds: NewFile[] = [];
  for (let from = 0; from < ids; from += FILE_ROWS) {
    const rows = Math.min(FILE_ROWS, ids - from);
    const words = new Uint32Array(rows * FINGERPRINT_WORDS);
    for (let row = 0; row < rows; row++) writeFingerprint(words, row, from + row);
    const file = newFile(rows);
    await store.put(fingerprintKey(ROOT, file.path), bytesOfWords(words));
    adds.push(file);
    if (adds.length < FILES_PER_COMMIT && from + rows < ids) continue;
    await silver.commit({ operation: 'WRITE', adds, progress: [] });
    adds = [];
  }
  await silver.checkpoint();
  await store.close();
}

/** Loads the index of `ids` events and looks `batches` up, archiving as a silver writer would. */
async function runPhase(folder: string, ids: number, batches: number): Promise<DedupFigures> {
  const { store, silver } = await openTable(folder);
  const shard = shardOf(0, 1, 16);
  const thread = new ComputeThread<DedupIndexApi>(
    new URL('./dedup-index-thread.ts', import.meta.url),
    { shard, headBytesMax: MEMORY_BYTES / 2 },
  );
  const archive = new DedupArchive({
    silver,
    store,
    shard,
    memoryBytesMax: MEMORY_BYTES,
    silverThread: thread,
    startDedupThread: () =>
      new ComputeThread<DedupThreadApi>(
        new URL('../../src/actors/silver-writer/dedup-thread.ts', import.meta.url),
        { event, shard },
      ),
    ambient: systemAmbient,
    logger: silentLogger,
  });
  let peakRssBytes = 0;
  const sample = setInterval(() => {
    peakRssBytes = Math.max(peakRssBytes, process.memoryUsage.rss());
  }, 100);
  let startedMs = performance.now();
  await archive.load(silver.snapshot);
  const loadS = (performance.now() - startedMs) / 1000;
  startedMs = performance.now();
  await archive.idle();
  const settleS = (performance.now() - startedMs) / 1000;
  let lookupMs = 0;
  let next = ids;
  let random = 1;
  const { signal } = new AbortController();
  startedMs = performance.now();
  for (let batch = 0; batch < batches; batch++) {
    const numbers = new Uint32Array(BATCH_ROWS);
    const duplicates = Math.round(BATCH_ROWS * DUPLICATE_SHARE);
    for (let row = 0; row < BATCH_ROWS; row++) {
      random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
      // Every fiftieth row is any old event, the others are new.
      numbers[row] = row % (BATCH_ROWS / duplicates) === 0 ? random % ids : next++;
    }
    const expected = duplicates;
    const found = await thread.call('lookup', { ids: numbers });
    if (found.duplicates < expected || found.conflicts > 0 || found.duplicates > expected + 1) {
      throw new Error(`${found.duplicates} duplicates instead of ${expected} in batch ${batch}`);
    }
    lookupMs += found.elapsedMs;
    const file = newFile(found.news.byteLength / 24);
    await store.put(fingerprintKey(ROOT, file.path), found.news);
    await archive.derived(found.hotIds, batch + 1, signal);
    const outcome = await silver.commit({ operation: 'WRITE', adds: [file], progress: [] });
    if (outcome.kind !== 'committed') throw new Error(outcome.kind);
    archive.committed(batch + 1, outcome.version, [file]);
  }
  const wholeS = (performance.now() - startedMs) / 1000;
  await archive.idle();
  clearInterval(sample);
  const indexBytes = await thread.call('memoryBytes', undefined);
  const rssBytes = process.memoryUsage.rss();
  await Promise.all([archive.close(), thread.terminate()]);
  await store.close();
  const lookups = batches * BATCH_ROWS;
  return {
    loadS,
    settleS,
    indexBytes,
    rssBytes,
    peakRssBytes: Math.max(peakRssBytes, rssBytes),
    lookups,
    idsPerSecond: lookups / (lookupMs / 1000),
    idsPerSecondWithArchiving: lookups / wholeS,
  };
}

/** @returns whether the machine let go of its cached files */
function dropCaches(): boolean {
  try {
    spawnSync('sync');
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}

function phase(folder: string, ids: number, batches: number): DedupFigures {
  const child = spawnSync(
    process.execPath,
    [import.meta.filename, '--phase', folder, '--ids', `${ids}`, '--batches', `${batches}`],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 24 },
  );
  if (child.status !== 0) throw new Error(`a phase ended with ${child.status ?? child.signal}`);
  return JSON.parse(child.stdout) as DedupFigures;
}

/** Runs all phases in a folder of its own, which is removed at the end. */
export async function measureDedup(
  ids: number,
  note: (text: string) => void,
): Promise<Readonly<Record<string, DedupFigures | boolean>>> {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-dedup-'));
  try {
    note(`${groupDigits(ids)} ids, ${availableParallelism()} cores; fingerprints are made`);
    await makeTable(folder, ids);
    note('no index: built from the fingerprints');
    const rebuilt = phase(folder, ids, 0);
    const isCold = dropCaches();
    note(`restart with ${isCold ? 'cold' : 'warm'} file cache`);
    const cold = phase(folder, ids, 0);
    note('restart with a warm file cache, then lookups');
    const warm = phase(folder, ids, 250);
    return { rebuilt, cold, isCold, warm };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The figures as text. */
export function dedupText(name: string, figures: DedupFigures): string {
  const { loadS, settleS, indexBytes, rssBytes, peakRssBytes, lookups } = figures;
  const rate = (perSecond: number): string => `${groupDigits(Math.round(perSecond))} ids/s`;
  const memory = `index ${byteText(indexBytes)}, process ${byteText(rssBytes)}, at most ${byteText(peakRssBytes)}`;
  const speed =
    lookups === 0
      ? ''
      : `; ${groupDigits(lookups)} lookups: ${rate(figures.idsPerSecond)} in the index, ` +
        `${rate(figures.idsPerSecondWithArchiving)} with files, commits and archiving`;
  return `${name}: ready in ${loadS.toFixed(1)} s, settled ${settleS.toFixed(1)} s later; ${memory}${speed}\n`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      ids: { type: 'string', default: '100000000' },
      phase: { type: 'string' },
      batches: { type: 'string', default: '0' },
    },
  });
  if (values.phase === undefined) {
    const all = await measureDedup(Number(values.ids), (text) =>
      process.stderr.write(`bench: ${text}\n`),
    );
    for (const [name, figures] of Object.entries(all)) {
      if (typeof figures === 'object') process.stdout.write(dedupText(name, figures));
    }
  } else {
    const figures = await runPhase(values.phase, Number(values.ids), Number(values.batches));
    process.stdout.write(JSON.stringify(figures));
  }
}
