/**
 * A lake in memory whose silver table is written by hand and whose gold is made by the real gold writer
 * and the real reconciliation.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { BatchCache } from '../../src/actors/batch-cache.ts';
import { goldWriter } from '../../src/actors/gold-writer/actor.ts';
import { type ActorRef, spawn } from '../../src/actors/runtime/actor.ts';
import type { StageState } from '../../src/actors/stage-writer/behavior.ts';
import { type Ambient, systemAmbient } from '../../src/ambient.ts';
import { parsePipeline } from '../../src/config.ts';
import { openTables, type PipelineTables } from '../../src/engine/tables.ts';
import { silentLogger } from '../../src/logger.ts';
import type { ReconcileLake } from '../../src/operations/reconcile/lake-view.ts';
import {
  columnsFromRows,
  type RowValue,
  rowsFromColumns,
} from '../../src/pipeline/column-builder.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import {
  bronzeAppId,
  goldAppId,
  silverAppId,
  silverEditsAppId,
  tableRoots,
  watermarkAppId,
} from '../../src/pipeline/progress.ts';
import { silverFileSchema } from '../../src/pipeline/silver/tables.ts';
import { type StructType, struct } from '../../src/pipeline/types.ts';
import { type DeltaEnvironment, DeltaTable } from '../../src/storage/delta/delta-table.ts';
import type { LiveFile, NewFile } from '../../src/storage/delta/transaction.ts';
import { MemoryObjectStore } from '../../src/storage/object-store/memory-object-store.ts';
import type { ObjectStore } from '../../src/storage/object-store/object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { eventually } from './eventually.ts';

/** The pipeline file of a SilverLake. */
export const SILVER_LAKE_PIPELINE = `
name: usage
source: {kind: embedded, partitions: 1}
silver: {dedupBuckets: 2}
event:
  id: id
  time: at
  schema: {fields: {id: string, at: timestamp, customer: string, bytes: long}}
gold:
  - name: hourly
    window: 1h
    groupBy: [customer]
    measures: {n: {fn: count}, bytes: {fn: sum, field: bytes}}
  - {name: daily, window: 1d, measures: {n: {fn: count}}}
`;

/** Noon after the dates that tests write. */
export const NOW_MS = Date.parse('2026-11-23T12:00:00Z');
const TOPIC_ID = 'topic';

/** An event; `at` is RFC 3339. */
export interface SilverEvent {
  readonly at: string;
  readonly customer?: string;
  readonly bytes?: number;
  readonly late?: boolean;
}

export class SilverLake {
  readonly config: PipelineConfig;
  readonly store: MemoryObjectStore;
  readonly tables: PipelineTables;
  readonly #ambient: Ambient;
  readonly #now: { ms: number };
  readonly #codec = createParquetCodec();

  private constructor(
    config: PipelineConfig,
    store: MemoryObjectStore,
    tables: PipelineTables,
    ambient: Ambient,
    now: { ms: number },
  ) {
    this.#now = now;
    this.config = config;
    this.store = store;
    this.tables = tables;
    this.#ambient = ambient;
  }

