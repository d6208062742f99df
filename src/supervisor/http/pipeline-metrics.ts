/**
 * A pipeline's state as metrics. Pure.
 *
 * PM1 Numbers of the pipeline as a whole come from the supervisor that leads alone, so that a sum over
 *     all scraped processes counts nothing twice.
 */
import { parseInstantMs } from '../../pipeline/generator/instant-text.ts';
import type { Status } from './api-schemas.ts';
import { histogramSamples, type Labels, type MetricFamily } from './metrics-text.ts';
import type { DurationCounts } from './supervisor-control.ts';

/** Numbers of the process that serves them. */
export interface ProcessNumbers {
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
  readonly startedAtSeconds: number;
}

/** Requests answered, by route and status. */
export interface RequestCount {
  readonly labels: Labels;
  readonly count: number;
  readonly seconds: number;
}

const PARTITION_STATES = ['running', 'paused', 'failed', 'not running'] as const;

/** Metrics of this process and its HTTP side. */
export function processFamilies(
  process: ProcessNumbers,
  requests: readonly RequestCount[],
): MetricFamily[] {
  return [
    one('process_resident_memory_bytes', 'gauge', 'Memory of this process.', process.memoryBytes),
    one('process_cpu_seconds_total', 'counter', 'CPU time of this process.', process.cpuSeconds),
    one(
      'process_start_time_seconds',
      'gauge',
      'When this process started, in seconds since the epoch.',
      process.startedAtSeconds,
    ),
    {
      name: 'tidemark_http_requests_total',
      type: 'counter',
      help: 'Requests answered.',
      samples: requests.map(({ labels, count }) => ({ labels, value: count })),
    },
    {
      name: 'tidemark_http_request_seconds_total',
      type: 'counter',
      help: 'Time spent on requests that have ended.',
      samples: requests.map(({ labels, seconds }) => ({ labels, value: seconds })),
    },
  ];
}

/** Metrics of a pipeline; only whether it leads when this supervisor stands by (PM1). */
export function pipelineFamilies(
  status: Status,
  commitDurations: ReadonlyMap<string, DurationCounts>,
): MetricFamily[] {
  const { isLeading } = status.supervisor;
  const leading = one(
    'tidemark_supervisor_leading',
    'gauge',
    '1 on the supervisor that leads.',
    isLeading ? 1 : 0,
  );
  if (!isLeading) return [leading];
  return [
    leading,
    one('tidemark_paused', 'gauge', '1 while operators paused it.', status.isPaused ? 1 : 0),
    {
      name: 'tidemark_health',
      type: 'gauge',
      help: '1 for the present verdict.',
      samples: (['ok', 'paused', 'warning', 'failed'] as const).map((health) => ({
        labels: { health },
        value: status.health === health ? 1 : 0,
      })),
    },
    ...partitionFamilies(status),
    writerStates(status),
    ...hopFamilies(status),
    ...totalFamilies(status),
    {
      name: 'tidemark_commit_duration_seconds',
      type: 'histogram',
      help: 'Time a Delta commit took, its turn in the process included.',
      samples: [...commitDurations].flatMap(([stage, durations]) =>
        histogramSamples({ stage }, durations),
      ),
    },
    ...tableFamilies(status),
    {
      name: 'tidemark_queue_jobs',
      type: 'gauge',
      help: 'Jobs of a queue by state.',
      samples: status.queues.flatMap(({ name, ...states }) =>
        Object.entries(states).map(([state, value]) => ({ labels: { queue: name, state }, value })),
      ),
    },
    {
      name: 'tidemark_ledger_ok',
      type: 'gauge',
      help: '1 while the logs prove that every record counts exactly once.',
      samples: status.ledger ? [{ labels: {}, value: Number(status.ledger.ok) }] : [],
    },
    one('tidemark_workers', 'gauge', 'Live workers and writers.', status.workers.alive),
    one('tidemark_workers_draining', 'gauge', 'Those that drain.', status.workers.draining),
    one(
      'tidemark_memory_bytes',
      'gauge',
      'Resident memory of the processes of all workers.',
      status.memory.processBytes,
    ),
    one(
      'tidemark_in_flight_bytes',
      'gauge',
      'Raw bytes fetched and not yet committed to bronze.',
      status.memory.inFlightBytes,
    ),
  ];
}

