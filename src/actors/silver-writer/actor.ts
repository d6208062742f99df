/**
 * Shell of the silver writer: reads bronze versions, has rows derived in the silver thread, stores
 * files, and commits dead letters and silver with their progress.
 *
 * Invariants:
 * - SW1 Dead letters of a span are committed before its silver rows, each under its own txn; a crash
 *   between the two leaves dead letters that the next derivation recognises by version (P2, P6).
 * - SW2 The dedup index holds exactly the ids of committed silver rows plus those of spans under way;
 *   when a commit fails, thread and index are thrown away and rebuilt from the table (P5). A guard on
 *   the count of edits makes a commit fail when rows came to silver by another way.
 * - SW3 Each commit moves the ledger's running totals by what its span held (P4).
 */
import type { Ambient } from '../../ambient.ts';
import { otherEvents } from '../../engine/declared-schema.ts';
import { PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { transferablesOf } from '../../pipeline/columns.ts';
import { silverProjection } from '../../pipeline/gold/projection.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  dateText,
  deadLetterAppId,
  type LedgerCounter,
  ledgerAppId,
  silverAppId,
  silverEditsAppId,
  watermarkAppId,
} from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { LiveFile, NewFile, ProgressUpdate } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { WorkQueue } from '../../storage/queue/work-queue.ts';
import type { TopicInfo } from '../../storage/source/event-source.ts';
import type { StateStore } from '../../storage/state/state-store.ts';
import type { BatchCache } from '../batch-cache.ts';
import { dataFilePath } from '../file-settings.ts';
import type { ActorDefinition, EffectContext } from '../runtime/actor.ts';
import { ComputeThread } from '../runtime/compute-thread.ts';
import { settled, versionOrNone } from '../stage-writer/commit.ts';
import { decideStage, type StageState, startStage } from '../stage-writer/behavior.ts';
import type { Span, StageEffect, StageMessage } from '../stage-writer/messages.ts';
import type { BronzeInput, SilverThreadApi, SilverThreadData } from './silver-thread.ts';

export interface SilverWriterDependencies {
  readonly config: PipelineConfig;
  readonly topic: TopicInfo;
  readonly bronze: DeltaTable;
  readonly silver: DeltaTable;
  readonly deadLetter: DeltaTable;
  readonly store: ObjectStore;
  readonly state: StateStore;
  readonly queue: WorkQueue;
  /** Bronze batches of this process, to take from. */
  readonly cache: BatchCache;
  /** Silver batches for the gold writer of this process, to put into. */
  readonly goldCache: BatchCache;
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Bronze versions up to this one are in silver. */
  readonly onCovered: (bronzeVersion: number) => void;
  readonly onCommitted: (silverVersion: number, counts: Readonly<Record<string, number>>) => void;
}

/** What one span derived: stored files, not yet in the tables. */
export interface DerivedSilver {
  readonly silver: readonly NewFile[];
  readonly dead: readonly NewFile[];
  readonly watermarks: ReadonlyMap<number, bigint>;
  readonly counts: Readonly<Record<string, number>>;
  readonly countsByFlag: Readonly<Record<string, number>>;
}

type State = StageState<DerivedSilver>;
type Message = StageMessage<DerivedSilver>;
type Effect = StageEffect<DerivedSilver>;

/** A span takes in no further bronze version once it has this many rows. */
const SPAN_ROWS = 200_000;
/** Objects read or written side by side. */
const CONCURRENCY = 8;
/** Number of this silver writer among those of the pipeline. */
const SHARD = 0;
/** Totals that the stream moves. */
const STREAM_COUNTERS = [
  'bronzeRows',
  'silverRows',
  'duplicates',
  'conflicts',
  'deadLetters',
] as const satisfies readonly LedgerCounter[];

