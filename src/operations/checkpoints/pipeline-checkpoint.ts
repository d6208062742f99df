/**
 * Checkpoints of the pipeline: which offsets, watermarks and table versions belong together, as small
 * JSON files that ordinary tools read. A copy of what the logs say, never a source of it (P1).
 *
 * PC1 Gold covers the silver version that a checkpoint names, silver covers the bronze version, and
 *     bronze covers the offsets: each is looked up in the state of the one before it. A gold table that
 *     covers nothing yet is left out.
 * PC2 Numbers only grow, and a file is never overwritten; the newest KEPT stay.
 */
import { asPipelineError, PipelineError } from '../../errors.ts';
import { instantText } from '../../pipeline/generator/instant-text.ts';
import {
  bronzeVersionsIn,
  goldAppId,
  parseBronzeAppId,
  tableRoots,
  watermarkAppPrefix,
} from '../../pipeline/progress.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import { coveredLetters } from '../dead-letters/covered-letters.ts';
import { type HousekeepingLake, openNamedTables } from '../housekeeping/lake-tables.ts';

/** A table at the version that belongs to the others. */
export interface CheckpointedTable {
  /** As queries name it; for `tidemark sql --at NAME=VERSION`. */
  readonly table: string;
  readonly tableId: string;
  readonly version: number;
  /** Of the table it is derived from: the version that it covers. */
  readonly covers?: number;
}

export interface PipelineCheckpoint {
  readonly checkpoint: number;
  readonly pipeline: string;
  readonly topic: string;
  readonly topicId: string;
  /** RFC 3339. */
  readonly createdAt: string;
  /** By partition: the next offset, as text, for it may exceed what JSON numbers hold. */
  readonly offsets: Readonly<Record<string, string>>;
  /** By partition: the event-time watermark, RFC 3339; absent before the first event. */
  readonly watermarks: Readonly<Record<string, string>>;
  readonly tables: readonly CheckpointedTable[];
}

/** Files that are kept. */
const KEPT = 1_000;

/** Checkpoints of one pipeline. */
export class PipelineCheckpoints {
  readonly #lake: HousekeepingLake;
  readonly #prefix: string;
  /** Content of the newest one, without its number and time. */
  #newest: { readonly number: number; readonly content: string } | undefined;

  constructor(lake: HousekeepingLake) {
    this.#lake = lake;
    this.#prefix = `checkpoints/bronze/${lake.config.source.topic}/offsets/`;
  }

