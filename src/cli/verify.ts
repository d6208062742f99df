/**
 * `tidemark verify`: the completeness ledger. Exit code 1 when a promise is broken.
 */
import { calendarDate, defineCommand, EXIT, toggle } from './command.ts';
import { withLake } from './lake.ts';
import { withNumbers } from './numbers.ts';
import type { Style } from './terminal.ts';
import { groupDigits, textTable } from './text-table.ts';
import { gatherEvidence } from '../operations/ledger/evidence.ts';
import { proveLedger } from '../operations/ledger/prove.ts';
import type { LedgerReport } from '../pipeline/ledger/ledger.ts';

export const verifyCommand = defineCommand({
  name: 'verify',
  summary: 'prove that every record counts exactly once',
  options: {
    deep: toggle('prove it again from the data files'),
    date: calendarDate('only the records that arrived on a UTC date, from their data files'),
  },
  example: 'tidemark verify -c pipeline.yaml --json',
  run: (context, { options }) =>
    withLake(context, async (lake) => {
      const report = await proveLedger(() => gatherEvidence(lake, options, context.signal));
      await context.terminal.result(withNumbers(report), (style) => render(report, style));
      return report.ok ? EXIT.ok : EXIT.violation;
    }),
});

function render(report: LedgerReport, style: Style): string {
  const { stages } = report;
  const sum = (ranges: readonly (readonly [bigint, bigint])[]): string =>
    groupDigits(ranges.reduce((total, [from, to]) => total + to - from, 0n));
  const right = 'right' as const;
  const partitions = textTable(
    [
      { title: 'topic' },
      { title: 'partition', align: right },
      { title: 'first', align: right },
      { title: 'last', align: right },
      { title: 'expected', align: right },
      { title: 'actual', align: right },
      { title: 'explained', align: right },
      { title: 'missing', align: right },
    ],
    report.partitions.map((p) => [
      p.topic,
      String(p.partition),
      String(p.minOffset ?? '-'),
      String(p.maxOffset ?? '-'),
      groupDigits(p.expected),
      groupDigits(p.actual),
      sum(p.gapsExplained),
      sum(p.gapsUnexplained),
    ]),
    style.bold,
  );
  const equation =
    `${groupDigits(stages.bronzeRows)} records = ${groupDigits(stages.silverRows)} events + ` +
    `${groupDigits(stages.duplicates)} duplicates + ${groupDigits(stages.conflicts)} conflicts + ` +
    `${groupDigits(stages.deadLetters)} dead letters; ` +
    `${groupDigits(report.silverDuplicates)} repeated event ids in silver`;
  const violations = report.violations.map((v) => style.bad(`${v.kind}: ${v.table}: ${v.message}`));
  const proof = report.deep ? 'the data files' : 'the commits';
  const unproven = report.unproven.map((u) => style.dim(`not proved: ${u.table}: ${u.message}`));
  const verdict = report.ok
    ? style.good(`Every record counts exactly once, as ${proof} prove.`)
    : style.bad(`${report.violations.length} violations.`);
  return [partitions, '', equation, ...violations, ...unproven, verdict].join('\n');
}
