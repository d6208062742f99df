/**
 * Port: what the HTTP side may ask of and tell a pipeline. pipeline-control.ts is the real one; tests
 * have one in memory. Outcomes that a caller may expect are values; PipelineError means an outage.
 */
import type {
  Assignments,
  Drained,
  PartitionDetail,
  Paused,
  Placed,
  Rebalance,
  Rebalanced,
  Reconciliation,
  Sample,
  StartReconciliation,
  Status,
  TableStatus,
  Workers,
} from './api-schemas.ts';

/** An expected refusal: nothing changed. */
export type Refusal =
  | { readonly kind: 'not-found'; readonly what: string }
  /** What is asked for does not fit the present state; `why` says what to do. */
  | { readonly kind: 'conflict'; readonly why: string }
  | { readonly kind: 'not-supported'; readonly why: string };

/** A value, or why there is none. */
export type Outcome<T> = { readonly kind: 'done'; readonly value: T } | Refusal;

/** Reads of a pipeline and wishes of its operators. Methods throw PipelineError unavailable. */
export interface SupervisorControl {
  /** At most a moment old. Services that do not answer are findings, not errors. */
  status(): Promise<Status>;
  /** The newest status without waiting; undefined until there is one. */
  readonly latest: Status | undefined;
  /** Whether this supervisor can do its work; says why not. */
  readiness(): { readonly isReady: boolean; readonly why: string | undefined };
  workers(): Promise<Workers>;
  assignments(): Promise<Assignments>;
  /** @returns undefined when the topic has no such partition */
  partition(partition: number): Promise<PartitionDetail | undefined>;
  tables(): Promise<readonly TableStatus[]>;
  reconciliations(): Promise<readonly Reconciliation[]>;

  rebalance(request: Rebalance): Promise<Rebalanced>;
  /** @param worker undefined lets the supervisor choose again */
  place(partition: number, worker: string | undefined): Promise<Outcome<Placed>>;
  drain(worker: string, draining: boolean): Promise<Outcome<Drained>>;
  setPaused(isPaused: boolean): Promise<Paused>;
  startReconciliation(
    request: StartReconciliation,
  ): Promise<Outcome<{ readonly dates: readonly string[] }>>;

  /** Points of the charts, oldest first; bounded. */
  readonly history: readonly Sample[];
  /** Commit durations by stage, for metrics. */
  readonly commitDurations: ReadonlyMap<string, DurationCounts>;
  /** Calls `listener` with each new status. @returns ends it */
  onStatus(listener: (status: Status) => void): () => void;
  /** Ends reading; open calls finish. */
  close(): Promise<void>;
}

/** A histogram: how many took at most each bound, and their sum. */
export interface DurationCounts {
  /** Upper bounds in seconds, ascending, with the cumulative count of each. */
  readonly buckets: readonly { readonly seconds: number; readonly count: number }[];
  readonly count: number;
  readonly sumSeconds: number;
}
