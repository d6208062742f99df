/**
 * Shell of the bronze writer: runs the effects that behavior.ts decides on, through the ports.
 */
import type { Ambient } from '../../ambient.ts';
import { crashPoint } from '../../crash-points.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { COVERAGE_TAG } from '../../pipeline/bronze.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { bronzeAppId, dateText } from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { NewFile } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import type { WorkQueue } from '../../storage/queue/work-queue.ts';
import type { EventSource, TopicInfo } from '../../storage/source/event-source.ts';
import type { StateStore } from '../../storage/state/state-store.ts';
import type { BatchCache } from '../batch-cache.ts';
import { dataFilePath } from '../file-settings.ts';
import type { PartitionCommand } from '../partition-worker/messages.ts';
import type { ActorDefinition, EffectContext } from '../runtime/actor.ts';
import { ComputeThread } from '../runtime/compute-thread.ts';
import { stageJob } from '../stage-writer/stage-job.ts';
import { type BronzeState, decideBronze, initialBronzeState } from './behavior.ts';
import type { BronzeThreadApi, BronzeThreadData } from './bronze-thread.ts';
import type { Batch, BronzeEffect, BronzeMessage, ChunkRef } from './messages.ts';

export interface BronzeWriterDependencies {
  readonly workerId: string;
  readonly config: PipelineConfig;
  readonly topic: TopicInfo;
  readonly table: DeltaTable;
  readonly store: ObjectStore;
  readonly state: StateStore;
  readonly queue: WorkQueue;
  readonly source: EventSource;
  readonly cache: BatchCache;
  readonly ambient: Ambient;
  readonly logger: Logger;
  /** Reaches the worker of a partition of this group. */
  readonly tellPartition: (partition: number, command: PartitionCommand) => void;
  readonly tellAllPartitions: (command: PartitionCommand) => void;
  /** Hands the thread of each new incarnation to the partition workers, which decode in it. */
  readonly onThread: (thread: ComputeThread<BronzeThreadApi>) => void;
  readonly onCommitted: (version: number, rows: number) => void;
}

/** Records inflate to at most this many times a record's bound: a guard against compression bombs. */
const INFLATION_MAX = 16;

