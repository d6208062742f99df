/**
 * The actions of one log entry: their form in memory and as newline-delimited JSON. Pure.
 * Source: PROTOCOL.md "Actions" and "Action Reconciliation".
 *
 * A1 An entry is read whole or not at all: half a line, garbage, or two actions that reconcile with
 *    each other make it corrupt, and the error names file and line.
 * A2 Unknown actions and unknown fields are ignored on read.
 * A3 commitInfo is the first line; no field that a reader may trip over is written as null.
 * A4 `txn` versions and all other 64-bit integers are exact.
 */
import { PipelineError } from '../../errors.ts';
import { parseExactJson, stringifyExactJson } from './exact-json.ts';
import { JsonFields, type Json } from './json-fields.ts';
import { decodeFilePath, encodeFilePath } from './log-path.ts';
import type { LiveFile } from './transaction.ts';

/** What a program must be able to do to read or write the table. */
export interface ProtocolAction {
  readonly minReaderVersion: number;
  readonly minWriterVersion: number;
  /** Only with reader version 3. */
  readonly readerFeatures?: readonly string[] | undefined;
  /** Only with writer version 7. */
  readonly writerFeatures?: readonly string[] | undefined;
}

/** The table itself: identity, schema, partitioning, properties. A later one replaces all of it. */
export interface MetadataAction {
  /** GUID of the table, stable over its life. */
  readonly id: string;
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly format: {
    readonly provider: string;
    readonly options: Readonly<Record<string, string>>;
  };
  /** Kept as the text that was read, so that nothing of it is lost in a checkpoint. */
  readonly schemaString: string;
  readonly partitionColumns: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
  readonly createdTimeMs?: number | undefined;
}

/** Progress of one application, committed with its data (P2). */
export interface TxnAction {
  readonly appId: string;
  readonly version: bigint;
  readonly lastUpdatedMs?: number | undefined;
}

/** A live file as the log spells it. */
export interface LoggedFile extends LiveFile {
  /** The path as another writer encoded it, where it is not our own encoding; removes repeat it. */
  readonly encodedPath?: string | undefined;
}

/** A file that was removed and that older snapshots may still need. */
export interface RemovedFile {
  readonly path: string;
  readonly encodedPath?: string | undefined;
  readonly dataChange: boolean;
  readonly deletionTimestampMs?: number | undefined;
  readonly partitionValues?: Readonly<Record<string, string | null>> | undefined;
  readonly sizeBytes?: number | undefined;
  /** Written in log entries; not read back and not in checkpoints. */
  readonly stats?: string | undefined;
}

/** Provenance. Free-form by protocol, so anything unexpected in a foreign one is ignored. */
export interface CommitInfo {
  readonly timestampMs?: number | undefined;
  readonly operation?: string | undefined;
  readonly operationParameters?: Readonly<Record<string, unknown>> | undefined;
  readonly operationMetrics?: Readonly<Record<string, unknown>> | undefined;
  readonly readVersion?: number | undefined;
  readonly isolationLevel?: string | undefined;
  readonly isBlindAppend?: boolean | undefined;
  readonly engineInfo?: string | undefined;
  /** Nonce of the attempt; decides whose the version is (P3). */
  readonly txnId?: string | undefined;
  /** Our own `tidemark` object. */
  readonly lineage?: Readonly<Record<string, unknown>> | undefined;
}

/** All actions of one version; each list in the order of the file. */
export interface LogEntry {
  readonly version: number;
  readonly commitInfo?: CommitInfo | undefined;
  readonly protocol?: ProtocolAction | undefined;
  readonly metadata?: MetadataAction | undefined;
  readonly txns: readonly TxnAction[];
  readonly adds: readonly LoggedFile[];
  readonly removes: readonly RemovedFile[];
}

/** Serialises an entry (A3), with a line feed after every action. */
export function encodeLogEntry(entry: LogEntry): Uint8Array {
  const lines = actionLines(entry).map((line) => `${stringifyExactJson(line)}\n`);
  return new TextEncoder().encode(lines.join(''));
}

/** The entry's actions as JSON objects with the action's name as the only key. */
export function actionLines(entry: LogEntry): Json[] {
  const lines: Json[] = [];
  if (entry.commitInfo) lines.push({ commitInfo: commitInfoToJson(entry.commitInfo) });
  if (entry.protocol) lines.push({ protocol: protocolToJson(entry.protocol) });
  if (entry.metadata) lines.push({ metaData: metadataToJson(entry.metadata) });
  for (const txn of entry.txns) lines.push({ txn: txnToJson(txn) });
  for (const file of entry.removes) lines.push({ remove: removeToJson(file) });
  for (const file of entry.adds) lines.push({ add: addToJson(file) });
  return lines;
}

