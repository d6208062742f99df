/**
 * Shell of the silver writer: reads bronze versions, has rows derived in the silver thread, stores
 * files, and commits dead letters and silver with their progress.
 *
 * Invariants:
 * - SW1 Dead letters of a span are committed before its silver rows, each under its own txn; a crash
 *   between the two leaves dead letters that the next derivation recognises by version (P2, P6). It
 *   takes their schema, not the file's: under another one a row could be in both tables or in none.
 * - SW2 The dedup index holds exactly the ids of committed silver rows plus those of spans under way;
 *   when a commit fails, thread and index are thrown away and rebuilt from the table (P5). A guard on
 *   the count of edits makes a commit fail when rows came to silver by another way.
 * - SW3 Each commit moves the ledger's running totals by what its span held (P4).
 * - SW4 A writer takes each bucket on from that bucket's own txns. Buckets that stand apart, because
 *   their writers did, are brought level one set after another before the stream goes on (P2, P9).
 */
import type { Ambient } from '../../ambient.ts';
import { eventOfAllSchemas, otherEvents } from '../../engine/declared-schema.ts';
import { crashPoint } from '../../crash-points.ts';
import { PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { transferablesOf } from '../../pipeline/columns.ts';
import { silverProjection } from '../../pipeline/gold/projection.ts';
import { EVENT_TIME_TAG } from '../../pipeline/gold/silver-files.ts';
import type { EventConfig, PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  dateText,
  deadLetterAppId,
  deadLetterSchemaAppId,
  type LedgerCounter,
  ledgerAppId,
  schemaMark,
  schemaOfMark,
  silverAppId,
  silverEditsAppId,
  watermarkAppId,
} from '../../pipeline/progress.ts';
import { fingerprintKey } from '../../pipeline/silver/fingerprints.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
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
import { stageJob } from '../stage-writer/stage-job.ts';
import { decideStage, type StageState, startStage } from '../stage-writer/behavior.ts';
import type { Span, StageEffect, StageMessage } from '../stage-writer/messages.ts';
import { DedupArchive } from './dedup-archive.ts';
import type { DedupThreadApi, DedupThreadData } from './dedup-thread.ts';
import { bucketsOf, SHARD_TAG, type Shard, shardTag } from './shard.ts';
import type {
  BronzeInput,
  DerivedRows,
  SilverThreadApi,
  SilverThreadData,
} from './silver-thread.ts';

export interface SilverWriterDependencies {
  readonly config: PipelineConfig;
  readonly shard: Shard;
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

/** Bronze versions: `after` exclusive, `upTo` inclusive. */
type Versions = Pick<Span, 'after' | 'upTo'>;

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
/** A writer that is stopped between a span's two commits has this long for the second. */
const FINISH_MS = 5_000;
/** Totals that the stream moves. */
const STREAM_COUNTERS = [
  'bronzeRows',
  'silverRows',
  'duplicates',
  'conflicts',
  'deadLetters',
] as const satisfies readonly LedgerCounter[];

/** Buckets that stand at the same versions, and are derived and committed together. */
interface BucketSet {
  readonly buckets: readonly number[];
  /** Bronze version that silver covers. */
  covered: number;
  /** Bronze version up to which dead letters are committed; not below `covered` (SW1). */
  deadCovered: number;
  /** Schema version of the dead letters beyond `covered` that were there at the start (SW1). */
  readonly deadSchema: number | undefined;
  /** The dead-letter txns of each bucket as they stand. */
  readonly deadBefore: Map<number, DeadProgress>;
}

interface DeadProgress {
  readonly covered: bigint | undefined;
  /** Undefined in a table from before it was kept. */
  readonly schemaVersion: number | undefined;
}

/** The silver writer of a shard's dedup buckets. */
export function silverWriter(
  deps: SilverWriterDependencies,
): ActorDefinition<State, Message, Effect> {
  const { config, bronze, silver, deadLetter, store, ambient } = deps;
  const { shard } = deps;
  const silverId = (bucket: number): string => silverAppId(config.name, bronze.tableId, bucket);
  const deadId = (bucket: number): string => deadLetterAppId(config.name, bronze.tableId, bucket);
  const deadSchemaId = (bucket: number): string =>
    deadLetterSchemaAppId(config.name, bronze.tableId, bucket);
  let thread: ComputeThread<SilverThreadApi>;
  let archive: DedupArchive;
  let set: BucketSet;
  /** Aborts FINISH_MS after the incarnation's signal. */
  let finishing: AbortController;
  const editsId = silverEditsAppId(config.name, bronze.tableId);
  let edits: bigint | undefined;
  let totals = new Map<LedgerCounter, bigint | undefined>();

  const open = async (context: EffectContext<Message>): Promise<void> => {
    const finish = new AbortController();
    finishing = finish;
    const startFinish = () => ambient.clock.after(FINISH_MS, () => finish.abort(), { unref: true });
    context.signal.addEventListener('abort', startFinish, { once: true });
    const [own, dead] = await Promise.all([silver.refresh(), deadLetter.refresh()]);
    // After silver: a bronze seen before it may end at a version that silver already covers.
    const upstream = await bronze.refresh();
    const sets = bucketSets(
      bucketsOf(shard).map((bucket) => ({
        bucket,
        silver: own.progress(silverId(bucket)),
        dead: dead.progress(deadId(bucket)),
        mark: dead.progress(deadSchemaId(bucket)),
      })),
    );
    const covered = Math.max(...sets.map((some) => some.covered));
    if (covered > upstream.version) {
      throw new PipelineError(
        'corrupt',
        'TM_LOG_CORRUPT',
        `silver covers bronze version ${covered}, but bronze ends at ${upstream.version}`,
        { context: { table: silver.root, covered, head: upstream.version } },
      );
    }
    edits = own.progress(editsId);
    totals = new Map(STREAM_COUNTERS.map((counter) => [counter, own.progress(counterId(counter))]));
    await archive.load(own);
    set = await bringLevel(sets, context);
    context.tell({ kind: 'opened', covered: set.covered, head: upstream.version });
  };

  /** SW4 */
  const bringLevel = async (
    sets: readonly BucketSet[],
    context: EffectContext<Message>,
  ): Promise<BucketSet> => {
    const [only] = sets;
    if (sets.length === 1) return only!;
    const level = Math.max(...sets.map((some) => Math.max(some.covered, some.deadCovered)));
    deps.logger.info('bringing dedup buckets level', { sets: sets.length, bronzeVersion: level });
    for (const some of sets) {
      while (some.covered < level && !context.signal.aborted) {
        const { span, derived } = await derive({ after: some.covered, upTo: level }, some, context);
        await commit(span, derived, some, context);
      }
    }
    return {
      buckets: bucketsOf(shard),
      covered: level,
      deadCovered: level,
      deadSchema: undefined,
      deadBefore: new Map(sets.flatMap(({ deadBefore }) => [...deadBefore])),
    };
  };

  const counterId = (counter: LedgerCounter): string =>
    ledgerAppId(config.name, bronze.tableId, shard.number, counter);

  const readObject = async (key: string): Promise<Uint8Array> => {
    const bytes = await store.get(key);
    if (bytes) return bytes;
    throw new PipelineError('corrupt', 'TM_OBJECT_MISSING', `data file ${key} is gone`, {
      context: { key },
    });
  };

  const readInputs = async (
    span: Versions,
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

  /**
   * SW1: the schema of a span that dead letters are committed of, when it is not the file's.
   * @throws PipelineError invalid when silver does not declare it
   */
  const earlierEvent = (
    { after }: Versions,
    { deadCovered, deadSchema }: BucketSet,
  ): EventConfig | undefined => {
    const own = config.event.schemaVersion;
    if (after >= deadCovered || (deadSchema ?? own) === own) return undefined;
    const declared = otherEvents(silver.snapshot.configuration, config.event);
    const event = declared.find(({ schemaVersion }) => schemaVersion === deadSchema);
    if (event) return event;
    throw new PipelineError(
      'invalid',
      'TM_SCHEMA_MISMATCH',
      `dead letters up to bronze version ${deadCovered} were derived under schema version ` +
        `${deadSchema}, which silver does not declare; run the pipeline file of that version until ` +
        'silver has caught up, then this one again',
      { context: { table: silver.root, schemaVersion: deadSchema, bronzeVersion: deadCovered } },
    );
  };

  const derive = async (
    wanted: Versions,
    from: BucketSet,
    context: EffectContext<Message>,
  ): Promise<{ readonly span: Versions; readonly derived: DerivedSilver }> => {
    const { buckets, deadCovered } = from;
    const earlier = earlierEvent(wanted, from);
    const { inputs, upTo, transfer } = await readInputs(
      earlier ? { ...wanted, upTo: Math.min(wanted.upTo, deadCovered) } : wanted,
    );
    crashPoint('s.upstream.read');
    const owned = buckets.length === config.dedupBuckets ? undefined : new Set(buckets);
    const call = { inputs, deadCovered, buckets: owned, earlierEvent: earlier };
    const rows = await deriveRows(call, transfer);
    crashPoint('s.rows.derived');
    const modifiedMs = Math.round(ambient.clock.nowMs());
    const silverFiles = rows.silver.map(async (file): Promise<NewFile> => {
      const path = dataFilePath(file.dateDays, ambient.ids.id());
      const sizeBytes = file.parquet.byteLength;
      await Promise.all([
        store.put(`${silver.root}/${path}`, file.parquet),
        store.put(fingerprintKey(silver.root, path), file.fingerprints),
      ]);
      crashPoint('s.file.put.acked');
      if (!earlier) deps.goldCache.put(`${silver.root}/${path}`, file.goldBatch);
      return {
        path,
        partitionValues: { _event_date: dateText(file.dateDays) },
        sizeBytes,
        modifiedMs,
        stats: file.stats,
        tags: {
          [EVENT_TIME_TAG]: `${file.eventTimeMin},${file.eventTimeMax}`,
          [SHARD_TAG]: shardTag(shard),
        },
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
    await archive.derived(rows.hotIds, upTo, context.signal);
    return {
      span: { after: wanted.after, upTo },
      derived: {
        silver: silverStored,
        dead: deadStored,
        watermarks: rows.watermarksMicros,
        counts: rows.counts,
        countsByFlag: rows.countsByFlag,
      },
    };
  };

  const deriveRows = async (
    call: Parameters<SilverThreadApi['derive']>[0],
    transfer: ReadonlySet<ArrayBuffer>,
  ): Promise<DerivedRows> => {
    try {
      return await thread.call('derive', call, [...transfer]);
    } catch (thrown) {
      throw await archive.recovery(thrown);
    }
  };

  const commit = async (
    span: Versions,
    derived: DerivedSilver,
    target: BucketSet,
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
      const next = BigInt(span.upTo);
      const { schemaVersion } = config.event;
      const mark = schemaMark(span.upTo, schemaVersion);
      await settled(
        deadLetter.commit({
          operation: 'STREAMING UPDATE',
          adds: derived.dead,
          progress: target.buckets.flatMap((bucket): ProgressUpdate[] => {
            const before = target.deadBefore.get(bucket)!;
            const covered = { appId: deadId(bucket), expected: before.covered, next };
            if (before.schemaVersion === schemaVersion) return [covered];
            return [covered, { appId: deadSchemaId(bucket), expected: 'any', next: mark }];
          }),
          lineage: { stage: 'dead-letter', ...lineage },
          signal: context.signal,
        }),
      );
      for (const bucket of target.buckets) {
        target.deadBefore.set(bucket, { covered: next, schemaVersion });
      }
      target.deadCovered = span.upTo;
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
          ...target.buckets.map((bucket) => ({
            appId: silverId(bucket),
            expected,
            next: BigInt(span.upTo),
          })),
          ...watermarks,
          ...ledger,
        ],
        guards: [{ appId: editsId, expected: edits }],
        lineage: { stage: 'silver', ...lineage },
        signal: derived.dead.length > 0 ? finishing.signal : context.signal,
      }),
    );
    totals = new Map(STREAM_COUNTERS.map((counter, i) => [counter, ledger[i]!.next]));
    target.covered = span.upTo;
    archive.committed(span.upTo, version, derived.silver);
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
    hints.push(deps.queue.add('gold', stageJob(config.tableName, 'silver', version)));
    for (const result of await Promise.allSettled(hints)) {
      if (result.status === 'rejected') {
        deps.logger.warn('a hint could not be saved', errorFields(result.reason));
      }
    }
  };

  return {
    name: `silver-writer/${shard.number}`,
    start() {
      const { event, late, limits } = config;
      thread = new ComputeThread<SilverThreadApi>(
        new URL('./silver-thread.ts', import.meta.url),
        {
          event,
          late,
          otherEvents: otherEvents(silver.snapshot.configuration, event),
          goldColumns: silverProjection(config.gold, event),
          shard,
          headBytesMax: limits.dedupBytes / 2,
        } satisfies SilverThreadData,
        ambient.threads,
      );
      archive = new DedupArchive({
        ...deps,
        memoryBytesMax: limits.dedupBytes,
        silverThread: thread,
        startDedupThread: () =>
          new ComputeThread<DedupThreadApi>(
            new URL('./dedup-thread.ts', import.meta.url),
            {
              event: eventOfAllSchemas(silver.snapshot.configuration, event),
              shard,
            } satisfies DedupThreadData,
            ambient.threads,
          ),
      });
      return startStage();
    },
    decide: decideStage,
    async perform(effect, context) {
      switch (effect.kind) {
        case 'open':
          return open(context);
        case 'look':
          return context.tell({ kind: 'head', head: (await bronze.refresh()).version });
        case 'derive': {
          const { span, derived } = await derive(effect.span, set, context);
          return context.tell({ kind: 'derived', span: { ...effect.span, ...span }, derived });
        }
        case 'commit':
          await commit(effect.span, effect.derived, set, context);
          return context.tell({ kind: 'committed', span: effect.span });
        case 'announce':
          return deps.onCovered(effect.covered);
      }
    },
    // SW2
    async dispose() {
      await Promise.all([archive.close(), thread.terminate()]);
    },
  };
}

/** Puts buckets that stand at the same versions together, the furthest behind first. */
function bucketSets(
  standing: readonly {
    readonly bucket: number;
    readonly silver: bigint | undefined;
    readonly dead: bigint | undefined;
    readonly mark: bigint | undefined;
  }[],
): BucketSet[] {
  const sets = new Map<string, BucketSet>();
  for (const { bucket, silver, dead, mark } of standing) {
    const covered = Number(silver ?? 0n);
    const deadCovered = Math.max(covered, Number(dead ?? 0n));
    const schemaVersion = mark === undefined ? undefined : schemaOfMark(mark);
    const deadSchema = deadCovered > covered ? schemaVersion : undefined;
    const key = `${covered}:${deadCovered}:${deadSchema}`;
    const empty = { buckets: [], covered, deadCovered, deadSchema, deadBefore: new Map() };
    const known: BucketSet = sets.get(key) ?? empty;
    known.deadBefore.set(bucket, { covered: dead, schemaVersion });
    sets.set(key, { ...known, buckets: [...known.buckets, bucket] });
  }
  return [...sets.values()].sort((a, b) => a.covered - b.covered);
}

/** Rows of a file as its statistics say; a foreign file without them counts as a full span. */
function rowsOf(file: LiveFile): number {
  return numRecordsOf(file.stats) ?? SPAN_ROWS;
}
