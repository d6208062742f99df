/** `tidemark retention apply`: bronze beyond its hot span moves to the archive, and leaves it in time. */
import { applyRetention, type FileTotals } from '../operations/retention/archive-bronze.ts';
import { defineCommand, EXIT, toggle } from './command.ts';
import { withLake } from './lake.ts';
import { housekeepingLake } from './table-choice.ts';
import { byteText, groupDigits } from './text-table.ts';

export const retentionApplyCommand = defineCommand({
  name: 'retention apply',
  summary: 'move old bronze rows to the archive, and remove what is older than that',
  options: { dryRun: toggle('only say what would be moved and removed') },
  example: 'tidemark retention apply --dry-run -c pipeline.yaml',
  run: (context, { options }) =>
    withLake(context, async (open) => {
      const { dryRun } = options;
      const report = await applyRetention(housekeepingLake(open), {
        dryRun,
        signal: context.signal,
      });
      const totals = ({ files, rows, bytes }: FileTotals): string =>
        `${groupDigits(rows)} rows in ${groupDigits(files)} files, ${byteText(bytes)}`;
      await context.terminal.result(report, () =>
        [
          `${dryRun ? 'would move to the archive' : 'moved to the archive'}, before ` +
            `${report.archivedBefore}: ${totals(report.archived)}`,
          `${dryRun ? 'would remove from the archive' : 'removed from the archive'}, before ` +
            `${report.expiredBefore}: ${totals(report.expired)}`,
        ].join('\n'),
      );
      return EXIT.ok;
    }),
});
