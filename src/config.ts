/**
 * The pipeline file, parsed and validated once into a PipelineConfig.
 *
 * Invariants:
 * C1 every problem of a file is reported in one go, with path, line and remedy;
 * C2 neither secrets nor values that came from the environment appear in a message;
 * C3 the result is complete: no stage knows a default of its own.
 * Source: design section 5.
 */
import { readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type { z } from 'zod';
import { crossCheck, type Finding, tableNameOf } from './config/cross-checks.ts';
import { nearest } from './config/nearest.ts';
import { type PipelineFile, pipelineFileSchema } from './config/pipeline-file.ts';
import { type ConfigPath, type ConfigProblem, configError, formatPath } from './config/problem.ts';
import { type Environment, readYaml, type YamlDocument } from './config/yaml-document.ts';
import { salvage } from './config/salvage.ts';
import { PipelineError } from './errors.ts';
import type { KafkaSasl, PipelineConfig, SourceConfig } from './pipeline/pipeline-config.ts';
import type { StructField } from './pipeline/types.ts';

export type ParsedPipeline =
  | { readonly ok: true; readonly config: PipelineConfig }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

/**
 * Reads a pipeline file.
 * @param file path, relative to `cwd` or absolute
 * @param options.environment where `${NAME}` is looked up
 * @param options.cwd absolute; relative paths in the file start here
 * @throws PipelineError invalid `TM_CONFIG_INVALID`; its cause is the list of problems
 */
export function loadPipeline(
  file: string,
  options: { readonly environment: Environment; readonly cwd: string },
): PipelineConfig {
  let text: string;
  try {
    text = readFileSync(resolve(options.cwd, file), 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown';
    const message =
      code === 'ENOENT'
        ? `There is no pipeline file ${file}; write one with \`tidemark init DIR\`, or name it with -c FILE.`
        : `The pipeline file ${file} cannot be read (${code}).`;
    throw new PipelineError('invalid', 'TM_CONFIG_INVALID', message, { cause, context: { file } });
  }
  const parsed = parsePipeline(text, options);
  if (!parsed.ok) throw configError(basename(file), parsed.problems);
  return parsed.config;
}

/** Parses the text of a pipeline file; all problems come back, in the order of their lines. */
export function parsePipeline(
  text: string,
  options: { readonly environment: Environment; readonly cwd: string },
): ParsedPipeline {
  const document = readYaml(text, options.environment);
  if (document.value === undefined) {
    return { ok: false, problems: document.problems };
  }
  const shape = pipelineFileSchema.safeParse(document.value);
  const sections = shape.success ? shape.data : salvage(pipelineFileSchema, document.value);
  const checked = crossCheck(sections);
  const problems = [
    ...document.problems,
    ...(shape.success ? [] : shape.error.issues)
      .flatMap((issue) => explainIssue(issue, [], document))
      // What an unset variable leaves empty is not a second problem.
      .filter((problem) => !document.problems.some((unset) => unset.path === problem.path)),
    ...checked.findings.map((finding) => locate(finding, document)),
  ];
  if (shape.success && problems.length === 0) {
    return { ok: true, config: buildConfig(shape.data, checked.fields, options.cwd) };
  }
  return { ok: false, problems: problems.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)) };
}

function locate(finding: Finding, document: YamlDocument): ConfigProblem {
  // A finding may quote the value it is about; one from the environment must not be shown (C2).
  const found = document.fromEnvironment(finding.path)
    ? 'a value from the environment that does not fit'
    : finding.found;
  return {
    path: formatPath(finding.path),
    line: document.lineOf(finding.path),
    found,
    expected: finding.expected,
    remedy: finding.remedy,
  };
}

/** zod's issue as problems; a union reports the branch that the value's shape shows was meant. */
function explainIssue(
  issue: z.core.$ZodIssue,
  base: ConfigPath,
  document: YamlDocument,
): ConfigProblem[] {
  const path = [...base, ...(issue.path as (string | number)[])];
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const meant = issue.errors.find((branch) => branch.every((inner) => !isWrongKind(inner)));
    if (meant) return meant.flatMap((inner) => explainIssue(inner, path, document));
  }
  if (issue.code === 'unrecognized_keys') {
    const known = issue.message.replace(/^one of /, '').split(', ');
    return issue.keys.map((key) => {
      const meant = nearest(key, known);
      return {
        path: formatPath([...path, key]),
        line: document.lineOf([...path, key]),
        found: 'an unknown key',
        expected: issue.message,
        remedy: meant ? `did you mean "${meant}"?` : 'remove it',
      };
    });
  }
  return [
    {
      path: formatPath(path),
      line: document.lineOf(path),
      found: describeFound(path, document),
      expected: issue.message,
      remedy: '',
    },
  ];
}

function isWrongKind(issue: z.core.$ZodIssue): boolean {
  return issue.code === 'invalid_type' && issue.path.length === 0;
}

const SECRET_KEYS = new Set(['password', 'clientSecret', 'token', 'url']);

function describeFound(path: ConfigPath, document: YamlDocument): string {
  const value = path.reduce<unknown>(
    (at, part) =>
      typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[part] : undefined,
    document.value,
  );
  if (value === undefined) return 'nothing';
  if (value === null) return 'an empty value';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (document.fromEnvironment(path)) return 'a value from the environment that does not fit';
  if (SECRET_KEYS.has(String(path.at(-1)))) return 'a value that is not shown here';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}..."` : text;
}

