/**
 * The schemas that were declared for a pipeline's tables, kept in the tables' properties, and whether
 * a pipeline file may write to them. Pure.
 *
 * Invariants:
 * - DS1 A schema version means one set of fields for ever: rows say only their `_schema_version`.
 * - DS2 A file whose schema was not applied writes nothing (P8); one whose schema was applied earlier
 *   goes on, for what came later only added columns.
 */
import { z } from 'zod';
import { PipelineError } from '../errors.ts';
import type { AggregateConfig, EventConfig, MeasureConfig } from '../pipeline/pipeline-config.ts';
import { struct } from '../pipeline/types.ts';
import type { Snapshot } from '../storage/delta/snapshot.ts';
import { schemaFromJson, schemaToJson, typeName } from '../storage/delta/schema-json.ts';

/** Property of silver: the newest version that was applied. */
const NEWEST = 'tidemark.schemaVersion';
/** Properties of silver: the event's declaration at a version, which follows the prefix. */
const DECLARED = 'tidemark.schema.';
/** Property of a gold table: its grain and measures. */
const AGGREGATE = 'tidemark.aggregate';

type Properties = Snapshot['configuration'];

/** Properties of silver that declare the event's schema as the newest. */
export function schemaProperties(event: EventConfig): Readonly<Record<string, string>> {
  const declared = {
    id: event.id,
    time: event.time,
    fields: JSON.parse(schemaToJson(event.schema)),
  };
  return {
    [NEWEST]: String(event.schemaVersion),
    [`${DECLARED}${event.schemaVersion}`]: JSON.stringify(declared),
  };
}

/** The newest applied version; undefined for a table from before schemas were kept. */
export function appliedVersion(properties: Properties): number | undefined {
  const text = properties[NEWEST];
  return text === undefined ? undefined : Number(text);
}

/**
 * Every schema that was applied, by version, ascending.
 * @throws PipelineError corrupt when a property is not a declaration
 */
export function declaredEvents(properties: Properties): readonly EventConfig[] {
  return Object.entries(properties)
    .filter(([name]) => name.startsWith(DECLARED))
    .map(([name, text]) => parseDeclared(Number(name.slice(DECLARED.length)), text))
    .sort((a, b) => a.schemaVersion - b.schemaVersion);
}

/** The declared schemas that rows of the table may have beside the event's own. */
export function otherEvents(properties: Properties, event: EventConfig): readonly EventConfig[] {
  return declaredEvents(properties).filter(
    (other) => other.schemaVersion !== event.schemaVersion && other.id === event.id,
  );
}

/**
 * The event with every field that was ever declared, for fingerprints of rows read back: a row has the
 * fields of its own schema, and null, which counts for nothing, in the others (H2 of payload-hash).
 */
export function eventOfAllSchemas(properties: Properties, event: EventConfig): EventConfig {
  const names = new Set(event.schema.fields.map(({ name }) => name));
  const earlier = declaredEvents(properties).flatMap(({ schema }) => schema.fields);
  const fields = [...event.schema.fields];
  for (const field of earlier) {
    if (names.has(field.name)) continue;
    names.add(field.name);
    fields.push(field);
  }
  return { ...event, schema: struct(fields) };
}

/** Whether two declarations mean the same, whatever the order of their fields. */
export function sameDeclaration(a: EventConfig, b: EventConfig): boolean {
  return declarationText(a) === declarationText(b);
}

/** A gold table's aggregate as it was declared. */
export interface DeclaredAggregate extends Omit<AggregateConfig, 'name'> {
  /** Measures that were declared once; their columns are still there. */
  readonly retired: readonly MeasureConfig[];
}

/**
 * Properties of a gold table that declare its aggregate.
 * @param before what was declared so far
 */
export function aggregateProperties(
  aggregate: AggregateConfig,
  before?: DeclaredAggregate,
): Readonly<Record<string, string>> {
  const { windowMs, groupBy, measures } = aggregate;
  const names = new Set(measures.map(({ name }) => name));
  const retired = allMeasures(before).filter(({ name }) => !names.has(name));
  const declared: DeclaredAggregate = { windowMs, groupBy, measures, retired };
  return { [AGGREGATE]: JSON.stringify(declared) };
}

/**
 * The aggregate that a gold table was declared with; undefined when it does not say.
 * @throws PipelineError corrupt when the property is not a declaration
 */
