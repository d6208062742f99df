/**
 * What the Delta tests share: a world on virtual time with one store, "processes" that each have
 * their own faulty link to it, and shorthands for tables and files.
 */
import type { Ambient, Timer } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import { field, struct } from '../../../src/pipeline/types.ts';
import { type DeltaEnvironment, DeltaTable } from '../../../src/storage/delta/delta-table.ts';
import type {
  CommitOutcome,
  CommitRequest,
  NewFile,
  ProgressUpdate,
} from '../../../src/storage/delta/transaction.ts';
import { MemoryObjectStore } from '../../../src/storage/object-store/memory-object-store.ts';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';
import {
  FaultScript,
  FaultyObjectStore,
  type FaultPlan,
} from '../../support/faulty-object-store.ts';

export const START_MS = Date.UTC(2026, 10, 23);
export const ROOT = 'bronze/events';
export const DAY_MS = 86_400_000;

/** An ambient whose clock jumps to the next timer as soon as nothing else is to be done. */
export function virtualAmbient(seed = 1): Ambient & { advance(ms: number): void } {
  let nowMs = START_MS;
  let state = seed >>> 0;
  let ids = 0;
  const timers = new Set<{ readonly dueMs: number; readonly fire: () => void }>();
  const pump = (): void => {
    const [next] = [...timers].sort((a, b) => a.dueMs - b.dueMs);
    if (!next) return;
    timers.delete(next);
    nowMs = Math.max(nowMs, next.dueMs);
    next.fire();
  };
  const after = (delayMs: number, fire: () => void): Timer => {
    const timer = { dueMs: nowMs + delayMs, fire };
    timers.add(timer);
    setImmediate(pump);
    return { cancel: () => void timers.delete(timer) };
  };
  return {
    clock: {
      nowMs: () => nowMs,
      monotonicMs: () => nowMs,
      after,
      sleep: (delayMs, signal) =>
        new Promise((resolve) => {
          if (signal?.aborted) return resolve();
          const timer = after(delayMs, resolve);
          signal?.addEventListener('abort', () => {
            timer.cancel();
            resolve();
          });
        }),
      yieldTurn: () => new Promise((resolve) => setImmediate(resolve)),
    },
    random: {
      next: () => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return state / 2 ** 32;
      },
    },
    ids: {
      uuid: () => `00000000-0000-4000-8000-${String(++ids).padStart(12, '0')}`,
      id: () => `id${String(++ids).padStart(19, '0')}`,
    },
    advance: (ms) => {
      nowMs += ms;
    },
  };
}

export const codec = createParquetCodec();

export const SCHEMA = struct([
  field('event_id', 'string'),
  field('amount', 'long'),
  field('_event_date', 'date'),
]);

/** One store and its time; `process` gives a DeltaEnvironment with a link of its own. */
export function world(options: { readonly seed?: number } = {}) {
  const ambient = virtualAmbient(options.seed);
  const store = new MemoryObjectStore({ clock: ambient.clock });
  const process = (
    more: Partial<DeltaEnvironment> & { readonly plan?: FaultPlan } = {},
  ): { env: DeltaEnvironment; link: FaultyObjectStore; script: FaultScript } => {
    const script = new FaultScript();
    const { plan = script.plan, ...rest } = more;
    const link = new FaultyObjectStore(store, { clock: ambient.clock, plan });
    const env = { store: link, codec, ambient, logger: silentLogger, ...rest };
    return { env, link, script };
  };
  return { ambient, store, process };
}

export type World = ReturnType<typeof world>;

/** Creates or opens the standard table. */
export function openTable(
  env: DeltaEnvironment,
  root = ROOT,
  configuration: Readonly<Record<string, string>> = {},
): Promise<DeltaTable> {
  return DeltaTable.create(env, {
    root,
    schema: SCHEMA,
    partitionColumns: ['_event_date'],
    configuration,
  });
}

export function newFile(name: string, more: Partial<NewFile> = {}): NewFile {
  return {
    path: `date=2026-11-23/${name}.parquet`,
    partitionValues: { _event_date: '2026-11-23' },
    sizeBytes: 100,
    modifiedMs: START_MS,
    stats: '{"numRecords":10}',
    ...more,
  };
}

export function append(name: string, ...progress: readonly ProgressUpdate[]): CommitRequest {
  return { operation: 'WRITE', adds: [newFile(name)], progress };
}

/** The path `newFile(name)` has. */
export function pathOf(name: string): string {
  return newFile(name).path;
}

export function committed(outcome: CommitOutcome): number {
  if (outcome.kind !== 'committed') throw new Error(`not committed: ${JSON.stringify(outcome)}`);
  return outcome.version;
}

export function names(files: Iterable<{ readonly path: string }>): string[] {
  return [...files].map(({ path }) => path.replace(/^.*\//, '').replace('.parquet', '')).sort();
}

export function versionKey(version: number, root = ROOT): string {
  return `${root}/_delta_log/${String(version).padStart(20, '0')}.json`;
}

export function checkpointFile(version: number, root = ROOT): string {
  return `${root}/_delta_log/${String(version).padStart(20, '0')}.checkpoint.parquet`;
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
