/**
 * The content of a classic single-file checkpoint: a snapshot as actions, the actions as Parquet
 * columns, and the way back. Pure. Source: PROTOCOL.md "Checkpoints", "Last Checkpoint File".
 *
 * K1 A checkpoint holds protocol, metaData, txn, live files and unexpired removes, each once, and no
 *    provenance. Replaying it gives the snapshot it was made from.
 * K2 Every leaf is nullable; columns of table features exist only where the table has features.
 */
import { type CellValue, cellAt, columnsFromRows } from '../../pipeline/column-builder.ts';
import { type ColumnBatch, isNullAt, type Vector } from '../../pipeline/columns.ts';
import { type DataType, field, type StructType, struct } from '../../pipeline/types.ts';
import { actionLines, EntryBuilder, type LogEntry, type RemovedFile } from './actions.ts';
import { parseExactJson } from './exact-json.ts';
import { JsonFields } from './json-fields.ts';
import { isUnexpired, type TableSnapshot } from './snapshot.ts';

/** What `_last_checkpoint` says. */
export interface LastCheckpoint {
  readonly version: number;
  /** Actions in it. */
  readonly size: number;
  readonly sizeInBytes: number;
  readonly numOfAddFiles: number;
}

const STRINGS: DataType = { kind: 'array', element: stringType(), containsNull: true };
const STRING_MAP: DataType = {
  kind: 'map',
  key: stringType(),
  value: stringType(),
  valueContainsNull: true,
};

const TXN = struct([
  field('appId', 'string'),
  field('version', 'long'),
  field('lastUpdated', 'long'),
]);

const ADD = struct([
  field('path', 'string'),
  field('partitionValues', STRING_MAP),
  field('size', 'long'),
  field('modificationTime', 'long'),
  field('dataChange', 'boolean'),
  field('stats', 'string'),
  field('tags', STRING_MAP),
]);

const REMOVE = struct([
  field('path', 'string'),
  field('deletionTimestamp', 'long'),
  field('dataChange', 'boolean'),
  field('extendedFileMetadata', 'boolean'),
  field('partitionValues', STRING_MAP),
  field('size', 'long'),
]);

const METADATA = struct([
  field('id', 'string'),
  field('name', 'string'),
  field('description', 'string'),
  field('format', struct([field('provider', 'string'), field('options', STRING_MAP)])),
  field('schemaString', 'string'),
  field('partitionColumns', STRINGS),
  field('configuration', STRING_MAP),
  field('createdTime', 'long'),
]);

const PROTOCOL = struct([
  field('minReaderVersion', 'integer'),
  field('minWriterVersion', 'integer'),
]);

const PROTOCOL_WITH_FEATURES = struct([
  ...PROTOCOL.fields,
  field('readerFeatures', STRINGS),
  field('writerFeatures', STRINGS),
]);

/** Only so much of it that its presence shows. */
const DELETION_VECTOR = field('deletionVector', struct([field('storageType', 'string')]));

/** What is read of a checkpoint, whoever wrote it. */
export const CHECKPOINT_READ_SCHEMA: StructType = struct([
  field('protocol', PROTOCOL_WITH_FEATURES),
  field('metaData', METADATA),
  field('txn', TXN),
  field('add', struct([...ADD.fields, DELETION_VECTOR])),
  field('remove', struct([...REMOVE.fields, DELETION_VECTOR])),
]);

/**
 * The actions of a checkpoint (K1).
 * @param expiryMs removes older than this, milliseconds since the epoch, are left out
 */
export function checkpointEntry(snapshot: TableSnapshot, expiryMs: number): LogEntry {
  return {
    version: snapshot.version,
    protocol: snapshot.protocol,
    metadata: snapshot.metadata,
    txns: snapshot.txns(),
    adds: snapshot.files().map((file) => ({ ...file, dataChange: false })),
    removes: snapshot
      .tombstones()
      .filter((file) => isUnexpired(file, expiryMs))
      .map((file) => ({ ...file, dataChange: false })),
  };
}

