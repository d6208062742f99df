/** `tidemark table restore NAME`: a table as it was at an older version, as a new version. */
import { restoreTable } from '../operations/housekeeping/restore.ts';
import { parseInstantMs } from '../pipeline/generator/instant-text.ts';
import { defineCommand, EXIT, text, toggle, usageError } from './command.ts';
import { withLake } from './lake.ts';
import { housekeepingLake, namedTable } from './table-choice.ts';

export const tableRestoreCommand = defineCommand({
  name: 'table restore',
  summary: 'make an older version of a table the newest one',
  arguments: '<table>',
  options: {
    version: text('N', 'the version'),
    timestamp: text('T', 'the newest version at this time (RFC 3339)'),
    dryRun: toggle('only say what would change'),
  },
  example: 'tidemark table restore silver.api_usage_events --version 41 --dry-run',
  run: (context, { options, args }) =>
    withLake(context, async (open) => {
      const lake = housekeepingLake(open);
      const named = await namedTable(lake, args[0]!);
      const { version: versionText, timestamp } = options;
      if ((versionText === undefined) === (timestamp === undefined)) {
        throw usageError('Give either --version or --timestamp.');
      }
      let version: number | undefined;
      if (timestamp === undefined) {
        version = /^\d{1,15}$/.test(versionText!) ? Number(versionText) : undefined;
        if (version === undefined)
          throw usageError(`--version takes a number; "${versionText}" is none.`);
      } else {
        const ms = parseInstantMs(timestamp);
        if (ms === undefined)
          throw usageError(`--timestamp takes an RFC 3339 time; "${timestamp}" is none.`);
        version = await named.table.versionAtTimestamp(ms);
        if (version === undefined)
          throw usageError(`${named.name} has no version as old as ${timestamp}.`);
      }
      const { dryRun } = options;
      const restored = await restoreTable(lake, named, { version, dryRun, signal: context.signal });
      await context.terminal.result(restored, (style) => {
        const change = `${restored.filesAdded} files come back, ${restored.filesRemoved} go`;
        const said =
          restored.version === undefined
            ? `${named.name} to version ${version}: ${change}${dryRun ? ' (nothing was done)' : ''}.`
            : `${named.name} is as it was at version ${version}, as version ${restored.version}: ${change}.`;
        return `${said}\n${style.bad(restored.remedy)}`;
      });
      return EXIT.ok;
    }),
});
