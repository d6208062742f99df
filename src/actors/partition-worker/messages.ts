/** Vocabulary of the partition worker: it owns one partition of the topic and feeds bronze from it. */
import type { ChunkRef } from '../bronze-writer/messages.ts';

export type PartitionCommand =
  /** Bronze holds everything below `next`. */
  | { readonly kind: 'committed'; readonly next: bigint; readonly version: number }
  /** Another incarnation owns the partition: stop for good. */
  | { readonly kind: 'fenced' }
  /** The bronze writer lost what it had not committed: begin again from the table. */
  | { readonly kind: 'rewind' }
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }
  /** Fetch no more, commit what was fetched, then stop. */
  | { readonly kind: 'drain' };

export type PartitionEvent =
  | {
      readonly kind: 'recovered';
      /** Bronze's txn; undefined when the partition is new to the table. */
      readonly expected: bigint | undefined;
      readonly next: bigint;
      readonly latest: bigint;
    }
  | { readonly kind: 'fetched'; readonly chunk: ChunkRef; readonly latest: bigint }
  | { readonly kind: 'idle'; readonly latest: bigint };

export type PartitionMessage = PartitionCommand | PartitionEvent;

export type PartitionEffect =
  | { readonly kind: 'recover' }
  | { readonly kind: 'attach'; readonly expected: bigint | undefined }
  | { readonly kind: 'fetch'; readonly offset: bigint; readonly recentBytes: number }
  | { readonly kind: 'append'; readonly chunk: ChunkRef }
  | { readonly kind: 'flush' }
  /** Save hints: next offset, lag, state. */
  | { readonly kind: 'report' };
