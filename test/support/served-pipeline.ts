/**
 * A whole embedded pipeline in this process with its supervisor's HTTP side, for tests that look at it
 * from outside: real log, tables, nodes and supervisor in a folder that goes away with the test.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { stringify } from 'yaml';
import { systemAmbient } from '../../src/ambient.ts';
import type { Adapters } from '../../src/cli/context.ts';
import { parsePipeline } from '../../src/config.ts';
import { hostProcess } from '../../src/engine/host-process.ts';
import { PipelineProcess } from '../../src/engine/pipeline-process.ts';
import { createLogger, type Logger } from '../../src/logger.ts';
import { createObjectStore } from '../../src/storage/object-store/create-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { createWorkQueue } from '../../src/storage/queue/create-work-queue.ts';
import { openEmbeddedEventSource } from '../../src/storage/source/embedded-event-source.ts';
import { openEmbeddedRecordSink } from '../../src/storage/source/embedded-record-sink.ts';
import { createStateStore } from '../../src/storage/state/create-state-store.ts';
import {
  type ServedSupervisor,
  serveSupervisor,
} from '../../src/supervisor/http/serve-supervisor.ts';
import { someAdapters } from './cli-host.ts';

export interface ServedPipelineOptions {
  readonly partitions?: number;
  readonly workers?: number;
  readonly tokens?: readonly {
    readonly name: string;
    readonly role: string;
    readonly token: string;
  }[];
  /** Redis for state and queues; default: embedded. */
  readonly redis?: { readonly url: string; readonly prefix: string };
}

/** A pipeline that runs, and where to reach it. */
export interface ServedPipeline {
  readonly address: string;
  readonly pipeline: PipelineProcess;
  readonly served: ServedSupervisor;
  /** Lines of the log, parsed. */
  readonly logLines: readonly Readonly<Record<string, unknown>>[];
  /** Appends events; each value is one record. */
  readonly append: (values: readonly string[]) => Promise<void>;
}

const EVENT = {
  id: 'event_id',
  time: 'event_time',
  schema: {
    version: 1,
    fields: {
      event_id: { type: 'string', required: true },
      event_time: { type: 'timestamp', required: true },
      customer_id: 'string',
      bytes: 'long',
    },
  },
};

/** An event of the pipeline's schema as a record's value. */
export function eventText(index: number, atMs: number): string {
  return JSON.stringify({
    event_id: `event-${index}`,
    event_time: new Date(atMs).toISOString(),
    customer_id: `customer-${index % 7}`,
    bytes: index,
  });
}

/** Starts it; it ends with the test. */
export async function servePipeline(
  t: TestContext,
  options: ServedPipelineOptions = {},
): Promise<ServedPipeline> {
  const { partitions = 3, workers = 2, tokens = [], redis } = options;
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-served-'));
  const parsed = parsePipeline(
    stringify({
      name: 'usage-events',
      source: { kind: 'embedded', path: join(folder, 'log'), partitions },
      lake: { kind: 'fs', path: join(folder, 'lake') },
      state: redis
        ? { kind: 'redis', ...redis }
        : { kind: 'embedded', path: join(folder, 'state') },
      commit: { maxLatency: '100ms' },
      event: EVENT,
      gold: [
        {
          name: 'usage_hourly',
          window: '1h',
          groupBy: ['customer_id'],
          measures: { events: { fn: 'count' }, bytes: { fn: 'sum', field: 'bytes' } },
        },
      ],
      supervisor: { http: { port: 0, tokens } },
    }),
    { environment: {}, cwd: folder },
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const { config } = parsed;
  const logLines: Record<string, unknown>[] = [];
  const logger: Logger = createLogger({
    clock: systemAmbient.clock,
    level: 'info',
    write: (line) => void logLines.push(JSON.parse(line) as Record<string, unknown>),
  });
  const services = { ambient: systemAmbient, logger };
  const { source } = config;
  if (source.kind !== 'embedded') throw new Error('the source of this fixture is embedded');
  const adapters: Adapters = someAdapters({
    openStore: async ({ lake }) => createObjectStore(lake, services),
    openState: (given, how) => createStateStore(given, { ...services, ...how }),
    openQueue: (given) => createWorkQueue(given, services),
    openSource: () => openEmbeddedEventSource(source, services),
    openCodec: async () => createParquetCodec(),
  });
  const pipeline = await PipelineProcess.open(
    { config, adapters, process: hostProcess, ...services },
    () => {},
  );
  let served: ServedSupervisor | undefined;
  t.after(async () => {
    await served?.close();
    await pipeline.close();
    rmSync(folder, { recursive: true, force: true });
  });
  served = await serveSupervisor({ pipeline, supervisorId: 'supervisor-1', ...services });
  for (let index = 1; index <= workers; index += 1) {
    pipeline.startNode(`worker-${index}`, ['worker', 'writer']);
  }
  return {
    address: served.address,
    pipeline,
    served,
    logLines,
    async append(values) {
      const sink = await openEmbeddedRecordSink(source, services);
      const timestampMs = systemAmbient.clock.nowMs();
      await sink.append(values.map((value) => ({ key: undefined, value, timestampMs })));
      await sink.close();
    },
  };
}