/** The bronze writer of one worker. */
export function bronzeWriter(
  deps: BronzeWriterDependencies,
): ActorDefinition<BronzeState, BronzeMessage, BronzeEffect> {
  const { config, table, ambient } = deps;
  const limits = {
    rowsMax: config.commit.maxRows,
    bytesMax: config.commit.maxBytes,
    sealedMax: 2,
  };
  let thread: ComputeThread<BronzeThreadApi>;
  let held = new Set<ChunkRef>();

  const release = async (chunks: readonly ChunkRef[]): Promise<void> => {
    for (const chunk of chunks) {
      chunk.grant.release();
      held.delete(chunk);
    }
    await thread.call('release', { chunkIds: chunks.map(({ chunkId }) => chunkId) });
  };

  const encode = async (batch: Batch, context: EffectContext<BronzeMessage>): Promise<void> => {
    crashPoint('w.batch.sealed');
    const nowMs = ambient.clock.nowMs();
    const { files, coverage } = await thread.call('encode', {
      chunkIds: batch.chunks.map(({ chunkId }) => chunkId),
      ingestedAtMicros: BigInt(Math.round(nowMs)) * 1000n,
    });
    crashPoint('w.parquet.encoded');
    const stored = await Promise.all(
      files.map(async (file, index): Promise<NewFile> => {
        const path = dataFilePath(file.dateDays, ambient.ids.id());
        const key = `${table.root}/${path}`;
        const sizeBytes = file.parquet.byteLength;
        crashPoint('w.file.put.sent');
        await deps.store.put(key, file.parquet);
        crashPoint('w.file.put.acked');
        deps.cache.put(key, file.batch);
        return {
          path,
          partitionValues: { _event_date: dateText(file.dateDays) },
          sizeBytes,
          modifiedMs: Math.round(nowMs),
          stats: file.stats,
          // One file of the commit carries what the whole commit covers.
          ...(index === 0 ? { tags: { [COVERAGE_TAG]: coverage } } : {}),
        };
      }),
    );
    context.tell({ kind: 'uploaded', batchId: batch.batchId, files: stored });
  };

  const appIdOf = (partition: number): string =>
    bronzeAppId(config.name, deps.topic.topic, deps.topic.topicId, partition);

  const commit = async (
    batch: Batch,
    files: readonly NewFile[],
    context: EffectContext<BronzeMessage>,
  ): Promise<void> => {
    const outcome = await table.commit({
      operation: 'STREAMING UPDATE',
      operationParameters: { outputMode: 'Append', worker: deps.workerId },
      operationMetrics: { numOutputRows: String(batch.rows), numAddedFiles: String(files.length) },
      adds: files,
      progress: batch.progress.map(({ partition, expected, next }) => ({
        appId: appIdOf(partition),
        expected,
        next,
      })),
      lineage: {
        stage: 'bronze',
        topic: deps.topic.topic,
        topicId: deps.topic.topicId,
        worker: deps.workerId,
        rows: batch.rows,
        partitions: batch.progress.map(({ partition, expected, next }) => ({
          partition,
          from: expected === undefined ? null : String(expected),
          next: String(next),
        })),
      },
      signal: context.signal,
    });
    const fencedPartition =
      outcome.kind === 'fenced'
        ? batch.progress.find(({ partition }) => appIdOf(partition) === outcome.appId)?.partition
        : undefined;
    context.tell({ kind: 'commit-settled', batchId: batch.batchId, outcome, fencedPartition });
  };

  /** For lag tools only; a broker that makes its offsets topic just now will be told the next time. */
  const reportProgress = async (batch: Batch): Promise<void> => {
    try {
      const nexts = batch.progress.map(({ partition, next }) => [partition, next] as const);
      await deps.source.reportProgress(new Map(nexts));
      crashPoint('w.kafka.offsetcommit');
    } catch (thrown) {
      deps.logger.info('group offsets could not be reported', errorFields(thrown));
    }
  };

  /** Steps 4 to 6 of the crash sequence: hints, whose failure only costs time. */
  const acknowledge = async (batch: Batch, version: number): Promise<void> => {
    await release(batch.chunks);
    for (const { partition, next } of batch.progress) {
      deps.tellPartition(partition, { kind: 'committed', next, version });
    }
    deps.onCommitted(version, batch.rows);
    const hints: Promise<unknown>[] = batch.progress.map(({ partition, next }) =>
      deps.state
        .setHash(`partition:${partition}`, {
          nextOffset: String(next),
          worker: deps.workerId,
          bronzeVersion: String(version),
          committedAtMs: String(Math.round(ambient.clock.nowMs())),
        })
        .then(() => crashPoint('w.redis.offset.set')),
    );
    hints.push(
      deps.queue
        .add('silver', stageJob(config.tableName, 'bronze', version))
        .then(() => crashPoint('w.queue.added')),
    );
    hints.push(reportProgress(batch));
    for (const result of await Promise.allSettled(hints)) {
      if (result.status === 'rejected') {
        deps.logger.warn('a hint could not be saved', errorFields(result.reason));
      }
    }
  };

  return {
    name: `bronze-writer/${deps.workerId}`,
    start() {
      thread = new ComputeThread<BronzeThreadApi>(
        new URL('./bronze-thread.ts', import.meta.url),
        {
          topic: deps.topic.topic,
          maxRecordBytes: config.source.maxRecordBytes,
          maxInflatedBytes: config.source.maxRecordBytes * INFLATION_MAX,
        } satisfies BronzeThreadData,
        ambient.threads,
      );
      held = new Set();
      deps.onThread(thread);
      deps.tellAllPartitions({ kind: 'rewind' });
      return { state: initialBronzeState(), effects: [{ kind: 'watch-thread' }] };
    },
    decide(state, message) {
      if (message.kind === 'append') held.add(message.chunk);
      return decideBronze(state, message, limits);
    },
    async perform(effect, context) {
      switch (effect.kind) {
        case 'watch-thread':
          return thread.watch(context.signal);
        case 'start-latency':
          await ambient.clock.sleep(config.commit.maxLatencyMs, context.signal);
          return context.tell({ kind: 'latency-elapsed', batchId: effect.batchId });
        case 'encode':
          return encode(effect.batch, context);
        case 'commit':
          return commit(effect.batch, effect.files, context);
        case 'acknowledge':
          return acknowledge(effect.batch, effect.version);
        case 'drop':
          return release(effect.chunks);
        case 'fence':
          // The partition's own worker may be gone already: this line is what tells of the attempt.
          deps.logger.warn('a commit was fenced: another worker owns the partition', {
            partition: effect.partition,
          });
          return deps.tellPartition(effect.partition, { kind: 'fenced' });
      }
    },
    async dispose() {
      for (const chunk of held) chunk.grant.release();
      held.clear();
      await thread.terminate();
    },
  };
}
