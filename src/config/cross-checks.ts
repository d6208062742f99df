/**
 * Rules between the parts of a pipeline file, and the parsing of its field types. Works on whatever
 * parts have the right shape (salvage.ts), so that one run names every problem. Pure.
 */
import type { DataType, StructField } from '../pipeline/types.ts';
import { columnNameProblem, FIELD_TYPES_EXPECTED, parseFieldType } from './field-type.ts';
import { nearest } from './nearest.ts';
import type { PipelineFile } from './pipeline-file.ts';
import type { ConfigPath } from './problem.ts';
import type { Salvaged } from './salvage.ts';

/** A problem before its line is known. */
export interface Finding {
  readonly path: ConfigPath;
  readonly found: string;
  readonly expected: string;
  readonly remedy: string;
}

export interface CheckedFile {
  readonly findings: readonly Finding[];
  /** Declared fields in order, as far as their types could be read. */
  readonly fields: readonly StructField[];
}

const DAY_MS = 86_400_000;
const INTEGERS = ['byte', 'short', 'integer', 'long'];
const NUMBERS = [...INTEGERS, 'float', 'double'];
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|::1|\[::1\])$/;

/** Every broken rule, in the order of the file's sections. */
export function crossCheck(file: Salvaged<PipelineFile>): CheckedFile {
  const findings: Finding[] = [];
  const report = (path: ConfigPath, found: string, expected: string, remedy = ''): void => {
    findings.push({ path, found, expected, remedy });
  };
  checkSource(file, report);
  const fields = file.event ? checkFields(file.event, report) : [];
  if (file.event) checkIdAndTime(file.event, fields, report);
  if (file.gold) checkGold(file.gold, file, fields, report);
  checkOperations(file, report);
  return { findings, fields };
}

type File = Salvaged<PipelineFile>;
type Event = NonNullable<File['event']>;
type Aggregate = NonNullable<NonNullable<File['gold']>[number]>;
type Report = (path: ConfigPath, found: string, expected: string, remedy?: string) => void;

function checkSource(file: File, report: Report): void {
  const source = file.source;
  if (!source) return;
  if (source.kind === 'embedded') {
    const declared = file.event?.schema?.fields && Object.keys(file.event.schema.fields);
    if (source.key !== undefined && declared && !declared.includes(source.key)) {
      reportUnknownField(['source', 'key'], source.key, declared, report);
    }
    return;
  }
  if (source.kind !== 'kafka') return;
  for (const [index, broker] of (source.brokers ?? []).entries()) {
    if (broker === undefined) continue;
    const port = Number(broker.slice(broker.lastIndexOf(':') + 1));
    if (port < 1 || port > 65_535) {
      report(['source', 'brokers', index], `port ${port}`, 'a port from 1 to 65535');
    }
  }
  const tls = source.tls;
  if (tls && tls !== true && (tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    report(['source', 'tls'], 'only one of certFile and keyFile', 'both or neither');
  }
  const sasl = source.sasl;
  if (sasl?.mechanism === 'plain' && !tls) {
    report(
      ['source', 'sasl', 'mechanism'],
      'plain without tls',
      'a mechanism that does not send the password in clear',
      'add `tls: true`, or use scram-sha-512',
    );
  }
  if (sasl?.mechanism === 'oauthbearer') {
    const { tokenFile, tokenUrl, clientId, clientSecret } = sasl;
    const grant = [tokenUrl, clientId, clientSecret];
    const whole = tokenFile !== undefined ? grant.every((part) => part === undefined) : true;
    if (!whole || (tokenFile === undefined && grant.some((part) => part === undefined))) {
      report(
        ['source', 'sasl'],
        'an incomplete or ambiguous token source',
        'either tokenFile, or tokenUrl with clientId and clientSecret',
      );
    }
    if (tokenUrl !== undefined && !isSafeUrl(tokenUrl)) {
      report(['source', 'sasl', 'tokenUrl'], 'a URL that is not https', 'an https URL');
    }
  }
}

function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.test(url.hostname));
}

function checkFields(event: Event, report: Report): StructField[] {
  const fields: StructField[] = [];
  const seen = new Map<string, string>();
  const specs = Object.entries(event.schema?.fields ?? {});
  if (event.schema?.fields && specs.length === 0) {
    report(['event', 'schema', 'fields'], 'no field', 'at least one field');
  }
  for (const [name, spec] of specs) {
    const path = ['event', 'schema', 'fields', name];
    checkColumnName(name, path, seen, report);
    const inline = typeof spec === 'string';
    const text = inline ? spec : spec?.type;
    if (text === undefined) continue;
    const parsed = parseFieldType(text);
    if (parsed.ok) {
      fields.push({ name, type: parsed.type, nullable: inline || !spec?.required });
    } else {
      const found = `"${text}", which ${parsed.reason}`;
      report(inline ? path : [...path, 'type'], found, FIELD_TYPES_EXPECTED);
    }
  }
  return fields;
}

