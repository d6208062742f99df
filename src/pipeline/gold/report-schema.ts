/**
 * The reconciliation report: one row per measure of each window and group that a batch changed. Pure.
 *
 * Values are text, since measures have many types: decimal digits for integers and decimals, the
 * shortest exact text for doubles; `CAST(difference AS DECIMAL(38,6))` and the like make numbers of them.
 */
import type { ColumnBatch } from '../columns.ts';
import { columnsFromRows } from '../column-builder.ts';
import { field, struct } from '../types.ts';
import type { ChangeCause } from './change-cause.ts';
import type { ChangedWindow } from './changed-windows.ts';

const REPORT_FIELDS = [
  field('aggregate', 'string'),
  field('window_start', 'timestamp'),
  field('window_end', 'timestamp'),
  field('groups', 'string'),
  field('measure', 'string'),
  field('streaming_value', 'string'),
  field('batch_value', 'string'),
  field('difference', 'string'),
  field('cause', 'string'),
  field('revision', 'integer'),
  field('silver_version', 'long'),
  field('reconciled_at', 'timestamp'),
];

/** Columns of the report's data files. */
export const REPORT_FILE_SCHEMA = struct(REPORT_FIELDS);

/** Columns of the report table, partitioned by `_event_date`. */
export const REPORT_TABLE_SCHEMA = struct([...REPORT_FIELDS, field('_event_date', 'date')]);

/** What all rows of one reconciliation have in common. */
export interface ReportContext {
  readonly aggregate: string;
  readonly revision: number;
  readonly silverVersion: number;
  /** Milliseconds since the epoch. */
  readonly reconciledMs: number;
}

/** A changed window and why it changed. */
export interface ExplainedChange {
  readonly change: ChangedWindow;
  readonly cause: ChangeCause;
}

/**
 * Report rows. `streaming_value` is what gold held before: the stream's value, or from revision 2 on
 * that of the revision before.
 */
export function reportRows(
  changes: readonly ExplainedChange[],
  context: ReportContext,
): ColumnBatch {
  const rows = changes.flatMap(({ change, cause }) =>
    change.measures.map(({ name, before, after, difference }) => ({
      aggregate: context.aggregate,
      window_start: change.windowStartMicros,
      window_end: change.windowEndMicros,
      groups: change.groups,
      measure: name,
      streaming_value: before,
      batch_value: after,
      difference,
      cause,
      revision: context.revision,
      silver_version: BigInt(context.silverVersion),
      reconciled_at: BigInt(Math.round(context.reconciledMs)) * 1000n,
    })),
  );
  return columnsFromRows(REPORT_FILE_SCHEMA, rows);
}
