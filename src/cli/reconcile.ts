/**
 * `tidemark reconcile`: gold of dates that are over, recomputed from silver, reported and made final.
 */
import type { ChangeCause } from '../pipeline/gold/change-cause.ts';
import { instantText } from '../pipeline/generator/instant-text.ts';
import { dateText, daysOfDate, tableRoots } from '../pipeline/progress.ts';
import { type DateOutcome, reconcile } from '../operations/reconcile/reconcile.ts';
import type { ReconcileLake } from '../operations/reconcile/lake-view.ts';
import type { DeltaTable } from '../storage/delta/delta-table.ts';
import { calendarDate, defineCommand, EXIT, exitCodeOf, toggle, usageError } from './command.ts';
import type { CommandContext } from './context.ts';
import { type OpenLake, withLake } from './lake.ts';
import type { Style } from './terminal.ts';
import { groupDigits, textTable } from './text-table.ts';

export const reconcileCommand = defineCommand({
  name: 'reconcile',
  summary: 'recompute gold of dates that are over from silver, report changes, make it final',
  options: {
    date: calendarDate('one UTC date; default: every date that needs it'),
    from: calendarDate('first date of a range'),
    to: calendarDate('last date of a range'),
    dryRun: toggle('show what would change, and change nothing'),
  },
  example: 'tidemark reconcile --date 2026-11-22',
  run: (context, { options }) => {
    const dates = datesOf(options);
    return withLake(context, async (lake) => {
      const outcomes = await reconcile(await reconcileLake(lake), {
        dates,
        dryRun: options.dryRun,
        signal: context.signal,
        onProgress: progressLine(context),
      });
      context.terminal.clearProgress();
      const { dryRun } = options;
      await context.terminal.result({ dryRun, dates: outcomes.map(documentOf) }, (style) =>
        render(outcomes, dryRun, style),
      );
      const failed = outcomes.find((outcome) => outcome.kind === 'failed');
      if (failed) return exitCodeOf(failed.error);
      const isRefused = dates !== undefined && outcomes.some(({ kind }) => kind === 'open');
      return isRefused ? EXIT.usage : EXIT.ok;
    });
  },
});

/** @throws PipelineError invalid when the options do not go together */
function datesOf(options: {
  readonly date: string | undefined;
  readonly from: string | undefined;
  readonly to: string | undefined;
}): readonly string[] | undefined {
  const { date, from, to } = options;
  if (date !== undefined && (from !== undefined || to !== undefined)) {
    throw usageError('Give either --date, or --from and --to.');
  }
  if ((from === undefined) !== (to === undefined)) {
    throw usageError('--from and --to belong together; for one date there is --date.');
  }
  const first = date ?? from;
  if (first === undefined) return undefined;
  const start = daysOfDate(first)!;
  const end = daysOfDate(date ?? to!)!;
  if (end < start) throw usageError(`--from ${from} is after --to ${to}.`);
  return Array.from({ length: end - start + 1 }, (_, i) => dateText(start + i));
}

/** @throws PipelineError invalid when the pipeline has no tables yet */
async function reconcileLake(lake: OpenLake): Promise<ReconcileLake> {
  const { config, catalog, delta } = lake;
  const roots = tableRoots(config);
  const required = async (root: string): Promise<DeltaTable> => {
    const table = await catalog.table(root);
    if (table) return table;
    throw usageError(`${lake.store.description} has no table ${root}; run the pipeline first.`);
  };
  const gold = new Map<string, DeltaTable>();
  for (const { name } of config.gold) gold.set(name, await required(roots.gold.get(name)!));
  const [bronze, silver] = [await required(roots.bronze), await required(roots.silver)];
  return { config, delta, bronze, silver, gold };
}

function progressLine({ ambient, terminal }: CommandContext) {
  const startedMs = ambient.clock.monotonicMs();
  let before = { date: '', rows: 0 };
  let rowsDone = 0;
  return (at: {
    readonly date: string;
    readonly files: number;
    readonly filesDone: number;
    readonly rows: number;
  }): void => {
    rowsDone += at.rows - (before.date === at.date && at.rows > before.rows ? before.rows : 0);
    before = at;
    const seconds = Math.max(0.001, (ambient.clock.monotonicMs() - startedMs) / 1000);
    const rate = groupDigits(Math.round(rowsDone / seconds));
    terminal.progress(
      `${at.date}: ${at.filesDone} of ${at.files} files, ${groupDigits(rowsDone)} rows, ${rate}/s`,
    );
  };
}

/** As --json has it. */
function documentOf(outcome: DateOutcome): Readonly<Record<string, unknown>> {
  switch (outcome.kind) {
    case 'open':
      return { date: outcome.date, outcome: 'open', openUntil: instantText(outcome.untilMs) };
    case 'failed': {
      const { kind, code, message } = outcome.error;
      return { date: outcome.date, outcome: 'failed', error: { kind, code, message } };
    }
    default: {
      const { date, kind, ...rest } = outcome;
      return { date, outcome: kind, ...rest };
    }
  }
}

function render(outcomes: readonly DateOutcome[], dryRun: boolean, style: Style): string {
  if (outcomes.length === 0) return 'Every date that is over is final; nothing changed.';
  const right = 'right' as const;
  const rows = outcomes.flatMap((outcome) =>
    outcome.kind !== 'reconciled'
      ? []
      : outcome.tables.map((table) => [
          outcome.date,
          table.aggregate,
          groupDigits(table.events),
          groupDigits(table.changedWindows),
          causesText(table.windowsByCause),
          String(table.revision),
          String(outcome.silverVersion),
        ]),
  );
  const table = textTable(
    [
      { title: 'date' },
      { title: 'aggregate' },
      { title: 'events', align: right },
      { title: dryRun ? 'would change' : 'changed', align: right },
      { title: 'causes' },
      { title: 'revision', align: right },
      { title: 'silver version', align: right },
    ],
    rows,
    style.bold,
  );
  const remarks = outcomes.flatMap((outcome) => remarkOn(outcome) ?? []);
  return [...(rows.length > 0 ? [table] : []), ...remarks].join('\n');
}

function remarkOn(outcome: DateOutcome): string | undefined {
  const { date } = outcome;
  switch (outcome.kind) {
    case 'reconciled':
      return undefined;
    case 'already-final':
      return `${date} is already final (revision ${outcome.revision}); nothing changed.`;
    case 'empty':
      return `${date} has no events; nothing changed.`;
    case 'failed':
      return `${date} failed: ${outcome.error.message}`;
    case 'open':
      return `${date} is still open: events may come in time until ${instantText(outcome.untilMs)}. Nothing changed.`;
  }
}

function causesText(causes: Readonly<Partial<Record<ChangeCause, number>>>): string {
  const parts = Object.entries(causes).map(
    ([cause, windows]) => `${cause} ${groupDigits(windows)}`,
  );
  return parts.length === 0 ? '-' : parts.join(', ');
}
