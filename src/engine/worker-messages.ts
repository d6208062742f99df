/** What `run` and the worker processes that it started tell each other over their channel. */
import { type ErrorCode, type ErrorKind, PipelineError } from '../errors.ts';
import { parseUnit, type Unit } from '../supervisor/units.ts';
import { NodeCounts } from './node-counts.ts';
import type { PipelineNode } from './node.ts';

/** A worker's numbers and its units that stopped loudly. */
export interface WorkerReport {
  readonly kind: 'report';
  readonly counts: Readonly<Record<string, number>>;
  readonly failures: readonly {
    readonly unit: string;
    readonly errorKind: ErrorKind;
    readonly code: ErrorCode;
    readonly message: string;
  }[];
}

/** `run` tells its workers that nothing more will come, so that gold need not wait for more. */
export interface UpstreamDone {
  readonly kind: 'upstream-done';
}

/** What a node has done and what stopped on it, wherever it runs. */
export interface NodeView {
  readonly counts: NodeCounts;
  readonly failures: ReadonlyMap<Unit, PipelineError>;
}

/** What a node tells the `run` that started its process. */
export function reportOf(node: PipelineNode): WorkerReport {
  return {
    kind: 'report',
    counts: node.counts.toRecord(),
    failures: [...node.failures].map(([unit, { kind, code, message }]) => ({
      unit,
      errorKind: kind,
      code,
      message,
    })),
  };
}

/** A report as `run` uses it; names of units that are none are left out. */
export function viewOf(report: WorkerReport): NodeView {
  const failures = new Map<Unit, PipelineError>();
  for (const { unit, errorKind, code, message } of report.failures) {
    const parsed = parseUnit(unit);
    if (parsed) failures.set(parsed.unit, new PipelineError(errorKind, code, message));
  }
  return { counts: NodeCounts.of(report.counts), failures };
}
