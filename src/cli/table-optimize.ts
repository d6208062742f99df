/** `tidemark table optimize`: rewrites small files as few large ones, row for row. */
import { type Optimized, optimizeTable } from '../operations/housekeeping/optimize.ts';
import { compactionTarget } from '../operations/housekeeping/schedule.ts';
import { defineCommand, EXIT, toggle } from './command.ts';
import { withLake } from './lake.ts';
import { chosenTables, duration, housekeepingLake } from './table-choice.ts';
import { byteText, groupDigits, textTable } from './text-table.ts';

export const tableOptimizeCommand = defineCommand({
  name: 'table optimize',
  summary: 'rewrite small files as few large ones, while the stream goes on',
  arguments: '[table]',
  options: {
    all: toggle('every table'),
    minAge: duration('leave files alone that are younger; default 5m', 300_000),
    dryRun: toggle('only say what would be rewritten'),
  },
  example: 'tidemark table optimize --all -c pipeline.yaml',
  run: (context, { options, args }) =>
    withLake(context, async (open) => {
      const lake = housekeepingLake(open);
      const results: Optimized[] = [];
      for (const named of await chosenTables(lake, args[0], options.all)) {
        context.terminal.progress(`optimizing ${named.name}`);
        results.push(
          await optimizeTable(lake, named, {
            target: compactionTarget(lake.config),
            ageMinMs: options.minAge,
            filesMin: 2,
            share: 1,
            dryRun: options.dryRun,
            signal: context.signal,
          }),
        );
      }
      context.terminal.clearProgress();
      const right = 'right' as const;
      await context.terminal.result(results, (style) =>
        textTable(
          [
            { title: 'table' },
            { title: 'files before', align: right },
            { title: 'after', align: right },
            { title: 'size before', align: right },
            { title: 'after', align: right },
            { title: 'given up', align: right },
          ],
          results.map((one) => [
            one.table,
            groupDigits(one.filesRemoved),
            groupDigits(one.filesAdded),
            byteText(one.bytesRemoved),
            options.dryRun ? '-' : byteText(one.bytesAdded),
            groupDigits(one.conflicts),
          ]),
          style.bold,
        ),
      );
      return EXIT.ok;
    }),
});
