/** Outcomes of a stage writer's commit, turned into progress or a restart. */
import { PipelineError } from '../../errors.ts';
import type { CommitOutcome } from '../../storage/delta/transaction.ts';

/** Upstream version 0 only creates the table, so 0 is where a writer without any txn starts. */
export function versionOrNone(version: number): bigint | undefined {
  return version === 0 ? undefined : BigInt(version);
}

/**
 * Version of a commit that went in.
 * @throws PipelineError unavailable for every other outcome: the writer begins again from the table
 */
export async function settled(pending: CommitOutcome | Promise<CommitOutcome>): Promise<number> {
  const outcome = await pending;
  switch (outcome.kind) {
    case 'committed':
      return outcome.version;
    case 'fenced':
      throw new PipelineError(
        'unavailable',
        'TM_COMMIT_FENCED',
        'another writer moved the table on; beginning again from it',
        { context: { appId: outcome.appId, expected: outcome.expected, actual: outcome.actual } },
      );
    case 'conflict':
      throw new PipelineError(
        'unavailable',
        'TM_COMMIT_FENCED',
        `commit conflicts: ${outcome.reason}`,
      );
    case 'unknown':
      throw new PipelineError('unavailable', 'TM_COMMIT_UNKNOWN', 'the commit is undecided', {
        context: { version: outcome.version },
      });
  }
}
