/**
 * A small lake on local disk, written through the real Delta and Parquet code: each stage takes rows
 * as they are given, right or wrong, so that checks can be checked.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { parsePipeline } from '../../src/config.ts';
import { openTables, type PipelineTables } from '../../src/engine/tables.ts';
import { silentLogger } from '../../src/logger.ts';
import { type Coverage, coverageText } from '../../src/pipeline/bronze.ts';
import { columnsFromRows } from '../../src/pipeline/column-builder.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import {
  bronzeAppId,
  deadLetterAppId,
  goldAppId,
  type LedgerCounter,
  ledgerAppId,
  silverAppId,
  watermarkAppId,
} from '../../src/pipeline/progress.ts';
import { struct } from '../../src/pipeline/types.ts';
import { type DeltaEnvironment, DeltaTable } from '../../src/storage/delta/delta-table.ts';
import { computeStats } from '../../src/storage/delta/stats.ts';
import type { NewFile, ProgressUpdate } from '../../src/storage/delta/transaction.ts';
import {
  type FsObjectStore,
  openFsObjectStore,
} from '../../src/storage/object-store/fs-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';

export const FIXTURE_PIPELINE = `
name: usage
source: {kind: embedded, partitions: 1}
silver: {dedupBuckets: 2}
event:
  id: id
  time: at
  schema: {fields: {id: string, at: timestamp, customer: string}}
gold:
  - {name: hourly, window: 1h, groupBy: [customer], measures: {n: {fn: count}}}
`;

export const TOPIC_ID = '6b2c1c9e-0000-4000-8000-000000000001';
/** 2026-11-22T00:00:00Z */
export const DAY_MICROS = 1_795_305_600_000_000n;
const DATE = '2026-11-22';

export type FixtureRow = Parameters<typeof columnsFromRows>[1][number];

/** A record of bronze; `id` undefined makes its value poison. */
export interface FixtureRecord {
  readonly partition?: number;
  readonly offset: number;
  readonly id: string | undefined;
  /** Instead of the JSON of `id`. */
  readonly value?: string;
  /** Milliseconds after the day's begin; `offset` when absent. */
  readonly ingestedMs?: number;
}

export class LakeFixture {
  readonly folder: string;
  readonly config: PipelineConfig;
  readonly store: FsObjectStore;
  readonly codec = createParquetCodec();
  readonly delta: DeltaEnvironment;
  readonly tables: PipelineTables;

  private constructor(
    folder: string,
    config: PipelineConfig,
    store: FsObjectStore,
    delta: DeltaEnvironment,
    tables: PipelineTables,
  ) {
    this.folder = folder;
    this.config = config;
    this.store = store;
    this.delta = delta;
    this.tables = tables;
  }

  static async open(t: TestContext): Promise<LakeFixture> {
    const folder = await mkdtemp(join(tmpdir(), 'tidemark-lake-'));
    const parsed = parsePipeline(FIXTURE_PIPELINE, { environment: {}, cwd: folder });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    const { config } = parsed;
    const store = await openLakeStore(config);
    t.after(async () => {
      await store.close();
      await rm(folder, { recursive: true });
    });
    const env = {
      store,
      codec: createParquetCodec(),
      ambient: systemAmbient,
      logger: silentLogger,
    };
    return new LakeFixture(folder, config, store, env, await openTables(env, config));
  }

  /** Commits records, what they state to cover, and where each partition's progress stands after. */
  async bronze(
    records: readonly FixtureRecord[],
    coverage: readonly Coverage[],
    next: Readonly<Record<number, number>>,
  ): Promise<number> {
    const rows = records.map(({ partition = 0, offset, id, value, ingestedMs = offset }) => ({
      _raw_value:
        value ?? (id === undefined ? 'poison' : JSON.stringify({ id, at: '2026-11-22T00:00:00Z' })),
      _kafka_topic: 'usage',
      _kafka_partition: partition,
      _kafka_offset: BigInt(offset),
      _kafka_timestamp: DAY_MICROS,
      _ingested_at: DAY_MICROS + BigInt(ingestedMs) * 1000n,
    }));
    const table = this.tables.bronze;
    const progress = Object.entries(next).map(
      ([partition, offset]): ProgressUpdate => ({
        appId: bronzeAppId(this.config.name, 'usage', TOPIC_ID, Number(partition)),
        expected: 'any',
        next: BigInt(offset),
      }),
    );
    const tags = { 'tidemark.coverage': coverageText(coverage) };
    return this.commit(table, rows, { progress, tags, lineage: { rows: rows.length } });
  }

