/**
 * The shape of a pipeline file: one zod schema gives the parser, the defaults and the published JSON
 * Schema. A schema's error text is what was expected, so that messages read the same everywhere.
 * Rules between sections are in cross-checks.ts.
 */
import { z } from 'zod';
import { DURATION_PATTERN, parseDurationMs, parseSizeBytes, SIZE_PATTERN } from './quantity.ts';

/** A mapping with known keys; an unknown key's message lists them. */
function section<Shape extends z.ZodRawShape>(shape: Shape, description: string) {
  const keys = Object.keys(shape);
  return z
    .strictObject(shape, {
      error: (issue) =>
        issue.code === 'unrecognized_keys'
          ? `one of ${keys.join(', ')}`
          : `a mapping with ${keys.join(', ')}`,
    })
    .describe(description);
}

const text = (expected: string) => z.string(expected).min(1, expected).describe(expected);

const matching = (pattern: RegExp, expected: string) =>
  z.string(expected).regex(pattern, expected).describe(expected);

const DURATION = 'a duration such as 500ms, 30s, 5m, 2h, 90d or 7y';
const duration = (minMs = 0) =>
  matching(DURATION_PATTERN, DURATION).transform((value, context) => {
    const ms = parseDurationMs(value);
    if (ms !== undefined && ms >= minMs) return ms;
    context.addIssue({ code: 'custom', message: `${DURATION}, at least ${minMs}ms` });
    return z.NEVER;
  });

const SIZE = 'a size such as 64MiB, 512KiB or 16KB';
const size = (minBytes: number) =>
  matching(SIZE_PATTERN, SIZE).transform((value, context) => {
    const bytes = parseSizeBytes(value);
    if (bytes !== undefined && bytes >= minBytes) return bytes;
    context.addIssue({ code: 'custom', message: `${SIZE}, at least ${minBytes}B` });
    return z.NEVER;
  });

/** A number; text of digits counts, since `${PORT}` expands to text. */
const integer = (min: number, max: number) => {
  const expected = `a whole number from ${min} to ${max}`;
  return z
    .preprocess(
      (value) => (typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value),
      z.int(expected).min(min, expected).max(max, expected),
    )
    .describe(expected);
};

const toggle = () =>
  z.preprocess(
    (value) => (value === 'true' ? true : value === 'false' ? false : value),
    z.boolean('true or false'),
  );

const choice = <const Values extends readonly [string, ...string[]]>(values: Values) =>
  z.enum(values, `one of ${values.join(', ')}`);

function variants<
  const Variants extends readonly [z.core.$ZodTypeDiscriminable, ...z.core.$ZodTypeDiscriminable[]],
>(discriminator: string, names: string, options: Variants) {
  return z.discriminatedUnion(discriminator, options, {
    error: (issue) =>
      issue.code === 'invalid_union'
        ? `one of ${names}`
        : `a mapping with ${discriminator} (one of ${names})`,
  });
}

const maxRecordBytes = size(1)
  .prefault('16MiB')
  .describe('Larger record values go to dead letters.');
const topic = matching(
  /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/,
  'a topic name of letters, digits, ".", "_" and "-"',
);
const path = text('a path; a relative one starts at the current folder');

const tls = z.union(
  [
    toggle(),
    section(
      {
        caFile: path.optional(),
        certFile: path.optional(),
        keyFile: path.optional(),
        serverName: text('a host name').optional(),
      },
      'TLS with own files; PEM.',
    ),
  ],
  'true, false, or a mapping with caFile, certFile, keyFile, serverName',
);

const user = { username: text('a user name'), password: text('a password, best as ${NAME}') };

const sasl = variants('mechanism', 'plain, scram-sha-256, scram-sha-512, oauthbearer', [
  section({ mechanism: z.literal('plain'), ...user }, 'User and password; only with tls.'),
  section({ mechanism: z.literal('scram-sha-256'), ...user }, 'Salted challenge and response.'),
  section({ mechanism: z.literal('scram-sha-512'), ...user }, 'Salted challenge and response.'),
  section(
    {
      mechanism: z.literal('oauthbearer'),
      tokenFile: path.optional(),
      tokenUrl: text('an https URL').optional(),
      clientId: text('a client id').optional(),
      clientSecret: text('a client secret, best as ${NAME}').optional(),
      scope: text('a scope').optional(),
    },
    'A token from a file (tokenFile), or by client credentials (tokenUrl, clientId, clientSecret).',
  ),
]);

