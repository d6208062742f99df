/**
 * Shapes of everything that the REST API takes and gives, as zod schemas. Requests are validated by
 * them, the OpenAPI document is generated from them, and the types of the control are theirs.
 *
 * Texts named `...At` and `watermark` are RFC 3339 in UTC. Offsets are JSON numbers; one beyond 2^53
 * is a text of digits, because a number would not be exact.
 */
import { z } from 'zod';

/** Schemas with a name of their own in the OpenAPI document. */
export const apiSchemas = z.registry<{ id: string; description: string }>();

function named<Schema extends z.ZodType>(id: string, description: string, schema: Schema): Schema {
  apiSchemas.add(schema, { id, description });
  return schema;
}

const count = z.int().min(0);
const instant = z.iso.datetime();

export const memberIdSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/);
export const partitionSchema = z.int().min(0).max(999_999_999);

const offset = named(
  'Offset',
  'A Kafka offset; a text of digits where a JSON number would not be exact.',
  z.union([count, z.string().regex(/^\d{1,19}$/)]),
);

export const problemSchema = named(
  'Problem',
  'What went wrong, as RFC 9457 problem details.',
  z.object({
    type: z.string().describe('A URN that names the kind of problem; stable.'),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string(),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .describe('Each part of the request that is not valid.'),
  }),
);

export type Problem = z.infer<typeof problemSchema>;

const partitionStatusSchema = named(
  'PartitionStatus',
  'How far one partition is: offsets from the Delta log and the source, the rest from its worker.',
  z.object({
    topic: z.string(),
    partition: partitionSchema,
    worker: z.string().nullable().describe('Who works on it now.'),
    nextOffset: offset.nullable().describe('Exclusive: bronze has everything below.'),
    endOffset: offset.nullable().describe('Exclusive end of the source.'),
    lag: offset.nullable().describe('Records between the two.'),
    lagSeconds: z.number().min(0).nullable().describe('Age of the oldest record behind.'),
    watermark: instant.nullable().describe('Event time up to which silver has seen it.'),
    state: z.enum([
      'starting',
      'recovering',
      'running',
      'paused',
      'draining',
      'drained',
      'failed',
      'not running',
    ]),
    reason: z.string().nullable().describe('Why it stopped, when its state is failed.'),
  }),
);

export type PartitionStatus = z.infer<typeof partitionStatusSchema>;

export const partitionDetailSchema = named(
  'PartitionDetail',
  'One partition with its placement and its last commit.',
  z.object({
    ...partitionStatusSchema.shape,
    placedOn: z.string().nullable().describe('Where the plan puts it.'),
    isPinned: z.boolean().describe('Placed by hand.'),
    epoch: count.nullable().describe('Grows with every change of owner.'),
    bronzeVersion: count.nullable().describe('Version of bronze that its last commit made.'),
    committedAt: instant.nullable(),
  }),
);

export type PartitionDetail = z.infer<typeof partitionDetailSchema>;

const writerStatusSchema = named(
  'WriterStatus',
  'A silver or gold writer.',
  z.object({
    unit: z.string(),
    worker: z.string().nullable(),
    state: z.enum(['running', 'failed', 'not running']),
    reason: z.string().nullable(),
  }),
);

export type WriterStatus = z.infer<typeof writerStatusSchema>;

const stageSchema = z.enum(['bronze', 'silver', 'gold']);

const hopStatusSchema = named(
  'HopStatus',
  'How far a stage is behind what feeds it.',
  z.object({
    stage: stageSchema,
    behind: offset.describe('Bronze: records. Silver and gold: versions of the table before it.'),
    lagSeconds: z.number().min(0).describe('For how long it has not had the oldest of them.'),
  }),
);

export type HopStatus = z.infer<typeof hopStatusSchema>;

const tableStatusSchema = named(
  'TableStatus',
  'A Delta table at its newest version.',
  z.object({
    name: z.string(),
    version: count,
    rows: count.nullable().describe('null when a file has no statistics.'),
    files: count,
    bytes: count,
    committedAt: instant,
  }),
);

export type TableStatus = z.infer<typeof tableStatusSchema>;

