/**
 * Vocabulary of the bronze writer: one per worker, it groups what its partitions fetched into
 * commits (group commit). Bytes never travel in messages: chunks live in the bronze thread.
 */
import type { CommitOutcome, NewFile } from '../../storage/delta/transaction.ts';
import type { Grant } from '../byte-budget.ts';

/** Decoded records of one fetch of one partition, held by the bronze thread. */
export interface ChunkRef {
  readonly chunkId: number;
  readonly partition: number;
  /** Inclusive. */
  readonly from: bigint;
  /** Exclusive. */
  readonly next: bigint;
  readonly rows: number;
  readonly bytes: number;
  /** Held until the chunk is committed or dropped. */
  readonly grant: Grant;
}

/** Progress of one partition within a batch: committed only while the table still says `expected`. */
export interface BatchProgress {
  readonly partition: number;
  readonly expected: bigint | undefined;
  readonly next: bigint;
}

/** A sealed batch. */
export interface Batch {
  readonly batchId: number;
  readonly chunks: readonly ChunkRef[];
  readonly progress: readonly BatchProgress[];
  readonly rows: number;
}

export type BronzeCommand =
  /** A partition (re)starts here; what it appended before and is not sealed is dropped. */
  | { readonly kind: 'attach'; readonly partition: number; readonly expected: bigint | undefined }
  | { readonly kind: 'append'; readonly chunk: ChunkRef }
  /** Seal what is open now instead of waiting for latency or size. */
  | { readonly kind: 'flush' };

export type BronzeEvent =
  | { readonly kind: 'latency-elapsed'; readonly batchId: number }
  | { readonly kind: 'uploaded'; readonly batchId: number; readonly files: readonly NewFile[] }
  | {
      readonly kind: 'commit-settled';
      readonly batchId: number;
      readonly outcome: CommitOutcome;
      /** Partition whose fence failed, when the outcome is `fenced`. */
      readonly fencedPartition: number | undefined;
    };

export type BronzeMessage = BronzeCommand | BronzeEvent;

export type BronzeEffect =
  /** The partition workers decode in the writer's thread, so its death is noticed here even when idle. */
  | { readonly kind: 'watch-thread' }
  | { readonly kind: 'start-latency'; readonly batchId: number }
  | { readonly kind: 'encode'; readonly batch: Batch }
  | { readonly kind: 'commit'; readonly batch: Batch; readonly files: readonly NewFile[] }
  /** Committed: tell partitions, Redis, the silver queue and Kafka; give memory back. */
  | { readonly kind: 'acknowledge'; readonly batch: Batch; readonly version: number }
  | { readonly kind: 'drop'; readonly chunks: readonly ChunkRef[] }
  /** Another incarnation owns the partition. */
  | { readonly kind: 'fence'; readonly partition: number };
