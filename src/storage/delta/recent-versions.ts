/**
 * The newest versions of a table in memory, so that a reader that keeps up with the log does not read
 * it again. Pure data structure; holds a contiguous tail, bounded by versions and by files.
 */
import { assert } from '../../errors.ts';
import type { LogEntry } from './actions.ts';
import type { TableSnapshot } from './snapshot.ts';
import type { CommitSummary } from './transaction.ts';

const VERSIONS_MAX = 128;
const FILES_MAX = 20_000;

interface RecentVersion {
  readonly snapshot: TableSnapshot;
  readonly commit: CommitSummary;
}

/** The tail; versions enter it in order. */
export class RecentVersions {
  #versions: RecentVersion[] = [];
  #files = 0;

  /** Adds the version that follows the last one. */
  push(entry: LogEntry, snapshot: TableSnapshot): void {
    const last = this.#versions.at(-1);
    assert(!last || last.commit.version + 1 === entry.version, 'versions enter in order');
    const commit = summaryOf(entry);
    this.#versions.push({ snapshot, commit });
    this.#files += weight(commit);
    while (
      this.#versions.length > VERSIONS_MAX ||
      (this.#files > FILES_MAX && this.#versions.length > 1)
    ) {
      this.#files -= weight(this.#versions.shift()!.commit);
    }
  }

  commit(version: number): CommitSummary | undefined {
    return this.#at(version)?.commit;
  }

  snapshot(version: number): TableSnapshot | undefined {
    return this.#at(version)?.snapshot;
  }

  clear(): void {
    this.#versions = [];
    this.#files = 0;
  }

  #at(version: number): RecentVersion | undefined {
    const first = this.#versions[0];
    return first && this.#versions[version - first.commit.version];
  }
}

/** A log entry as its readers see it. */
export function summaryOf(entry: LogEntry): CommitSummary {
  const { version, commitInfo } = entry;
  return {
    version,
    timestampMs: commitInfo?.timestampMs ?? 0,
    operation: commitInfo?.operation ?? '',
    adds: entry.adds,
    removes: entry.removes.map(({ path, dataChange }) => ({ path, dataChange })),
    progress: new Map(entry.txns.map((txn) => [txn.appId, txn.version])),
    lineage: commitInfo?.lineage,
    metadataChanged: entry.metadata !== undefined || entry.protocol !== undefined,
  };
}

function weight(commit: CommitSummary): number {
  return commit.adds.length + commit.removes.length;
}