export function declaredAggregate(properties: Properties): DeclaredAggregate | undefined {
  const text = properties[AGGREGATE];
  return text === undefined ? undefined : parseProperty(AGGREGATE, text, aggregateShape);
}

/** Every measure that has a column, by what it was declared as. */
export function allMeasures(declared: DeclaredAggregate | undefined): readonly MeasureConfig[] {
  return declared === undefined ? [] : [...declared.measures, ...declared.retired];
}

/**
 * Refuses a file whose schema is not one of silver's (DS2).
 * @throws PipelineError invalid TM_SCHEMA_MISMATCH
 */
export function requireDeclaredEvent(silver: Snapshot, root: string, event: EventConfig): void {
  const newest = appliedVersion(silver.configuration);
  if (newest === undefined) return;
  const version = event.schemaVersion;
  const declared = declaredEvents(silver.configuration).find((e) => e.schemaVersion === version);
  if (declared && sameDeclaration(declared, event)) return;
  const problem = declared
    ? `version ${version} of its schema was applied with other fields; give the new fields a new version`
    : `version ${version} of its schema was not applied; the newest is ${newest}`;
  throw mismatch(root, problem);
}

/**
 * Refuses a file whose aggregate would mix another grain or another meaning of a measure into the table.
 * @throws PipelineError invalid TM_SCHEMA_MISMATCH
 */
export function requireDeclaredAggregate(
  gold: Snapshot,
  root: string,
  aggregate: AggregateConfig,
): void {
  const declared = declaredAggregate(gold.configuration);
  if (declared === undefined) return;
  const problem = aggregateMisfit(declared, aggregate);
  if (problem !== undefined) throw mismatch(root, problem);
}

/** Why rows of `aggregate` do not belong into a table of `declared`; it may lack measures. */
function aggregateMisfit(
  declared: DeclaredAggregate,
  aggregate: AggregateConfig,
): string | undefined {
  if (declared.windowMs !== aggregate.windowMs) {
    return `its windows are ${declared.windowMs} ms, not ${aggregate.windowMs} ms`;
  }
  if (declared.groupBy.join() !== aggregate.groupBy.join()) {
    return `it is grouped by ${declared.groupBy.join(', ')}, not by ${aggregate.groupBy.join(', ')}`;
  }
  const changed = aggregate.measures.find(({ name, fn, field }) => {
    const known = allMeasures(declared).find((measure) => measure.name === name);
    return known?.fn !== fn || known?.field !== field;
  });
  return changed && `measure ${changed.name} was not applied`;
}

function mismatch(root: string, problem: string): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_SCHEMA_MISMATCH',
    `the pipeline file does not fit the table ${root}: ${problem}; see what it changes with ` +
      '`tidemark schema check FILE`, apply it with `tidemark schema apply FILE`',
    { context: { table: root } },
  );
}

function parseDeclared(schemaVersion: number, text: string): EventConfig {
  const name = `${DECLARED}${schemaVersion}`;
  const { id, time, fields } = parseProperty(name, text, eventShape);
  return { id, time, schemaVersion, schema: schemaFromJson(JSON.stringify(fields)) };
}

const eventShape = z.object({
  id: z.string(),
  time: z.object({ field: z.string(), unit: z.enum(['rfc3339', 's', 'ms', 'us']) }),
  fields: z.unknown(),
});

const measureShape = z
  .object({
    name: z.string(),
    fn: z.enum(['count', 'sum', 'min', 'max', 'avg', 'countDistinct']),
    field: z.string().optional(),
  })
  .transform(({ name, fn, field }): MeasureConfig => ({ name, fn, field }));

const aggregateShape = z.object({
  windowMs: z.number().int().positive(),
  groupBy: z.array(z.string()),
  measures: z.array(measureShape),
  retired: z.array(measureShape),
});

/** Other programs may change properties, so what is read back is checked. */
function parseProperty<T>(name: string, text: string, shape: z.ZodType<T>): T {
  try {
    return shape.parse(JSON.parse(text));
  } catch (thrown) {
    throw new PipelineError(
      'corrupt',
      'TM_LOG_CORRUPT',
      `the table property ${name} is not what Tidemark wrote; \`tidemark table history\` says who changed it`,
      { context: { property: name }, cause: thrown },
    );
  }
}

function declarationText({ id, time, schema }: EventConfig): string {
  const fields = schema.fields.map(({ name, type, nullable }) => [name, typeName(type), nullable]);
  fields.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  return JSON.stringify([id, time.field, time.unit, fields]);
}