const brokerAddress = matching(/^(?:\[[0-9a-fA-F:]+\]|[^\s:/@]+):\d{1,5}$/, 'host:port');

const source = variants('kind', 'kafka, embedded', [
  section(
    {
      kind: z.literal('kafka'),
      brokers: z
        .array(brokerAddress, { error: 'a list of host:port' })
        .min(1, 'at least one host:port'),
      topic,
      clientId: text('a client id').optional(),
      tls: tls.optional(),
      sasl: sasl.optional(),
      addressMap: z
        .record(brokerAddress, brokerAddress, 'host:port to host:port')
        .optional()
        .describe(
          'Where brokers are reached whose advertised addresses lead nowhere from here (tunnels).',
        ),
      maxRecordBytes,
    },
    'An Apache Kafka topic.',
  ),
  section(
    {
      kind: z.literal('embedded'),
      path: path.prefault('./tidemark-data/log'),
      topic: topic.optional(),
      partitions: integer(1, 1024).prefault(4),
      key: text("the event field that becomes the record's key").optional(),
      maxRecordBytes,
    },
    'A log on local disk, fed by `run --input` or `generate`.',
  ),
]);

const lake = variants('kind', 's3, fs', [
  section(
    {
      kind: z.literal('s3'),
      bucket: matching(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'a bucket name'),
      prefix: z
        .string('a key prefix')
        .default('')
        .describe('Key prefix of the lake; may be empty.'),
      endpoint: matching(/^https?:\/\/[^\s/@]+\/?$/, 'a URL such as https://host:port').optional(),
      region: text('a region').prefault('us-east-1'),
      forcePathStyle: toggle().prefault(false),
    },
    'An S3 bucket or a compatible store; credentials come from the AWS default chain.',
  ),
  section(
    { kind: z.literal('fs'), path: path.prefault('./tidemark-data/lake') },
    'A folder of a local file system.',
  ),
]);

const state = variants('kind', 'redis, embedded', [
  section(
    {
      kind: z.literal('redis'),
      url: matching(/^rediss?:\/\/\S+$/, 'a redis:// or rediss:// URL'),
      prefix: matching(/^[A-Za-z0-9_.-]{1,64}$/, 'letters, digits, ".", "_", "-"').prefault(
        'tidemark',
      ),
    },
    'Redis; must not evict keys (maxmemory-policy noeviction).',
  ),
  section(
    { kind: z.literal('embedded'), path: path.prefault('./tidemark-data/state') },
    'In memory over local disk; for one process.',
  ),
]);

const fieldSpec = z.union(
  [
    text('a type'),
    section({ type: text('a type'), required: toggle().prefault(false) }, 'A type with options.'),
  ],
  'a type, or a mapping with type and required',
);

const event = section(
  {
    id: text('the name of the field that identifies an event'),
    time: z.union(
      [
        text('a field name'),
        section(
          { field: text('a field name'), unit: choice(['rfc3339', 's', 'ms', 'us']) },
          'A field and how it is written.',
        ),
      ],
      'a field name, or a mapping with field and unit (rfc3339, s, ms, us)',
    ),
    schema: section(
      {
        version: integer(1, 1_000_000).prefault(1),
        fields: z.record(z.string(), fieldSpec, 'a mapping of field names to types'),
      },
      'The fields of an event, by Delta type names.',
    ),
  },
  'What an event is.',
);

const late = section(
  {
    after: duration().prefault('2h').describe('An event is late from this delay on.'),
    futureTolerance: duration().prefault('5m'),
    idlePartition: duration(1).prefault('1m'),
  },
  'When an event counts as late.',
);

const measure = section(
  {
    fn: choice(['count', 'sum', 'min', 'max', 'avg', 'countDistinct']),
    field: text('a field name').optional(),
  },
  'An aggregate function of a field.',
);

const aggregate = section(
  {
    name: matching(
      /^[a-z][a-z0-9_-]{0,62}$/,
      'a name of a-z, 0-9, "_" and "-" that starts with a letter',
    ),
    window: duration(1_000),
    groupBy: z.array(text('a field name'), 'a list of field names').default([]),
    measures: z.record(z.string(), measure, 'a mapping of column names to {fn, field}'),
  },
  'A gold table: measures per window and group.',
);

