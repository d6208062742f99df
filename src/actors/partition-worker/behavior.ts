/**
 * Decisions of a partition worker. Pure.
 *
 *   recovering ─► running ⇄ paused          running | paused ─(drain)─► draining ─► drained
 *
 * Invariants:
 * - PW1 The start offset is bronze's own txn, never Redis and never Kafka's group offset (P1).
 * - PW2 One fetch at a time, and each starts where the chunk before it ended: nothing is skipped.
 * - PW4 A partition is said to be paused once the fetch under way has come back: nothing newer is taken.
 * - PW3 A partition drains only when bronze has committed everything it fetched.
 * - PW5 What was asked of a partition outlives a crash: it comes back paused, or is drained at once.
 */
import { PipelineError } from '../../errors.ts';
import type { Decision } from '../runtime/actor.ts';
import type { PartitionEffect, PartitionMessage } from './messages.ts';

interface Progress {
  /** Exclusive: everything below is in the bronze table. */
  readonly committed: bigint;
  /** Exclusive: everything below was fetched. */
  readonly fetched: bigint;
  /** Exclusive end of what the source had when last asked. */
  readonly latest: bigint;
  readonly fetching: boolean;
}

export type PartitionState =
  | { readonly kind: 'recovering'; readonly resumeAs: 'running' | 'paused' }
  | ({ readonly kind: 'running' } & Progress)
  | ({ readonly kind: 'paused' } & Progress)
  | ({ readonly kind: 'draining' } & Progress)
  | { readonly kind: 'drained'; readonly committed: bigint | undefined };

type PartitionDecision = Decision<PartitionState, PartitionEffect>;

/**
 * Begins by reading how far bronze is.
 * @param before state in which the incarnation before this one crashed (PW5)
 */
export function startPartition(before?: PartitionState): PartitionDecision {
  if (before?.kind === 'draining' || before?.kind === 'drained') {
    return { state: { kind: 'drained', committed: undefined }, effects: [] };
  }
  const resumeAs =
    before?.kind === 'paused'
      ? 'paused'
      : before?.kind === 'recovering'
        ? before.resumeAs
        : 'running';
  return { state: { kind: 'recovering', resumeAs }, effects: [{ kind: 'recover' }] };
}

/** Decides about one message. */
export function decidePartition(
  state: PartitionState,
  message: PartitionMessage,
): PartitionDecision {
  if (state.kind === 'drained') return { state, effects: [] };
  switch (message.kind) {
    case 'fenced':
      throw new PipelineError('fenced', 'TM_COMMIT_FENCED', 'another worker owns the partition');
    case 'rewind':
      throw new PipelineError(
        'unavailable',
        'TM_SERVICE_UNAVAILABLE',
        'the bronze writer restarted; beginning again from the table',
      );
    case 'recovered':
      return recovered(state, message);
    case 'fetched':
    case 'idle':
      return fetched(state, message);
    case 'committed':
      if (state.kind === 'recovering') return { state, effects: [] };
      return drainedOr({ ...state, committed: message.next }, [{ kind: 'report' }]);
    case 'pause':
      if (state.kind === 'recovering')
        return { state: { ...state, resumeAs: 'paused' }, effects: [] };
      if (state.kind !== 'running') return { state, effects: [] };
      // PW4
      return {
        state: { ...state, kind: 'paused' },
        effects: state.fetching ? [] : [{ kind: 'report' }],
      };
    case 'resume':
      if (state.kind === 'recovering')
        return { state: { ...state, resumeAs: 'running' }, effects: [] };
      if (state.kind !== 'paused') return { state, effects: [] };
      return fetchNext({ ...state, kind: 'running' }, 0, [{ kind: 'report' }]);
    case 'drain':
      if (state.kind === 'recovering') {
        return { state: { kind: 'drained', committed: undefined }, effects: [] };
      }
      return drainedOr({ ...state, kind: 'draining' }, [{ kind: 'flush' }, { kind: 'report' }]);
  }
}

function recovered(
  state: PartitionState,
  message: Extract<PartitionMessage, { kind: 'recovered' }>,
): PartitionDecision {
  if (state.kind !== 'recovering') return { state, effects: [] };
  const progress = {
    committed: message.next,
    fetched: message.next,
    latest: message.latest,
    fetching: false,
  };
  const attach: PartitionEffect[] = [
    { kind: 'attach', expected: message.expected },
    { kind: 'report' },
  ];
  if (state.resumeAs === 'paused')
    return { state: { kind: 'paused', ...progress }, effects: attach };
  return fetchNext({ kind: 'running', ...progress }, 0, attach);
}

function fetched(
  state: Exclude<PartitionState, { kind: 'drained' }>,
  message: Extract<PartitionMessage, { kind: 'fetched' | 'idle' }>,
): PartitionDecision {
  if (state.kind === 'recovering') return { state, effects: [] };
  const effects: PartitionEffect[] = [];
  let next = { ...state, fetching: false, latest: message.latest };
  let bytes = 0;
  if (message.kind === 'fetched') {
    effects.push({ kind: 'append', chunk: message.chunk });
    next = { ...next, fetched: message.chunk.next };
    bytes = message.chunk.bytes;
  }
  if (next.kind === 'running') return fetchNext(next, bytes, effects);
  if (next.kind === 'draining') return drainedOr(next, [...effects, { kind: 'flush' }]);
  return { state: next, effects: [...effects, { kind: 'report' }] };
}

function fetchNext(
  state: Extract<PartitionState, { kind: 'running' }>,
  recentBytes: number,
  effects: readonly PartitionEffect[],
): PartitionDecision {
  if (state.fetching) return { state, effects };
  return {
    state: { ...state, fetching: true },
    effects: [...effects, { kind: 'fetch', offset: state.fetched, recentBytes }],
  };
}

/** PW3 */
function drainedOr(
  state: Extract<PartitionState, { kind: 'running' | 'paused' | 'draining' }>,
  effects: readonly PartitionEffect[],
): PartitionDecision {
  if (state.kind === 'draining' && !state.fetching && state.committed === state.fetched) {
    return { state: { kind: 'drained', committed: state.committed }, effects };
  }
  return { state, effects };
}