function checkColumnName(
  name: string,
  path: ConfigPath,
  seen: Map<string, string>,
  report: Report,
): void {
  const refused = columnNameProblem(name);
  if (refused) {
    report(path, `a column ${refused}`, 'a name that every Parquet reader accepts', 'rename it');
  }
  if (name.startsWith('_')) {
    report(
      path,
      `"${name}"`,
      'a name that does not start with "_", which Tidemark keeps for itself',
    );
  }
  const other = seen.get(name.toLowerCase());
  if (other !== undefined) {
    report(path, `"${name}" beside "${other}"`, 'column names that differ by more than case');
  }
  seen.set(name.toLowerCase(), name);
}

function reportUnknownField(
  path: ConfigPath,
  name: string,
  declared: Iterable<string>,
  report: Report,
): void {
  const meant = nearest(name, declared);
  report(
    path,
    `"${name}", which is not declared`,
    'a field of event.schema.fields',
    meant ? `did you mean "${meant}"?` : 'declare it, or name another',
  );
}

function checkIdAndTime(event: Event, fields: readonly StructField[], report: Report): void {
  if (!event.schema?.fields) return;
  const declared = Object.keys(event.schema.fields);
  const { id } = event;
  const idType = fields.find((f) => f.name === id)?.type;
  if (id !== undefined && !declared.includes(id)) {
    reportUnknownField(['event', 'id'], id, declared, report);
  } else if (idType && !isPrimitive(idType, ['string', ...INTEGERS])) {
    report(['event', 'id'], `"${id}" of another type`, 'a field of type string or an integer');
  }
  const inline = typeof event.time === 'string';
  const name = typeof event.time === 'string' ? event.time : event.time?.field;
  const path = inline ? ['event', 'time'] : ['event', 'time', 'field'];
  if (name === undefined) return;
  const timeType = fields.find((f) => f.name === name)?.type;
  if (!declared.includes(name)) reportUnknownField(path, name, declared, report);
  else if (timeType && !isPrimitive(timeType, ['timestamp'])) {
    report(
      ['event', 'schema', 'fields', name],
      'another type for the event time',
      'timestamp',
      'epoch numbers are declared timestamp too, with `time: {field: ..., unit: ms}`',
    );
  }
}

function isPrimitive(type: DataType, names: readonly string[]): boolean {
  return type.kind === 'primitive' && names.includes(type.name);
}

function checkGold(
  gold: NonNullable<File['gold']>,
  file: File,
  fields: readonly StructField[],
  report: Report,
): void {
  const names = new Set<string>();
  const declared = file.event?.schema?.fields && Object.keys(file.event.schema.fields);
  const reserved = file.name === undefined ? '' : `${tableNameOf(file.name)}_reconciliation`;
  for (const [index, aggregate] of gold.entries()) {
    if (!aggregate) continue;
    const path = ['gold', index];
    const table = aggregate.name && tableNameOf(aggregate.name);
    if (table && names.has(table)) {
      report([...path, 'name'], `a second "${table}"`, 'aggregates with different table names');
    }
    if (table) names.add(table);
    if (table && table === reserved) {
      report([...path, 'name'], `"${table}"`, 'a name other than the reconciliation report');
    }
    const windowMs = aggregate.window;
    if (windowMs !== undefined && (windowMs > DAY_MS || DAY_MS % windowMs !== 0)) {
      report(
        [...path, 'window'],
        `a window of ${windowMs / 1000} s`,
        'a window that divides a day evenly, so that a date can be reconciled by itself',
        'use 1m, 5m, 15m, 1h, 6h or 1d',
      );
    }
    if (declared) checkGroups(aggregate, path, { fields, declared }, report);
  }
}

type Declared = {
  readonly fields: readonly StructField[];
  readonly declared: readonly string[];
};

