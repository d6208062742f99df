/**
 * Shell of the gold writer: follows silver, has windows updated in the gold thread, and replaces the
 * files of the slots that changed, one commit per aggregate.
 *
 * Invariants:
 * - GW1 A gold file holds exactly one slot (tag `tidemark.slot`); a commit removes the slot's old file
 *   and adds the new one together with the txn, so a reader sees every event once.
 * - GW2 A slot that is not in memory is computed again from the silver files of exactly the version
 *   that gold covers, never from gold's own rounded results.
 * - GW3 The next span starts no sooner than `PACE` times the last one's cost: rewriting windows takes a
 *   bounded share of a core, whatever the commit rate of silver.
 * - GW4 A guard on the count of edits makes a commit fail when windows were replaced by another way,
 *   such as a reconciliation; the writer then begins again from the tables (P7).
 */
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { transferablesOf } from '../../pipeline/columns.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { dateText, goldAppId, goldEditsAppId } from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { LiveFile, NewFile } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { BatchCache } from '../batch-cache.ts';
import { dataFilePath } from '../file-settings.ts';
import type { ActorDefinition, EffectContext } from '../runtime/actor.ts';
import { ComputeThread } from '../runtime/compute-thread.ts';
import { settled, versionOrNone } from '../stage-writer/commit.ts';
import { decideStage, type StageState, startStage } from '../stage-writer/behavior.ts';
import type { Span, StageEffect, StageMessage } from '../stage-writer/messages.ts';
import type { GoldThreadApi, GoldThreadData, MissingSlot, SilverInput } from './gold-thread.ts';

export interface GoldWriterDependencies {
  readonly config: PipelineConfig;
  readonly silver: DeltaTable;
  /** By aggregate name. */
  readonly tables: ReadonlyMap<string, DeltaTable>;
  readonly store: ObjectStore;
  readonly cache: BatchCache;
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Silver versions up to this one are in every gold table. */
  readonly onCovered: (silverVersion: number) => void;
  /** Nothing more will come (a run until caught up): waiting for more would only cost time. */
  readonly isUpstreamDone: () => boolean;
}

/** The slots of one span, stored and not yet in the tables. */
export interface DerivedGold {
  readonly slots: readonly {
    readonly aggregate: string;
    readonly slot: number;
    readonly file: NewFile;
  }[];
}

type State = StageState<DerivedGold>;
type Message = StageMessage<DerivedGold>;
type Effect = StageEffect<DerivedGold>;

const SLOT_TAG = 'tidemark.slot';
/** Pause between spans as a multiple of the last span's cost. */
const PACE = 2;
const PAUSE_MIN_MS = 200;
const PAUSE_MAX_MS = 3_000;
/** Objects read side by side. */
const CONCURRENCY = 8;

