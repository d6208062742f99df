/**
 * Decisions of the bronze writer. Pure.
 *
 *   append ─► open ──(latency | rows | bytes | flush)──► sealed: encoding ─► uploaded ─► committing ─► acknowledged
 *                                                          └──── at most `sealedMax` at a time ────┘
 *
 * Invariants:
 * - BW1 Per partition, sealed batches are contiguous: each expects the txn that the one before it sets (P2).
 * - BW2 Commits happen in the order of sealing, one at a time.
 * - BW3 Nothing is acknowledged (Redis, queue, Kafka, memory) before its commit is known (S3, P3).
 * - BW4 At most `sealedMax` batches are sealed and uncommitted; beyond that the open batch grows until
 *   the byte budget stops the fetches (P10).
 * - BW5 A partition that lost its fence is taken out of the batch, which is then encoded again; the others go on.
 */
import { assert, PipelineError } from '../../errors.ts';
import type { NewFile } from '../../storage/delta/transaction.ts';
import type { Decision } from '../runtime/actor.ts';
import type { Batch, BatchProgress, BronzeEffect, BronzeMessage, ChunkRef } from './messages.ts';

export interface BronzeLimits {
  readonly rowsMax: number;
  readonly bytesMax: number;
  readonly sealedMax: number;
}

type SealedPhase =
  | { readonly kind: 'encoding' }
  | { readonly kind: 'uploaded'; readonly files: readonly NewFile[] }
  | { readonly kind: 'committing' };

interface Sealed {
  readonly batch: Batch;
  readonly phase: SealedPhase;
}

export interface BronzeState {
  readonly batchIdNext: number;
  /** Txn that the next batch of each attached partition must expect. */
  readonly tails: ReadonlyMap<number, bigint | undefined>;
  readonly open: readonly ChunkRef[];
  /** The open batch is over-age or a flush was asked for: seal as soon as BW4 allows. */
  readonly sealDue: boolean;
  /** In order of sealing. */
  readonly sealed: readonly Sealed[];
}

type BronzeDecision = Decision<BronzeState, BronzeEffect>;

/** A writer without partitions. */
export function initialBronzeState(): BronzeState {
  return { batchIdNext: 1, tails: new Map(), open: [], sealDue: false, sealed: [] };
}

/** Decides about one message. */
export function decideBronze(
  state: BronzeState,
  message: BronzeMessage,
  limits: BronzeLimits,
): BronzeDecision {
  switch (message.kind) {
    case 'attach':
      return attach(state, message.partition, message.expected);
    case 'append':
      return sealIfDue(append(state, message.chunk), limits);
    case 'flush':
      return sealIfDue(
        { state: { ...state, sealDue: state.open.length > 0 }, effects: [] },
        limits,
      );
    case 'latency-elapsed': {
      const isOpen = message.batchId === state.batchIdNext && state.open.length > 0;
      return sealIfDue(
        { state: { ...state, sealDue: state.sealDue || isOpen }, effects: [] },
        limits,
      );
    }
    case 'uploaded': {
      const sealed = state.sealed.map((one) =>
        one.batch.batchId === message.batchId
          ? { ...one, phase: { kind: 'uploaded', files: message.files } as const }
          : one,
      );
      return commitFirst({ state: { ...state, sealed }, effects: [] });
    }
    case 'commit-settled':
      return settle(state, message, limits);
  }
}

function attach(
  state: BronzeState,
  partition: number,
  expected: bigint | undefined,
): BronzeDecision {
  const dropped = state.open.filter((chunk) => chunk.partition === partition);
  const open = state.open.filter((chunk) => chunk.partition !== partition);
  const tails = new Map(state.tails).set(partition, expected);
  return {
    state: { ...state, tails, open, sealDue: state.sealDue && open.length > 0 },
    effects: dropped.length > 0 ? [{ kind: 'drop', chunks: dropped }] : [],
  };
}

function append(state: BronzeState, chunk: ChunkRef): BronzeDecision {
  // Left over from before this writer restarted; the partition begins again from the table.
  if (!state.tails.has(chunk.partition)) {
    return { state, effects: [{ kind: 'drop', chunks: [chunk] }] };
  }
  const effects: BronzeEffect[] =
    state.open.length === 0 ? [{ kind: 'start-latency', batchId: state.batchIdNext }] : [];
  return { state: { ...state, open: [...state.open, chunk] }, effects };
}