  /** Commits silver rows that cover bronze up to `bronzeVersion`; `counts` goes into the ledger. */
  async silver(
    records: readonly FixtureRecord[],
    bronzeVersion: number,
    counts: Readonly<Record<string, number>>,
  ): Promise<number> {
    const rows = records.map(({ partition = 0, offset, id }) => ({
      id,
      at: DAY_MICROS,
      customer: 'c',
      _kafka_topic: 'usage',
      _kafka_partition: partition,
      _kafka_offset: BigInt(offset),
      _kafka_timestamp: DAY_MICROS,
      _is_late_arriving: false,
      _arrival_delay_seconds: 0,
      _schema_version: 1,
    }));
    const progress = [0, 1].map(
      (bucket): ProgressUpdate => ({
        appId: silverAppId(this.config.name, this.tables.bronze.tableId, bucket),
        expected: 'any',
        next: BigInt(bronzeVersion),
      }),
    );
    const watermark: ProgressUpdate = {
      appId: watermarkAppId(this.config.name, TOPIC_ID, 0),
      expected: 'any',
      next: DAY_MICROS,
    };
    const derived = Object.values(counts).reduce((sum, count) => sum + count, 0);
    const totals = Object.entries({ bronzeRows: derived, ...counts }).map(
      ([counter, count]): ProgressUpdate => {
        const { tableId } = this.tables.bronze;
        const appId = ledgerAppId(this.config.name, tableId, 0, counter as LedgerCounter);
        const before = this.tables.silver.snapshot.progress(appId) ?? 0n;
        return { appId, expected: 'any', next: before + BigInt(count) };
      },
    );
    return this.commit(this.tables.silver, rows, {
      progress: [...progress, watermark, ...totals],
      lineage: { counts },
    });
  }

  async deadLetters(
    records: readonly (FixtureRecord & { readonly flag: string })[],
    bronzeVersion = 1,
  ): Promise<number> {
    const rows = records.map(({ partition = 0, offset, flag }) => ({
      _kafka_topic: 'usage',
      _kafka_partition: partition,
      _kafka_offset: BigInt(offset),
      _kafka_timestamp: DAY_MICROS,
      _quality_flags: [flag],
    }));
    const progress = [0, 1].map(
      (bucket): ProgressUpdate => ({
        appId: deadLetterAppId(this.config.name, this.tables.bronze.tableId, bucket),
        expected: 'any',
        next: BigInt(bronzeVersion),
      }),
    );
    return this.commit(this.tables.deadLetter, rows, {
      progress,
      lineage: { stage: 'dead-letter' },
    });
  }

  /** Commits one window with a count. */
  async gold(
    count: number,
    silverVersion: number,
    options: { readonly final?: boolean } = {},
  ): Promise<number> {
    const row = {
      window_start: DAY_MICROS,
      window_end: DAY_MICROS + 3_600_000_000n,
      customer: 'c',
      n: BigInt(count),
      _source: options.final ? 'batch' : 'streaming',
      _is_final: options.final ?? false,
      _revision: 1,
      _silver_version: BigInt(silverVersion),
    };
    const appId = goldAppId(this.config.name, this.tables.silver.tableId);
    return this.commit(this.tables.gold.get('hourly')!, [row], {
      progress: [{ appId, expected: 'any', next: BigInt(silverVersion) }],
      tags: {
        'tidemark.slot': String(DAY_MICROS / 1000n),
        'tidemark.events': String(count),
        ...(options.final ? { 'tidemark.final': String(silverVersion) } : {}),
      },
      lineage: {},
      replace: true,
    });
  }

  async commit(
    table: DeltaTable,
    rows: readonly FixtureRow[],
    options: {
      readonly progress: readonly ProgressUpdate[];
      readonly lineage: Readonly<Record<string, unknown>>;
      readonly tags?: Readonly<Record<string, string>>;
      readonly replace?: boolean;
    },
  ): Promise<number> {
    const partitionColumn = table.snapshot.partitionColumns[0]!;
    const schema = struct(table.snapshot.schema.fields.filter((f) => f.name !== partitionColumn));
    const batch = columnsFromRows(schema, rows);
    const bytes = this.codec.encode(batch, { compression: 'snappy' });
    const path = `${DATE}/${systemAmbient.ids.id()}.parquet`;
    await this.store.put(`${table.root}/${path}`, bytes);
    const file: NewFile = {
      path,
      partitionValues: { [partitionColumn]: DATE },
      sizeBytes: bytes.byteLength,
      modifiedMs: 0,
      stats: computeStats(batch),
      ...(options.tags ? { tags: options.tags } : {}),
    };
    const removes = options.replace ? table.snapshot.files().map((live) => live.path) : [];
    const outcome = await table.commit({
      operation: 'STREAMING UPDATE',
      adds: [file],
      removes,
      progress: options.progress,
      lineage: options.lineage,
    });
    if (outcome.kind !== 'committed') throw new Error(JSON.stringify(outcome));
    return outcome.version;
  }
}

/** The store of a pipeline whose lake is a local folder. */
export function openLakeStore(config: PipelineConfig): Promise<FsObjectStore> {
  if (config.lake.kind !== 'fs') throw new Error('the lake is not a local folder');
  const { path } = config.lake;
  return openFsObjectStore({ path, ambient: systemAmbient, logger: silentLogger });
}

/** Coverage of [from, to) of partition 0 by `rows` rows. */
export function covers(
  from: number,
  to: number,
  options: Partial<Pick<Coverage, 'rows' | 'gaps' | 'partition'>> = {},
): Coverage {
  const gaps = options.gaps ?? [];
  const explained = gaps.reduce((sum, gap) => sum + Number(gap.to - gap.from), 0);
  return {
    partition: options.partition ?? 0,
    from: BigInt(from),
    to: BigInt(to),
    rows: options.rows ?? to - from - explained,
    gaps,
  };
}
