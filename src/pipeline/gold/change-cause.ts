/**
 * Why a reconciliation changed a window, decided from evidence: the rows that silver gained and lost
 * since the version its gold was made from, and the operations that did it. Pure.
 */

/** In the words of the report table. */
export type ChangeCause =
  /** Events that came late, after the window's gold was made. */
  | 'late'
  /** Gold had counted rows that silver holds no more, or holds once. */
  | 'duplicate_removed'
  /** Dead letters that became events by a retry. */
  | 'dead_letter_retried'
  /** Rows were replaced under another schema. */
  | 'schema_replay'
  /** Events that came in time, or were put back by a replay, and that gold did not have yet. */
  | 'missed_by_streaming'
  /** None of these: a restored table, a measure that was added. */
  | 'revised';

/** Rows by whether they were flagged late. */
export interface LateCounts {
  readonly late: number;
  readonly onTime: number;
}

/** What is known of one window and group. */
export interface ChangeEvidence {
  /** Rows in silver now that were not there, less those that went. */
  readonly gained: LateCounts;
  /** Of the rows that came: by a retry of dead letters, by a replay. */
  readonly retried: LateCounts;
  readonly replayed: LateCounts;
  /** Operations since then that took rows of the window's date away. */
  readonly wasRebuilt: boolean;
  readonly wasRestored: boolean;
  /** Rows by the aggregate's own count, when it has one. */
  readonly events: { readonly before: bigint; readonly after: bigint } | undefined;
}

/** The cause that explains most of a window's change. */
export function causeOf(evidence: ChangeEvidence): ChangeCause {
  const { gained, retried, replayed, events } = evidence;
  if (evidence.wasRebuilt) return 'schema_replay';
  if (evidence.wasRestored) return 'revised';
  const rows: readonly (readonly [ChangeCause, number])[] = [
    ['dead_letter_retried', retried.late + retried.onTime],
    ['late', gained.late - retried.late - replayed.late],
    ['missed_by_streaming', gained.onTime - retried.onTime + replayed.late],
  ];
  const [cause, most] = rows.reduce((best, one) => (one[1] > best[1] ? one : best));
  if (most > 0) return cause;
  if (gained.late + gained.onTime < 0) return 'duplicate_removed';
  if (events && events.before > events.after) return 'duplicate_removed';
  if (events && events.before < events.after) return 'missed_by_streaming';
  return 'revised';
}
