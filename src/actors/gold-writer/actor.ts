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
 * - GW4 A guard on the count of edits makes a commit fail when windows were replaced by another way.
 *   An edit that made other dates final is followed; after any other the writer begins again from the
 *   tables (P7).
 * - GW5 Late rows for a final date change nothing of it: the commit marks the date instead (P7).
 * - GW6 An aggregate that covers nothing yet begins with silver's newest snapshot, a date at a time, and
 *   appears in one commit: the commits that made silver may be gone from its log.
 * - GW7 Slots that are computed again are loaded and stored a date at a time: a rebuild or restore of a
 *   year takes no more memory than its largest date.
 */
import type { Ambient } from '../../ambient.ts';
import { crashPoint } from '../../crash-points.ts';
import { PipelineError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { transferablesOf } from '../../pipeline/columns.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { streamingTags } from '../../pipeline/gold/gold-tags.ts';
import { silverFileOf } from '../../pipeline/gold/silver-files.ts';
import { mayHold, type PlannedSlot } from '../../pipeline/gold/slots.ts';
import { TumblingWindows } from '../../pipeline/gold/windows.ts';
import { dateText, goldAppId, goldEditsAppId, goldLateAppId } from '../../pipeline/progress.ts';
import type { DeltaTable, Snapshot } from '../../storage/delta/delta-table.ts';
import type { CommitOutcome, CommitSummary, NewFile } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { BatchCache } from '../batch-cache.ts';
import { dataFilePath } from '../file-settings.ts';
import type { ActorDefinition, EffectContext } from '../runtime/actor.ts';
import { ComputeThread } from '../runtime/compute-thread.ts';
import { settled, versionOrNone } from '../stage-writer/commit.ts';
import { decideStage, type StageState, startStage } from '../stage-writer/behavior.ts';
import type { Span, StageEffect, StageMessage } from '../stage-writer/messages.ts';
import type { GoldThreadApi, GoldThreadData, SilverInput } from './gold-thread.ts';
import { SlotIndex } from './slot-index.ts';
import { type AggregateProgress, type LateMark, planSpan, type SilverChange } from './span-plan.ts';

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
    readonly date: string;
    /** undefined: nothing is left in the slot. */
    readonly file: NewFile | undefined;
  }[];
  readonly marks: readonly LateMark[];
}

type State = StageState<DerivedGold>;
type Message = StageMessage<DerivedGold>;
type Effect = StageEffect<DerivedGold>;

/** Pause between spans as a multiple of the last span's cost. */
const PACE = 2;
const PAUSE_MIN_MS = 200;
const PAUSE_MAX_MS = 3_000;
/** Objects read side by side. */
const CONCURRENCY = 8;
/** Edits that one commit follows before the writer begins again. */
const EDITS_FOLLOWED_MAX = 16;