export const tablesSchema = named(
  'Tables',
  'Every table of the pipeline.',
  z.object({ tables: z.array(tableStatusSchema) }),
);

const queueStatusSchema = named(
  'QueueStatus',
  'Jobs of a queue by what becomes of them.',
  z.object({
    name: z.string(),
    waiting: count,
    active: count,
    delayed: count,
    completed: count,
    failed: count,
  }),
);

const totalsSchema = named(
  'Totals',
  'What was counted since this supervisor started.',
  z.object({
    bronzeRows: count,
    silverRows: count,
    duplicates: count,
    conflicts: count,
    deadLetters: count,
    late: count,
    restarts: count,
  }),
);

export type Totals = z.infer<typeof totalsSchema>;

const findingSchema = named(
  'Finding',
  'Something an operator should know.',
  z.object({
    severity: z.enum(['failed', 'warning', 'notice']),
    subject: z.string(),
    message: z.string(),
  }),
);

export type Finding = z.infer<typeof findingSchema>;

const ledgerStatusSchema = named(
  'LedgerStatus',
  'Whether every record counts exactly once, as the logs prove; `tidemark verify` says more.',
  z.object({
    checkedAt: instant,
    ok: z.boolean(),
    records: offset.describe('Bronze records that silver has derived.'),
    events: offset,
    duplicates: offset,
    conflicts: offset,
    deadLetters: offset,
  }),
);

export const statusSchema = named(
  'Status',
  'The whole pipeline at one moment.',
  z.object({
    pipeline: z.string(),
    readAt: instant,
    health: z.enum(['ok', 'paused', 'warning', 'failed']),
    findings: z.array(findingSchema),
    isPaused: z.boolean(),
    supervisor: z.object({
      id: z.string(),
      isLeading: z.boolean(),
      leader: z.string().nullable().describe('The supervisor that leads now.'),
    }),
    partitions: z.array(partitionStatusSchema),
    writers: z.array(writerStatusSchema),
    hops: z.array(hopStatusSchema),
    tables: z.array(tableStatusSchema),
    queues: z.array(queueStatusSchema),
    ledger: ledgerStatusSchema.nullable().describe('null until it was proved once.'),
    totals: totalsSchema,
    rates: z.object({
      recordsPerSecond: z.number().min(0).describe('Into bronze.'),
      eventsPerSecond: z.number().min(0).describe('Into silver.'),
    }),
    memory: z.object({ processBytes: count, inFlightBytes: count }),
    workers: z.object({ alive: count, draining: count }),
  }),
);

export type Status = z.infer<typeof statusSchema>;

export const workersSchema = named(
  'Workers',
  'Processes that announce themselves, or did so a moment ago.',
  z.object({
    workers: z.array(
      z.object({
        id: z.string(),
        roles: z.array(z.enum(['worker', 'writer'])),
        host: z.string(),
        pid: count,
        startedAt: instant,
        heartbeatAt: instant,
        isDraining: z.boolean(),
        memoryBytes: count,
        restarts: count,
        units: z.array(z.string()).describe('Placed on it: partition:3, silver:0, gold.'),
        pinned: z.array(z.string()).describe('Units that an operator put on it.'),
      }),
    ),
  }),
);

export type Workers = z.infer<typeof workersSchema>;

export const assignmentsSchema = named(
  'Assignments',
  'Where every unit runs: as planned, and as it is.',
  z.object({
    assignments: z.array(
      z.object({
        unit: z.string(),
        placedOn: z.string().nullable(),
        isPinned: z.boolean(),
        owner: z.string().nullable().describe('Holder of the lease.'),
        epoch: count.nullable(),
      }),
    ),
  }),
);

export type Assignments = z.infer<typeof assignmentsSchema>;

const date = z.iso.date();

const reconciliationSchema = named(
  'Reconciliation',
  'One recomputation of a date of gold.',
  z.object({
    date,
    state: z.enum(['needed', 'running', 'done', 'failed']),
    startedAt: instant.nullable(),
    finishedAt: instant.nullable(),
    changedWindows: count.nullable(),
    reason: z.string().nullable(),
  }),
);

