/**
 * The pipeline file of a drill: usage events as the generator makes them, in places of its own on the
 * services of the pipeline that the user named. Secrets stay in the environment. Pure.
 */
import type { KafkaSasl, PipelineConfig } from '../../pipeline/pipeline-config.ts';

/** Parts of a pipeline file. */
export type Definition = Readonly<Record<string, unknown>>;

/** A pipeline file and the variables that it names. */
export interface DrillFile {
  readonly definition: Definition;
  readonly variables: Readonly<Record<string, string>>;
}

const MEASURES = {
  requests: { fn: 'count' },
  request_bytes: { fn: 'sum', field: 'request_bytes' },
  response_bytes: { fn: 'sum', field: 'response_bytes' },
};

const FIELDS = {
  event_id: { type: 'string', required: true },
  event_time: { type: 'timestamp', required: true },
  customer_id: { type: 'string', required: true },
  api_key_id: 'string',
  endpoint: 'string',
  method: 'string',
  status_code: 'integer',
  request_bytes: 'long',
  response_bytes: 'long',
  latency_ms: 'double',
  region: 'string',
};

/** The field that arrives in the middle of a schema change. */
export const NEW_FIELD = 'arrived_at';

/** Gold tables of a drill. */
export const GOLD_TABLES = ['drill_hourly', 'drill_daily'] as const;

export const PARTITIONS = 4;

/** The event section, before or after the schema change. */
export function eventSection(version: 1 | 2): Definition {
  const fields = version === 1 ? FIELDS : { ...FIELDS, [NEW_FIELD]: 'timestamp' };
  return { id: 'event_id', time: 'event_time', schema: { version, fields } };
}

/**
 * Places a pipeline called `name` on the services of `base`, or all of it below `folder`.
 * @param folder absolute, the drill's own
 */
export function drillFile(
  base: PipelineConfig | undefined,
  place: { readonly name: string; readonly folder: string },
): DrillFile {
  const { name, folder } = place;
  const variables: Record<string, string> = {};
  const secret = (value: string): string => {
    const variable = `TIDEMARK_DRILL_SECRET_${Object.keys(variables).length}`;
    variables[variable] = value;
    return `\${${variable}}`;
  };
  const definition = {
    name,
    source:
      base?.source.kind === 'kafka'
        ? {
            ...base.source,
            topic: name,
            clientId: name,
            sasl: base.source.sasl && saslSection(base.source.sasl, secret),
            maxRecordBytes: undefined,
          }
        : { kind: 'embedded', path: `${folder}/log`, partitions: PARTITIONS },
    lake:
      base?.lake.kind === 's3'
        ? { ...base.lake, prefix: [base.lake.prefix, name].filter(Boolean).join('/') }
        : { kind: 'fs', path: `${folder}/lake` },
    state:
      base?.state.kind === 'redis'
        ? { ...base.state, url: secret(base.state.url) }
        : { kind: 'embedded', path: `${folder}/state` },
    event: eventSection(1),
    gold: [
      { name: 'drill_hourly', window: '1h', groupBy: ['customer_id'], measures: MEASURES },
      { name: 'drill_daily', window: '1d', groupBy: ['customer_id'], measures: MEASURES },
    ],
    // What a drill counts is what the stream made; a day that became final would wait for its late events.
    reconcile: { enabled: false },
    // Any free port: the user's pipeline may run beside.
    supervisor: { http: { port: 0 } },
  };
  return { definition, variables };
}

function saslSection(sasl: KafkaSasl, secret: (value: string) => string): Definition {
  if (sasl.mechanism !== 'oauthbearer') return { ...sasl, password: secret(sasl.password) };
  const { mechanism, token } = sasl;
  if (token.kind === 'file') return { mechanism, tokenFile: token.path };
  const { tokenUrl, clientId, scope } = token;
  return { mechanism, tokenUrl, clientId, scope, clientSecret: secret(token.clientSecret) };
}
