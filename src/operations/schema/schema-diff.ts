/**
 * What a pipeline file's schema changes in the tables that are there. Pure.
 *
 * Invariants:
 * - SD1 Only what Delta's reader 1 and writer 2 hold without rewriting a file is compatible: added
 *   columns. A column's type is for ever; values that do not fit it are kept in `_rescued`.
 * - SD2 Nothing is lost by a compatible change: a field that is not declared any more keeps its column,
 *   and what producers still send of it is kept in `_rescued`.
 */
import {
  allMeasures,
  declaredAggregate,
  declaredEvents,
  sameDeclaration,
} from '../../engine/declared-schema.ts';
import type {
  AggregateConfig,
  EventConfig,
  MeasureConfig,
  PipelineConfig,
} from '../../pipeline/pipeline-config.ts';
import { goldTableSchema } from '../../pipeline/gold/gold-schema.ts';
import type { DataType, StructType } from '../../pipeline/types.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import { typeName } from '../../storage/delta/schema-json.ts';

/** One difference. */
export interface SchemaChange {
  readonly kind:
    | 'added'
    | 'removed'
    | 'widened'
    | 'retyped'
    | 'now required'
    | 'now optional'
    | 'id'
    | 'time'
    | 'version'
    | 'window'
    | 'groups';
  /** Field, measure or key of the pipeline file. */
  readonly name: string;
  readonly from: string | undefined;
  readonly to: string | undefined;
  readonly compatible: boolean;
  /** What it means, or what to do instead. */
  readonly message: string;
}

/** Differences of one table. */
export interface TableChanges {
  readonly table: string;
  readonly changes: readonly SchemaChange[];
}

/** What applying a file would do. */
export interface SchemaDiff {
  /** Newest version that was applied; undefined for tables from before schemas were kept. */
  readonly appliedVersion: number | undefined;
  readonly fileVersion: number;
  readonly silver: TableChanges;
  /** Of the aggregates whose tables exist. */
  readonly gold: readonly TableChanges[];
  readonly compatible: boolean;
  /** Whether rows that are there would read differently when derived again. */
  readonly needsRebuild: boolean;
}

/** A gold table that is there. */
export interface GoldTable {
  readonly root: string;
  readonly snapshot: Snapshot;
}

/**
 * Compares a file with the tables.
 * @param gold by aggregate name, the tables that exist
 */
export function diffSchema(
  silver: { readonly root: string; readonly snapshot: Snapshot },
  gold: ReadonlyMap<string, GoldTable>,
  config: PipelineConfig,
): SchemaDiff {
  const declared = declaredEvents(silver.snapshot.configuration);
  const applied = declared.at(-1);
  const silverChanges = eventChanges(silver.snapshot.schema, declared, config.event);
  const goldChanges = config.gold.flatMap((aggregate): TableChanges[] => {
    const table = gold.get(aggregate.name);
    if (table === undefined) return [];
    return [{ table: table.root, changes: goldTableChanges(table, aggregate, config.event) }];
  });
  const all = [...silverChanges, ...goldChanges.flatMap(({ changes }) => changes)];
  return {
    appliedVersion: applied?.schemaVersion,
    fileVersion: config.event.schemaVersion,
    silver: { table: silver.root, changes: silverChanges },
    gold: goldChanges,
    compatible: all.every(({ compatible }) => compatible),
    needsRebuild: all.some(({ kind }) => REREAD.has(kind)),
  };
}

/** Changes after which rows that are there would be derived otherwise. */
const REREAD: ReadonlySet<SchemaChange['kind']> = new Set(['added', 'time', 'groups']);

function eventChanges(
  table: StructType,
  declared: readonly EventConfig[],
  event: EventConfig,
): SchemaChange[] {
  const applied = declared.at(-1);
  const changes: SchemaChange[] = [];
  const before = new Map((applied?.schema ?? table).fields.map((f) => [f.name, f]));
  for (const { name, type, nullable } of event.schema.fields) {
    const column = table.fields.find((f) => f.name === name);
    const to = typeName(type);
    if (column === undefined) {
      changes.push(compatible('added', name, undefined, to, 'null in the rows that are there'));
      continue;
    }
    const from = typeName(column.type);
    if (from !== to) {
      changes.push(retyped(name, column.type, type));
      continue;
    }
    const field = before.get(name);
    if (field === undefined) {
      const message = 'its column is still there, with the values it had';
      changes.push(compatible('added', name, undefined, to, message));
    } else if (applied && field.nullable !== nullable) {
      changes.push(
        nullable
          ? compatible('now optional', name, 'required', 'optional', RETRY(name))
          : compatible('now required', name, 'optional', 'required', NOW_REQUIRED),
      );
    }
  }
  if (applied === undefined) return changes;
  const names = new Set(event.schema.fields.map((f) => f.name));
  for (const { name, type } of applied.schema.fields) {
    if (names.has(name)) continue;
    const message =
      'its column stays and is null from now on; values that still come are in _rescued';
    changes.push(compatible('removed', name, typeName(type), undefined, message));
  }
  return [...changes, ...keyChanges(declared, applied, event)];
}

