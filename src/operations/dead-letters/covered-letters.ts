/** The dead letters that silver counts: their table is committed first, so its newest version may be ahead. */
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { bucketAppIds, deadLetterAppId, silverAppId } from '../../pipeline/progress.ts';
import type { DeltaTable, Snapshot } from '../../storage/delta/delta-table.ts';

/**
 * The newest version of the dead letters of which a silver snapshot covers every bucket; going back
 * costs the logarithm of the versions that are ahead.
 * @throws PipelineError corrupt when log clean-up removed it
 */
export async function coveredLetters(
  config: PipelineConfig,
  bronzeTableId: string,
  tables: { readonly deadLetter: DeltaTable; readonly silver: Snapshot },
): Promise<Snapshot> {
  const { deadLetter, silver } = tables;
  const counted = bucketAppIds(config, bronzeTableId, silverAppId);
  const stored = bucketAppIds(config, bronzeTableId, deadLetterAppId);
  const isCovered = (dead: Snapshot): boolean =>
    stored.every((id, i) => (dead.progress(id) ?? 0n) <= (silver.progress(counted[i]!) ?? 0n));
  let found = await deadLetter.refresh();
  let ahead = found.version + 1;
  for (let step = 1; !isCovered(found); step *= 2) {
    ahead = found.version;
    found = await deadLetter.snapshotAt(Math.max(0, ahead - step));
  }
  while (ahead - found.version > 1) {
    const middle = await deadLetter.snapshotAt(Math.floor((found.version + ahead) / 2));
    if (isCovered(middle)) found = middle;
    else ahead = middle.version;
  }
  return found;
}
