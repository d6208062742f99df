/** `tidemark table vacuum`: removes data files and log entries that no kept version needs. */
import { type CleanedUp, cleanUpTable } from '../operations/housekeeping/clean-up.ts';
import { defineCommand, EXIT, toggle } from './command.ts';
import { withLake } from './lake.ts';
import { chosenTables, duration, housekeepingLake } from './table-choice.ts';
import { byteText, groupDigits, textTable } from './text-table.ts';

export const tableVacuumCommand = defineCommand({
  name: 'table vacuum',
  summary: 'remove data files that no version needs, and log entries beyond their retention',
  arguments: '[table]',
  options: {
    all: toggle('every table'),
    retain: duration(
      'keep what versions of this span need; default: housekeeping.vacuumRetain',
      undefined,
    ),
    dryRun: toggle('only say what would be removed'),
  },
  example: 'tidemark table vacuum --all --dry-run -c pipeline.yaml',
  run: (context, { options, args }) =>
    withLake(context, async (open) => {
      const lake = housekeepingLake(open);
      const results: CleanedUp[] = [];
      for (const named of await chosenTables(lake, args[0], options.all)) {
        context.terminal.progress(`vacuuming ${named.name}`);
        results.push(
          await cleanUpTable(lake, named, {
            retentionMs: options.retain ?? lake.config.housekeeping.vacuumRetainMs,
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
            { title: 'files', align: right },
            { title: 'size', align: right },
            { title: 'log files', align: right },
            { title: 'oldest version', align: right },
          ],
          results.map(({ table, files, bytes, logFiles, firstVersion }) => [
            table,
            groupDigits(files),
            byteText(bytes),
            groupDigits(logFiles),
            firstVersion === undefined ? '-' : String(firstVersion),
          ]),
          style.bold,
        ),
      );
      return EXIT.ok;
    }),
});
