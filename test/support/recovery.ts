/**
 * What tests of recovery need: a steady stream of events, a look at how far the tables are, the time
 * until they move again, and the proof that every event is in them once.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Producer } from 'kafkajs';
import { systemAmbient } from '../../src/ambient.ts';
import {
  isCaughtUp,
  type PipelineProgress,
  readProgress,
} from '../../src/engine/pipeline-progress.ts';
import { openTables, type PipelineTables } from '../../src/engine/tables.ts';
import { silentLogger } from '../../src/logger.ts';
import { createObjectStore } from '../../src/storage/object-store/create-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import type { EventSource } from '../../src/storage/source/event-source.ts';
import { eventually } from './eventually.ts';
import type { Definition, PipelineFixture } from './pipeline-fixture.ts';
import { TableReader } from './pipeline-tables.ts';
import { sharedS3 } from './servers.ts';

/** Small commits, so that there is always one under way. */
export const RECOVERY_DEFINITION: Definition = {
  name: 'recovery',
  commit: { maxLatency: '200ms' },
  // An outage makes every partition idle, and the day under way would become final.
  reconcile: { enabled: false },
  event: {
    id: 'id',
    time: 'at',
    schema: {
      fields: {
        id: { type: 'string', required: true },
        at: { type: 'timestamp', required: true },
        customer: 'string',
        amount: 'long',
      },
    },
  },
  gold: [
    {
      name: 'hourly',
      window: '1h',
      groupBy: ['customer'],
      measures: { events: { fn: 'count' }, amount: { fn: 'sum', field: 'amount' } },
    },
  ],
};

/** Rounds of what is repeated; 50 is what issue 4 asks for. */
export const TEST_ROUNDS = Number(process.env['TIDEMARK_TEST_ROUNDS'] ?? 3);
/** How long outages last, and how long rebalances go on. */
export const OUTAGE_MS = 1_000 * Number(process.env['TIDEMARK_TEST_OUTAGE_S'] ?? 60);

const TICK_MS = 50;
const CUSTOMERS = 40;
const FIRST_EVENT_MS = Date.parse('2026-11-20T00:00:00Z');
/** Every so manieth record repeats an event, or is none. */
const DUPLICATE_EVERY = 50;
const POISON_EVERY = 97;

/** Keeps sending events until it is told to stop, through outages of the broker too. */
export class SteadyLoad {
  readonly #pipeline: PipelineFixture;
  readonly #producer: Producer;
  readonly #perTick: number;
  readonly #ended: Promise<void>;
  #isOver = false;
  #isAbandoned = false;
  /** Distinct events that the broker has. */
  #events = 0;

  private constructor(pipeline: PipelineFixture, producer: Producer, eventsPerSecond: number) {
    this.#pipeline = pipeline;
    this.#producer = producer;
    this.#perTick = Math.ceil((eventsPerSecond * TICK_MS) / 1_000);
    this.#ended = this.#run();
  }

  /** Begins; ends with the test at the latest. */
  static async start(
    t: TestContext,
    pipeline: PipelineFixture,
    eventsPerSecond = 1_000,
  ): Promise<SteadyLoad> {
    const producer = pipeline.topic!.client.producer({
      retry: { retries: 2, maxRetryTime: 1_000 },
      // New partitions are used soon.
      metadataMaxAge: 1_000,
    });
    await producer.connect();
    const load = new SteadyLoad(pipeline, producer, eventsPerSecond);
    // A test that failed may have lost its topic already: nothing is sent to the end then.
    t.after(() => {
      load.#isAbandoned = true;
      return load.stop();
    });
    return load;
  }

  /** @returns how many distinct events the broker has */
  async stop(): Promise<number> {
    this.#isOver = true;
    await this.#ended;
    await this.#producer.disconnect().catch(() => {});
    return this.#events;
  }

  async #run(): Promise<void> {
    const { topic } = this.#pipeline.topic!.config;
    let from = 0;
    while (!this.#isOver || (from > this.#events && !this.#isAbandoned)) {
      from = this.#events + this.#perTick;
      const messages = recordsOf(this.#events, this.#perTick);
      try {
        await this.#producer.send({ topic, messages });
        this.#events = from;
        await pause(TICK_MS);
      } catch {
        // Whatever of it came through comes again: at least once, as real producers do.
        await pause(200);
      }
    }
  }
}

function recordsOf(first: number, count: number): { key: string; value: string }[] {
  return Array.from({ length: count }, (_, i) => first + i).flatMap((index) => {
    const record = eventRecord(index);
    if (index % DUPLICATE_EVERY === 0) return [record, record];
    if (index % POISON_EVERY === 0)
      return [record, { key: record.key, value: `not JSON ${index}` }];
    return [record];
  });
}

/** Distinct events `first` to `first + count - 1` as records. */
export function eventRecords(first: number, count: number): { key: string; value: string }[] {
  return Array.from({ length: count }, (_, i) => eventRecord(first + i));
}

function eventRecord(index: number): { key: string; value: string } {
  const customer = `customer-${index % CUSTOMERS}`;
  const at = new Date(FIRST_EVENT_MS + index * 250).toISOString();
  return {
    key: customer,
    value: JSON.stringify({ id: `event-${index}`, at, customer, amount: amountOf(index) }),
  };
}

function amountOf(index: number): number {
  return (index * 7919) % 1_000_003;
}

/** Looks at a pipeline's tables and source, past whatever stands between it and them. */
export class PipelineWatch {
  readonly #pipeline: PipelineFixture;
  readonly #tables: PipelineTables;
  readonly #source: EventSource;

