/**
 * What a drill breaks, and the time in which the pipeline promises to be well again. A scenario breaks
 * its own sandbox only (SB1, SB2), at a moment when events are flowing.
 */
import { SeededRandom } from '../../pipeline/generator/seeded-random.ts';
import type { Expectation } from './audit.ts';
import type { DrillHost } from './drill-host.ts';
import { dateText } from '../../pipeline/progress.ts';
import { eventSection, NEW_FIELD, PARTITIONS } from './definition.ts';
import { type Api, callApi } from './rest-call.ts';
import type { Breakable } from './sandbox.ts';
import type { Stage } from './stage.ts';

export interface Scenario {
  readonly name: string;
  /** What it does, for the help and the report. */
  readonly breaks: string;
  /** Milliseconds after the fault is over; see Recovery. */
  readonly promised: { readonly commitAgainMs: number; readonly caughtUpMs: number };
  /** Worker groups of the pipeline. */
  readonly workers: number;
  /** @returns what the tables must hold in the end, besides all events */
  play(stage: Stage): Promise<readonly Expectation[] | void>;
}

const OUTAGE_MS = 8_000;
const STORM_MS = 10_000;
const STORM_STEP_MS = 250;
const FLOOD_RECORDS = 5_000;
const UNDECLARED_MS = 4_000;
const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/** A pipeline that stopped for a while commits again at once; what piled up takes a little longer. */
const PROMISED = { commitAgainMs: 10_000, caughtUpMs: 60_000 };

/** In the order in which all of them are played. */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'crash',
    breaks: 'SIGKILL of every process of the pipeline, started again at once',
    promised: PROMISED,
    workers: 2,
    play: async (stage) => {
      stage.broken('SIGKILL of all processes');
      await stage.killRun();
      stage.over();
      stage.startRun();
    },
  },
  {
    name: 'kafka-restart',
    breaks: `source away for ${OUTAGE_MS / 1000} s, connections cut in the middle`,
    promised: PROMISED,
    workers: 2,
    play: (stage) => outage(stage, stage.sandbox.breakables.source!, 'the source is away'),
  },
  {
    name: 'storage-outage',
    breaks: `object store away for ${OUTAGE_MS / 1000} s, in the middle of commits`,
    promised: PROMISED,
    workers: 2,
    play: (stage) => outage(stage, stage.sandbox.breakables.store!, 'the object store is away'),
  },
  {
    name: 'redis-loss',
    breaks: `state and queues away for ${OUTAGE_MS / 1000} s, then back without a single key`,
    promised: PROMISED,
    workers: 2,
    play: loseState,
  },
  {
    name: 'rebalance-storm',
    breaks: `units moved between three workers ${1000 / STORM_STEP_MS} times a second for ${STORM_MS / 1000} s`,
    promised: PROMISED,
    workers: 3,
    play: storm,
  },
  {
    name: 'duplicates',
    breaks: 'every event sent three times more, twice of these into other partitions',
    promised: PROMISED,
    workers: 2,
    play: async (stage) => {
      stage.broken('sending everything again');
      for (const otherKeys of [false, true, true]) await stage.feed.repeatAll(otherKeys);
      stage.over();
    },
  },
  {
    name: 'late',
    breaks: `${FLOOD_RECORDS} events of the day before in one flood; that day reconciled, late ones again`,
    promised: PROMISED,
    workers: 2,
    play: flood,
  },
  {
    name: 'schema-change',
    breaks: 'a new field arrives before it is declared; schema apply, then replay --rebuild',
    promised: PROMISED,
    workers: 2,
    play: changeSchema,
  },
];

async function outage(stage: Stage, service: Breakable, what: string): Promise<void> {
  stage.broken(what);
  await service.cut();
  await stage.pause(OUTAGE_MS);
  await service.restore();
  stage.over();
}

/** The embedded state has one owner: it is lost together with its process. */
async function loseState(stage: Stage): Promise<void> {
  const { sandbox, host } = stage;
  const { state } = sandbox.breakables;
  stage.broken('state and queues are lost');
  if (sandbox.config.state.kind === 'embedded') {
    await stage.killRun();
    await host.adapters.eraseState(sandbox.config);
    stage.over();
    stage.startRun();
    return;
  }
  await state?.cut();
  await stage.pause(OUTAGE_MS);
  await host.adapters.eraseState(sandbox.config);
  await state?.restore();
  stage.over();
}