/** The columns to encode, one row per action (K2). */
export function checkpointColumns(entry: LogEntry): ColumnBatch {
  const features = entry.protocol?.readerFeatures ?? entry.protocol?.writerFeatures;
  const schema = struct([
    field('protocol', features ? PROTOCOL_WITH_FEATURES : PROTOCOL),
    field('metaData', METADATA),
    field('txn', TXN),
    field('add', ADD),
    field('remove', REMOVE),
  ]);
  const rows = actionLines(entry) as readonly Readonly<Record<string, CellValue>>[];
  return columnsFromRows(schema, rows);
}

/**
 * Reads the decoded parts of a checkpoint.
 * @param source names the checkpoint, for messages
 * @throws PipelineError corrupt | invalid
 */
export function entryFromCheckpoint(
  version: number,
  parts: readonly ColumnBatch[],
  source: string,
): LogEntry {
  const removes = (): readonly RemovedFile[] => replayed(version, parts, source, 'removes').removes;
  let known: readonly RemovedFile[] | undefined;
  return {
    ...replayed(version, parts, source, 'others'),
    // Made when they are asked for: opening a table does without them.
    get removes() {
      return (known ??= removes());
    },
  };
}

/** The removes of a checkpoint, or all its other actions. */
function replayed(
  version: number,
  parts: readonly ColumnBatch[],
  source: string,
  wanted: 'removes' | 'others',
): LogEntry {
  const entry = new EntryBuilder(version, undefined);
  for (const part of parts) {
    const actions = part.schema.fields.flatMap(({ name }, i) =>
      (name === 'remove') === (wanted === 'removes')
        ? [{ name, column: overBuffers(part.columns[i]!) }]
        : [],
    );
    for (let row = 0; row < part.length; row++) {
      const action = actions.find(({ column }) => !isNullAt(column, row));
      if (!action) continue;
      entry.take(JsonFields.of({ [action.name]: jsonAt(action.column, row) }, source));
    }
  }
  return entry.done();
}

/** The bytes of `_last_checkpoint`. */
export function encodeLastCheckpoint(hint: LastCheckpoint): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(hint));
}

/**
 * The version that `_last_checkpoint` names.
 * @returns undefined when it is unreadable: it is only a hint
 */
export function decodeLastCheckpoint(bytes: Uint8Array | undefined): number | undefined {
  if (!bytes) return undefined;
  try {
    const hint = JsonFields.of(parseExactJson(new TextDecoder().decode(bytes)), '_last_checkpoint');
    const version = hint.integer('version');
    return version >= 0 ? version : undefined;
  } catch {
    return undefined;
  }
}

function stringType(): DataType {
  return { kind: 'primitive', name: 'string' };
}

/** A cell of `overBuffers` as JSON.parse would give it; integers as in exact-json.ts. */
function jsonAt(vector: Vector, row: number): unknown {
  if (isNullAt(vector, row)) return null;
  const { type, children } = vector;
  switch (type.kind) {
    case 'struct': {
      const json: Record<string, unknown> = {};
      type.fields.forEach((member, i) => {
        json[member.name] = jsonAt(children![i]!, row);
      });
      return json;
    }
    case 'array':
      return itemRows(vector, row).map((item) => jsonAt(children![0]!, item));
    case 'map': {
      const [keys, values] = children![0]!.children!;
      return Object.fromEntries(
        itemRows(vector, row).map((item) => [jsonAt(keys!, item), jsonAt(values!, item)]),
      );
    }
    case 'primitive': {
      const cell = type.name === 'string' ? textAt(vector, row) : cellAt(vector, row);
      return typeof cell === 'bigint' && Number.isSafeInteger(Number(cell)) ? Number(cell) : cell;
    }
    case 'decimal':
      return cellAt(vector, row);
  }
}

function itemRows(vector: Vector, row: number): number[] {
  const first = vector.offsets![row]!;
  return Array.from({ length: vector.offsets![row + 1]! - first }, (_, i) => first + i);
}

/** The same vector over Buffers, whose texts are much cheaper to read one by one. */
function overBuffers(vector: Vector): Vector {
  const { data, children } = vector;
  return {
    ...vector,
    data: data && Buffer.from(data.buffer, data.byteOffset, data.byteLength),
    children: children?.map(overBuffers),
  };
}

function textAt({ data, offsets }: Vector, row: number): string {
  return (data as Buffer).toString('utf8', offsets![row]!, offsets![row + 1]!);
}
