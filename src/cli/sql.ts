/**
 * `tidemark sql QUERY`: SQL over the tables at their newest or at named versions.
 */
import { text as readText } from 'node:stream/consumers';
import type { JsonValue, QueryResult } from '../storage/query/lake-query.ts';
import { rowObject } from '../storage/query/lake-query.ts';
import { defineCommand, EXIT, texts, usageError } from './command.ts';
import type { CommandContext } from './context.ts';
import { withLake } from './lake.ts';
import { textTable } from './text-table.ts';

/** Rows shown as a table; --json has no limit. */
const SHOWN_MAX = 10_000;

export const sqlCommand = defineCommand({
  name: 'sql',
  summary: 'query the tables as bronze.x, silver.x, gold.x (read only)',
  arguments: '<query>',
  options: {
    at: texts('TABLE=VERSION', 'query a table at a version; may be repeated'),
  },
  example:
    'tidemark sql "SELECT count(*) FROM silver.api_usage_events" --at silver.api_usage_events=12',
  run: (context, { options, args }) =>
    withLake(context, async ({ catalog, query }) => {
      const sql = args[0] === '-' ? await readText(context.stdin) : args[0]!;
      const versions = new Map(options.at.map(parseVersion));
      const engine = await query();
      const names = engine.tablesOf(sql);
      const unused = [...versions.keys()].find((name) => !names.includes(name));
      if (unused !== undefined)
        throw usageError(`--at names ${unused}, which the query does not read.`);
      const tables = await catalog.queried(names, versions);
      const result = await engine.run(sql, tables, { signal: context.signal });
      await (context.terminal.json ? writeJson(context, result) : writeTable(context, result));
      return EXIT.ok;
    }),
});

function parseVersion(given: string): [string, number] {
  const match = /^([a-z]+\.[^=]+)=(\d{1,15})$/.exec(given);
  if (!match) throw usageError(`--at takes TABLE=VERSION such as silver.x=12; "${given}" is none.`);
  return [match[1]!, Number(match[2])];
}

/** One array, written as rows come: a result may be larger than memory. */
async function writeJson(context: CommandContext, result: QueryResult): Promise<void> {
  let separator = '[';
  for await (const chunk of result.chunks) {
    const lines = chunk.map((row) => {
      const line = `${separator}\n${JSON.stringify(rowObject(result.columns, row))}`;
      separator = ',';
      return line;
    });
    await context.terminal.write(lines.join(''));
  }
  await context.terminal.write(separator === '[' ? '[]\n' : '\n]\n');
}

async function writeTable(context: CommandContext, result: QueryResult): Promise<void> {
  const rows: (readonly string[])[] = [];
  let left = 0;
  for await (const chunk of result.chunks) {
    const room = SHOWN_MAX - rows.length;
    for (const row of chunk.slice(0, room)) rows.push(row.map(cellText));
    left += Math.max(0, chunk.length - room);
  }
  const columns = result.columns.map(({ name, numeric }) => ({
    title: name,
    align: numeric ? ('right' as const) : ('left' as const),
  }));
  await context.terminal.result(undefined, (style) => textTable(columns, rows, style.bold));
  if (left > 0) context.terminal.note(`${left} more rows; add LIMIT, or --json for all.`);
}

function cellText(value: JsonValue): string {
  if (value === null) return 'NULL';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