/** Moves, rebalances, drains and takes them back, by the REST API that operators use. */
async function storm(stage: Stage): Promise<void> {
  const { signal, ambient } = stage.host;
  const { clock } = ambient;
  const random = new SeededRandom(1);
  const api = { address: await stage.restAddress(), clock, signal };
  const listed = await callApi<{ readonly workers: readonly { readonly id: string }[] }>(
    api,
    'GET',
    '/v1/workers',
  );
  const ids = listed!.workers.map(({ id }) => id);
  const anyWorker = (): string => ids[random.below(ids.length)]!;
  stage.broken('units are moved about');
  const untilMs = clock.monotonicMs() + STORM_MS;
  let draining: string | undefined;
  for (let step = 0; clock.monotonicMs() < untilMs; step++) {
    if (draining !== undefined) await drain(api, draining, false);
    draining = undefined;
    switch (step % 3) {
      case 0:
        await place(api, random.below(PARTITIONS), anyWorker());
        break;
      case 1:
        await callApi(api, 'POST', '/v1/rebalance', { strategy: 'even', dryRun: false });
        break;
      default:
        draining = anyWorker();
        await drain(api, draining, true);
    }
    await stage.pause(STORM_STEP_MS);
  }
  if (draining !== undefined) await drain(api, draining, false);
  for (let partition = 0; partition < PARTITIONS; partition++) {
    await place(api, partition, null);
  }
  stage.over();
}

function place(api: Api, partition: number, worker: string | null): Promise<unknown> {
  return callApi(api, 'PUT', `/v1/partitions/${partition}/worker`, { worker });
}

function drain(api: Api, worker: string, draining: boolean): Promise<unknown> {
  return callApi(api, 'POST', `/v1/workers/${worker}/drain`, { draining });
}

/** Arrivals at one in the night: an event two to six hours older is of the day before. */
function lateArrivalMs({ ambient }: DrillHost): number {
  return Math.floor(ambient.clock.nowMs() / DAY_MS) * DAY_MS - DAY_MS + HOUR_MS;
}

/** The second flood finds its day final: its windows change with the next reconciliation only (P7). */
async function flood(stage: Stage): Promise<readonly Expectation[]> {
  const { feed, sandbox, host } = stage;
  const startMs = lateArrivalMs(host);
  const date = dateText(Math.floor(startMs / DAY_MS) - 1);
  stage.broken('a flood of late events');
  await feed.flood({ records: FLOOD_RECORDS, startMs, late: 1 });
  stage.over();
  await stage.gold(feed.produced);
  await sandbox.succeed('reconcile', '--date', date);
  await feed.flood({ records: FLOOD_RECORDS / 10, startMs, late: 1 });
  await stage.gold(feed.produced);
  await sandbox.succeed('reconcile', '--date', date);
  return [
    {
      what: 'windows of the late day, all of them final (1: yes)',
      sql: `SELECT COALESCE(bool_and(_is_final AND _source = 'batch' AND _revision = 2), false)::INT
        FROM gold.drill_hourly WHERE _event_date = DATE '${date}'`,
      expected: 1,
    },
    {
      what: 'windows reported as changed (1: there are)',
      sql: `SELECT (count(*) > 0)::INT FROM gold.${sandbox.config.tableName}_reconciliation`,
      expected: 1,
    },
  ];
}

async function changeSchema(stage: Stage): Promise<readonly Expectation[]> {
  const { feed, sandbox, host } = stage;
  stage.broken('events have a new field');
  feed.addField(NEW_FIELD);
  await stage.pause(UNDECLARED_MS);
  await stage.stopRun();
  await sandbox.declare({ event: eventSection(2) });
  await sandbox.succeed('schema apply');
  stage.over('started again with the new schema');
  stage.startRun();
  await stage.gold(feed.produced);
  const nowMs = host.ambient.clock.nowMs();
  // The events of this drill are up to six hours old.
  const days = new Set([nowMs - 6 * HOUR_MS, nowMs].map((ms) => Math.floor(ms / DAY_MS)));
  for (const day of days) await sandbox.succeed('replay', '--rebuild', '--date', dateText(day));
  return [
    {
      what: `silver ${NEW_FIELD}`,
      sql: `SELECT count(${NEW_FIELD}) FROM silver.${sandbox.config.tableName}`,
      // The feed still goes on.
      get expected() {
        return feed.eventsWithField;
      },
    },
  ];
}
