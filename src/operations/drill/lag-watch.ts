/**
 * How far a pipeline is, from outside: by the Delta logs alone, past any proxy.
 *
 * LW1 A record is in a stage when that stage's commits cover it: bronze by its rows, silver by the bronze
 *     version it covers, gold by the silver version that all its tables cover.
 */
import type { Ambient } from '../../ambient.ts';
import type { Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { bronzeVersionsIn, goldAppId, tableRoots } from '../../pipeline/progress.ts';
import { type DeltaEnvironment, DeltaTable } from '../../storage/delta/delta-table.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { ParquetCodec } from '../../storage/parquet/parquet-codec.ts';
import { asPipelineError } from '../../errors.ts';

/** Records at one moment: produced, and those that each stage has. */
export interface LagSample {
  /** Since the watch began, milliseconds. */
  readonly atMs: number;
  readonly produced: number;
  readonly bronze: number;
  readonly silver: number;
  readonly gold: number;
}

const STEP_MS = 200;

export class LagWatch {
  readonly samples: LagSample[] = [];
  readonly #env: DeltaEnvironment;
  readonly #config: PipelineConfig;
  readonly #produced: () => number;
  readonly #startedMs: number;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  readonly #tables = new Map<string, DeltaTable>();
  /** Records in bronze by its version, and covered by silver by silver's. */
  readonly #bronzeRows: number[] = [];
  readonly #silverRows: { readonly version: number; readonly rows: number }[] = [];

  /** @param options.produced how many records the source has */
  constructor(options: {
    readonly store: ObjectStore;
    readonly codec: ParquetCodec;
    readonly ambient: Ambient;
    readonly logger: Logger;
    readonly config: PipelineConfig;
    readonly produced: () => number;
  }) {
    this.#env = options;
    this.#config = options.config;
    this.#produced = options.produced;
    this.#startedMs = options.ambient.clock.monotonicMs();
    this.#loop = this.#run();
  }

  /** Milliseconds since the watch began. */
  get nowMs(): number {
    return this.#env.ambient.clock.monotonicMs() - this.#startedMs;
  }

  get last(): LagSample {
    return this.samples.at(-1) ?? { atMs: 0, produced: 0, bronze: 0, silver: 0, gold: 0 };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock } = this.#env.ambient;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#look();
      } catch (thrown) {
        // Tables that are not made yet, a store that is slow: the next look will tell.
        const { kind, message } = asPipelineError(thrown);
        this.#env.logger.debug('the drill could not look', { kind, message });
      }
      await clock.sleep(STEP_MS, this.#stop.signal);
    }
  }

  /** LW1; downstream first, so that what a stage covers is known when it is looked up. */
  async #look(): Promise<void> {
    const { name } = this.#config;
    const roots = tableRoots(this.#config);
    const [bronze, silver, ...gold] = await Promise.all(
      [roots.bronze, roots.silver, ...roots.gold.values()].map((root) => this.#table(root)),
    );
    if (!bronze || !silver) return;
    const goldCovers = gold.map(async (table) => {
      const snapshot = await table?.refresh();
      return Number(snapshot?.progress(goldAppId(name, silver.tableId)) ?? 0n);
    });
    const goldCovered = Math.min(...(await Promise.all(goldCovers)));
    const silverHead = await silver.refresh();
    const covers = bronzeVersionsIn(silverHead, this.#config, bronze.tableId);
    await this.#countBronze(bronze);
    const silverRows = this.#bronzeRows[Math.min(...covers)] ?? 0;
    if (this.#silverRows.at(-1)?.version !== silverHead.version) {
      this.#silverRows.push({ version: silverHead.version, rows: silverRows });
    }
    this.samples.push({
      atMs: this.nowMs,
      produced: this.#produced(),
      bronze: this.#bronzeRows.at(-1) ?? 0,
      silver: silverRows,
      gold: this.#silverRows.findLast(({ version }) => version <= goldCovered)?.rows ?? 0,
    });
  }

  async #countBronze(bronze: DeltaTable): Promise<void> {
    await bronze.refresh();
    let rows = this.#bronzeRows.at(-1) ?? 0;
    for (const commit of await bronze.commits(this.#bronzeRows.length - 1)) {
      for (const { stats, dataChange } of commit.adds) {
        if (!dataChange) continue;
        rows += (JSON.parse(stats ?? '{}') as { numRecords?: number }).numRecords ?? 0;
      }
      this.#bronzeRows[commit.version] = rows;
    }
  }

  async #table(root: string): Promise<DeltaTable | undefined> {
    const known = this.#tables.get(root) ?? (await DeltaTable.open(this.#env, root));
    if (known) this.#tables.set(root, known);
    return known;
  }
}
