/** `tidemark table ls`: the pipeline's tables, their size and how much of it is in small files. */
import { isSmall } from '../operations/housekeeping/compaction-plan.ts';
import { compactionTarget } from '../operations/housekeeping/schedule.ts';
import { openNamedTables } from '../operations/housekeeping/lake-tables.ts';
import { defineCommand, EXIT } from './command.ts';
import { withLake } from './lake.ts';
import { housekeepingLake } from './table-choice.ts';
import { byteText, groupDigits, textTable } from './text-table.ts';

export const tableLsCommand = defineCommand({
  name: 'table ls',
  summary: 'the tables: version, rows, files, bytes, small files',
  options: {},
  example: 'tidemark table ls -c pipeline.yaml',
  run: (context) =>
    withLake(context, async (open) => {
      const lake = housekeepingLake(open);
      const target = compactionTarget(lake.config);
      const tables = (await openNamedTables(lake)).map(({ name, table: { snapshot } }) => ({
        name,
        version: snapshot.version,
        rows: snapshot.numRecords() ?? null,
        files: snapshot.fileCount,
        bytes: snapshot.totalBytes,
        smallFiles: snapshot.files().filter((file) => isSmall(file, target)).length,
      }));
      const right = 'right' as const;
      await context.terminal.result(tables, (style) =>
        textTable(
          [
            { title: 'table' },
            { title: 'version', align: right },
            { title: 'rows', align: right },
            { title: 'files', align: right },
            { title: 'size', align: right },
            { title: 'small files', align: right },
          ],
          tables.map(({ name, version, rows, files, bytes, smallFiles }) => [
            name,
            String(version),
            rows === null ? '-' : groupDigits(rows),
            groupDigits(files),
            byteText(bytes),
            groupDigits(smallFiles),
          ]),
          style.bold,
        ),
      );
      return EXIT.ok;
    }),
});
