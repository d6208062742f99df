/**
 * What a writer asks of a Delta table and what it gets back. Pure types; the committer carries them out.
 * Source: PROTOCOL.md "Transaction Identifiers"; promises P2 and P3.
 */
import type { StructType } from '../../pipeline/types.ts';
import type { Snapshot } from './snapshot.ts';

/** A data file that is durably stored and not yet in the table. */
export interface NewFile {
  /** Relative to the table's root, not encoded: only [A-Za-z0-9_=.-/], no segment starts with `_` or `.`. */
  readonly path: string;
  /** Every partition column, by name; null where the value is null. */
  readonly partitionValues: Readonly<Record<string, string | null>>;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** Delta statistics as JSON text (delta-stats.ts). */
  readonly stats: string | undefined;
  /** Kept in checkpoints; for lineage such as covered offsets. */
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

/** Progress that is committed with the data: allowed only while the table says `expected` (P2). */
export interface ProgressUpdate {
  readonly appId: string;
  /** undefined: the table has no txn of that id yet. `any`: no fence (watermarks), the larger version wins. */
  readonly expected: bigint | undefined | 'any';
  readonly next: bigint;
}

/** What must still hold for a commit to be allowed, without being changed by it (P2). */
export interface ProgressGuard {
  readonly appId: string;
  /** undefined: the table has no txn of that id. */
  readonly expected: bigint | undefined;
}

/** A change of the table itself; every column that is there stays as it is. */
export interface MetadataUpdate {
  /** The whole new schema: the present columns and further, nullable ones. */
  readonly schema?: StructType;
  /** Properties to set; the others stay. */
  readonly configuration?: Readonly<Record<string, string>>;
}

/** One commit: all of it becomes visible in one version, or nothing does. */
export interface CommitRequest {
  /** Delta's operation name, such as `STREAMING UPDATE`, `OPTIMIZE`. */
  readonly operation: string;
  readonly operationParameters?: Readonly<Record<string, string>>;
  readonly operationMetrics?: Readonly<Record<string, string>>;
  readonly adds: readonly NewFile[];
  /** Paths (as in the snapshot) to remove. Losing one to another writer is a conflict. */
  readonly removes?: readonly string[];
  /** false only when rows are merely rearranged. Default true. */
  readonly dataChange?: boolean;
  readonly metadata?: MetadataUpdate;
  readonly progress: readonly ProgressUpdate[];
  /** Progress of others that this commit relies on; a change of it fences the commit. */
  readonly guards?: readonly ProgressGuard[];
  /**
   * The snapshot the writer worked from: a change of metadata or protocol since then is a conflict.
   * Default: the newest one known at the call.
   */
  readonly basedOn?: Snapshot;
  /** Goes into commitInfo as `tidemark`: offsets, counts, upstream version. */
  readonly lineage?: Readonly<Record<string, unknown>>;
  /** Give up waiting for an undecided outcome (then the outcome is `unknown`). */
  readonly signal?: AbortSignal;
}

/**
 * - `committed`: in the table as `version`; `alreadyOurs` when an earlier lost response turned out to be a success.
 * - `fenced`: the table's txn is not what the writer started from; nothing was written.
 * - `conflict`: a file to remove is gone, or the table's metadata or protocol changed; nothing was written.
 * - `unknown`: gave up (signal) while undecided; keep the files, read the table again before doing anything.
 */
export type CommitOutcome =
  | { readonly kind: 'committed'; readonly version: number; readonly alreadyOurs: boolean }
  | {
      readonly kind: 'fenced';
      readonly appId: string;
      readonly expected: bigint | undefined;
      readonly actual: bigint | undefined;
    }
  | { readonly kind: 'conflict'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly version: number };

/** A file of a snapshot. */
export interface LiveFile extends NewFile {
  /** Version whose commit added it; undefined when only a checkpoint knows it. */
  readonly addedVersion: number | undefined;
  readonly dataChange: boolean;
}

/** One commit as read from the log. */
export interface CommitSummary {
  readonly version: number;
  readonly timestampMs: number;
  readonly operation: string;
  readonly adds: readonly LiveFile[];
  /** Paths as in the snapshot, with the action's dataChange. */
  readonly removes: readonly { readonly path: string; readonly dataChange: boolean }[];
  readonly progress: ReadonlyMap<string, bigint>;
  readonly lineage: Readonly<Record<string, unknown>> | undefined;
  readonly metadataChanged: boolean;
}