/**
 * Reads the log entry of `version` (A1, A2).
 * @param source the file's name, for messages
 * @throws PipelineError corrupt, or invalid for a feature this version cannot handle
 */
export function decodeLogEntry(version: number, bytes: Uint8Array, source: string): LogEntry {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw corruptLog(source, 'not UTF-8', cause);
  }
  const entry = new EntryBuilder(version, version);
  let lineNumber = 0;
  let actions = 0;
  for (const line of text.split('\n')) {
    lineNumber++;
    if (line.trim() === '') continue;
    actions++;
    const place = `${source} line ${lineNumber}`;
    let json: unknown;
    try {
      json = parseExactJson(line);
    } catch (cause) {
      throw corruptLog(place, 'not JSON', cause);
    }
    entry.take(JsonFields.of(json, place));
  }
  if (actions === 0) throw corruptLog(source, 'holds no action');
  return entry.done();
}

/** An error that names the file that contradicts the protocol. */
export function corruptLog(place: string, problem: string, cause?: unknown): PipelineError {
  return new PipelineError('corrupt', 'TM_LOG_CORRUPT', `${place}: ${problem}`, { cause });
}

/**
 * Runs what may refuse a part of a log without knowing where it stands.
 * @throws PipelineError that names `place`
 */
export function namingPlace<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    if (!(thrown instanceof PipelineError)) throw thrown;
    const { kind, code, message, context, cause } = thrown;
    throw new PipelineError(kind, code, `${place}: ${message}`, { context, cause });
  }
}

/** Collects the actions of one entry and refuses those that reconcile with each other (A1). */
export class EntryBuilder {
  readonly #version: number;
  readonly #addedVersion: number | undefined;
  #commitInfo: CommitInfo | undefined;
  #protocol: ProtocolAction | undefined;
  #metadata: MetadataAction | undefined;
  readonly #txns = new Map<string, TxnAction>();
  readonly #adds = new Map<string, LoggedFile>();
  readonly #removes = new Map<string, RemovedFile>();

  /** @param addedVersion undefined when the lines are of a checkpoint; see LiveFile.addedVersion */
  constructor(version: number, addedVersion: number | undefined) {
    this.#version = version;
    this.#addedVersion = addedVersion;
  }

