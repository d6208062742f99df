/**
 * `tidemark run`: all roles of a pipeline together, from the source to gold.
 */
import { fileURLToPath } from 'node:url';
import { asPipelineError, type PipelineError } from '../errors.ts';
import { hostProcess } from '../engine/host-process.ts';
import { NodeCounts } from '../engine/node-counts.ts';
import { PipelineProcess } from '../engine/pipeline-process.ts';
import { isCaughtUp, isSilverDone, readProgress } from '../engine/pipeline-progress.ts';
import type { NodeView } from '../engine/worker-messages.ts';
import { WorkerProcesses } from '../engine/worker-processes.ts';
import type { HttpServer } from '../supervisor/http/http-server.ts';
import { OutageLog } from '../supervisor/outage-log.ts';
import { parseUnit, type Unit } from '../supervisor/units.ts';
import { untilAvailable } from './availability.ts';
import {
  defineCommand,
  EXIT,
  type ExitCode,
  integer,
  text,
  texts,
  toggle,
  usageError,
} from './command.ts';
import type { CommandContext } from './context.ts';
import { ingestFiles } from './ingest.ts';
import { serveHttp } from './serve-http.ts';
import { groupDigits } from './text-table.ts';
import { startUpkeep, type Upkeep } from './upkeep.ts';

/** How often progress is looked at, milliseconds. */
const POLL_MS = 250;
/** How long a worker process may drain before it is killed, milliseconds. */
const DRAIN_GRACE_MS = 30_000;

type Totals = Pick<
  NodeCounts,
  'bronzeRows' | 'silverRows' | 'duplicates' | 'conflicts' | 'deadLetters' | 'late'
>;

interface RunOptions {
  readonly workers: number;
  readonly input: readonly string[];
  readonly arrivalField: string | undefined;
  readonly untilCaughtUp: boolean;
}

export const runCommand = defineCommand({
  name: 'run',
  summary: 'run all roles: source to bronze, silver and gold',
  options: {
    workers: integer('worker groups', { min: 1, max: 64, fallback: 1 }),
    input: texts('FILE', 'append NDJSON to the embedded source first; - is stdin; may be repeated'),
    arrivalField: text('F', 'field of the input whose time becomes the record timestamp'),
    untilCaughtUp: toggle('end when gold has all that the source has'),
  },
  example: 'tidemark run -c pipeline.yaml --input events.ndjson --until-caught-up',
  run: (context, { options }) => run(context, options),
});

async function run(context: CommandContext, options: RunOptions): Promise<ExitCode> {
  const config = context.loadConfig();
  if (options.input.length > 0 && config.source.kind !== 'embedded') {
    throw usageError('--input appends to the embedded source; this pipeline reads Kafka.');
  }
  const { ambient, logger, terminal } = context;
  const startedMs = ambient.clock.monotonicMs();
  const pipeline = await untilAvailable(context, () =>
    PipelineProcess.open(
      {
        config,
        adapters: context.adapters,
        ambient,
        logger,
        process: hostProcess,
      },
      (remark) => terminal.note(`warning: ${remark}`),
    ),
  );
  const runId = ambient.ids.id().slice(0, 6);
  const upkeep = startUpkeep(context, pipeline, { isScheduled: !options.untilCaughtUp });
  const http = await serveUnlessTaken(context, pipeline, `supervisor-${runId}`, upkeep);
  const workers = startWorkers(context, pipeline, runId, options);
  const follower = new Follower(context, pipeline, workers, options.untilCaughtUp);
  let failed: ReturnType<Follower['failures']>;
  try {
    const ingest = ingestFiles(context, config, options.input, options.arrivalField);
    await follower.follow(ingest);
    // Now: units that are let go are forgotten, with what stopped them.
    failed = follower.failures();
  } finally {
    terminal.clearProgress();
    await http?.close();
    // First of all what was fetched is committed; upkeep then describes what the run leaves behind.
    await workers.stop();
    await upkeep.close();
    await pipeline.close();
  }
  const seconds = (ambient.clock.monotonicMs() - startedMs) / 1000;
  const totals = follower.totals();
  const failures = [...failed].map(([unit, error]) => ({ unit, reason: error.message }));
  const { restarts } = workers;
  await terminal.result({ seconds, ...totals, restarts, failures }, (style) =>
    [
      `This run, in ${seconds.toFixed(1)} s: ${groupDigits(totals.bronzeRows)} records into bronze; ` +
        `${groupDigits(totals.silverRows)} events into silver (${groupDigits(totals.late)} late), ` +
        `${groupDigits(totals.duplicates)} duplicates, ${groupDigits(totals.deadLetters)} dead letters.`,
      ...(restarts > 0 ? [style.bad(`Worker processes that were restarted: ${restarts}`)] : []),
      ...failures.map(({ unit, reason }) => style.bad(`${unit} stopped: ${reason}`)),
    ].join('\n'),
  );
  return failures.length > 0 ? EXIT.violation : EXIT.ok;
}

