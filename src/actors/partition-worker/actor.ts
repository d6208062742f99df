/**
 * Shell of a partition worker: fetches raw record batches, has them decoded in the worker's bronze
 * thread, and hands the chunks to the bronze writer.
 */
import type { Ambient } from '../../ambient.ts';
import { crashPoint } from '../../crash-points.ts';
import { PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { bronzeAppId, bronzeAppPrefix } from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { EventSource, PartitionReader, TopicInfo } from '../../storage/source/event-source.ts';
import type { StateStore } from '../../storage/state/state-store.ts';
import type { BronzeThreadApi } from '../bronze-writer/bronze-thread.ts';
import type { BronzeCommand } from '../bronze-writer/messages.ts';
import type { ByteBudget } from '../byte-budget.ts';
import type { ActorDefinition, EffectContext } from '../runtime/actor.ts';
import type { ComputeThread } from '../runtime/compute-thread.ts';
import { decidePartition, type PartitionState, startPartition } from './behavior.ts';
import type { PartitionEffect, PartitionMessage } from './messages.ts';

export interface PartitionWorkerDependencies {
  readonly workerId: string;
  readonly partition: number;
  readonly config: PipelineConfig;
  readonly topic: TopicInfo;
  readonly table: DeltaTable;
  readonly source: EventSource;
  readonly state: StateStore;
  readonly budget: ByteBudget;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly bronzeThread: () => ComputeThread<BronzeThreadApi>;
  readonly tellBronze: (command: BronzeCommand) => void;
  /** Unique within the bronze thread. */
  readonly chunkIdNext: () => number;
}

/** Bytes asked for in one fetch: large enough to amortise the round trip, small enough to share memory. */
const FETCH_BYTES = 4 * 1024 * 1024;
/** How long an empty partition's fetch waits at the broker. */
const FETCH_WAIT_MS = 500;
/** Below this, the next fetch pauses first, so that a trickle does not become a fetch per event. */
const SMALL_FETCH_BYTES = 128 * 1024;

/** The worker of one partition. */
export function partitionWorker(
  deps: PartitionWorkerDependencies,
): ActorDefinition<PartitionState, PartitionMessage, PartitionEffect> {
  const { config, partition, topic, ambient, logger } = deps;
  const appId = bronzeAppId(config.name, topic.topic, topic.topicId, partition);
  const trickleDelayMs = Math.min(100, config.commit.maxLatencyMs / 8);
  let reader: PartitionReader | undefined;
  let current: PartitionState | undefined;

  const recover = async (context: EffectContext<PartitionMessage>): Promise<void> => {
    const snapshot = await deps.table.refresh();
    crashPoint('w.snapshot.read');
    refuseRecreatedTopic(snapshot.progressEntries());
    const expected = snapshot.progress(appId);
    const { earliest, latest } = await deps.source.offsets(partition);
    const next = expected ?? earliest;
    if (next < earliest || next > latest) {
      // The last commit of the owner before may have landed in the meantime.
      const newest = await deps.table.refresh();
      if (newest.progress(appId) !== expected) return recover(context);
      refuseOutOfRange(next, earliest, latest);
    }
    reader = await deps.source.openPartition(partition);
    context.tell({ kind: 'recovered', expected, next, latest });
  };

  /** P8: progress under another topic id means that the topic was deleted and made anew. */
  const refuseRecreatedTopic = (entries: Iterable<readonly [string, bigint]>): void => {
    const prefix = bronzeAppPrefix(config.name, topic.topic);
    for (const [id] of entries) {
      if (id.startsWith(prefix) && !id.startsWith(`${prefix}${topic.topicId}:`)) {
        throw new PipelineError(
          'invalid',
          'TM_TOPIC_RECREATED',
          `topic ${topic.topic} was deleted and created again since bronze last read it; ` +
            'give the pipeline a new name to read the new topic into new tables',
          { context: { topic: topic.topic, topicId: topic.topicId } },
        );
      }
    }
  };

  const refuseOutOfRange = (offset: bigint, earliest: bigint, latest: bigint): never => {
    const lost =
      offset < earliest
        ? `offsets ${offset} to ${earliest - 1n} were deleted`
        : 'the log was truncated';
    throw new PipelineError(
      'invalid',
      'TM_OFFSET_OUT_OF_RANGE',
      `partition ${partition}: next offset ${offset} is outside [${earliest}, ${latest}]: ${lost} before Tidemark read them`,
      { context: { partition, offset, earliest, latest } },
    );
  };

  const fetch = async (
    offset: bigint,
    recentBytes: number,
    context: EffectContext<PartitionMessage>,
  ): Promise<void> => {
    const { signal } = context;
    if (recentBytes < SMALL_FETCH_BYTES) await ambient.clock.sleep(trickleDelayMs, signal);
    const grant = await deps.budget.acquire(FETCH_BYTES, signal);
    if (!grant) return;
    try {
      const result = await reader!.fetch({
        offset,
        maxBytes: FETCH_BYTES,
        maxWaitMs: FETCH_WAIT_MS,
        signal,
      });
      if (result.kind === 'out-of-range') {
        return refuseOutOfRange(offset, result.earliest, result.latest);
      }
      if (signal.aborted || result.bytes.byteLength === 0) {
        grant.release();
        return context.tell({ kind: 'idle', latest: result.latest });
      }
      crashPoint('w.fetch.received');
      grant.resize(Math.max(result.bytes.byteLength, 1));
      const chunkId = deps.chunkIdNext();
      const thread = deps.bronzeThread();
      const decoded = await thread.call(
        'decode',
        { chunkId, partition, fromOffset: offset, bytes: result.bytes, aborted: result.aborted },
        [result.bytes.buffer as ArrayBuffer],
      );
      crashPoint('w.decode.done');
      if (signal.aborted || decoded.next === offset) {
        grant.release();
        await thread.call('release', { chunkIds: [chunkId] });
        return context.tell({ kind: 'idle', latest: result.latest });
      }
      grant.resize(decoded.bytes);
      const { next, rows, bytes } = decoded;
      const chunk = { chunkId, partition, from: offset, next, rows, bytes, grant };
      context.tell({ kind: 'fetched', chunk, latest: result.latest });
    } catch (thrown) {
      grant.release();
      throw thrown;
    }
  };

  const report = async (): Promise<void> => {
    if (current === undefined) return;
    const progress =
      'committed' in current && current.committed !== undefined
        ? { nextOffset: String(current.committed) }
        : {};
    const latest = 'latest' in current ? { endOffset: String(current.latest) } : {};
    try {
      await deps.state.setHash(`partition:${partition}`, {
        worker: deps.workerId,
        state: current.kind,
        ...progress,
        ...latest,
      });
    } catch (thrown) {
      logger.warn('a hint could not be saved', errorFields(thrown));
    }
  };

  return {
    name: `partition/${partition}`,
    start() {
      const decision = startPartition(current);
      current = decision.state;
      return decision;
    },
    decide(state, message) {
      const decision = decidePartition(state, message);
      current = decision.state;
      return decision;
    },
    async perform(effect, context) {
      switch (effect.kind) {
        case 'recover':
          return recover(context);
        case 'attach':
          return deps.tellBronze({ kind: 'attach', partition, expected: effect.expected });
        case 'fetch':
          return fetch(effect.offset, effect.recentBytes, context);
        case 'append':
          return deps.tellBronze({ kind: 'append', chunk: effect.chunk });
        case 'flush':
          return deps.tellBronze({ kind: 'flush' });
        case 'report':
          return report();
      }
    },
    isDone: (state) => state.kind === 'drained',
    async dispose() {
      await reader?.close();
      reader = undefined;
    },
  };
}