function partitionFamilies({ partitions }: Status): MetricFamily[] {
  type Partition = Status['partitions'][number];
  const gauge = (
    name: string,
    help: string,
    value: (partition: Partition) => number | null,
  ): MetricFamily => ({
    name,
    type: 'gauge',
    help,
    samples: partitions.flatMap((partition) => {
      const number = value(partition);
      return number === null ? [] : [{ labels: labelsOf(partition), value: number }];
    }),
  });
  const number = (offset: number | string | null): number | null =>
    offset === null ? null : Number(offset);
  return [
    gauge('tidemark_partition_next_offset', 'Bronze has everything below.', (p) =>
      number(p.nextOffset),
    ),
    gauge('tidemark_partition_end_offset', 'Exclusive end of the source.', (p) =>
      number(p.endOffset),
    ),
    gauge('tidemark_partition_lag_records', 'Records not yet in bronze.', (p) => number(p.lag)),
    gauge(
      'tidemark_partition_lag_seconds',
      'For how long the oldest of them has been there.',
      (p) => p.lagSeconds,
    ),
    gauge(
      'tidemark_partition_watermark_seconds',
      'Event time up to which silver has seen it, in seconds since the epoch.',
      (p) => (p.watermark === null ? null : epochSeconds(p.watermark)),
    ),
    {
      name: 'tidemark_partition_state',
      type: 'gauge',
      help: '1 for the present state; other states than these pass within moments.',
      samples: partitions.flatMap((partition) =>
        PARTITION_STATES.map((state) => ({
          labels: { ...labelsOf(partition), state },
          value: partition.state === state ? 1 : 0,
        })),
      ),
    },
  ];

  function labelsOf({ topic, partition }: Partition): Labels {
    return { topic, partition: String(partition) };
  }
}

function writerStates({ writers }: Status): MetricFamily {
  return {
    name: 'tidemark_writer_state',
    type: 'gauge',
    help: '1 for the present state of a silver or gold writer.',
    samples: writers.flatMap(({ unit, state: present }) =>
      (['running', 'not running', 'failed'] as const).map((state) => ({
        labels: { unit, state },
        value: present === state ? 1 : 0,
      })),
    ),
  };
}

function hopFamilies({ hops }: Status): MetricFamily[] {
  return [
    {
      name: 'tidemark_hop_lag_seconds',
      type: 'gauge',
      help: 'For how long a stage has not had the oldest of what it lacks.',
      samples: hops.map(({ stage, lagSeconds }) => ({ labels: { stage }, value: lagSeconds })),
    },
    {
      name: 'tidemark_hop_lag_records',
      type: 'gauge',
      help: 'Records of the source that bronze lacks.',
      samples: hops
        .filter(({ stage }) => stage === 'bronze')
        .map(({ stage, behind }) => ({ labels: { stage }, value: Number(behind) })),
    },
    {
      name: 'tidemark_hop_lag_versions',
      type: 'gauge',
      help: 'Versions of the table before it that a stage lacks.',
      samples: hops
        .filter(({ stage }) => stage !== 'bronze')
        .map(({ stage, behind }) => ({ labels: { stage }, value: Number(behind) })),
    },
  ];
}

function totalFamilies({ totals }: Status): MetricFamily[] {
  const counter = (name: string, help: string, value: number): MetricFamily =>
    one(name, 'counter', help, value);
  return [
    {
      name: 'tidemark_rows_total',
      type: 'counter',
      help: 'Rows committed to a stage.',
      samples: [
        { labels: { stage: 'bronze' }, value: totals.bronzeRows },
        { labels: { stage: 'silver' }, value: totals.silverRows },
      ],
    },
    counter('tidemark_duplicates_total', 'Events that silver had already.', totals.duplicates),
    counter(
      'tidemark_conflicts_total',
      'Events whose id came back with another payload.',
      totals.conflicts,
    ),
    counter('tidemark_dead_letters_total', 'Rows put into dead letters.', totals.deadLetters),
    counter('tidemark_late_rows_total', 'Rows flagged as late.', totals.late),
    counter('tidemark_actor_restarts_total', 'Restarts of actors.', totals.restarts),
  ];
}

function tableFamilies({ tables }: Status): MetricFamily[] {
  const gauge = (
    name: string,
    help: string,
    value: (table: Status['tables'][number]) => number | null,
  ): MetricFamily => ({
    name,
    type: 'gauge',
    help,
    samples: tables.flatMap((table) => {
      const number = value(table);
      return number === null ? [] : [{ labels: { table: table.name }, value: number }];
    }),
  });
  return [
    gauge('tidemark_table_version', 'Newest version.', ({ version }) => version),
    gauge('tidemark_table_rows', 'Rows.', ({ rows }) => rows),
    gauge('tidemark_table_files', 'Data files.', ({ files }) => files),
    gauge('tidemark_table_bytes', 'Bytes of the data files.', ({ bytes }) => bytes),
    gauge(
      'tidemark_table_committed_seconds',
      'When the newest version was committed, in seconds since the epoch.',
      ({ committedAt }) => epochSeconds(committedAt),
    ),
  ];
}

function one(name: string, type: 'counter' | 'gauge', help: string, value: number): MetricFamily {
  return { name, type, help, samples: [{ value }] };
}

function epochSeconds(instant: string): number | null {
  const ms = parseInstantMs(instant);
  return ms === undefined ? null : ms / 1000;
}