/** The page is a help to whoever watches a run: a port that is taken must not stop the work. */
async function serveUnlessTaken(
  context: CommandContext,
  pipeline: PipelineProcess,
  supervisorId: string,
  { reconciliation }: Upkeep,
): Promise<HttpServer | undefined> {
  try {
    const http = await serveHttp(context, pipeline, supervisorId, reconciliation);
    context.terminal.note(`watch it at ${http.address}`);
    return http;
  } catch (thrown) {
    const error = asPipelineError(thrown);
    if (error.kind !== 'invalid') throw error;
    context.terminal.note(`no web page: ${error.message}`);
    if (pipeline.hasSupervisor) return undefined;
    throw error;
  }
}

/** Where the units of a run are. */
interface Workers {
  readonly views: readonly NodeView[];
  /** Processes that ended by themselves and were started again. */
  readonly restarts: number;
  announceUpstreamDone(): void;
  stop(): Promise<void>;
}

/** On the embedded state nodes of this process, on Redis a process each. */
function startWorkers(
  context: CommandContext,
  pipeline: PipelineProcess,
  runId: string,
  options: RunOptions,
): Workers {
  const ids = Array.from({ length: options.workers }, (_, index) => `worker-${runId}-${index}`);
  if (pipeline.config.state.kind === 'embedded') {
    const nodes = ids.map((id) => pipeline.startNode(id, ['worker', 'writer']));
    return {
      views: nodes,
      restarts: 0,
      announceUpstreamDone: () => {
        pipeline.isUpstreamDone = true;
      },
      stop: () => pipeline.drain(),
    };
  }
  const config = context.configFile === undefined ? [] : ['-c', context.configFile];
  return new WorkerProcesses({
    command: [
      process.execPath,
      ...process.execArgv,
      fileURLToPath(new URL('../main.ts', import.meta.url)),
      'worker',
      ...config,
      '--with-writers',
      '--id',
    ],
    environment: context.environment,
    workerIds: ids,
    graceMs: DRAIN_GRACE_MS,
    signal: context.signal,
    ambient: context.ambient,
    logger: context.logger,
  });
}

/** Watches a run, shows its progress, and knows when it is over. */
class Follower {
  readonly #context: CommandContext;
  readonly #pipeline: PipelineProcess;
  readonly #workers: Workers;
  readonly #untilCaughtUp: boolean;
  readonly #outage: OutageLog;

  constructor(
    context: CommandContext,
    pipeline: PipelineProcess,
    workers: Workers,
    untilCaughtUp: boolean,
  ) {
    this.#context = context;
    this.#pipeline = pipeline;
    this.#workers = workers;
    this.#untilCaughtUp = untilCaughtUp;
    this.#outage = new OutageLog('progress cannot be read', { ...context, ...context.ambient });
  }

  /** Returns at a signal, or when all that `ingest` appended is in gold. */
  async follow(ingest: Promise<void>): Promise<void> {
    const { ambient, signal } = this.#context;
    let ingested = false;
    let ingestError: unknown;
    const done = ingest.then(
      () => {
        ingested = true;
      },
      (thrown: unknown) => {
        ingestError = thrown;
      },
    );
    while (!signal.aborted) {
      if (ingestError !== undefined) throw ingestError;
      if (this.#untilCaughtUp && ingested && (await this.#isOverNow())) break;
      this.#show();
      await ambient.clock.sleep(POLL_MS, signal);
    }
    await Promise.race([done, ambient.clock.sleep(1_000)]);
  }

  totals(): Totals {
    const { bronzeRows, silverRows, duplicates, conflicts, deadLetters, late } = NodeCounts.sum(
      this.#workers.views.map(({ counts }) => counts),
    );
    return { bronzeRows, silverRows, duplicates, conflicts, deadLetters, late };
  }

  failures(): Map<Unit, PipelineError> {
    return new Map(this.#workers.views.flatMap(({ failures }) => [...failures]));
  }

  /** An outage is waited out (design 6): nobody knows meanwhile. */
  async #isOverNow(): Promise<boolean> {
    try {
      const isOver = await this.#isOver();
      this.#outage.worked();
      return isOver;
    } catch (thrown) {
      const error = asPipelineError(thrown);
      if (error.kind !== 'unavailable') throw error;
      this.#outage.failed(error);
      return false;
    }
  }

  /** A writer that stopped can never catch up; partitions that stopped do not count. */
  async #isOver(): Promise<boolean> {
    const failures = this.failures();
    const stopped = new Set<number>();
    for (const [unit, error] of failures) {
      const { kind, index } = parseUnit(unit)!;
      if (kind !== 'partition') throw error;
      stopped.add(index);
    }
    const { config, tables, ports, topicNow } = this.#pipeline;
    const progress = await readProgress(config, tables, ports.source, topicNow);
    if (isSilverDone(progress, stopped)) this.#workers.announceUpstreamDone();
    return isCaughtUp(progress, stopped);
  }

  #startedMs: number | undefined;

  #show(): void {
    const { clock } = this.#context.ambient;
    this.#startedMs ??= clock.monotonicMs();
    const seconds = Math.max(0.001, (clock.monotonicMs() - this.#startedMs) / 1000);
    const { bronzeRows, silverRows, deadLetters, duplicates } = this.totals();
    const rate = Math.round(bronzeRows / seconds);
    this.#context.terminal.progress(
      `${bronzeRows} records (${rate}/s), ${silverRows} events, ${duplicates} duplicates, ${deadLetters} dead letters`,
    );
  }
}
