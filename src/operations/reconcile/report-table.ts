/**
 * The table of what reconciliations changed. Its rows are owed by the gold commit that changed them:
 * that commit names their stored files (gold-tags.ts), and they come in here once, whoever brings them.
 *
 * - RC3 A date's report of revision n is in the table exactly once its txn says n or more; a crash
 *   between the gold commit and this one leaves a debt that the next reconciliation settles. Debts of a
 *   date are settled in the order of its revisions: each before the files that name it are replaced.
 */
import { settled } from '../../actors/stage-writer/commit.ts';
import { REPORT_TABLE_SCHEMA } from '../../pipeline/gold/report-schema.ts';
import { reportAppId, tableRoots } from '../../pipeline/progress.ts';
import { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { NewFile } from '../../storage/delta/transaction.ts';
import type { GoldDate, LakeView, ReconcileLake } from './lake-view.ts';

/** Opens the report table; the first reconciliation creates it. */
export function openReportTable({ config, delta }: ReconcileLake): Promise<DeltaTable> {
  return DeltaTable.create(delta, {
    root: tableRoots(config).reconciliation,
    schema: REPORT_TABLE_SCHEMA,
    partitionColumns: ['_event_date'],
    configuration: { 'tidemark.pipeline': config.name },
    description: `Windows of ${config.name} that a reconciliation changed, and why`,
  });
}

/** The report table; undefined before the first reconciliation. */
export function findReportTable({ config, delta }: ReconcileLake): Promise<DeltaTable | undefined> {
  return DeltaTable.open(delta, tableRoots(config).reconciliation);
}

/** The last reported revision of a date; 0 when there is none. */
export function reportedRevision(
  lake: ReconcileLake,
  report: DeltaTable,
  aggregate: string,
  date: string,
): number {
  const { config, silver } = lake;
  const appId = reportAppId(config.name, silver.tableId, aggregate, date);
  return Number(report.snapshot.progress(appId) ?? 0n);
}

/**
 * Brings in every report that gold commits owe (RC3). Run twice, or at the same time by two, it changes
 * nothing more.
 * @throws PipelineError unavailable
 */
export async function settleReports(
  lake: ReconcileLake,
  report: DeltaTable,
  view: LakeView,
): Promise<void> {
  for (const { aggregate, dates } of view.gold) {
    for (const [date, { note, revision }] of dates) {
      await settleReport(lake, report, { aggregate, date, note, revision });
    }
  }
}

/** Brings in the report of one date of one gold table, if it is owed. */
export async function settleReport(
  lake: ReconcileLake,
  report: DeltaTable,
  owed: Pick<GoldDate, 'note' | 'revision'> & {
    readonly aggregate: string;
    readonly date: string;
  },
): Promise<void> {
  const { aggregate, date, note, revision } = owed;
  if (!note || note.report.length === 0) return;
  const { config, delta, silver } = lake;
  const appId = reportAppId(config.name, silver.tableId, aggregate, date);
  let expected = report.snapshot.progress(appId);
  if ((expected ?? 0n) >= BigInt(revision)) return;
  const adds: NewFile[] = [];
  for (const { path, sizeBytes, stats } of note.report) {
    const key = `${report.root}/${path}`;
    if (await delta.store.head(key)) {
      const partitionValues = { _event_date: date };
      adds.push({ path, partitionValues, sizeBytes, modifiedMs: note.finishedMs, stats });
    } else {
      delta.logger.error('a report was cleaned up before it was committed', { key, revision });
    }
  }
  // Somebody else may settle it: no matter who. One who settles an earlier revision moves it on only.
  while ((expected ?? 0n) < BigInt(revision)) {
    const outcome = await report.commit({
      operation: 'RECONCILE REPORT',
      adds,
      progress: [{ appId, expected, next: BigInt(revision) }],
      lineage: { stage: 'reconciliation', aggregate, date, revision },
    });
    if (outcome.kind !== 'fenced') {
      await settled(outcome);
      return;
    }
    expected = outcome.actual;
  }
}
