/**
 * The tables that an edit of silver works with: opened, never created, by a process beside the one
 * that runs the pipeline.
 */
import type { Ambient } from '../../ambient.ts';
import { requireDeclaredEvent } from '../../engine/declared-schema.ts';
import { PipelineError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { BRONZE_DATE_COLUMN } from '../../pipeline/bronze.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { bucketAppIds, silverAppId, tableRoots } from '../../pipeline/progress.ts';
import { EVENT_DATE, silverTableSchema } from '../../pipeline/silver/tables.ts';
import { type StructType, struct } from '../../pipeline/types.ts';
import type { DeltaTable, Snapshot } from '../../storage/delta/delta-table.ts';
import { schemaMisfit } from '../../storage/delta/schema-json.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { LakeCatalog } from '../../storage/query/lake-catalog.ts';
import { type BronzeRange, mayHoldRange } from './bronze-range.ts';

/** What an operation works with. */
export interface OperationContext {
  readonly config: PipelineConfig;
  readonly store: ObjectStore;
  readonly catalog: LakeCatalog;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Told of rows done and rows in all, for whoever watches. */
  readonly onProgress: (what: string, rows: number, rowsAll: number) => void;
}

/** A data file and the table that it belongs to. */
export interface TableFile {
  readonly key: string;
  readonly file: LiveFile;
}

export class EditedLake {
  readonly context: OperationContext;
  readonly bronze: DeltaTable;
  /** Where retention moved old bronze rows to; undefined when it never did. */
  readonly archive: DeltaTable | undefined;
  readonly deadLetter: DeltaTable;
  readonly silver: DeltaTable;

  private constructor(
    context: OperationContext,
    tables: Pick<EditedLake, 'bronze' | 'archive' | 'deadLetter' | 'silver'>,
  ) {
    this.context = context;
    this.bronze = tables.bronze;
    this.archive = tables.archive;
    this.deadLetter = tables.deadLetter;
    this.silver = tables.silver;
  }

  /**
   * @throws PipelineError invalid when there are no tables yet, or the file's schema was not applied
   */
  static async open(context: OperationContext): Promise<EditedLake> {
    const { config, catalog } = context;
    const roots = tableRoots(config);
    const [bronze, archive, deadLetter, silver] = await Promise.all([
      catalog.table(roots.bronze),
      catalog.table(roots.archive),
      catalog.table(roots.deadLetter),
      catalog.table(roots.silver),
    ]);
    if (!bronze || !deadLetter || !silver) {
      throw new PipelineError(
        'invalid',
        'TM_USAGE',
        'This pipeline has no tables yet; start it with `tidemark run`.',
      );
    }
    requireDeclaredEvent(silver.snapshot, silver.root, config.event);
    const misfit = schemaMisfit(silver.snapshot.schema, silverTableSchema(config.event));
    if (misfit !== undefined) {
      throw new PipelineError(
        'invalid',
        'TM_SCHEMA_MISMATCH',
        `the pipeline file does not fit the table ${silver.root}: ${misfit}; ` +
          'see `tidemark schema check FILE`',
      );
    }
    return new EditedLake(context, { bronze, archive, deadLetter, silver });
  }

  /** The dedup buckets' progress names. */
  get bucketIds(): readonly string[] {
    return bucketAppIds(this.context.config, this.bronze.tableId, silverAppId);
  }

  /** Bronze version that every bucket of silver covers; 0 when it covers nothing. */
  coveredBy(silver: Snapshot): number {
    return this.bucketIds.reduce(
      (lowest, id) => Math.min(lowest, Number(silver.progress(id) ?? 0n)),
      Number.POSITIVE_INFINITY,
    );
  }

  /** Columns of silver's data files under all schemas. */
  get silverColumns(): StructType {
    const { fields } = this.silver.snapshot.schema;
    return struct(fields.filter(({ name }) => name !== EVENT_DATE));
  }

  /**
   * Bronze files that all buckets of a silver snapshot cover and that may hold rows of the range, the
   * archive's included, in no order.
   */
  async coveredFiles(silver: Snapshot, range: BronzeRange): Promise<readonly TableFile[]> {
    const covered = this.coveredBy(silver);
    const bronze = covered > 0 ? await this.bronze.snapshotAt(covered) : undefined;
    return this.#recordFiles(bronze, (file) => mayHoldRange(file, range));
  }

  /**
   * The newest bronze files of the dates, the archive's included, in no order: a row of silver has its
   * record there, however far the slowest bucket is.
   */
  async filesOfDates(dates: ReadonlySet<string>): Promise<readonly TableFile[]> {
    return this.#recordFiles(await this.bronze.refresh(), ({ partitionValues }) => {
      const date = partitionValues[BRONZE_DATE_COLUMN];
      return typeof date !== 'string' || dates.has(date);
    });
  }

  /** @param bronze read before the archive, where retention moves its files to */
  async #recordFiles(
    bronze: Snapshot | undefined,
    isWanted: (file: LiveFile) => boolean,
  ): Promise<readonly TableFile[]> {
    const files: TableFile[] = [];
    const paths = new Set<string>();
    const add = (root: string, snapshot: Snapshot): void => {
      for (const file of snapshot.files()) {
        if (!isWanted(file) || paths.has(file.path)) continue;
        paths.add(file.path);
        files.push({ key: `${root}/${file.path}`, file });
      }
    };
    if (bronze) add(this.bronze.root, bronze);
    if (this.archive) add(this.archive.root, await this.archive.refresh());
    return files;
  }

  /** @throws PipelineError unavailable TM_STOPPED when the user asked to stop */
  checkStopped(): void {
    if (!this.context.signal.aborted) return;
    const message = 'Stopped; what was committed stays, and the same command goes on from there.';
    throw new PipelineError('unavailable', 'TM_STOPPED', message);
  }

  /** @throws PipelineError corrupt when the object is gone */
  async read(key: string): Promise<Uint8Array> {
    const bytes = await this.context.store.get(key);
    if (bytes) return bytes;
    throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', `data file ${key} is gone`, {
      context: { key },
    });
  }
}
