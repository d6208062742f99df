/**
 * `tidemark schema show`, `schema check FILE`, `schema apply [FILE]`: what the tables are, what a
 * pipeline file would change, and the change.
 */
import { loadPipeline } from '../config.ts';
import { declaredEvents } from '../engine/declared-schema.ts';
import {
  applySchema,
  filesWithRescued,
  openSchemaTables,
  rebuildFrom,
  schemaDiff,
  type SchemaTables,
} from '../operations/schema/schema-change.ts';
import type { SchemaDiff } from '../operations/schema/schema-diff.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { RESCUED } from '../pipeline/silver/tables.ts';
import { typeName } from '../storage/delta/schema-json.ts';
import { nameOfRoot, queriedTable } from '../storage/query/lake-catalog.ts';
import { queryRows } from '../storage/query/lake-query.ts';
import { sqlName } from '../storage/query/table-view-sql.ts';
import { defineCommand, EXIT, usageError } from './command.ts';
import type { CommandContext } from './context.ts';
import { type OpenLake, withLake } from './lake.ts';
import type { Style } from './terminal.ts';
import { groupDigits, textTable } from './text-table.ts';

/** Files that `schema show` looks into for undeclared fields. */
const FILES_LOOKED_INTO = 200;
const NO_TABLES = 'This pipeline has no tables yet; start it with `tidemark run`.';

export const schemaShowCommand = defineCommand({
  name: 'schema show',
  summary: 'the applied schemas, and undeclared fields that producers send',
  options: {},
  example: 'tidemark schema show',
  run: (context) =>
    withLake(context, async (lake) => {
      const tables = await requireTables(lake, lake.config);
      const versions = declaredEvents(tables.silver.snapshot.configuration);
      const rescued = await rescuedFields(context, lake, tables);
      const newest = versions.at(-1);
      const fields = (newest ?? lake.config.event).schema.fields.map(
        ({ name, type, nullable }) => ({
          name,
          type: typeName(type),
          required: !nullable,
        }),
      );
      const document = {
        version: newest?.schemaVersion ?? null,
        versions: versions.map(({ schemaVersion }) => schemaVersion),
        fields,
        rescued,
      };
      await context.terminal.result(document, (style) => {
        const known = document.versions.length > 1 ? ` (of ${document.versions.join(', ')})` : '';
        const lines = [
          `Schema version ${document.version ?? 'not kept yet'}${known}`,
          textTable(
            [{ title: 'field' }, { title: 'type' }, { title: '' }],
            fields.map((f) => [f.name, f.type, f.required ? 'required' : '']),
            style.bold,
          ),
        ];
        if (rescued.length > 0) {
          lines.push(
            '',
            'Kept in _rescued in the newest files, because it is not declared or does not fit:',
            textTable(
              [{ title: 'field' }, { title: 'rows', align: 'right' }, { title: 'for example' }],
              rescued.map((r) => [r.field, groupDigits(r.rows), r.example]),
              style.bold,
            ),
          );
        }
        return lines.join('\n');
      });
      return EXIT.ok;
    }),
});

export const schemaCheckCommand = defineCommand({
  name: 'schema check',
  summary: 'what the schema of a pipeline file would change; exit code 1 when it cannot be applied',
  arguments: '<file>',
  options: {},
  example: 'tidemark schema check tidemark-v2.yaml',
  run: (context, { args }) =>
    withLake(context, async (lake) => {
      const config = fileOf(context, lake, args[0]);
      const tables = await requireTables(lake, config);
      const diff = schemaDiff(tables, config);
      const replay = replayOf(tables, diff);
      await context.terminal.result({ ...diff, replay }, (style) => render(diff, replay, style));
      return diff.compatible ? EXIT.ok : EXIT.violation;
    }),
});

