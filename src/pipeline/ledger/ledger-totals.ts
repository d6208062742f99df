/**
 * The ledger's running totals as silver's txns keep them, and how an edit moves them. Pure.
 *
 * LT1 Each txn only grows (a txn may not go back); what a total went down by is a counter of its own.
 */
import { type LedgerCounter, ledgerAppId, ledgerAppPrefix } from '../progress.ts';

/** Running totals of bronze rows, over all writers. */
export interface LedgerTotals {
  readonly bronzeRows: bigint;
  readonly silverRows: bigint;
  readonly duplicates: bigint;
  readonly conflicts: bigint;
  readonly deadLetters: bigint;
  /** Of the dead letters: taken out again by a retry. */
  readonly retried: bigint;
  /** Of the silver rows: taken out by a restore, and neither back nor replaced by a copy yet. */
  readonly lacking: bigint;
}

/** @param entries the txns of a silver snapshot */
export function ledgerTotals(
  pipeline: string,
  bronzeTableId: string,
  entries: Iterable<readonly [string, bigint]>,
): LedgerTotals {
  const sums: Record<LedgerCounter, bigint> = {
    bronzeRows: 0n,
    silverRows: 0n,
    duplicates: 0n,
    conflicts: 0n,
    deadLetters: 0n,
    retried: 0n,
    takenOut: 0n,
    putBack: 0n,
    replaced: 0n,
  };
  const prefix = ledgerAppPrefix(pipeline, bronzeTableId);
  for (const [appId, total] of entries) {
    if (!appId.startsWith(prefix)) continue;
    const counter = appId.slice(appId.lastIndexOf(':') + 1);
    if (Object.hasOwn(sums, counter)) sums[counter as LedgerCounter] += total;
  }
  const { takenOut, putBack, replaced, ...totals } = sums;
  return {
    ...totals,
    silverRows: totals.silverRows - replaced,
    duplicates: totals.duplicates + replaced,
    lacking: takenOut - putBack - replaced,
  };
}

/** A txn of an edit's commit. */
export interface MovedTotal {
  readonly appId: string;
  readonly expected: bigint | undefined;
  readonly next: bigint;
}

/**
 * Moves the totals that edits count.
 * @param moved by how many rows, not negative (LT1)
 */
export function movedTotals(
  pipeline: string,
  bronzeTableId: string,
  silver: { progress(appId: string): bigint | undefined },
  moved: Partial<Readonly<Record<LedgerCounter, number | bigint>>>,
): MovedTotal[] {
  return Object.entries(moved).map(([counter, rows]) => {
    const appId = ledgerAppId(pipeline, bronzeTableId, 'edits', counter as LedgerCounter);
    const expected = silver.progress(appId);
    return { appId, expected, next: (expected ?? 0n) + BigInt(rows) };
  });
}