/** The silver writer of all dedup buckets. */
export function silverWriter(
  deps: SilverWriterDependencies,
): ActorDefinition<State, Message, Effect> {
  const { config, bronze, silver, deadLetter, store, ambient } = deps;
  const buckets = Array.from({ length: config.dedupBuckets }, (_, bucket) => bucket);
  const silverIds = buckets.map((b) => silverAppId(config.name, bronze.tableId, b));
  const deadIds = buckets.map((b) => deadLetterAppId(config.name, bronze.tableId, b));
  let thread: ComputeThread<SilverThreadApi>;
  let deadCovered = 0;
  const editsId = silverEditsAppId(config.name, bronze.tableId);
  let edits: bigint | undefined;
  let totals = new Map<LedgerCounter, bigint | undefined>();

  const open = async (context: EffectContext<Message>): Promise<void> => {
    const [upstream, own, dead] = await Promise.all([
      bronze.refresh(),
      silver.refresh(),
      deadLetter.refresh(),
    ]);
    const covered = Number(own.progress(silverIds[0]!) ?? 0n);
    if (covered > upstream.version) {
      throw new PipelineError(
        'corrupt',
        'TM_LOG_CORRUPT',
        `silver covers bronze version ${covered}, but bronze ends at ${upstream.version}`,
        { context: { table: silver.root, covered, head: upstream.version } },
      );
    }
    deadCovered = Number(dead.progress(deadIds[0]!) ?? 0n);
    edits = own.progress(editsId);
    totals = new Map(STREAM_COUNTERS.map((counter) => [counter, own.progress(counterId(counter))]));
    const startedMs = ambient.clock.monotonicMs();
    const paths = [...own.files()].map(({ path }) => path);
    let ids = 0;
    for (let from = 0; from < paths.length && !context.signal.aborted; from += CONCURRENCY) {
      const loaded = await Promise.all(paths.slice(from, from + CONCURRENCY).map(loadFingerprints));
      ids = Math.max(...loaded);
    }
    deps.logger.info('dedup index loaded', {
      ids,
      files: paths.length,
      elapsedMs: Math.round(ambient.clock.monotonicMs() - startedMs),
    });
    context.tell({ kind: 'opened', covered, head: upstream.version });
  };

  const counterId = (counter: LedgerCounter): string =>
    ledgerAppId(config.name, bronze.tableId, SHARD, counter);

  const fingerprintKey = (path: string): string =>
    `${silver.root}/_dedup/${path.replace(/\.parquet$/, '')}.fp`;

  const loadFingerprints = async (path: string): Promise<number> => {
    const stored = await store.get(fingerprintKey(path));
    if (stored) return (await thread.call('load', { fingerprints: [stored] })).ids;
    const parquet = await readObject(`${silver.root}/${path}`);
    const fingerprints = await thread.call('loadParquet', { parquet });
    await store.put(fingerprintKey(path), fingerprints);
    return (await thread.call('load', { fingerprints: [] })).ids;
  };

  const readObject = async (key: string): Promise<Uint8Array> => {
    const bytes = await store.get(key);
    if (bytes) return bytes;
    throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', `data file ${key} is gone`, {
      context: { key },
    });
  };

  const readInputs = async (
    span: Span,
  ): Promise<{ inputs: BronzeInput[]; upTo: number; transfer: Set<ArrayBuffer> }> => {
    const commits = await bronze.commits(span.after, span.upTo);
    const wanted: { readonly version: number; readonly file: LiveFile }[] = [];
    let rows = 0;
    let upTo = span.after;
    for (const commit of commits) {
      if (rows >= SPAN_ROWS) break;
      upTo = commit.version;
      for (const file of commit.adds) {
        if (!file.dataChange) continue;
        wanted.push({ version: commit.version, file });
        rows += rowsOf(file);
      }
    }
    const transfer = new Set<ArrayBuffer>();
    const inputs = await Promise.all(
      wanted.map(async ({ version, file }): Promise<BronzeInput> => {
        const key = `${bronze.root}/${file.path}`;
        const date = file.partitionValues['_event_date'] ?? null;
        const described = { bronzeVersion: version, date, rows: rowsOf(file) };
        const batch = deps.cache.take(key);
        if (!batch) return { ...described, parquet: await readObject(key) };
        for (const buffer of transferablesOf(batch)) transfer.add(buffer);
        return { ...described, batch };
      }),
    );
    return { inputs, upTo, transfer };
  };

  const derive = async (span: Span, context: EffectContext<Message>): Promise<void> => {
    const { inputs, upTo, transfer } = await readInputs(span);
    const rows = await thread.call('derive', { inputs, deadCovered }, [...transfer]);
    const modifiedMs = Math.round(ambient.clock.nowMs());
    const silverFiles = rows.silver.map(async (file): Promise<NewFile> => {
      const path = dataFilePath(file.dateDays, ambient.ids.id());
      const sizeBytes = file.parquet.byteLength;
      await Promise.all([
        store.put(`${silver.root}/${path}`, file.parquet),
        store.put(fingerprintKey(path), file.fingerprints),
      ]);
      deps.goldCache.put(`${silver.root}/${path}`, file.goldBatch);
      return {
        path,
        partitionValues: { _event_date: dateText(file.dateDays) },
        sizeBytes,
        modifiedMs,
        stats: file.stats,
        tags: { 'tidemark.eventTime': `${file.eventTimeMin},${file.eventTimeMax}` },
      };
    });
    const deadFiles = rows.dead.map(async (file): Promise<NewFile> => {
      const path = dataFilePath(file.dateDays, ambient.ids.id());
      const sizeBytes = file.parquet.byteLength;
      await store.put(`${deadLetter.root}/${path}`, file.parquet);
      return {
        path,
        partitionValues: { _dlq_date: dateText(file.dateDays) },
        sizeBytes,
        modifiedMs,
        stats: file.stats,
      };
    });
    const [silverStored, deadStored] = await Promise.all([
      Promise.all(silverFiles),
      Promise.all(deadFiles),
    ]);
    context.tell({
      kind: 'derived',
      span: { ...span, upTo },
      derived: {
        silver: silverStored,
        dead: deadStored,
        watermarks: rows.watermarksMicros,
        counts: rows.counts,
        countsByFlag: rows.countsByFlag,
      },
    });
  };

  const commit = async (
    span: Span,
    derived: DerivedSilver,
    context: EffectContext<Message>,
  ): Promise<void> => {
    const lineage = {
      bronzeTable: bronze.tableId,
      bronzeAfter: span.after,
      bronzeUpTo: span.upTo,
      counts: derived.counts,
      countsByFlag: derived.countsByFlag,
    };
    // SW1
    if (derived.dead.length > 0) {
      const expected = versionOrNone(deadCovered);
      await settled(
        deadLetter.commit({
          operation: 'STREAMING UPDATE',
          adds: derived.dead,
          progress: deadIds.map((appId) => ({ appId, expected, next: BigInt(span.upTo) })),
          lineage: { stage: 'dead-letter', ...lineage },
          signal: context.signal,
        }),
      );
      deadCovered = span.upTo;
    }
    const expected = versionOrNone(span.after);
    const watermarks = [...derived.watermarks].map(
      ([partition, micros]): ProgressUpdate => ({
        appId: watermarkAppId(config.name, deps.topic.topicId, partition),
        expected: 'any',
        next: micros,
      }),
    );
    // SW3
    const ledger = STREAM_COUNTERS.map((counter) => {
      const before = totals.get(counter);
      const next = (before ?? 0n) + BigInt(derived.counts[counter] ?? 0);
      return { appId: counterId(counter), expected: before, next };
    });
    const version = await settled(
      silver.commit({
        operation: 'STREAMING UPDATE',
        operationMetrics: {
          numOutputRows: String(derived.counts['silverRows'] ?? 0),
          numAddedFiles: String(derived.silver.length),
        },
        adds: derived.silver,
        progress: [
          ...silverIds.map((appId) => ({ appId, expected, next: BigInt(span.upTo) })),
          ...watermarks,
          ...ledger,
        ],
        guards: [{ appId: editsId, expected: edits }],
        lineage: { stage: 'silver', ...lineage },
        signal: context.signal,
      }),
    );
    totals = new Map(STREAM_COUNTERS.map((counter, i) => [counter, ledger[i]!.next]));
    context.tell({ kind: 'committed', span });
    deps.onCommitted(version, derived.counts);
    await saveHints(version, derived.watermarks);
  };

  const saveHints = async (
    version: number,
    watermarks: ReadonlyMap<number, bigint>,
  ): Promise<void> => {
    const hints: Promise<unknown>[] = [...watermarks.keys()].map((partition) => {
      const appId = watermarkAppId(config.name, deps.topic.topicId, partition);
      const micros = silver.snapshot.progress(appId) ?? 0n;
      return deps.state.setHash(`partition:${partition}`, { watermarkMicros: String(micros) });
    });
    hints.push(
      deps.queue.add('gold', {
        id: `${config.tableName}-silver-v${version}`,
        data: { table: silver.root, version },
      }),
    );
    for (const result of await Promise.allSettled(hints)) {
      if (result.status === 'rejected') {
        deps.logger.warn('a hint could not be saved', errorFields(result.reason));
      }
    }
  };

  return {
    name: 'silver-writer',
    start() {
      thread = new ComputeThread<SilverThreadApi>(
        new URL('./silver-thread.ts', import.meta.url),
        {
          event: config.event,
          late: config.late,
          otherEvents: otherEvents(silver.snapshot.configuration, config.event),
          goldColumns: silverProjection(config.gold, config.event),
        } satisfies SilverThreadData,
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
          return context.tell({ kind: 'head', head: (await bronze.refresh()).version });
        case 'derive':
          return derive(effect.span, context);
        case 'commit':
          return commit(effect.span, effect.derived, context);
        case 'announce':
          return deps.onCovered(effect.covered);
      }
    },
    // SW2
    dispose: () => thread.terminate(),
  };
}

/** Rows of a file as its statistics say; a foreign file without them counts as a full span. */
function rowsOf(file: LiveFile): number {
  if (file.stats === undefined) return SPAN_ROWS;
  return Number(
    (JSON.parse(file.stats) as { readonly numRecords?: number }).numRecords ?? SPAN_ROWS,
  );
}
