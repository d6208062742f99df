/**
 * `tidemark replay`: bronze to silver again. Exit code 1 when a date could not be rebuilt.
 */
import { replay, type ReplayReport } from '../operations/replay/replay.ts';
import { rebuild, type RebuiltDate, type RebuildSelection } from '../operations/replay/rebuild.ts';
import { parseRange } from '../operations/silver-edit/bronze-range.ts';
import type { DateTotal } from '../operations/silver-edit/date-totals.ts';
import { EditedLake } from '../operations/silver-edit/edited-lake.ts';
import { defineCommand, EXIT, text, toggle } from './command.ts';
import type { CommandContext } from './context.ts';
import { withLake } from './lake.ts';
import { withNumbers } from './numbers.ts';
import { operationContext } from './operation-context.ts';
import type { Style } from './terminal.ts';
import { groupDigits, textTable } from './text-table.ts';

export const replayCommand = defineCommand({
  name: 'replay',
  summary: 'derive silver from bronze again: what is missing, or with --rebuild whole dates',
  options: {
    date: text('D', 'records of a UTC date; with --rebuild the silver date'),
    from: text('T', 'records from this time on, RFC 3339 or a date'),
    to: text('T', 'records before this time'),
    startingOffsets: text('JSON', 'records from these offsets on, such as \'{"0":123}\''),
    rebuild: toggle('replace the dates under the current schema, one commit per date'),
    dryRun: toggle('print what would change, and change nothing'),
  },
  example: 'tidemark replay --date 2026-11-22 --dry-run',
  run: (context, { options }) => {
    const range = parseRange(options);
    return withLake(context, async (opened) => {
      const lake = await EditedLake.open(operationContext(context, opened));
      const { dryRun } = options;
      if (!options.rebuild) {
        const report = await replay(lake, range, { dryRun });
        await showReplay(context, report, dryRun);
        return EXIT.ok;
      }
      const selection: RebuildSelection =
        options.date === undefined
          ? { kind: 'range', range }
          : { kind: 'date', date: options.date };
      const dates = await rebuild(lake, selection, { dryRun });
      await showRebuild(context, dates, dryRun);
      return dates.some(({ state }) => state === 'refused') ? EXIT.violation : EXIT.ok;
    });
  },
});

/** One measure of one aggregate on one date. */
interface ChangedTotal {
  readonly aggregate: string;
  readonly date: string;
  readonly measure: string;
  readonly before: number | bigint | null;
  readonly after: number | bigint | null;
}

interface Totals {
  readonly before: readonly DateTotal[];
  readonly after: readonly DateTotal[];
}

/** The totals that differ. */
function changedTotals({ before, after }: Totals): ChangedTotal[] {
  const keyOf = (total: DateTotal, measure: string): string =>
    JSON.stringify([total.aggregate, total.date, measure]);
  const cells = new Map<
    string,
    { before: number | bigint | null; after: number | bigint | null }
  >();
  const fill = (totals: readonly DateTotal[], side: 'before' | 'after'): void => {
    for (const total of totals) {
      for (const [measure, value] of Object.entries(total.values)) {
        const key = keyOf(total, measure);
        const cell = cells.get(key) ?? { before: null, after: null };
        cell[side] = value;
        cells.set(key, cell);
      }
    }
  };
  fill(before, 'before');
  fill(after, 'after');
  return [...cells]
    .filter(([, cell]) => cell.before !== cell.after)
    .map(([key, cell]) => {
      const [aggregate, date, measure] = JSON.parse(key) as [string, string, string];
      return { aggregate, date, measure, ...cell };
    });
}

function totalsTable(totals: readonly ChangedTotal[], style: Style): string {
  const right = 'right' as const;
  const show = (value: number | bigint | null): string => (value === null ? '-' : String(value));
  return textTable(
    [
      { title: 'gold' },
      { title: 'date' },
      { title: 'measure' },
      { title: 'before', align: right },
      { title: 'after', align: right },
    ],
    totals.map((t) => [t.aggregate, t.date, t.measure, show(t.before), show(t.after)]),
    style.bold,
  );
}

async function showReplay(
  { terminal }: CommandContext,
  report: ReplayReport,
  dryRun: boolean,
): Promise<void> {
  const { bronzeRows, added, addedByDate, versions } = report;
  const gold = changedTotals(report.totals);
  const document = { dryRun, bronzeRows, added, addedByDate, versions, gold };
  await terminal.result(withNumbers(document), (style) => {
    const verb = dryRun ? 'would be added' : 'were added';
    const lines = [
      `${groupDigits(bronzeRows)} records of bronze looked at; ` +
        `${groupDigits(added)} rows that silver lacked ${verb}.`,
      ...Object.entries(addedByDate).map(([date, rows]) => `  ${date}: ${groupDigits(rows)}`),
    ];
    if (gold.length > 0) lines.push('', totalsTable(gold, style));
    return lines.join('\n');
  });
}

async function showRebuild(
  { terminal }: CommandContext,
  dates: readonly RebuiltDate[],
  dryRun: boolean,
): Promise<void> {
  const shown = dates.map(({ totals, ...date }) => {
    const movedRows = Object.values(date.moved).reduce((sum, rows) => sum + rows, 0);
    return { ...date, movedRows, gold: changedTotals(totals) };
  });
  await terminal.result(withNumbers({ dryRun, dates: shown }), (style) => {
    if (shown.length === 0) return 'Silver has no rows of this range.';
    const right = 'right' as const;
    const table = textTable(
      [
        { title: 'date' },
        { title: 'state' },
        { title: 'rows', align: right },
        { title: 'changed', align: right },
        { title: 'to other dates', align: right },
        { title: 'version', align: right },
      ],
      shown.map((d) => [
        d.date,
        dryRun && d.state === 'rebuilt' ? 'would be rebuilt' : d.state,
        groupDigits(d.rows),
        groupDigits(d.changed),
        groupDigits(d.movedRows),
        d.version === undefined ? '-' : String(d.version),
      ]),
      style.bold,
    );
    const refusals = shown
      .filter(({ reason }) => reason !== undefined)
      .map(({ date, reason }) => style.bad(`${date} was not rebuilt: ${reason}.`));
    const gold = shown.flatMap((d) => d.gold);
    const totals = gold.length > 0 ? ['', totalsTable(gold, style)] : [];
    return [table, ...refusals, ...totals].join('\n');
  });
}
