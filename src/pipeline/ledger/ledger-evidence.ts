/** What is known of a pipeline's tables, for the ledger to judge, and what it may find wrong. */
import type { Coverage } from '../bronze.ts';
import type { LedgerTotals } from './ledger-totals.ts';
import type { OffsetRange } from './offset-ranges.ts';

export type ViolationKind =
  | 'coverage-overlap'
  | 'coverage-contradiction'
  | 'progress-mismatch'
  | 'topic-recreated'
  | 'missing-offsets'
  | 'unexpected-rows'
  | 'duplicate-offsets'
  | 'lost-events'
  | 'counted-twice'
  | 'rows-without-record'
  | 'lineage-mismatch'
  | 'totals-mismatch'
  | 'rows-mismatch'
  | 'unfinished-retry'
  | 'missing-file'
  | 'changed-file'
  | 'missing-commit'
  | 'silver-duplicates'
  | 'gold-mismatch'
  | 'unreadable';

/** One broken promise. */
export interface Violation {
  readonly kind: ViolationKind;
  /** As queries name it: `bronze.api_usage_events`. */
  readonly table: string;
  /** Names partition, offsets and commit where they are known. */
  readonly message: string;
}

/** What one add action states to cover, and the commit that added it. */
export interface StatedCoverage extends Coverage {
  /** undefined when only a checkpoint knows the file. */
  readonly version: number | undefined;
}

/** What is known about one partition of bronze at one version. */
export interface PartitionEvidence {
  readonly topic: string;
  readonly partition: number;
  /** More than one when the topic was re-created. */
  readonly topicIds: readonly string[];
  /** Exclusive end by the txn action; undefined when there is none. */
  readonly progress: bigint | undefined;
  /** Retention removed rows below this offset for good: the ledger begins here. */
  readonly expiredBefore: bigint;
  readonly coverage: readonly StatedCoverage[];
  /** undefined when only the logs were read. */
  readonly read: PartitionRows | undefined;
}

/** The rows of one partition, by reading the files. */
export interface PartitionRows {
  /** The offsets that are judged; undefined: all that are covered. */
  readonly within: readonly OffsetRange[] | undefined;
  readonly rows: bigint;
  /** Offsets of the first and last row; undefined without rows. */
  readonly firstRow: bigint | undefined;
  readonly lastRow: bigint | undefined;
  /** Offsets between the first and the last row that have no row; normalized. */
  readonly holes: readonly OffsetRange[];
  /** Rows beyond the first of their offset, and the offsets they span. */
  readonly repeats: { readonly rows: bigint; readonly span: OffsetRange } | undefined;
}

/** What the logs state about the rows of all stages, without reading one. */
export interface StatedTotals {
  /**
   * Rows of bronze at the lowest and the highest version that a dedup bucket of silver covers;
   * undefined when a file does not state its rows.
   */
  readonly bronzeRows: { readonly atLeast: bigint; readonly atMost: bigint } | undefined;
  /** Rows of bronze's files, all of them; undefined when one does not state them. */
  readonly bronzeFileRows: bigint | undefined;
  /** What retention removed for good: rows, and the rows that the removed coverage speaks of. */
  readonly expired: { readonly rows: bigint; readonly coveredRows: bigint };
  /** Silver's running totals; 0 where there is none. */
  readonly totals: LedgerTotals;
  /** Live rows; undefined when a file does not state its rows. */
  readonly silverRows: bigint | undefined;
  readonly deadRows: bigint | undefined;
  /** A retry of dead letters stopped between its two commits. */
  readonly isRetryUnfinished: boolean;
}

/** Something wrong with a file of a table. */
export interface FileFinding {
  readonly kind: 'missing-file' | 'changed-file' | 'missing-commit' | 'rows-mismatch';
  readonly table: string;
  readonly message: string;
}

/** Rows of every stage, for the bronze records that silver has covered, by reading the files. */
export interface StageEvidence {
  readonly bronzeVersion: number;
  readonly silverVersion: number;
  readonly bronzeRows: bigint;
  readonly silverRows: bigint;
  readonly conflicts: bigint;
  /** Dead letters other than conflicts. */
  readonly deadLetters: bigint;
  /** Records in neither table whose event id is in silver. */
  readonly duplicates: bigint;
  /** Records in neither table whose event id is not in silver. */
  readonly lost: bigint;
  /** Some of the lost ones. */
  readonly lostAt: readonly { readonly partition: number; readonly offset: bigint }[];
  /** Records that silver and dead letters hold both, or one of them twice. */
  readonly countedTwice: bigint;
  /** Rows of silver or dead letters whose record bronze does not have. */
  readonly withoutRecord: bigint;
  /** Rows of silver beyond the first of their event id. */
  readonly repeatedIds: bigint;
  /** Some event ids that are there more than once. */
  readonly repeatedIdsAt: readonly string[];
  /** What silver's commits say; undefined when they speak of other records than these. */
  readonly stated: { readonly duplicates: bigint; readonly conflicts: bigint } | undefined;
}

/** Rows per date of one gold table. */
export interface GoldEvidence {
  readonly table: string;
  readonly version: number;
  readonly dates: readonly {
    /** `YYYY-MM-DD`. */
    readonly date: string;
    readonly silverVersion: number;
    readonly silverRows: bigint;
    /** Events counted: the sum of a plain `count` measure, or what the files' tags state. */
    readonly counted: bigint;
  }[];
}

export interface Evidence {
  /** Names of the tables, as queries use them. */
  readonly tables: {
    readonly bronze: string;
    readonly silver: string;
    readonly deadLetter: string;
  };
  readonly partitions: readonly PartitionEvidence[];
  /** undefined when the check is about one date only. */
  readonly stated: StatedTotals | undefined;
  /** undefined when only the logs were read. */
  readonly stages: StageEvidence | undefined;
  readonly gold: readonly GoldEvidence[];
  readonly files: readonly FileFinding[];
  readonly unproven: readonly Unproven[];
}

/** What can no longer be proved, and why; no violation. */
export interface Unproven {
  readonly table: string;
  readonly message: string;
}
