/**
 * Decisions of silver and gold writers. Pure.
 *
 *   opening ─► open: head ──derive──► ready ──commit──► covered
 *                     (the next span is derived while the one before it is committed)
 *
 * Invariants:
 * - ST1 Spans are contiguous and commit in order; each starts where the one before it ended.
 * - ST2 At most one span is being derived and one derived span waits or commits (P10).
 * - ST3 `covered` moves only when a commit is known (P2); a failure begins again from the table.
 */
import { assert } from '../../errors.ts';
import type { Decision } from '../runtime/actor.ts';
import type { Span, StageEffect, StageMessage } from './messages.ts';

export interface OpenStage<Derived> {
  readonly kind: 'open';
  readonly spanIdNext: number;
  /** Upstream version that the table covers. */
  readonly covered: number;
  /** Upstream version up to which spans were started. */
  readonly started: number;
  readonly head: number;
  readonly looking: boolean;
  /** A wake came while looking: look again. */
  readonly lookAgain: boolean;
  readonly deriving: Span | undefined;
  readonly ready: { readonly span: Span; readonly derived: Derived } | undefined;
  readonly committing: Span | undefined;
}

export type StageState<Derived> = { readonly kind: 'opening' } | OpenStage<Derived>;

type StageDecision<Derived> = Decision<StageState<Derived>, StageEffect<Derived>>;

/** Begins by reading what the table covers. */
export function startStage<Derived>(): StageDecision<Derived> {
  return { state: { kind: 'opening' }, effects: [{ kind: 'open' }] };
}

/** Decides about one message. */
export function decideStage<Derived>(
  state: StageState<Derived>,
  message: StageMessage<Derived>,
): StageDecision<Derived> {
  if (state.kind === 'opening') {
    if (message.kind !== 'opened') return { state, effects: [] };
    const { covered, head } = message;
    return advance(
      {
        kind: 'open',
        spanIdNext: 1,
        covered,
        started: covered,
        head,
        looking: false,
        lookAgain: false,
        deriving: undefined,
        ready: undefined,
        committing: undefined,
      },
      [{ kind: 'announce', covered }],
    );
  }
  switch (message.kind) {
    case 'opened':
      return { state, effects: [] };
    case 'wake':
      if (state.looking) return { state: { ...state, lookAgain: true }, effects: [] };
      return { state: { ...state, looking: true }, effects: [{ kind: 'look' }] };
    case 'head': {
      const head = Math.max(state.head, message.head);
      const looked = { ...state, head, looking: state.lookAgain, lookAgain: false };
      return advance(looked, state.lookAgain ? [{ kind: 'look' }] : []);
    }
    case 'derived': {
      assert(state.deriving?.spanId === message.span.spanId, 'the span was being derived');
      const { span, derived } = message;
      return advance(
        { ...state, deriving: undefined, ready: { span, derived }, started: span.upTo },
        [],
      );
    }
    case 'committed': {
      assert(state.committing?.spanId === message.span.spanId, 'the span was being committed');
      const covered = message.span.upTo;
      return advance({ ...state, committing: undefined, covered }, [{ kind: 'announce', covered }]);
    }
  }
}

function advance<Derived>(
  state: OpenStage<Derived>,
  before: readonly StageEffect<Derived>[],
): StageDecision<Derived> {
  const effects = [...before];
  let next = state;
  if (next.ready && !next.committing) {
    effects.push({ kind: 'commit', ...next.ready });
    next = { ...next, committing: next.ready.span, ready: undefined };
  }
  // ST2
  if (!next.deriving && !next.ready && next.head > next.started) {
    const span = { spanId: next.spanIdNext, after: next.started, upTo: next.head };
    effects.push({ kind: 'derive', span });
    next = { ...next, spanIdNext: span.spanId + 1, deriving: span };
  }
  return { state: next, effects };
}