  /** Numbers of those that are there, ascending. */
  async numbers(): Promise<readonly number[]> {
    const numbers: number[] = [];
    for await (const { key } of this.#lake.delta.store.list(this.#prefix)) {
      const name = key.slice(this.#prefix.length);
      if (/^\d{1,15}$/.test(name)) numbers.push(Number(name));
    }
    return numbers.sort((a, b) => a - b);
  }

  /** @throws PipelineError invalid when there is none of that number, corrupt when it is unreadable */
  async read(number: number): Promise<PipelineCheckpoint> {
    const bytes = await this.#lake.delta.store.get(`${this.#prefix}${number}`);
    if (!bytes) {
      throw new PipelineError('invalid', 'TM_USAGE', `There is no checkpoint ${number}.`);
    }
    try {
      return JSON.parse(new TextDecoder().decode(bytes)) as PipelineCheckpoint;
    } catch (cause) {
      const message = `checkpoint ${number} is not JSON`;
      throw new PipelineError('corrupt', 'TM_CHECKPOINT_CORRUPT', message, { cause });
    }
  }

  /**
   * Writes a checkpoint of what the tables say now, unless nothing has changed since the newest one.
   * @returns its number; undefined when none was written
   * @throws PipelineError unavailable | corrupt
   */
  async take(): Promise<number | undefined> {
    const { store, ambient } = this.#lake.delta;
    const content = await describeTables(this.#lake);
    if (!content) return undefined;
    const text = JSON.stringify(content);
    const newest = (this.#newest ??= await this.#readNewest());
    if (newest.content === text) return undefined;
    const createdAt = instantText(Math.trunc(ambient.clock.nowMs()));
    for (let number = newest.number + 1; ; number++) {
      const checkpoint: PipelineCheckpoint = { checkpoint: number, createdAt, ...content };
      const body = new TextEncoder().encode(`${JSON.stringify(checkpoint, null, 2)}\n`);
      // PC2
      const outcome = await store.createIfAbsent(`${this.#prefix}${number}`, body);
      if (outcome === 'exists') continue;
      this.#newest = { number, content: text };
      await store.delete(`${this.#prefix}${number - KEPT}`);
      return number;
    }
  }

  /** A damaged one is as good as none: the next one says it again (PC2). */
  async #readIfWhole(number: number): Promise<PipelineCheckpoint | undefined> {
    try {
      return await this.read(number);
    } catch (thrown) {
      if (asPipelineError(thrown).kind !== 'corrupt') throw thrown;
      return undefined;
    }
  }

  async #readNewest(): Promise<{ readonly number: number; readonly content: string }> {
    const numbers = await this.numbers();
    const number = numbers.at(-1);
    if (number === undefined) return { number: 0, content: '' };
    for (const old of numbers.slice(0, -KEPT)) {
      await this.#lake.delta.store.delete(`${this.#prefix}${old}`);
    }
    const newest = await this.#readIfWhole(number);
    if (!newest) return { number, content: '' };
    // Members without a value are left out: this is the text of what `take` compares.
    const content = JSON.stringify({ ...newest, checkpoint: undefined, createdAt: undefined });
    return { number, content };
  }
}

/** PC1 */
async function describeTables(
  lake: HousekeepingLake,
): Promise<Omit<PipelineCheckpoint, 'checkpoint' | 'createdAt'> | undefined> {
  const { config } = lake;
  const roots = tableRoots(config);
  const tables = await openNamedTables(lake);
  const of = (root: string) => tables.find(({ table }) => table.root === root);
  const [bronze, silver, dead] = [of(roots.bronze), of(roots.silver), of(roots.deadLetter)];
  if (!bronze || !silver || !dead) return undefined;
  const goldId = goldAppId(config.name, silver.table.tableId);
  const gold = tables.flatMap(({ name, role, table: { snapshot } }) => {
    const covers = snapshot.progress(goldId);
    if (role !== 'gold' || covers === undefined) return [];
    return [{ name, snapshot, covers: Number(covers) }];
  });
  const silverVersion = Math.min(
    silver.table.snapshot.version,
    ...gold.map(({ covers }) => covers),
  );
  const silverAt = await silver.table.snapshotAt(silverVersion);
  const bronzeVersion = Math.min(...bronzeVersionsIn(silverAt, config, bronze.table.tableId));
  const deadAt = await coveredLetters(config, bronze.table.tableId, {
    deadLetter: dead.table,
    silver: silverAt,
  });
  const bronzeAt = await bronze.table.snapshotAt(bronzeVersion);
  const offsets: Record<string, string> = {};
  const watermarks: Record<string, string> = {};
  let topicId = '';
  for (const [appId, next] of bronzeAt.progressEntries()) {
    const of = parseBronzeAppId(config.name, config.source.topic, appId);
    if (!of) continue;
    topicId = of.topicId;
    offsets[of.partition] = String(next);
  }
  const watermarkPrefix = watermarkAppPrefix(config.name, topicId);
  for (const [appId, micros] of silverAt.progressEntries()) {
    if (!appId.startsWith(watermarkPrefix)) continue;
    watermarks[appId.slice(watermarkPrefix.length)] = instantText(Number(micros / 1000n));
  }
  const entry = (name: string, snapshot: Snapshot, covers?: number): CheckpointedTable => ({
    table: name,
    tableId: snapshot.tableId,
    version: snapshot.version,
    ...(covers === undefined ? {} : { covers }),
  });
  return {
    pipeline: config.name,
    topic: config.source.topic,
    topicId,
    offsets: byNumber(offsets),
    watermarks: byNumber(watermarks),
    tables: [
      entry(bronze.name, bronzeAt),
      entry(dead.name, deadAt, bronzeVersion),
      entry(silver.name, silverAt, bronzeVersion),
      ...gold.map(({ name, snapshot, covers }) => entry(name, snapshot, covers)),
    ],
  };
}

function byNumber(entries: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(entries).toSorted(([a], [b]) => Number(a) - Number(b)));
}