  private constructor(pipeline: PipelineFixture, tables: PipelineTables, source: EventSource) {
    this.#pipeline = pipeline;
    this.#tables = tables;
    this.#source = source;
  }

  static async open(t: TestContext, pipeline: PipelineFixture): Promise<PipelineWatch> {
    const context = { ambient: systemAmbient, logger: silentLogger };
    const { lake } = pipeline.config;
    const { endpoint } = await sharedS3();
    const direct = lake.kind === 's3' ? { ...lake, endpoint } : lake;
    const store = await createObjectStore(direct, context);
    t.after(() => store.close());
    const env = { store, codec: createParquetCodec(), ...context };
    const tables = await openTables(env, pipeline.config);
    return new PipelineWatch(pipeline, tables, pipeline.topic!.openSource());
  }

  async progress(): Promise<PipelineProgress> {
    const topic = await this.#source.describe();
    return readProgress(this.#pipeline.config, this.#tables, this.#source, topic);
  }

  /** Newest versions of bronze, silver and gold. */
  async versions(): Promise<Readonly<Record<'bronze' | 'silver' | 'gold', number>>> {
    const { bronze, silver, gold } = this.#tables;
    const tables = [bronze, silver, gold.get('hourly')!];
    const [b, s, g] = await Promise.all(
      tables.map(async (table) => (await table.refresh()).version),
    );
    return { bronze: b!, silver: s!, gold: g! };
  }

  /** Waits until gold has all that the source has now or later. */
  async caughtUp(withinMs = 120_000): Promise<void> {
    await eventually(async () => isCaughtUp(await this.progress(), new Set()), { withinMs });
  }

  /**
   * Waits until bronze has of every partition all that the source had at the call: each one is
   * committed again, whoever worked on it before.
   * @returns milliseconds
   */
  async untilBronzeHasAll(withinMs: number): Promise<number> {
    const startedMs = performance.now();
    const before = (await this.progress()).partitions;
    await eventually(
      async () => {
        const { partitions } = await this.progress();
        return [...before].every(([p, { latest }]) => (partitions.get(p)?.next ?? 0n) >= latest);
      },
      { withinMs },
    );
    return performance.now() - startedMs;
  }

  /**
   * Waits for another commit to a table.
   * @returns milliseconds
   */
  async untilCommit(table: 'bronze' | 'silver' | 'gold', withinMs: number): Promise<number> {
    const startedMs = performance.now();
    const before = (await this.versions())[table];
    await eventually(async () => (await this.versions())[table] > before, { withinMs });
    return performance.now() - startedMs;
  }
}

/**
 * Asserts that every event is in silver once, counted in gold once, that bronze has what the broker
 * has, and that `verify` proves it from the commits and from the data files.
 * @param events distinct events sent, as `SteadyLoad.stop` tells
 */
export async function assertExact(
  t: TestContext,
  pipeline: PipelineFixture,
  events: number,
): Promise<void> {
  const { admin, config } = pipeline.topic!;
  const offsets = await admin.fetchTopicOffsets(config.topic);
  const records = offsets.reduce((sum, { high }) => sum + Number(high), 0);
  const lake = await pipeline.lakeFolder();
  const reader = await TableReader.open(t);
  await reader.attach('bronze', join(lake, 'bronze/recovery'));
  await reader.attach('dead', join(lake, 'bronze/recovery_dlq'));
  await reader.attach('silver', join(lake, 'silver/recovery'));
  await reader.attach('gold', join(lake, 'gold/hourly'));
  const found = await reader.row(`SELECT
    (SELECT count(*) FROM bronze)::INT AS bronze,
    (SELECT count(DISTINCT (_kafka_partition, _kafka_offset)) FROM bronze)::INT AS offsets,
    (SELECT count(*) FROM silver)::INT AS silver,
    (SELECT count(DISTINCT id) FROM silver)::INT AS ids,
    (SELECT count(*) FROM dead)::INT AS dead,
    (SELECT sum(events) FROM gold)::INT AS counted`);
  const poison = await reader.row(
    "SELECT count(*)::INT AS n FROM bronze WHERE starts_with(_raw_value, 'not JSON')",
  );
  assert.deepEqual(found, {
    bronze: records,
    offsets: records,
    silver: events,
    ids: events,
    dead: poison['n'],
    counted: events,
  });
  await reader.run(`CREATE TABLE sent AS SELECT 'event-' || i AS id,
    'customer-' || (i % ${CUSTOMERS}) AS customer, (i * 7919) % 1000003 AS amount,
    time_bucket(INTERVAL 1 hour, make_timestamp((${FIRST_EVENT_MS} + i * 250) * 1000)) AS hour
    FROM range(${events}) AS r(i)`);
  await reader.assertSame(
    'SELECT id, customer, amount FROM silver',
    'SELECT id, customer, amount FROM sent',
    'silver',
  );
  await reader.assertSame(
    'SELECT epoch_us(window_start), customer, events, amount FROM gold',
    `SELECT epoch_us(hour), customer, count(*), sum(amount)::BIGINT FROM sent GROUP BY hour, customer`,
    'gold',
  );
  await pipeline.verify();
}

/** `p50 1.2 s, max 3.4 s` of milliseconds. */
export function spread(durationsMs: readonly number[]): string {
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const at = (share: number): string =>
    ((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) / 1_000).toFixed(
      1,
    );
  return `p50 ${at(0.5)} s, max ${at(1)} s of ${sorted.length}`;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