function keyChanges(
  declared: readonly EventConfig[],
  applied: EventConfig,
  event: EventConfig,
): SchemaChange[] {
  const changes: SchemaChange[] = [];
  if (applied.id !== event.id) {
    const message = 'events that are there are known by the old id; use another pipeline name';
    changes.push(incompatible('id', 'event.id', applied.id, event.id, message));
  }
  const time = ({ time: { field, unit } }: EventConfig): string => `${field} (${unit})`;
  if (time(applied) !== time(event)) {
    const message = 'rows that are there keep the time they have until they are rebuilt';
    changes.push(compatible('time', 'event.time', time(applied), time(event), message));
  }
  const version = event.schemaVersion;
  const same = declared.find((one) => one.schemaVersion === version);
  const next = applied.schemaVersion + 1;
  if (same ? !sameDeclaration(same, event) : version < next) {
    const problem = same ? `version ${version} was applied with other fields` : 'versions go up';
    const message = `${problem}; set event.schema.version to ${next}`;
    changes.push(
      incompatible(
        'version',
        'event.schema.version',
        String(applied.schemaVersion),
        String(version),
        message,
      ),
    );
  }
  return changes;
}

const NOW_REQUIRED =
  'rows without it stay; a rebuild refuses dates that have such rows, and new events without it are dead letters';
const RETRY = (name: string): string =>
  `events that were refused for it come in with \`tidemark dlq retry --flag missing_required:${name}\``;

/** SD1 */
function retyped(name: string, from: DataType, to: DataType): SchemaChange {
  const wider = isWidening(from, to);
  const kept = wider ? 'out_of_range' : 'type_mismatch';
  const message =
    'a column keeps its type: declare it as before (values that do not fit are flagged ' +
    `${kept}:${name} and kept in _rescued), or have producers send another field and declare that`;
  return incompatible(wider ? 'widened' : 'retyped', name, typeName(from), typeName(to), message);
}

const INTEGERS = ['byte', 'short', 'integer', 'long'];
const FLOATS = ['float', 'double'];

/** Whether every value of one type is a value of the other. */
function isWidening(from: DataType, to: DataType): boolean {
  if (from.kind === 'decimal' && to.kind === 'decimal') {
    const digits = to.precision - to.scale >= from.precision - from.scale;
    return digits && to.scale >= from.scale;
  }
  if (from.kind !== 'primitive' || to.kind !== 'primitive') return false;
  return [INTEGERS, FLOATS].some((order) => {
    const at = order.indexOf(from.name);
    return at >= 0 && order.indexOf(to.name) > at;
  });
}

function goldTableChanges(
  { snapshot }: GoldTable,
  aggregate: AggregateConfig,
  event: EventConfig,
): SchemaChange[] {
  const changes: SchemaChange[] = [];
  const columns = new Map(snapshot.schema.fields.map((f) => [f.name, f]));
  const declared = declaredAggregate(snapshot.configuration);
  for (const { name, type } of goldTableSchema(aggregate, event).fields) {
    const column = columns.get(name);
    const to = typeName(type);
    if (column === undefined) {
      changes.push(compatible('added', name, undefined, to, 'null until its date is rebuilt'));
    } else if (typeName(column.type) !== to) {
      const message = 'a column keeps its type: give the measure another name';
      changes.push(incompatible('retyped', name, typeName(column.type), to, message));
    }
  }
  if (declared === undefined) return changes;
  if (declared.windowMs !== aggregate.windowMs) {
    const message = 'windows of two sizes cannot be in one table: give the aggregate another name';
    const size = (ms: number): string => `${ms} ms`;
    changes.push(
      incompatible('window', 'window', size(declared.windowMs), size(aggregate.windowMs), message),
    );
  }
  const [from, to] = [declared.groupBy.join(', '), aggregate.groupBy.join(', ')];
  if (from !== to) {
    const message = 'dates that are there keep the old groups until they are rebuilt';
    changes.push(compatible('groups', 'groupBy', from, to, message));
  }
  const meaning = ({ fn, field }: MeasureConfig): string => `${fn}(${field ?? '*'})`;
  for (const measure of allMeasures(declared)) {
    const now = aggregate.measures.find(({ name }) => name === measure.name);
    if (now !== undefined && meaning(now) !== meaning(measure)) {
      const message = 'one column would mean two things: give the measure another name';
      changes.push(incompatible('retyped', measure.name, meaning(measure), meaning(now), message));
    } else if (now === undefined && declared.measures.includes(measure)) {
      const message = 'its column stays and is null in windows that are computed from now on';
      changes.push(compatible('removed', measure.name, meaning(measure), undefined, message));
    }
  }
  return changes;
}

function compatible(
  kind: SchemaChange['kind'],
  name: string,
  from: string | undefined,
  to: string | undefined,
  message: string,
): SchemaChange {
  return { kind, name, from, to, compatible: true, message };
}

function incompatible(
  kind: SchemaChange['kind'],
  name: string,
  from: string | undefined,
  to: string | undefined,
  message: string,
): SchemaChange {
  return { kind, name, from, to, compatible: false, message };
}
