/**
 * Plays scenarios one after another, each on a throw-away pipeline of its own, and judges them.
 *
 * DR1 A promise is kept when nothing is lost, nothing counts twice, every sum is right, `verify --deep`
 *     finds nothing, and recovery took no longer than promised.
 * DR2 Whatever happens, the sandbox is removed.
 */
import { asPipelineError, PipelineError } from '../../errors.ts';
import { Sandbox } from './sandbox.ts';
import { type Audit, audit, type Expectation } from './audit.ts';
import type { DrillHost } from './drill-host.ts';
import { Feed } from './feed.ts';
import { type LagSample, LagWatch } from './lag-watch.ts';
import type { Scenario } from './scenarios.ts';
import { type FaultTimes, type Recovery, Stage } from './stage.ts';

/** How one scenario went. */
export interface ScenarioResult {
  readonly scenario: string;
  readonly breaks: string;
  readonly promised: Scenario['promised'];
  readonly verdict: 'kept' | 'broken';
  /** What is wrong, one sentence each; empty when the promise was kept. */
  readonly problems: readonly string[];
  /** Records that were produced, and distinct valid events among them. */
  readonly records: number;
  readonly events: number;
  /** undefined when the tables could not be counted. */
  readonly lost: number | undefined;
  readonly duplicated: number | undefined;
  readonly recovery: Recovery;
  readonly fault: FaultTimes | undefined;
  readonly lag: readonly LagSample[];
  readonly checks: Audit['checks'];
  readonly seconds: number;
}

/** Records per second of the steady stream. */
const RATE = 400;
const AFTERWARDS_MS = 3_000;
/** A recovery is watched for this much longer than was promised. */
const PATIENCE_MS = 60_000;

/**
 * Plays one scenario.
 * @param say takes what is going on, a few words at a time
 * @throws PipelineError TM_STOPPED at a signal; unavailable | invalid when the sandbox cannot be made
 */
export async function playScenario(
  host: DrillHost,
  scenario: Scenario,
  say: (text: string) => void,
): Promise<ScenarioResult> {
  const startedMs = host.ambient.clock.monotonicMs();
  say('making a pipeline');
  const sandbox = await Sandbox.open(host, scenario.name);
  const opened: { close(): Promise<void> }[] = [];
  let stage: Stage | undefined;
  let problem: string | undefined;
  let audited: Audit | undefined;
  try {
    stage = await openStage(host, sandbox, scenario, { opened, say });
    const expectations = await perform(stage, scenario);
    say('counting');
    audited = await audit(sandbox, stage.feed.truth(), expectations);
  } catch (thrown) {
    const error = asPipelineError(thrown);
    if (error.code === 'TM_STOPPED' || host.signal.aborted) throw stopped();
    problem = error.message;
  } finally {
    say('cleaning up');
    await stage?.killRun();
    for (const part of opened.toReversed()) await part.close().catch(() => {});
    await sandbox.remove(); // DR2
  }
  const seconds = (host.ambient.clock.monotonicMs() - startedMs) / 1000;
  return judge(scenario, stage, { audited, problem, seconds });
}

async function openStage(
  host: DrillHost,
  sandbox: Sandbox,
  scenario: Scenario,
  options: { readonly opened: { close(): Promise<void> }[]; readonly say: (text: string) => void },
): Promise<Stage> {
  const { adapters, ambient, logger } = host;
  const { config } = sandbox;
  const { opened, say } = options;
  const store = await adapters.openStore(config);
  opened.push(store);
  const codec = await adapters.openCodec();
  const sink = await adapters.openSink(config);
  const feed = new Feed({ sink, clock: ambient.clock, rate: RATE, seed: 1 });
  opened.push(feed);
  const produced = (): number => feed.produced;
  const watch = new LagWatch({ store, codec, ambient, logger, config, produced });
  opened.push(watch);
  return new Stage({ host, sandbox, feed, watch, workers: scenario.workers, say });
}

/** From the first event to the orderly end of the pipeline. */
async function perform(stage: Stage, scenario: Scenario): Promise<readonly Expectation[]> {
  const { feed, watch } = stage;
  stage.startRun();
  feed.start();
  await stage.settle();
  const expectations = await scenario.play(stage);
  const { commitAgainMs, caughtUpMs } = scenario.promised;
  const isWell = (): boolean => {
    const recovery = stage.recovery();
    return recovery.commitAgainMs !== undefined && recovery.caughtUpMs !== undefined;
  };
  await stage.comes(Math.max(commitAgainMs, caughtUpMs) + PATIENCE_MS, isWell);
  await stage.pause(AFTERWARDS_MS);
  await feed.stop();
  const { produced } = feed;
  await stage.comes(PATIENCE_MS, () => watch.last.gold >= produced);
  await stage.stopRun();
  return expectations ?? [];
}

/** DR1 */
function judge(
  scenario: Scenario,
  stage: Stage | undefined,
  outcome: {
    readonly audited: Audit | undefined;
    readonly problem: string | undefined;
    readonly seconds: number;
  },
): ScenarioResult {
  const { audited, problem, seconds } = outcome;
  const truth = stage?.feed.truth();
  const recovery = stage?.recovery() ?? { commitAgainMs: undefined, caughtUpMs: undefined };
  const { promised } = scenario;
  const problems = problem === undefined ? [] : [problem];
  for (const { what, expected, actual } of audited?.checks ?? []) {
    if (expected !== actual) problems.push(`${what}: ${actual} instead of ${expected}`);
  }
  problems.push(...(audited?.violations ?? []));
  const late = (what: string, ms: number | undefined, max: number): void => {
    if (ms === undefined) problems.push(`${what}: not seen`);
    else if (ms > max) problems.push(`${what}: after ${ms} ms, ${max} ms were promised`);
  };
  if (problem === undefined) {
    late('committing again', recovery.commitAgainMs, promised.commitAgainMs);
    late('caught up', recovery.caughtUpMs, promised.caughtUpMs);
  }
  return {
    scenario: scenario.name,
    breaks: scenario.breaks,
    promised,
    verdict: problems.length === 0 ? 'kept' : 'broken',
    problems,
    records: truth?.records ?? 0,
    events: truth?.events ?? 0,
    lost: audited?.lost,
    duplicated: audited?.duplicated,
    recovery,
    fault: stage?.fault,
    lag: stage?.watch.samples ?? [],
    checks: audited?.checks ?? [],
    seconds,
  };
}

function stopped(): PipelineError {
  return new PipelineError(
    'invalid',
    'TM_STOPPED',
    'The drill was stopped; nothing is left of it.',
  );
}