/** The gold writer of all aggregates of a pipeline. */
export function goldWriter(deps: GoldWriterDependencies): ActorDefinition<State, Message, Effect> {
  const { config, silver, tables, store, ambient } = deps;
  const appId = goldAppId(config.name, silver.tableId);
  const editsId = goldEditsAppId(config.name, silver.tableId);
  let thread: ComputeThread<GoldThreadApi>;
  const grids = new Map(
    config.gold.map(({ name, windowMs }) => [name, new TumblingWindows(windowMs)]),
  );
  /** By aggregate. */
  let coveredBy = new Map<string, number>();
  let indexes = new Map<string, SlotIndex>();
  let pauseMs = 0;

  const open = async (context: EffectContext<Message>): Promise<void> => {
    const upstream = await silver.refresh();
    const opened = new Map<string, number>();
    const indexed = new Map<string, SlotIndex>();
    await Promise.all(
      [...tables].map(async ([aggregate, table]) => {
        const snapshot = await table.refresh();
        indexed.set(aggregate, new SlotIndex(table.root, editsId, snapshot));
        opened.set(aggregate, Number(snapshot.progress(appId) ?? 0n));
      }),
    );
    coveredBy = opened;
    indexes = indexed;
    await begin(upstream, context);
    context.tell({ kind: 'opened', covered: lowest(), head: upstream.version });
  };

  /** GW6 */
  const begin = async (upstream: Snapshot, context: EffectContext<Message>): Promise<void> => {
    const names = [...tables.keys()].filter((name) => coveredBy.get(name) === 0);
    if (names.length === 0 || upstream.version === 0) return;
    const removes = upstream.files().map(silverFileOf);
    const change = { version: upstream.version, adds: [], removes };
    const { recompute, marks } = planSpan([change], names.map(progressOf));
    const slots = await recomputeSlots(recompute, upstream.version, context, (part) =>
      loadSlotsAt(part, upstream, context),
    );
    if (context.signal.aborted) return;
    const span = { spanId: 0, after: 0, upTo: upstream.version };
    await Promise.all(names.map((name) => commitTable(name, span, { slots, marks }, context)));
  };

  /** GW7. @param load makes slots of one date resident as of `silverVersion` */
  const recomputeSlots = async (
    slots: readonly PlannedSlot[],
    silverVersion: number,
    context: EffectContext<Message>,
    load: (part: readonly PlannedSlot[]) => Promise<void>,
  ): Promise<DerivedGold['slots']> => {
    const stored: DerivedGold['slots'][number][] = [];
    for (const part of Map.groupBy(slots, dateOfSlot).values()) {
      await thread.call('recompute', { slots: part });
      await load(part);
      if (context.signal.aborted) break;
      stored.push(...(await storeSlots(silverVersion)));
    }
    return stored;
  };

  const dateOfSlot = ({ aggregate, slot }: PlannedSlot): string =>
    dateText(grids.get(aggregate)!.dateOfSlot(slot));

  const progressOf = (name: string): AggregateProgress => ({
    name,
    windows: grids.get(name)!,
    covered: coveredBy.get(name)!,
    finalVersion: (date) => indexes.get(name)!.finalVersion(date),
  });

  const lowest = (): number => Math.min(...coveredBy.values());

  /** Brings a table's index up to the newest version known (GW4). */
  const follow = async (aggregate: string): Promise<SlotIndex> => {
    const index = indexes.get(aggregate)!;
    const edited = index.advance(await tables.get(aggregate)!.commits(index.version));
    for (const date of edited) {
      if (index.finalVersion(date) === undefined) throw editedUnderneath(aggregate, date);
    }
    return index;
  };

  const editedUnderneath = (aggregate: string, date: string): PipelineError =>
    new PipelineError(
      'unavailable',
      'TM_COMMIT_FENCED',
      `windows of ${date} were replaced outside the stream; beginning again from the tables`,
      { context: { aggregate, date } },
    );

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
    const changes = await changesOf(await silver.commits(span.after, span.upTo));
    await Promise.all([...tables.keys()].map(follow));
    const { inputs, recompute, marks } = planSpan(changes, [...tables.keys()].map(progressOf));
    const transfer = new Set<ArrayBuffer>();
    const read = inputs.map(async ({ path, aggregates }) => {
      if (aggregates.length === 0) {
        deps.cache.take(`${silver.root}/${path}`); // nobody else will
        return [];
      }
      const input = await readSilver(path);
      if ('batch' in input) {
        for (const buffer of transferablesOf(input.batch)) transfer.add(buffer);
      }
      return [{ input, aggregates }];
    });
    const staged = { inputs: (await Promise.all(read)).flat(), complete: recompute };
    crashPoint('g.upstream.read');
    const again = await recomputeSlots(recompute, span.upTo, context, (part) =>
      loadSlots(part, span.upTo, context),
    );
    const missing = await thread.call('stage', staged, [...transfer]);
    await loadSlots(missing, span.after, context);
    if (context.signal.aborted) return;
    const slots = [...again, ...(await storeSlots(span.upTo))];
    const costMs = ambient.clock.monotonicMs() - startedMs;
    pauseMs = Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, PACE * costMs));
    context.tell({ kind: 'derived', span, derived: { slots, marks } });
  };

  /** Has the thread encode the slots that it was told of, and stores their files. */
  const storeSlots = async (silverVersion: number): Promise<DerivedGold['slots']> => {
    const encoded = await thread.call('finish', { silverVersion });
    crashPoint('g.rows.derived');
    const modifiedMs = Math.round(ambient.clock.nowMs());
    return Promise.all(
      encoded.map(async ({ aggregate, slot, dateDays, events, file }) => {
        const date = dateText(dateDays);
        if (!file) return { aggregate, slot, date, file };
        const path = dataFilePath(dateDays, ambient.ids.id());
        const sizeBytes = file.parquet.byteLength;
        await store.put(`${tables.get(aggregate)!.root}/${path}`, file.parquet);
        crashPoint('g.file.put.acked');
        const stored: NewFile = {
          path,
          partitionValues: { _event_date: date },
          sizeBytes,
          modifiedMs,
          stats: file.stats,
          tags: streamingTags(slot, events),
        };
        return { aggregate, slot, date, file: stored };
      }),
    );
  };

  /** Commits that changed rows, their files described as the log did when they were live. */
  const changesOf = async (commits: readonly CommitSummary[]): Promise<SilverChange[]> => {
    const changes: SilverChange[] = [];
    for (const { version, adds, removes } of commits) {
      const lost = removes.filter(({ dataChange }) => dataChange);
      const before = lost.length > 0 ? await silver.snapshotAt(version - 1) : undefined;
      changes.push({
        version,
        adds: adds.filter(({ dataChange }) => dataChange).map(silverFileOf),
        removes: lost.map(({ path }) => silverFileOf(before!.file(path)!)),
      });
    }
    return changes;
  };

  /** GW2: as of `silverVersion`, or of what the table covers when that is more. */
  const loadSlots = async (
    missing: readonly PlannedSlot[],
    silverVersion: number,
    context: EffectContext<Message>,
  ): Promise<void> => {
    const byVersion = Map.groupBy(missing, ({ aggregate }) =>
      Math.max(silverVersion, coveredBy.get(aggregate)!),
    );
    for (const [version, slots] of byVersion) {
      await loadSlotsAt(slots, await silver.snapshotAt(version), context);
    }
  };

  const loadSlotsAt = async (
    missing: readonly PlannedSlot[],
    before: Snapshot,
    context: EffectContext<Message>,
  ): Promise<void> => {
    await thread.call('load', { input: undefined, slots: missing });
    const dates = Map.groupBy(missing, dateOfSlot);
    const wanted: { readonly path: string; readonly slots: readonly PlannedSlot[] }[] = [];
    for (const file of before.files()) {
      const near = dates.get(file.partitionValues['_event_date'] ?? '');
      if (!near) continue;
      const described = silverFileOf(file);
      const slots = near.filter((slot) => mayHold(described, slot));
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
    derived: DerivedGold,
    context: EffectContext<Message>,
  ): Promise<void> => {
    await Promise.all(
      [...tables.keys()].map((aggregate) => commitTable(aggregate, span, derived, context)),
    );
    context.tell({ kind: 'committed', span });
  };

  const commitTable = async (
    aggregate: string,
    span: Span,
    derived: DerivedGold,
    context: EffectContext<Message>,
  ): Promise<void> => {
    const covered = coveredBy.get(aggregate)!;
    if (covered >= span.upTo) return;
    const slots = derived.slots.filter((one) => one.aggregate === aggregate);
    const adds = slots.flatMap(({ file }) => file ?? []);
    // GW5
    const marks = derived.marks
      .filter((mark) => mark.aggregate === aggregate)
      .map(({ date, silverVersion }) => ({
        appId: goldLateAppId(config.name, silver.tableId, date),
        expected: 'any' as const,
        next: BigInt(silverVersion),
      }));
    const attempt = async (): Promise<CommitOutcome> => {
      const index = await follow(aggregate);
      const final = slots.find(({ date }) => index.finalVersion(date) !== undefined);
      if (final) throw editedUnderneath(aggregate, final.date);
      // GW1
      const removes = slots.flatMap(({ slot }) => [...index.filesOf(slot)]);
      return tables.get(aggregate)!.commit({
        operation: 'STREAMING UPDATE',
        operationMetrics: {
          numAddedFiles: String(adds.length),
          numRemovedFiles: String(removes.length),
        },
        adds,
        removes,
        progress: [{ appId, expected: versionOrNone(covered), next: BigInt(span.upTo) }, ...marks],
        guards: [{ appId: editsId, expected: index.edits }],
        lineage: {
          stage: 'gold',
          silverTable: silver.tableId,
          silverAfter: covered,
          silverUpTo: span.upTo,
        },
        signal: context.signal,
      });
    };
    let outcome = await attempt();
    for (let followed = 0; followed < EDITS_FOLLOWED_MAX; followed++) {
      // GW4
      if (outcome.kind !== 'fenced' || outcome.appId !== editsId) break;
      outcome = await attempt();
    }
    await settled(outcome);
    coveredBy.set(aggregate, span.upTo);
  };

  return {
    name: 'gold-writer',
    start() {
      pauseMs = 0;
      thread = new ComputeThread<GoldThreadApi>(
        new URL('./gold-thread.ts', import.meta.url),
        {
          aggregates: config.gold,
          event: config.event,
          stateBytesMax: config.limits.goldStateBytes,
        } satisfies GoldThreadData,
        ambient.threads,
      );
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