function buildConfig(
  file: PipelineFile,
  fields: readonly StructField[],
  cwd: string,
): PipelineConfig {
  const { name, commit, event, late, limits, retention, reconcile, housekeeping, supervisor } =
    file;
  const time =
    typeof event.time === 'string' ? { field: event.time, unit: 'rfc3339' as const } : event.time;
  return {
    name,
    tableName: tableNameOf(name),
    source: buildSource(file.source, name, cwd),
    lake:
      file.lake.kind === 'fs'
        ? { kind: 'fs', path: resolve(cwd, file.lake.path) }
        : {
            ...file.lake,
            prefix: file.lake.prefix.split('/').filter(Boolean).join('/'),
            endpoint: file.lake.endpoint,
          },
    state:
      file.state.kind === 'redis'
        ? file.state
        : { kind: 'embedded', path: resolve(cwd, file.state.path) },
    commit: {
      maxLatencyMs: commit.maxLatency,
      maxRows: commit.maxRows,
      maxBytes: commit.maxBytes,
    },
    event: {
      id: event.id,
      time,
      schemaVersion: event.schema.version,
      schema: { kind: 'struct', fields },
    },
    late: {
      afterMs: late.after,
      futureToleranceMs: late.futureTolerance,
      idlePartitionMs: late.idlePartition,
    },
    gold: file.gold.map((aggregate) => ({
      name: aggregate.name,
      windowMs: aggregate.window,
      groupBy: aggregate.groupBy,
      measures: Object.entries(aggregate.measures).map(([column, measure]) => ({
        name: column,
        fn: measure.fn,
        field: measure.field,
      })),
    })),
    retention: {
      bronze: { hotMs: retention.bronze.hot, archiveMs: retention.bronze.archive },
    },
    reconcile: { enabled: reconcile.enabled, atMinute: minuteOfDay(reconcile.at) },
    housekeeping: {
      enabled: housekeeping.enabled,
      optimizeEveryMs: housekeeping.optimizeEvery,
      targetFileBytes: housekeeping.targetFileSize,
      cleanUpEveryMs: housekeeping.cleanUpEvery,
      vacuumRetainMs: housekeeping.vacuumRetain,
      checkpointEveryMs: housekeeping.checkpointEvery,
    },
    supervisor,
    limits: {
      inFlightBytes: limits.inFlight,
      batchCacheBytes: limits.batchCache,
      goldStateBytes: limits.goldState,
      dedupBytes: limits.dedup,
    },
    dedupBuckets: file.silver.dedupBuckets,
    silverWriters: file.silver.writers,
  };
}

/** Of `HH:MM`. */
function minuteOfDay(at: string): number {
  return Number(at.slice(0, 2)) * 60 + Number(at.slice(3));
}

function buildSource(source: PipelineFile['source'], name: string, cwd: string): SourceConfig {
  const at = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : resolve(cwd, path);
  if (source.kind === 'embedded') {
    return {
      ...source,
      path: resolve(cwd, source.path),
      topic: source.topic ?? name,
      key: source.key,
    };
  }
  const tls = source.tls === true ? {} : source.tls || undefined;
  return {
    ...source,
    clientId: source.clientId ?? name,
    addressMap: source.addressMap ?? {},
    tls: tls && {
      caFile: at(tls.caFile),
      certFile: at(tls.certFile),
      keyFile: at(tls.keyFile),
      serverName: tls.serverName,
    },
    sasl: source.sasl && buildSasl(source.sasl, at),
  };
}

type SaslFile = NonNullable<Extract<PipelineFile['source'], { kind: 'kafka' }>['sasl']>;

function buildSasl(
  sasl: SaslFile,
  at: (path: string | undefined) => string | undefined,
): KafkaSasl {
  if (sasl.mechanism !== 'oauthbearer') return sasl;
  const path = at(sasl.tokenFile);
  return {
    mechanism: 'oauthbearer',
    token:
      path !== undefined
        ? { kind: 'file', path }
        : {
            kind: 'client-credentials',
            // Presence was checked (cross-checks.ts).
            tokenUrl: sasl.tokenUrl!,
            clientId: sasl.clientId!,
            clientSecret: sasl.clientSecret!,
            scope: sasl.scope,
          },
  };
}

const HIDDEN = '***';

/** A copy of the configuration that may be logged: passwords, tokens and secrets are `***` (C2). */
export function describeConfig(config: PipelineConfig): Record<string, unknown> {
  const visit = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') {
      if (key === 'url' || key === 'tokenUrl' || key === 'endpoint') return hideUserInfo(value);
      return SECRET_KEYS.has(key) ? HIDDEN : value;
    }
    if (Array.isArray(value)) return value.map((item) => visit(item, key));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, visit(v, k)]));
  };
  return visit(config, '') as Record<string, unknown>;
}

function hideUserInfo(text: string): string {
  if (!URL.canParse(text)) return HIDDEN;
  const url = new URL(text);
  if (url.username === '' && url.password === '' && url.search === '') return text;
  url.username = url.username && HIDDEN;
  url.password = url.password && HIDDEN;
  url.search = url.search && HIDDEN;
  return url.href;
}
