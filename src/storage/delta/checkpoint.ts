/**
 * The content of a classic single-file checkpoint: a snapshot as actions, the actions as Parquet
 * columns, and the way back. Pure. Source: PROTOCOL.md "Checkpoints", "Last Checkpoint File".
 *
 * K1 A checkpoint holds protocol, metaData, txn, live files and unexpired removes, each once, and no
 *    provenance. Replaying it gives the snapshot it was made from.
 * K2 Every leaf is nullable; columns of table features exist only where the table has features.
 */
import { assert } from '../../errors.ts';
import { type CellValue, columnsFromRows, rowsFromColumns } from '../../pipeline/column-builder.ts';
import type { ColumnBatch } from '../../pipeline/columns.ts';
import { type DataType, field, type StructType, struct } from '../../pipeline/types.ts';
import { actionLines, EntryBuilder, type LogEntry } from './actions.ts';
import { parseExactJson, stringifyExactJson } from './exact-json.ts';
import { type Json, JsonFields } from './json-fields.ts';
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
  const rows = actionLines(entry).map((line) => cellOf(schema, line) as Record<string, CellValue>);
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
  const entry = new EntryBuilder(version, undefined);
  for (const part of parts) {
    for (const row of rowsFromColumns(part)) entry.take(JsonFields.of(jsonOf(row), source));
  }
  return entry.done();
}

/** Whether two checkpoint contents say the same in the same order. */
export function sameActions(a: LogEntry, b: LogEntry): boolean {
  const left = actionLines(a);
  const right = actionLines(b);
  if (left.length !== right.length) return false;
  return left.every((line, i) => stringifyExactJson(line) === stringifyExactJson(right[i]));
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

function cellOf(type: DataType, value: unknown): CellValue {
  if (value === undefined || value === null) return null;
  switch (type.kind) {
    case 'primitive':
      return type.name === 'long' ? BigInt(value as number | bigint) : (value as CellValue);
    case 'array':
      return (value as readonly unknown[]).map((item) => cellOf(type.element, item));
    case 'map':
      return new Map(
        Object.entries(value).map(([key, item]) => [key, cellOf(type.value, item)] as const),
      );
    case 'struct':
      return Object.fromEntries(
        type.fields.map(({ name, type: member }) => [name, cellOf(member, (value as Json)[name])]),
      );
    case 'decimal':
      assert(false, 'checkpoints hold no decimals');
  }
}

function jsonOf(cell: CellValue): unknown {
  if (typeof cell === 'bigint') {
    return Number.isSafeInteger(Number(cell)) ? Number(cell) : cell;
  }
  if (typeof cell !== 'object' || cell === null || cell instanceof Uint8Array) return cell;
  if (Array.isArray(cell)) return cell.map(jsonOf);
  const entries = cell instanceof Map ? [...cell] : Object.entries(cell as Json);
  return Object.fromEntries(entries.map(([key, item]) => [String(key), jsonOf(item as CellValue)]));
}