export const schemaApplyCommand = defineCommand({
  name: 'schema apply',
  summary: 'add what a pipeline file declares to the tables; default: the file of -c',
  arguments: '[file]',
  options: {},
  example: 'tidemark schema apply tidemark-v2.yaml',
  run: (context, { args }) =>
    withLake(context, async (lake) => {
      const config = fileOf(context, lake, args[0]);
      const tables = await requireTables(lake, config);
      const diff = schemaDiff(tables, config);
      const replay = replayOf(tables, diff);
      if (!diff.compatible) {
        const document = { ...diff, applied: [], replay };
        await context.terminal.result(document, (style) => render(diff, replay, style));
        return EXIT.violation;
      }
      const applied = await applySchema(tables, config, context.signal);
      await context.terminal.result({ ...diff, applied, replay }, (style) =>
        [
          ...(applied.length === 0
            ? ['The tables have this schema already.']
            : applied.map(({ table, version }) => `${table} is evolved in version ${version}.`)),
          ...(replay === null || applied.length === 0
            ? []
            : ['Rows that are there get their values with:', style.bold(`  ${replay}`)]),
          ...(applied.length === 0
            ? []
            : ['Restart the pipeline with this file; until then it goes on with the old one.']),
        ].join('\n'),
      );
      return EXIT.ok;
    }),
});

/** The pipeline of `file`, which must be the lake's own under another schema. */
function fileOf(context: CommandContext, lake: OpenLake, file: string | undefined): PipelineConfig {
  if (file === undefined) return lake.config;
  const { environment, cwd } = context;
  const config = loadPipeline(file, { environment, cwd });
  if (config.name === lake.config.name) return config;
  throw usageError(`${file} is of the pipeline ${config.name}, not of ${lake.config.name}.`);
}

async function requireTables(lake: OpenLake, config: PipelineConfig): Promise<SchemaTables> {
  const tables = await openSchemaTables(lake.catalog, config);
  if (!tables) throw usageError(NO_TABLES);
  return tables;
}

function replayOf({ silver }: SchemaTables, diff: SchemaDiff): string | null {
  const from = rebuildFrom(silver, diff);
  return from === undefined ? null : `tidemark replay --rebuild --from ${from}`;
}

function render(diff: SchemaDiff, replay: string | null, style: Style): string {
  const rows = [diff.silver, ...diff.gold].flatMap(({ table, changes }) =>
    changes.map((change) => ({ table: nameOfRoot(table), ...change })),
  );
  const version = `Applied is version ${diff.appliedVersion ?? 'unknown'}, the file has ${diff.fileVersion}.`;
  if (rows.length === 0) return `${version} It changes nothing.`;
  const lines = rows.map(({ table, kind, name, from, to, compatible, message }) => {
    const types = [from, to].filter((type) => type !== undefined).join(' -> ');
    const text = `${table}: ${name} ${kind}${types === '' ? '' : ` (${types})`}: ${message}`;
    return compatible ? `  ${text}` : style.bad(`✗ ${text}`);
  });
  const verdict = diff.compatible
    ? style.good('It can be applied: `tidemark schema apply FILE`.')
    : style.bad('It cannot be applied.');
  const next = replay === null || !diff.compatible ? [] : [`Then replay: ${replay}`];
  return [version, ...lines, verdict, ...next].join('\n');
}

/** Names below `_rescued` of the newest files that have any, the most frequent first. */
async function rescuedFields(
  context: CommandContext,
  lake: OpenLake,
  { silver }: SchemaTables,
): Promise<{ readonly field: string; readonly rows: number; readonly example: string }[]> {
  const files = filesWithRescued(silver, FILES_LOOKED_INTO);
  if (files.length === 0) return [];
  const name = nameOfRoot(silver.root);
  const [layer, table] = name.split('.') as [string, string];
  const column = sqlName(RESCUED);
  const rows = await queryRows(
    await lake.query(),
    `SELECT field, count(*)::DOUBLE AS rows, min(kept->field) AS example
     FROM (SELECT unnest(json_keys(${column})) AS field, ${column}::JSON AS kept
       FROM ${layer}.${sqlName(table)} WHERE ${column} IS NOT NULL)
     GROUP BY field ORDER BY rows DESC, field LIMIT 100`,
    new Map([[name, { ...queriedTable(silver.root, silver.snapshot), files }]]),
    { signal: context.signal },
  );
  return rows.map((row) => ({
    field: String(row['field'] as string),
    rows: Number(row['rows']),
    example: typeof row['example'] === 'string' ? row['example'] : JSON.stringify(row['example']),
  }));
}
