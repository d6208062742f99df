/**
 * Vocabulary that silver and gold writers share: each follows an upstream table version by version,
 * derives rows from spans of versions, and commits them with its progress.
 */

/** A span of upstream versions that one commit covers. */
export interface Span {
  readonly spanId: number;
  /** Exclusive. */
  readonly after: number;
  /** Inclusive. */
  readonly upTo: number;
}

export type StageCommand =
  /** There may be something new upstream: a job, a timer, a commit in the same process. */
  { readonly kind: 'wake' };

export type StageEvent<Derived> =
  | { readonly kind: 'opened'; readonly covered: number; readonly head: number }
  | { readonly kind: 'head'; readonly head: number }
  /** `span` may end earlier than the one asked for, when that was too much for one commit. */
  | { readonly kind: 'derived'; readonly span: Span; readonly derived: Derived }
  | { readonly kind: 'committed'; readonly span: Span };

export type StageMessage<Derived> = StageCommand | StageEvent<Derived>;

export type StageEffect<Derived> =
  /** Read what the table covers and prepare what deriving needs. */
  | { readonly kind: 'open' }
  /** Ask the upstream table for its head. */
  | { readonly kind: 'look' }
  | { readonly kind: 'derive'; readonly span: Span }
  | { readonly kind: 'commit'; readonly span: Span; readonly derived: Derived }
  /** `covered` moved: complete the jobs that waited for it. */
  | { readonly kind: 'announce'; readonly covered: number };