/** The gold writer of all aggregates of a pipeline. */
export function goldWriter(deps: GoldWriterDependencies): ActorDefinition<State, Message, Effect> {
  const { config, silver, tables, store, ambient } = deps;
  const appId = goldAppId(config.name, silver.tableId);
  const editsId = goldEditsAppId(config.name, silver.tableId);
  let thread: ComputeThread<GoldThreadApi>;
  let coveredBy = new Map<string, number>();
  /** By aggregate (GW4). */
  let edits = new Map<string, bigint | undefined>();
  let pauseMs = 0;

  const open = async (context: EffectContext<Message>): Promise<void> => {
    const upstream = await silver.refresh();
    edits = new Map();
    const opened = await Promise.all(
      [...tables].map(async ([aggregate, table]): Promise<[string, number]> => {
        const snapshot = await table.refresh();
        for (const file of snapshot.files()) slotOf(table, file);
        edits.set(aggregate, snapshot.progress(editsId));
        return [aggregate, Number(snapshot.progress(appId) ?? 0n)];
      }),
    );
    coveredBy = new Map(opened);
    context.tell({ kind: 'opened', covered: lowest(), head: upstream.version });
  };

  const lowest = (): number => Math.min(...coveredBy.values());

  const slotOf = (table: DeltaTable, file: LiveFile): number => {
    const text = file.tags?.[SLOT_TAG];
    if (text !== undefined) return Number(text);
    throw new PipelineError(
      'invalid',
      'TM_SCHEMA_MISMATCH',
      `${table.root}/${file.path} was not written by Tidemark; restore the table to a version before it`,
      { context: { table: table.root, path: file.path } },
    );
  };

  const readSilver = async (path: string): Promise<SilverInput> => {
    const key = `${silver.root}/${path}`;
    const batch = deps.cache.take(key);
    if (batch) return { batch };
    const parquet = await store.get(key);
    if (parquet) return { parquet };
    throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', `data file ${key} is gone`, {
      context: { key },
    });
  };

  /** GW3 */
  const pause = async (signal: AbortSignal): Promise<void> => {
    const untilMs = ambient.clock.monotonicMs() + pauseMs;
    while (!signal.aborted && !deps.isUpstreamDone() && ambient.clock.monotonicMs() < untilMs) {
      await ambient.clock.sleep(Math.min(PAUSE_MIN_MS, pauseMs), signal);
    }
  };

  const derive = async (asked: Span, context: EffectContext<Message>): Promise<void> => {
    await pause(context.signal);
    if (context.signal.aborted) return;
    const startedMs = ambient.clock.monotonicMs();
    const span = { ...asked, upTo: Math.max(asked.upTo, silver.snapshot.version) };
    const transfer = new Set<ArrayBuffer>();
    const files: { readonly path: string; readonly aggregates: readonly string[] }[] = [];
    for (const commit of await silver.commits(span.after, span.upTo)) {
      const behind = [...tables.keys()].filter((name) => coveredBy.get(name)! < commit.version);
      for (const add of commit.adds) {
        if (add.dataChange) files.push({ path: add.path, aggregates: behind });
      }
    }
    const inputs = await Promise.all(
      files.map(async ({ path, aggregates }) => ({ input: await readSilver(path), aggregates })),
    );
    for (const { input } of inputs) {
      if (!('batch' in input)) continue;
      for (const buffer of transferablesOf(input.batch)) transfer.add(buffer);
    }
    const missing = await thread.call('stage', { inputs }, [...transfer]);
    await loadSlots(missing, span.after, context);
    const encoded = await thread.call('finish', { silverVersion: span.upTo });
    const modifiedMs = Math.round(ambient.clock.nowMs());
    const slots = await Promise.all(
      encoded.map(async ({ aggregate, slot, dateDays, parquet, stats }) => {
        const path = dataFilePath(dateDays, ambient.ids.id());
        const sizeBytes = parquet.byteLength;
        await store.put(`${tables.get(aggregate)!.root}/${path}`, parquet);
        const file: NewFile = {
          path,
          partitionValues: { _event_date: dateText(dateDays) },
          sizeBytes,
          modifiedMs,
          stats,
          tags: { [SLOT_TAG]: String(slot) },
        };
        return { aggregate, slot, file };
      }),
    );
    const costMs = ambient.clock.monotonicMs() - startedMs;
    pauseMs = Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, PACE * costMs));
    context.tell({ kind: 'derived', span, derived: { slots } });
  };

  /** GW2 */
  const loadSlots = async (
    missing: readonly MissingSlot[],
    spanAfter: number,
    context: EffectContext<Message>,
  ): Promise<void> => {
    const byVersion = Map.groupBy(missing, ({ aggregate }) =>
      Math.max(spanAfter, coveredBy.get(aggregate)!),
    );
    for (const [version, slots] of byVersion) await loadSlotsAt(slots, version, context);
  };

  const loadSlotsAt = async (
    missing: readonly MissingSlot[],
    silverVersion: number,
    context: EffectContext<Message>,
  ): Promise<void> => {
    await thread.call('load', { input: undefined, slots: missing });
    const before = await silver.snapshotAt(silverVersion);
    const wanted: { readonly path: string; readonly slots: readonly MissingSlot[] }[] = [];
    for (const file of before.files()) {
      const [min, max] = (file.tags?.['tidemark.eventTime'] ?? '-Infinity,Infinity')
        .split(',')
        .map(Number) as [number, number];
      const slots = missing.filter((slot) => slot.startMicros <= max && slot.endMicros > min);
      if (slots.length > 0) wanted.push({ path: file.path, slots });
    }
    for (let from = 0; from < wanted.length && !context.signal.aborted; from += CONCURRENCY) {
      await Promise.all(
        wanted.slice(from, from + CONCURRENCY).map(async ({ path, slots }) => {
          await thread.call('load', { input: await readSilver(path), slots });
        }),
      );
    }
  };

  const commit = async (
    span: Span,
    { slots }: DerivedGold,
    context: EffectContext<Message>,
  ): Promise<void> => {
    await Promise.all(
      [...tables].map(async ([aggregate, table]) => {
        const covered = coveredBy.get(aggregate)!;
        if (covered >= span.upTo) return;
        const own = slots.filter((one) => one.aggregate === aggregate);
        // GW1
        const replaced = new Set(own.map(({ slot }) => slot));
        const removes: string[] = [];
        for (const file of table.snapshot.files()) {
          if (replaced.has(slotOf(table, file))) removes.push(file.path);
        }
        await settled(
          table.commit({
            operation: 'STREAMING UPDATE',
            operationMetrics: {
              numAddedFiles: String(own.length),
              numRemovedFiles: String(removes.length),
            },
            adds: own.map(({ file }) => file),
            removes,
            progress: [{ appId, expected: versionOrNone(covered), next: BigInt(span.upTo) }],
            guards: [{ appId: editsId, expected: edits.get(aggregate) }],
            lineage: {
              stage: 'gold',
              silverTable: silver.tableId,
              silverAfter: covered,
              silverUpTo: span.upTo,
            },
            signal: context.signal,
          }),
        );
        coveredBy.set(aggregate, span.upTo);
      }),
    );
    context.tell({ kind: 'committed', span });
  };

  return {
    name: 'gold-writer',
    start() {
      pauseMs = 0;
      thread = new ComputeThread<GoldThreadApi>(new URL('./gold-thread.ts', import.meta.url), {
        aggregates: config.gold,
        event: config.event,
        stateBytesMax: config.limits.goldStateBytes,
      } satisfies GoldThreadData);
      return startStage();
    },
    decide: decideStage,
    async perform(effect, context) {
      switch (effect.kind) {
        case 'open':
          return open(context);
        case 'look':
          return context.tell({ kind: 'head', head: (await silver.refresh()).version });
        case 'derive':
          return derive(effect.span, context);
        case 'commit':
          return commit(effect.span, effect.derived, context);
        case 'announce':
          return deps.onCovered(effect.covered);
      }
    },
    dispose: () => thread.terminate(),
  };
}