const token = section(
  {
    name: text('a name for logs'),
    role: choice(['viewer', 'operator']),
    token: text('a secret, best as ${NAME}'),
  },
  'A bearer token of the HTTP API.',
);

const NAME = 'a name of a-z, 0-9 and "-" that starts with a letter';

/** A pipeline file after `${ENV}` expansion; parses to durations in ms and sizes in bytes. */
export const pipelineFileSchema = section(
  {
    name: matching(/^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/, NAME),
    source: source.prefault({ kind: 'embedded' }),
    lake: lake.prefault({ kind: 'fs' }),
    state: state.prefault({ kind: 'embedded' }),
    commit: section(
      {
        maxLatency: duration(10).prefault('1s'),
        maxRows: integer(1, 10_000_000).prefault(200_000),
        maxBytes: size(1024).prefault('64MiB'),
      },
      'A bronze batch is committed at whichever comes first.',
    ).prefault({}),
    event,
    late: late.prefault({}),
    silver: section(
      {
        dedupBuckets: integer(1, 256)
          .describe('Fixed when the silver table is created.')
          .prefault(16),
        writers: integer(1, 256)
          .describe('Silver writers side by side, each with its share of the buckets.')
          .prefault(1),
      },
      'How the silver table is written.',
    ).prefault({}),
    gold: z.array(aggregate, 'a list of aggregates').min(1, 'at least one aggregate'),
    retention: section(
      {
        bronze: section(
          { hot: duration(1).prefault('90d'), archive: duration(1).prefault('7y') },
          'How long raw events are kept.',
        ).prefault({}),
      },
      'How long data is kept.',
    ).prefault({}),
    reconcile: section(
      {
        enabled: toggle().prefault(true),
        at: matching(
          /^(?:[01]\d|2[0-3]):[0-5]\d$/,
          'a time of day in UTC such as "02:00"',
        ).prefault('02:00'),
      },
      'The daily reconciliation: gold of dates that are over, from silver once more, made final.',
    ).prefault({}),
    housekeeping: section(
      {
        enabled: toggle()
          .describe('Compaction, retention, vacuum and log clean-up by the supervisor.')
          .prefault(true),
        optimizeEvery: duration(1_000).prefault('10m'),
        targetFileSize: size(2 ** 20).prefault('64MiB'),
        cleanUpEvery: duration(1_000)
          .describe('Retention, vacuum and log clean-up.')
          .prefault('1d'),
        vacuumRetain: duration(24 * 3_600_000)
          .describe('Unneeded data files are kept for this long.')
          .prefault('7d'),
        checkpointEvery: duration(1_000).prefault('10s'),
      },
      'What is done for the tables on a timer.',
    ).prefault({}),
    supervisor: section(
      {
        http: section(
          {
            host: text('an address to listen on').prefault('127.0.0.1'),
            port: integer(0, 65_535).prefault(8080),
            tokens: z.array(token, 'a list of {name, role, token}').default([]),
          },
          'REST API, queue board and web page.',
        ).prefault({}),
      },
      'The control plane.',
    ).prefault({}),
    limits: section(
      {
        inFlight: size(2 ** 20).prefault('128MiB'),
        batchCache: size(0).prefault('128MiB'),
        goldState: size(2 ** 20).prefault('256MiB'),
        // Beside the bound are the ids of two spans, 13 MB each.
        dedup: size(2 ** 26)
          .describe('Per silver writer.')
          .prefault('512MiB'),
      },
      'Bounds on memory, per process.',
    ).prefault({}),
  },
  'A Tidemark pipeline: one Kafka topic to bronze, silver and gold Delta tables.',
);

/** What a valid file parses to. */
export type PipelineFile = z.output<typeof pipelineFileSchema>;

/**
 * The JSON Schema for editors. Since `${NAME}` may stand for any scalar, patterns, numbers and
 * booleans also admit a text with a reference.
 */
export function pipelineJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(pipelineFileSchema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      if (jsonSchema.type === 'string' && jsonSchema.pattern !== undefined) {
        jsonSchema.pattern = `(?:${jsonSchema.pattern})|\\$\\{`;
      } else if (jsonSchema.type === 'integer' || jsonSchema.type === 'boolean') {
        (jsonSchema as Record<string, unknown>)['type'] = [jsonSchema.type, 'string'];
        jsonSchema.pattern = '\\$\\{';
      }
    },
  }) as Record<string, unknown>;
}
