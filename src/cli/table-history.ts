/** `tidemark table history NAME`: what each of the newest versions of a table did. */
import { asPipelineError } from '../errors.ts';
import { instantText } from '../pipeline/generator/instant-text.ts';
import type { DeltaTable } from '../storage/delta/delta-table.ts';
import { numRecordsOf } from '../storage/delta/snapshot.ts';
import type { CommitSummary } from '../storage/delta/transaction.ts';
import { defineCommand, EXIT, integer } from './command.ts';
import { withLake } from './lake.ts';
import { housekeepingLake, namedTable } from './table-choice.ts';
import { groupDigits, textTable } from './text-table.ts';

/** Commits read at once. */
const CHUNK = 32;

export const tableHistoryCommand = defineCommand({
  name: 'table history',
  summary: 'the newest versions of a table, newest first',
  arguments: '<table>',
  options: { limit: integer('versions to show', { min: 1, max: 100_000, fallback: 20 }) },
  example: 'tidemark table history silver.api_usage_events --limit 10',
  run: (context, { options, args }) =>
    withLake(context, async (open) => {
      const { table } = await namedTable(housekeepingLake(open), args[0]!);
      const history = (await newestCommits(table, options.limit)).map((commit) => ({
        version: commit.version,
        time: instantText(Math.trunc(commit.timestampMs)),
        operation: commit.operation,
        rowsAdded: commit.adds.reduce((sum, { stats }) => sum + (numRecordsOf(stats) ?? 0), 0),
        filesAdded: commit.adds.length,
        filesRemoved: commit.removes.length,
        dataChange: [...commit.adds, ...commit.removes].some(({ dataChange }) => dataChange),
      }));
      const right = 'right' as const;
      await context.terminal.result(history, (style) =>
        textTable(
          [
            { title: 'version', align: right },
            { title: 'time' },
            { title: 'operation' },
            { title: 'rows', align: right },
            { title: '+files', align: right },
            { title: '-files', align: right },
          ],
          history.map(({ version, time, operation, rowsAdded, filesAdded, filesRemoved }) => [
            String(version),
            time,
            operation,
            groupDigits(rowsAdded),
            groupDigits(filesAdded),
            groupDigits(filesRemoved),
          ]),
          style.bold,
        ),
      );
      return EXIT.ok;
    }),
});

/** Newest first, as far as the log goes back. */
async function newestCommits(table: DeltaTable, limit: number): Promise<readonly CommitSummary[]> {
  const found: CommitSummary[] = [];
  let next = table.snapshot.version;
  let step = CHUNK;
  while (found.length < limit && next >= 0) {
    const after = Math.max(-1, next - Math.min(step, limit - found.length));
    try {
      found.push(...(await table.commits(after, next)).toReversed());
      next = after;
    } catch (thrown) {
      if (asPipelineError(thrown).code !== 'TM_OBJECT_MISSING') throw thrown;
      // Log clean-up has been here: one by one up to where the log begins.
      if (step === 1) break;
      step = 1;
    }
  }
  return found;
}