function sealIfDue(decision: BronzeDecision, limits: BronzeLimits): BronzeDecision {
  const { state, effects } = decision;
  if (state.open.length === 0 || state.sealed.length >= limits.sealedMax) return decision;
  const rows = state.open.reduce((sum, chunk) => sum + chunk.rows, 0);
  const bytes = state.open.reduce((sum, chunk) => sum + chunk.bytes, 0);
  if (!state.sealDue && rows < limits.rowsMax && bytes < limits.bytesMax) return decision;
  const { progress, tails } = progressOf(state.open, state.tails);
  const batch: Batch = { batchId: state.batchIdNext, chunks: state.open, progress, rows };
  return {
    state: {
      batchIdNext: state.batchIdNext + 1,
      tails,
      open: [],
      sealDue: false,
      sealed: [...state.sealed, { batch, phase: { kind: 'encoding' } }],
    },
    effects: [...effects, { kind: 'encode', batch }],
  };
}

/** BW1: chunks of a partition follow each other; the first continues from the partition's tail. */
function progressOf(
  chunks: readonly ChunkRef[],
  before: ReadonlyMap<number, bigint | undefined>,
): { progress: BatchProgress[]; tails: ReadonlyMap<number, bigint | undefined> } {
  const tails = new Map(before);
  const nexts = new Map<number, bigint>();
  for (const { partition, from, next } of chunks) {
    const last = nexts.get(partition) ?? tails.get(partition);
    assert(last === undefined || last === from, 'chunks of a partition are contiguous', {
      partition,
      from,
      last,
    });
    nexts.set(partition, next);
  }
  const progress = [...nexts].map(([partition, next]) => ({
    partition,
    expected: tails.get(partition),
    next,
  }));
  for (const [partition, next] of nexts) tails.set(partition, next);
  return { progress, tails };
}

function commitFirst(decision: BronzeDecision): BronzeDecision {
  const [first, ...rest] = decision.state.sealed;
  if (first?.phase.kind !== 'uploaded') return decision;
  return {
    state: {
      ...decision.state,
      sealed: [{ batch: first.batch, phase: { kind: 'committing' } }, ...rest],
    },
    effects: [
      ...decision.effects,
      { kind: 'commit', batch: first.batch, files: first.phase.files },
    ],
  };
}

function settle(
  state: BronzeState,
  message: Extract<BronzeMessage, { kind: 'commit-settled' }>,
  limits: BronzeLimits,
): BronzeDecision {
  const [first, ...rest] = state.sealed;
  assert(first?.batch.batchId === message.batchId, 'commits settle in order', {
    batchId: message.batchId,
  });
  const { outcome } = message;
  switch (outcome.kind) {
    case 'committed': {
      const effect: BronzeEffect = {
        kind: 'acknowledge',
        batch: first.batch,
        version: outcome.version,
      };
      const next = commitFirst({ state: { ...state, sealed: rest }, effects: [effect] });
      return sealIfDue(next, limits);
    }
    case 'fenced': {
      const partition = message.fencedPartition;
      assert(partition !== undefined, 'a fenced commit names its partition');
      return sealIfDue(withoutPartition(state, first.batch, partition), limits);
    }
    case 'conflict':
      throw new PipelineError(
        'unavailable',
        'TM_COMMIT_FENCED',
        `bronze commit conflicts: ${outcome.reason}`,
      );
    case 'unknown':
      throw new PipelineError('unavailable', 'TM_COMMIT_UNKNOWN', 'bronze commit is undecided', {
        context: { version: outcome.version },
      });
  }
}

/** BW5 */
function withoutPartition(state: BronzeState, batch: Batch, partition: number): BronzeDecision {
  const lost = batch.chunks.filter((chunk) => chunk.partition === partition);
  const kept = batch.chunks.filter((chunk) => chunk.partition !== partition);
  const effects: BronzeEffect[] = [
    { kind: 'fence', partition },
    { kind: 'drop', chunks: lost },
  ];
  const rest = state.sealed.slice(1);
  if (kept.length === 0) return commitFirst({ state: { ...state, sealed: rest }, effects });
  const smaller: Batch = {
    batchId: batch.batchId,
    chunks: kept,
    progress: batch.progress.filter((one) => one.partition !== partition),
    rows: kept.reduce((sum, chunk) => sum + chunk.rows, 0),
  };
  return {
    state: { ...state, sealed: [{ batch: smaller, phase: { kind: 'encoding' } }, ...rest] },
    effects: [...effects, { kind: 'encode', batch: smaller }],
  };
}
