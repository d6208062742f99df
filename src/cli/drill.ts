/**
 * `tidemark drill`: breaks a throw-away pipeline on purpose and says what that cost.
 */
import { access, constants, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { DrillHost } from '../operations/drill/drill-host.ts';
import { playScenario, type ScenarioResult } from '../operations/drill/drill.ts';
import { drillReport } from '../operations/drill/drill-report.ts';
import { type Scenario, SCENARIOS } from '../operations/drill/scenarios.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import { defineCommand, EXIT, type ExitCode, text, usageError } from './command.ts';
import type { CommandContext } from './context.ts';
import type { Style } from './terminal.ts';
import { groupDigits, textTable } from './text-table.ts';

const NAMES = SCENARIOS.map(({ name }) => name);

export const drillCommand = defineCommand({
  name: 'drill',
  summary: 'break a throw-away pipeline on purpose: loss, duplicates and recovery time per failure',
  arguments: '[scenarios...]',
  options: {
    report: text('FILE', 'write an HTML report with the lag over time'),
  },
  example: 'tidemark drill crash kafka-restart -c pipeline.yaml --report drill.html',
  run: (context, { options, args }) => drill(context, args, options.report),
});

async function drill(
  context: CommandContext,
  names: readonly string[],
  report: string | undefined,
): Promise<ExitCode> {
  const scenarios = chosen(names);
  // Only a file that was named: a drill on one's own servers is asked for, never guessed.
  const base = context.configFile === undefined ? undefined : context.loadConfig();
  const { adapters, ambient, logger, environment, signal, terminal } = context;
  const reportPath = report === undefined ? undefined : resolve(context.cwd, report);
  if (reportPath !== undefined) await requireWritable(reportPath);
  const host: DrillHost = { adapters, ambient, logger, environment, signal, base };
  const on = placesOf(base);
  terminal.note(`${scenarios.length} scenarios on ${on}`);
  const startedMs = ambient.clock.monotonicMs();
  const results: ScenarioResult[] = [];
  for (const [index, scenario] of scenarios.entries()) {
    const show = (what: string): void => {
      const seconds = Math.round((ambient.clock.monotonicMs() - startedMs) / 1000);
      terminal.progress(
        `${index + 1}/${scenarios.length} ${scenario.name}: ${what} (${seconds} s)`,
      );
    };
    results.push(await playScenario(host, scenario, show));
    const { verdict, problems } = results.at(-1)!;
    terminal.note(`${scenario.name}: ${[verdict, ...problems].join('\n  ')}`);
  }
  terminal.clearProgress();
  warnOfLoad(context);
  const ok = results.every(({ verdict }) => verdict === 'kept');
  const seconds = (ambient.clock.monotonicMs() - startedMs) / 1000;
  const document = { ok, on, seconds, scenarios: results };
  await terminal.result(document, (style) => render(document, style));
  if (reportPath !== undefined) {
    await writeFile(reportPath, drillReport(document, ambient.clock.nowMs()));
  }
  return ok ? EXIT.ok : EXIT.violation;
}

/** The drill takes minutes: whether its report can be written is asked first. */
async function requireWritable(path: string): Promise<void> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  try {
    await access(isThere ? path : dirname(path), constants.W_OK);
  } catch (cause) {
    throw usageError(`--report: ${path} cannot be written (${(cause as Error).message}).`);
  }
}

/** Times of a machine that has other things to do are those of a slower machine. */
function warnOfLoad({ terminal }: CommandContext): void {
  const cores = availableParallelism();
  const [, load = 0] = loadavg();
  if (load <= cores * 1.5) return;
  const told = `The load of this machine was ${load.toFixed(1)} on ${cores} cores`;
  terminal.note(`${told}: recovery is quicker where nothing else runs.`);
}

function chosen(names: readonly string[]): readonly Scenario[] {
  const unknown = names.find((name) => name !== 'all' && !NAMES.includes(name));
  if (unknown !== undefined) {
    throw usageError(`There is no scenario ${unknown}; there are ${NAMES.join(', ')} and all.`);
  }
  const all = names.length === 0 || names.includes('all');
  return SCENARIOS.filter(({ name }) => all || names.includes(name));
}

function placesOf(base: PipelineConfig | undefined): string {
  const source = base?.source.kind === 'kafka' ? 'Kafka' : 'an embedded log';
  const lake = base?.lake.kind === 's3' ? 'S3' : 'a local folder';
  const state = base?.state.kind === 'redis' ? 'Redis' : 'embedded state';
  return `${source}, ${lake} and ${state}`;
}

type Document = Parameters<typeof drillReport>[0];

function render({ ok, on, seconds, scenarios }: Document, style: Style): string {
  const time = (ms: number | undefined): string =>
    ms === undefined ? 'never' : `${(ms / 1000).toFixed(1)} s`;
  const right = 'right' as const;
  const table = textTable(
    [
      { title: 'scenario' },
      { title: 'events', align: right },
      { title: 'lost', align: right },
      { title: 'duplicated', align: right },
      { title: 'commits again', align: right },
      { title: 'promised', align: right },
      { title: 'caught up', align: right },
      { title: 'promised', align: right },
      { title: 'promise' },
    ],
    scenarios.map(({ scenario, events, lost, duplicated, recovery, promised, verdict }) => [
      scenario,
      groupDigits(events),
      lost === undefined ? '?' : groupDigits(lost),
      duplicated === undefined ? '?' : groupDigits(duplicated),
      time(recovery.commitAgainMs),
      time(promised.commitAgainMs),
      time(recovery.caughtUpMs),
      time(promised.caughtUpMs),
      verdict,
    ]),
    style.bold,
  )
    .replace(/kept$/gm, (word) => style.good(word))
    .replace(/broken$/gm, (word) => style.bad(word));
  const verdict = ok
    ? style.good('Nothing lost, nothing counted twice, back in the promised time.')
    : style.bad('A promise was broken.');
  return `${table}\n\n${verdict} On ${on}, in ${seconds.toFixed(0)} s.`;
}