  static async open(): Promise<SilverLake> {
    const parsed = parsePipeline(SILVER_LAKE_PIPELINE, { environment: {}, cwd: '/nowhere' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    const { clock } = systemAmbient;
    const now = { ms: NOW_MS };
    const ambient: Ambient = {
      ...systemAmbient,
      clock: {
        nowMs: () => now.ms,
        monotonicMs: () => clock.monotonicMs(),
        after: (...given) => clock.after(...given),
        sleep: (...given) => clock.sleep(...given),
        yieldTurn: () => clock.yieldTurn(),
      },
    };
    const store = new MemoryObjectStore(ambient);
    const env = { store, codec: createParquetCodec(), ambient, logger: silentLogger };
    const tables = await openTables(env, parsed.config);
    return new SilverLake(parsed.config, store, tables, ambient, now);
  }

  /** Lets wall time pass. */
  wait(ms: number): void {
    this.#now.ms += ms;
  }

  /** The lake as another process sees it, through `store`. */
  async elsewhere(store: ObjectStore = this.store): Promise<ReconcileLake> {
    const codec = createParquetCodec();
    const delta: DeltaEnvironment = { store, codec, ambient: this.#ambient, logger: silentLogger };
    return { config: this.config, delta, ...(await openTables(delta, this.config)) };
  }

  /** Commits events to silver, a file per date. @returns the files */
  async write(
    events: readonly SilverEvent[],
    options: { readonly removes?: readonly string[]; readonly editAs?: string } = {},
  ): Promise<readonly NewFile[]> {
    const { silver, bronze } = this.tables;
    const schema = silverFileSchema(this.config.event);
    const files: NewFile[] = [];
    for (const [date, own] of Map.groupBy(events, ({ at }) => at.slice(0, 10))) {
      const times = own.map(({ at }) => Date.parse(at) * 1000);
      const rows = own.map((event, i) => ({
        id: systemAmbient.ids.id(),
        at: BigInt(times[i]!),
        customer: event.customer ?? 'c',
        bytes: BigInt(event.bytes ?? 1),
        _is_late_arriving: event.late ?? false,
      }));
      const bytes = this.#codec.encode(columnsFromRows(schema, rows), { compression: 'snappy' });
      const path = `${date}/part-${systemAmbient.ids.id()}.parquet`;
      await this.store.put(`${silver.root}/${path}`, bytes);
      files.push({
        path,
        partitionValues: { _event_date: date },
        sizeBytes: bytes.byteLength,
        modifiedMs: NOW_MS,
        stats: JSON.stringify({ numRecords: rows.length }),
        tags: { 'tidemark.eventTime': `${Math.min(...times)},${Math.max(...times)}` },
      });
    }
    const appId = silverEditsAppId(this.config.name, bronze.tableId);
    const edits = silver.snapshot.progress(appId);
    const outcome = await silver.commit({
      operation: options.editAs ?? 'STREAMING UPDATE',
      adds: files,
      removes: options.removes ?? [],
      progress: options.editAs ? [{ appId, expected: edits, next: (edits ?? 0n) + 1n }] : [],
    });
    assert.equal(outcome.kind, 'committed');
    return files;
  }

  /** Deletes the data files that silver has of a date, as a fault would; @returns how to undo it */
  async lose(date: string): Promise<() => Promise<void>> {
    const { silver } = this.tables;
    const files = silver.snapshot.files().filter(({ path }) => path.startsWith(`${date}/`));
    const lost = await Promise.all(
      files.map(async ({ path }) => {
        const key = `${silver.root}/${path}`;
        const bytes = (await this.store.get(key))!;
        await this.store.delete(key);
        return { key, bytes };
      }),
    );
    return async () => {
      for (const { key, bytes } of lost) await this.store.put(key, bytes);
    };
  }

  /** Commits to bronze that a partition got `records`, at the pipeline's present; their rows are of no concern. */
  async arrive(partition: number, records: number): Promise<void> {
    const { bronze } = this.tables;
    const appId = bronzeAppId(this.config.name, this.config.source.topic, TOPIC_ID, partition);
    const expected = bronze.snapshot.progress(appId);
    const outcome = await bronze.commit({
      operation: 'STREAMING UPDATE',
      adds: [],
      progress: [{ appId, expected, next: (expected ?? 0n) + BigInt(records) }],
    });
    assert.equal(outcome.kind, 'committed');
  }

  /** Commits that silver has taken in all of bronze, which brought a partition's watermark to `watermark`. */
  async takeIn(partition: number, watermark: string): Promise<void> {
    const { silver, bronze } = this.tables;
    const buckets = Array.from({ length: this.config.dedupBuckets }, (_, bucket) =>
      silverAppId(this.config.name, bronze.tableId, bucket),
    );
    const covered = BigInt(bronze.snapshot.version);
    const mark = watermarkAppId(this.config.name, TOPIC_ID, partition);
    const outcome = await silver.commit({
      operation: 'STREAMING UPDATE',
      adds: [],
      progress: [
        ...buckets.map((appId) => ({ appId, expected: 'any' as const, next: covered })),
        { appId: mark, expected: 'any', next: BigInt(Date.parse(watermark)) * 1000n },
      ],
    });
    assert.equal(outcome.kind, 'committed');
  }

  /** Has the gold writer cover silver. */
  async stream(t: TestContext): Promise<void> {
    const writer = this.startStream();
    t.after(() => writer.stop());
    await this.covered();
    await writer.stop();
  }

  /** A gold writer that follows silver until it is stopped. */
  startStream(): ActorRef<StageState<unknown>, unknown> {
    const writer = spawn(
      goldWriter({
        config: this.config,
        silver: this.tables.silver,
        tables: this.tables.gold,
        store: this.store,
        cache: new BatchCache(0),
        ambient: this.#ambient,
        logger: silentLogger,
        onCovered: () => {},
        isUpstreamDone: () => true,
      }),
      { ambient: this.#ambient, logger: silentLogger },
    );
    return writer as unknown as ActorRef<StageState<unknown>, unknown>;
  }

  /** Resolves when gold covers silver. */
  async covered(): Promise<void> {
    const { silver, gold } = this.tables;
    const appId = goldAppId(this.config.name, silver.tableId);
    await eventually(async () => {
      for (const table of gold.values()) {
        const covered = (await table.refresh()).progress(appId) ?? 0n;
        assert.equal(Number(covered), silver.snapshot.version);
      }
    });
  }

  /** Live files of a gold table by date, then slot. */
  async goldFiles(aggregate = 'hourly'): Promise<readonly LiveFile[]> {
    const files = (await this.tables.gold.get(aggregate)!.refresh()).files();
    return files.toSorted((a, b) => slotOf(a) - slotOf(b));
  }

  /** Rows of a gold table in order. */
  async gold(aggregate = 'hourly'): Promise<readonly RowValue[]> {
    const { root } = this.tables.gold.get(aggregate)!;
    return this.#rows(this.tables.gold.get(aggregate)!, root, await this.goldFiles(aggregate));
  }

  /** Rows of the report; empty before there is one. */
  async report(): Promise<readonly RowValue[]> {
    const env = { store: this.store, codec: createParquetCodec(), logger: silentLogger };
    const { reconciliation } = tableRoots(this.config);
    const table = await DeltaTable.open({ ...env, ambient: this.#ambient }, reconciliation);
    return table ? this.#rows(table, reconciliation, table.snapshot.files()) : [];
  }

  async #rows(
    table: DeltaTable,
    root: string,
    files: readonly LiveFile[],
  ): Promise<readonly RowValue[]> {
    const schema: StructType = struct(
      table.snapshot.schema.fields.filter(({ name }) => name !== '_event_date'),
    );
    const rows: RowValue[] = [];
    for (const { path } of files) {
      const bytes = await this.store.get(`${root}/${path}`);
      rows.push(...rowsFromColumns(this.#codec.decode(bytes!, schema)));
    }
    return rows;
  }
}

function slotOf(file: LiveFile): number {
  return Number(file.tags?.['tidemark.slot']);
}