export type Reconciliation = z.infer<typeof reconciliationSchema>;

export const reconciliationsSchema = named(
  'Reconciliations',
  'Recent and due reconciliations, newest date first.',
  z.object({ reconciliations: z.array(reconciliationSchema) }),
);

export const startReconciliationSchema = named(
  'StartReconciliation',
  'A date, or nothing for every date that needs it.',
  z.strictObject({ date: date.optional() }),
);

export type StartReconciliation = z.infer<typeof startReconciliationSchema>;

export const startedReconciliationSchema = named(
  'StartedReconciliation',
  'Dates whose recomputation began.',
  z.object({ dates: z.array(date) }),
);

export const rebalanceSchema = named(
  'Rebalance',
  'Spread the units over the workers.',
  z.strictObject({
    strategy: z
      .enum(['sticky', 'even'])
      .default('sticky')
      .describe('sticky moves as little as balance allows; even spreads lag from scratch.'),
    dryRun: z.boolean().default(false).describe('Only say what would move.'),
  }),
);

export type Rebalance = z.infer<typeof rebalanceSchema>;

export const rebalancedSchema = named(
  'Rebalanced',
  'What moved, or would move.',
  z.object({
    strategy: z.enum(['sticky', 'even']),
    outcome: z
      .enum(['planned', 'carried out', 'requested'])
      .describe('requested: this supervisor stands by, and the leader does it within a moment.'),
    moves: z.array(
      z.object({ unit: z.string(), from: z.string().nullable(), to: z.string().nullable() }),
    ),
    loads: z
      .array(z.object({ worker: z.string(), before: count, after: count }))
      .describe('Units on each worker.'),
  }),
);

export type Rebalanced = z.infer<typeof rebalancedSchema>;

export const placeSchema = named(
  'Place',
  'A worker to put the partition on; null lets the supervisor choose again.',
  z.strictObject({ worker: memberIdSchema.nullable() }),
);

export const placedSchema = named(
  'Placed',
  'The operator’s wish, which the leader follows within a moment.',
  z.object({ partition: partitionSchema, worker: z.string().nullable() }),
);

export type Placed = z.infer<typeof placedSchema>;

export const drainSchema = named(
  'Drain',
  'Give everything back and take nothing new; false takes that back.',
  z.strictObject({ draining: z.boolean().default(true) }),
);

export const drainedSchema = named(
  'Drained',
  'The operator’s wish, and the units still to be moved.',
  z.object({ worker: z.string(), isDraining: z.boolean(), units: z.array(z.string()) }),
);

export type Drained = z.infer<typeof drainedSchema>;

export const nothingSchema = named('Nothing', 'An empty body.', z.strictObject({}));

export const pausedSchema = named(
  'Paused',
  'Whether workers take in new records.',
  z.object({ isPaused: z.boolean() }),
);

export type Paused = z.infer<typeof pausedSchema>;

const activitySchema = named(
  'Activity',
  'Something a supervisor decided or noticed, or a change that somebody asked for.',
  z.object({
    at: instant,
    kind: z.string(),
    text: z.string(),
    subject: z.string().nullable().describe('Who asked for it; null for the supervisor itself.'),
    outcome: z.string().nullable(),
  }),
);

export type Activity = z.infer<typeof activitySchema>;

const sampleSchema = named(
  'Sample',
  'A point of the charts.',
  z.object({
    at: instant,
    lag: z.number().min(0).nullable(),
    lagSeconds: z.number().min(0),
    silverBehind: count,
    goldBehind: count,
    recordsPerSecond: z.number().min(0),
    eventsPerSecond: z.number().min(0),
    queueJobs: count,
    late: count,
    duplicates: count,
    deadLetters: count,
    restarts: count,
    memoryBytes: count,
  }),
);

export type Sample = z.infer<typeof sampleSchema>;

/** Data of each server-sent event, by the event's name. */
export const streamEventSchemas = {
  history: named(
    'HistoryEvent',
    'First event of a stream: the charts’ points so far.',
    z.object({ samples: z.array(sampleSchema) }),
  ),
  status: statusSchema,
  workers: workersSchema,
  activity: activitySchema,
} as const;