function checkGroups(
  aggregate: Aggregate,
  path: ConfigPath,
  { fields, declared }: Declared,
  report: Report,
): void {
  const seen = new Map([
    ['window_start', 'window_start'],
    ['window_end', 'window_end'],
  ]);
  for (const [index, name] of (aggregate.groupBy ?? []).entries()) {
    if (name === undefined) continue;
    const at = [...path, 'groupBy', index];
    checkColumnName(name, at, seen, report);
    if (!declared.includes(name)) {
      reportUnknownField(at, name, declared, report);
      continue;
    }
    const type = fields.find((f) => f.name === name)?.type;
    const exact = ['string', ...INTEGERS, 'boolean', 'date', 'timestamp'];
    if (type && type.kind !== 'decimal' && !isPrimitive(type, exact)) {
      report(at, `"${name}" of a type that cannot be grouped by`, `decimal, ${exact.join(', ')}`);
    }
  }
  const measures = Object.entries(aggregate.measures ?? {});
  if (aggregate.measures && measures.length === 0)
    report([...path, 'measures'], 'no measure', 'at least one measure');
  for (const [name, measure] of measures) {
    const at = [...path, 'measures', name];
    checkColumnName(name, at, seen, report);
    if (!measure?.fn) continue;
    if (measure.field === undefined) {
      if (measure.fn !== 'count') {
        report(at, `${measure.fn} without a field`, 'a field', `add \`field: ...\``);
      }
      continue;
    }
    if (!declared.includes(measure.field)) {
      reportUnknownField([...at, 'field'], measure.field, declared, report);
      continue;
    }
    const type = fields.find((f) => f.name === measure.field)?.type;
    if (type && !suits(measure.fn, type)) {
      report(
        [...at, 'field'],
        `${measure.fn} of "${measure.field}", whose type does not fit`,
        EXPECTED_BY_FN[measure.fn],
      );
    }
  }
}

type MeasureFn = PipelineFile['gold'][number]['measures'][string]['fn'];

const EXPECTED_BY_FN: Readonly<Record<MeasureFn, string>> = {
  count: 'any field',
  sum: 'a number',
  avg: 'a number',
  min: 'a number, date, timestamp or string',
  max: 'a number, date, timestamp or string',
  countDistinct: 'a field that is not an array, map or struct',
};

function suits(fn: MeasureFn, type: DataType): boolean {
  switch (fn) {
    case 'count':
      return true;
    case 'countDistinct':
      return type.kind === 'primitive' || type.kind === 'decimal';
    case 'sum':
    case 'avg':
      return type.kind === 'decimal' || isPrimitive(type, NUMBERS);
    case 'min':
    case 'max':
      return (
        type.kind === 'decimal' || isPrimitive(type, [...NUMBERS, 'date', 'timestamp', 'string'])
      );
  }
}

function checkOperations(file: File, report: Report): void {
  const inFlight = file.limits?.inFlight;
  const maxRecordBytes = file.source?.maxRecordBytes;
  if (inFlight !== undefined && maxRecordBytes !== undefined && inFlight < maxRecordBytes) {
    report(
      ['limits', 'inFlight'],
      `${inFlight} bytes`,
      'at least source.maxRecordBytes, or a large record could never be fetched',
    );
  }
  const { dedupBuckets, writers } = file.silver ?? {};
  if (dedupBuckets !== undefined && writers !== undefined && writers > dedupBuckets) {
    report(
      ['silver', 'writers'],
      `${writers} writers of ${dedupBuckets} dedup buckets`,
      'at most silver.dedupBuckets, or a writer would have none',
    );
  }
  const { hot, archive } = file.retention?.bronze ?? {};
  if (hot !== undefined && archive !== undefined && hot > archive) {
    report(
      ['retention', 'bronze', 'hot'],
      'a hot span longer than the archive span',
      'hot to be at most archive',
    );
  }
  if (file.lake?.kind === 's3' && file.lake.prefix?.split('/').includes('..')) {
    report(['lake', 'prefix'], '".." in a key prefix', 'plain path segments');
  }
  if (file.state?.kind === 'redis' && file.state.url && !URL.canParse(file.state.url)) {
    report(['state', 'url'], 'a text that is no URL', 'redis://user:password@host:port/0');
  }
  const http = file.supervisor?.http;
  if (!http) return;
  const tokens = http.tokens ?? [];
  if (http.host !== undefined && !LOOPBACK.test(http.host) && http.tokens?.length === 0) {
    report(
      ['supervisor', 'http', 'host'],
      `"${http.host}", which others can reach, without tokens`,
      'tokens for any address that is not loopback',
      'add `tokens: [{name: ops, role: operator, token: ${OPS_TOKEN}}]`, or listen on 127.0.0.1',
    );
  }
  for (const key of ['name', 'token'] as const) {
    const values = new Set<string>();
    for (const [index, token] of tokens.entries()) {
      const value = token?.[key];
      if (value === undefined) continue;
      if (values.has(value)) {
        report(['supervisor', 'http', 'tokens', index, key], `a second equal ${key}`, 'each once');
      }
      values.add(value);
    }
  }
}

/** The table name of a pipeline or an aggregate: `-` as `_`. */
export function tableNameOf(name: string): string {
  return name.replaceAll('-', '_');
}
