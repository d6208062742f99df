/**
 * `tidemark dlq ls`, `dlq show`, `dlq retry`: records that are no valid events, and why.
 */
import { retryDeadLetters } from '../operations/dead-letters/retry.ts';
import { EditedLake } from '../operations/silver-edit/edited-lake.ts';
import { tableRoots } from '../pipeline/progress.ts';
import { nameOfRoot } from '../storage/query/lake-catalog.ts';
import { type JsonValue, queryRows } from '../storage/query/lake-query.ts';
import { sqlName, sqlText } from '../storage/query/table-view-sql.ts';
import { calendarDate, defineCommand, EXIT, integer, text, toggle } from './command.ts';
import type { CommandContext } from './context.ts';
import { type OpenLake, withLake } from './lake.ts';
import { operationContext } from './operation-context.ts';
import { groupDigits, textTable } from './text-table.ts';

const flag = text('F', 'only dead letters with this flag, such as invalid_json');
const date = calendarDate('only dead letters whose records came on this UTC date');

interface Wanted {
  readonly flag: string | undefined;
  readonly date: string | undefined;
}

export const dlqLsCommand = defineCommand({
  name: 'dlq ls',
  summary: 'count dead letters by flag and date',
  options: { flag, date },
  example: 'tidemark dlq ls --date 2026-11-22',
  run: (context, { options }) =>
    withLake(context, async (lake) => {
      const rows = await queryDeadLetters(
        context,
        lake,
        (table) => `
          SELECT "_dlq_date" AS date, flag, count(*)::DOUBLE AS rows
          FROM (SELECT "_dlq_date", unnest("_quality_flags") AS flag FROM ${table} ${where(options)})
          GROUP BY ALL ORDER BY date, flag`,
      );
      const shown =
        options.flag === undefined ? rows : rows.filter((r) => r['flag'] === options.flag);
      await context.terminal.result(shown, (style) =>
        shown.length === 0
          ? 'There are no such dead letters.'
          : textTable(
              [{ title: 'date' }, { title: 'flag' }, { title: 'rows', align: 'right' }],
              shown.map((r) => [cell(r['date']), cell(r['flag']), groupDigits(Number(r['rows']))]),
              style.bold,
            ),
      );
      return EXIT.ok;
    }),
});

export const dlqShowCommand = defineCommand({
  name: 'dlq show',
  summary: 'show dead letters: where they came from, why, and what they say',
  options: {
    flag,
    date,
    limit: integer('rows shown, the newest first', { min: 1, max: 100_000, fallback: 20 }),
  },
  example: 'tidemark dlq show --flag missing_required:customer_id --limit 5',
  run: (context, { options }) =>
    withLake(context, async (lake) => {
      const rows = await queryDeadLetters(
        context,
        lake,
        (table) => `
          SELECT "_kafka_topic" AS topic, "_kafka_partition" AS partition, "_kafka_offset" AS offset,
            "_kafka_timestamp" AS timestamp, "_quality_flags" AS flags, "_error" AS error,
            "_raw_value" AS value, "_raw_bytes" AS bytes, "_kafka_key" AS key
          FROM ${table} ${where(options)}
          ORDER BY timestamp DESC, partition, "_kafka_offset" DESC LIMIT ${options.limit}`,
      );
      await context.terminal.result(rows, (style) =>
        rows.length === 0
          ? 'There are no such dead letters.'
          : rows
              .map((row) => {
                const place = `${cell(row['topic'])}[${cell(row['partition'])}]@${cell(row['offset'])}`;
                const flags = (row['flags'] as readonly string[] | null)?.join(', ') ?? '';
                const value =
                  row['value'] ?? (row['bytes'] === null ? null : `base64 ${cell(row['bytes'])}`);
                return [
                  style.bold(`${place}  ${cell(row['timestamp'])}  ${flags}`),
                  `  ${cell(row['error'])}`,
                  `  ${value === null ? '(no value)' : printable(cell(value))}`,
                ].join('\n');
              })
              .join('\n'),
      );
      return EXIT.ok;
    }),
});

export const dlqRetryCommand = defineCommand({
  name: 'dlq retry',
  summary: 'derive dead letters again under the current schema; what is valid goes to silver',
  options: { flag, date, dryRun: toggle('print what would become of them, and change nothing') },
  example: 'tidemark dlq retry --flag missing_required:customer_id --dry-run',
  run: (context, { options }) => {
    return withLake(context, async (opened) => {
      const lake = await EditedLake.open(operationContext(context, opened));
      const report = await retryDeadLetters(lake, options);
      const { looked, silverRows, duplicates, conflicts, unchanged } = report;
      await context.terminal.result({ dryRun: options.dryRun, ...report }, () =>
        [
          `${groupDigits(looked)} dead letters derived again${options.dryRun ? ' (dry run)' : ''}:`,
          `  ${groupDigits(silverRows)} are events of silver now`,
          `  ${groupDigits(duplicates)} are duplicates of events in silver`,
          `  ${groupDigits(conflicts)} conflict with an event in silver, and stay dead letters`,
          `  ${groupDigits(unchanged)} are still no valid events`,
        ].join('\n'),
      );
      return EXIT.ok;
    });
  },
});

/** Rows of a query on the dead-letter table. @param sql gets the table's name */
async function queryDeadLetters(
  context: CommandContext,
  lake: OpenLake,
  sql: (table: string) => string,
): Promise<Record<string, JsonValue>[]> {
  const name = nameOfRoot(tableRoots(lake.config).deadLetter);
  const tables = await lake.catalog.queried([name]);
  const [layer, table] = name.split('.') as [string, string];
  const query = await lake.query();
  return queryRows(query, sql(`${layer}.${sqlName(table)}`), tables, { signal: context.signal });
}

function where(wanted: Wanted): string {
  const conditions = [
    ...(wanted.flag === undefined
      ? []
      : [`list_contains("_quality_flags", ${sqlText(wanted.flag)})`]),
    ...(wanted.date === undefined ? [] : [`"_dlq_date" = DATE ${sqlText(wanted.date)}`]),
  ];
  return conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`;
}

function cell(value: JsonValue | undefined): string {
  if (value === null || value === undefined) return '-';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Control characters of a value must not reach the terminal. */
function printable(value: string): string {
  // oxlint-disable-next-line no-control-regex
  return value.replace(/[\u0000-\u001f\u007f-\u009f]/g, '\u00b7');
}