  /** Takes one line, an object with the action's name as its key. */
  take(line: JsonFields): void {
    const commitInfo = line.optionalObject('commitInfo');
    if (commitInfo) this.#commitInfo ??= commitInfoFromJson(commitInfo);
    const protocol = line.optionalObject('protocol');
    if (protocol) {
      if (this.#protocol) throw corruptLog(line.place, 'a second protocol action in one version');
      this.#protocol = protocolFromJson(protocol);
    }
    const metadata = line.optionalObject('metaData');
    if (metadata) {
      if (this.#metadata) throw corruptLog(line.place, 'a second metaData action in one version');
      this.#metadata = metadataFromJson(metadata);
    }
    const txn = line.optionalObject('txn');
    if (txn) this.#takeTxn(txnFromJson(txn), line.place);
    const add = line.optionalObject('add');
    if (add) this.#takeFile(this.#adds, addFromJson(add, this.#addedVersion), line.place);
    const remove = line.optionalObject('remove');
    if (remove) this.#takeFile(this.#removes, removeFromJson(remove), line.place);
  }

  done(): LogEntry {
    return {
      version: this.#version,
      commitInfo: this.#commitInfo,
      protocol: this.#protocol,
      metadata: this.#metadata,
      txns: [...this.#txns.values()],
      adds: [...this.#adds.values()],
      removes: [...this.#removes.values()],
    };
  }

  #takeTxn(txn: TxnAction, place: string): void {
    if (this.#txns.has(txn.appId)) {
      throw corruptLog(place, `a second txn of ${txn.appId} in one version`);
    }
    this.#txns.set(txn.appId, txn);
  }

  #takeFile<T extends { readonly path: string }>(to: Map<string, T>, file: T, place: string): void {
    if (this.#adds.has(file.path) || this.#removes.has(file.path)) {
      throw corruptLog(place, `two actions for the file ${file.path} in one version`);
    }
    to.set(file.path, file);
  }
}

function commitInfoToJson(info: CommitInfo): Json {
  return {
    timestamp: info.timestampMs,
    operation: info.operation,
    operationParameters: info.operationParameters,
    readVersion: info.readVersion,
    isolationLevel: info.isolationLevel,
    isBlindAppend: info.isBlindAppend,
    operationMetrics: info.operationMetrics,
    engineInfo: info.engineInfo,
    txnId: info.txnId,
    tidemark: info.lineage,
  };
}

function commitInfoFromJson(json: JsonFields): CommitInfo {
  const { fields } = json;
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
  const integer = (value: unknown) => (Number.isSafeInteger(value) ? (value as number) : undefined);
  const blind = fields['isBlindAppend'];
  return {
    timestampMs: integer(fields['timestamp']),
    operation: text(fields['operation']),
    operationParameters: objectOrNothing(fields['operationParameters']),
    operationMetrics: objectOrNothing(fields['operationMetrics']),
    readVersion: integer(fields['readVersion']),
    isolationLevel: text(fields['isolationLevel']),
    isBlindAppend: typeof blind === 'boolean' ? blind : undefined,
    engineInfo: text(fields['engineInfo']),
    txnId: text(fields['txnId']),
    lineage: objectOrNothing(fields['tidemark']),
  };
}

function objectOrNothing(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function protocolToJson(protocol: ProtocolAction): Json {
  return { ...protocol };
}

function protocolFromJson(json: JsonFields): ProtocolAction {
  return {
    minReaderVersion: json.integer('minReaderVersion'),
    minWriterVersion: json.integer('minWriterVersion'),
    readerFeatures: json.optionalStrings('readerFeatures'),
    writerFeatures: json.optionalStrings('writerFeatures'),
  };
}

function metadataToJson(metadata: MetadataAction): Json {
  return {
    id: metadata.id,
    name: metadata.name,
    description: metadata.description,
    format: metadata.format,
    schemaString: metadata.schemaString,
    partitionColumns: metadata.partitionColumns,
    configuration: metadata.configuration,
    createdTime: metadata.createdTimeMs,
  };
}

function metadataFromJson(json: JsonFields): MetadataAction {
  const format = json.optionalObject('format');
  return {
    id: json.text('id'),
    name: json.optionalText('name'),
    description: json.optionalText('description'),
    format: {
      provider: format?.text('provider') ?? 'parquet',
      options: format?.optionalTextMap('options') ?? {},
    },
    schemaString: json.text('schemaString'),
    partitionColumns: json.optionalStrings('partitionColumns') ?? [],
    configuration: json.optionalTextMap('configuration') ?? {},
    createdTimeMs: json.optionalInteger('createdTime'),
  };
}

function txnToJson(txn: TxnAction): Json {
  return { appId: txn.appId, version: txn.version, lastUpdated: txn.lastUpdatedMs };
}

function txnFromJson(json: JsonFields): TxnAction {
  return {
    appId: json.text('appId'),
    version: json.long('version'),
    lastUpdatedMs: json.optionalInteger('lastUpdated'),
  };
}

function addToJson(file: LoggedFile): Json {
  return {
    path: file.encodedPath ?? encodeFilePath(file.path),
    partitionValues: file.partitionValues,
    size: file.sizeBytes,
    modificationTime: file.modifiedMs,
    dataChange: file.dataChange,
    stats: file.stats,
    tags: file.tags,
  };
}

function addFromJson(json: JsonFields, addedVersion: number | undefined): LoggedFile {
  refuseDeletionVector(json);
  return {
    ...pathFromJson(json),
    partitionValues: json.partitionValues('partitionValues') ?? {},
    sizeBytes: json.integer('size'),
    modifiedMs: json.integer('modificationTime'),
    stats: json.optionalText('stats'),
    tags: json.optionalTextMap('tags'),
    addedVersion,
    dataChange: json.boolean('dataChange'),
  };
}

function removeToJson(file: RemovedFile): Json {
  return {
    path: file.encodedPath ?? encodeFilePath(file.path),
    deletionTimestamp: file.deletionTimestampMs,
    dataChange: file.dataChange,
    extendedFileMetadata: file.partitionValues !== undefined && file.sizeBytes !== undefined,
    partitionValues: file.partitionValues,
    size: file.sizeBytes,
    stats: file.stats,
  };
}

function removeFromJson(json: JsonFields): RemovedFile {
  refuseDeletionVector(json);
  return {
    ...pathFromJson(json),
    dataChange: json.boolean('dataChange'),
    deletionTimestampMs: json.optionalInteger('deletionTimestamp'),
    partitionValues: json.partitionValues('partitionValues'),
    sizeBytes: json.optionalInteger('size'),
  };
}

/** Decodes the path; remembers its spelling where ours would differ. */
function pathFromJson(json: JsonFields): { path: string; encodedPath: string | undefined } {
  const encodedPath = json.text('path');
  return namingPlace(json.place, () => {
    const path = decodeFilePath(encodedPath);
    return { path, encodedPath: encodeFilePath(path) === encodedPath ? undefined : encodedPath };
  });
}

function refuseDeletionVector(json: JsonFields): void {
  if (json.optionalObject('deletionVector') === undefined) return;
  const message = `${json.place}: the table uses deletion vectors`;
  throw new PipelineError('invalid', 'TM_LOG_UNSUPPORTED', message);
}
