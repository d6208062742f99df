/**
 * Reconciliations of a running process: on a schedule and on request, one at a time, with what came of
 * them. Other processes may reconcile too; what is final is read from the tables (P1).
 */
import { asPipelineError, type PipelineError } from '../../errors.ts';
import { errorFields } from '../../logger.ts';
import { instantText } from '../../pipeline/generator/instant-text.ts';
import type { Reconciliation, StartReconciliation } from '../../supervisor/http/api-schemas.ts';
import type { ReconciliationControl } from '../../supervisor/http/pipeline-control.ts';
import type { Outcome } from '../../supervisor/http/supervisor-control.ts';
import {
  datesInNeed,
  type LakeView,
  needOf,
  type ReconcileLake,
  stateOfDate,
  viewLake,
} from './lake-view.ts';
import { type DateOutcome, reconcile } from './reconcile.ts';

/** Dates listed. */
const LISTED_MAX = 100;
/** A partition with nothing but late events must not hold up a date for longer. */
const PATIENCE_MS = 6 * 3_600_000;

/** @see ReconciliationControl */
export class ReconciliationDesk implements ReconciliationControl {
  readonly #lake: ReconcileLake;
  readonly #stop = new AbortController();
  /** When the dates at work began, milliseconds since the epoch. */
  readonly #running = new Map<string, number>();
  readonly #failures = new Map<string, { readonly atMs: number; readonly reason: string }>();
  #work: Promise<unknown> = Promise.resolve();

  constructor(lake: ReconcileLake) {
    this.#lake = lake;
  }

  async list(): Promise<readonly Reconciliation[]> {
    const view = await viewLake(this.#lake);
    const dates = new Set([
      ...view.gold.flatMap((gold) => [...gold.dates.keys()]),
      ...view.silverFiles.keys(),
      ...this.#running.keys(),
    ]);
    return [...dates]
      .toSorted()
      .toReversed()
      .slice(0, LISTED_MAX)
      .flatMap((date) => this.#describe(view, date) ?? []);
  }

  async start({
    date,
  }: StartReconciliation): Promise<Outcome<{ readonly dates: readonly string[] }>> {
    if (this.#running.size > 0) {
      const dates = [...this.#running.keys()].join(', ');
      return { kind: 'conflict', why: `A reconciliation of ${dates} is running.` };
    }
    const view = await viewLake(this.#lake);
    const { config } = this.#lake;
    if (date !== undefined) {
      const state = stateOfDate(config, view, date);
      if (state.kind === 'open') {
        const until = instantText(state.untilMs);
        const why = `${date} is still open: events may come in time until ${until}.`;
        return { kind: 'conflict', why };
      }
    }
    const dates =
      date !== undefined
        ? [date]
        : datesInNeed(view).filter((one) => stateOfDate(config, view, one).kind !== 'open');
    void this.#run(dates, this.#stop.signal).catch(() => {});
    return { kind: 'done', value: { dates } };
  }

  /**
   * Reconciles every date that needs it; one that some partition still works through has to wait, but
   * not for ever. One that fails is left to the next time.
   * @throws PipelineError of the first date that failed, at the end, or at once when unavailable
   */
  async reconcileDue(asked: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([asked, this.#stop.signal]);
    const { config, delta } = this.#lake;
    const { clock } = delta.ambient;
    const patientUntilMs = clock.monotonicMs() + PATIENCE_MS;
    const failed = new Map<string, PipelineError>();
    while (!signal.aborted) {
      const view = await viewLake(this.#lake);
      const isPatient = clock.monotonicMs() < patientUntilMs;
      const states = datesInNeed(view).map((date) => ({
        date,
        ...stateOfDate(config, view, date),
      }));
      const due = states.filter(
        ({ date, kind }) =>
          !failed.has(date) && (kind === 'over' || (kind === 'arriving' && !isPatient)),
      );
      const failures = await this.#run(
        due.map(({ date }) => date),
        signal,
      );
      for (const [date, error] of failures) failed.set(date, error);
      if (!isPatient || states.every(({ kind }) => kind !== 'arriving')) break;
      await clock.sleep(config.late.idlePartitionMs, signal);
    }
    const [first] = failed.values();
    if (first) throw first;
  }

  /** Ends what runs; nothing of a date that was not committed stays. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  /**
   * @returns why, by date that failed
   * @throws PipelineError unavailable; later dates were not tried then
   */
  #run(dates: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, PipelineError>> {
    const work = this.#work.then(() => this.#reconcile(dates, signal));
    this.#work = work.catch(() => {});
    return work;
  }

  async #reconcile(
    dates: readonly string[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, PipelineError>> {
    const { ambient, logger } = this.#lake.delta;
    const failed = new Map<string, PipelineError>();
    for (const date of dates) {
      if (signal.aborted) break;
      this.#running.set(date, ambient.clock.nowMs());
      this.#failures.delete(date);
      const outcome = await this.#outcomeOf(date, signal);
      this.#running.delete(date);
      if (outcome.kind !== 'failed') {
        logger.info('reconciled', summaryOf(outcome));
        continue;
      }
      if (signal.aborted) break;
      const { error } = outcome;
      this.#failures.set(date, { atMs: ambient.clock.nowMs(), reason: error.message });
      if (error.kind === 'unavailable') throw error;
      failed.set(date, error);
    }
    return failed;
  }

  async #outcomeOf(date: string, signal: AbortSignal): Promise<DateOutcome> {
    try {
      const [outcome] = await reconcile(this.#lake, { dates: [date], signal });
      return outcome!;
    } catch (thrown) {
      const error = asPipelineError(thrown);
      this.#lake.delta.logger.error('a reconciliation failed', { date, ...errorFields(error) });
      return { date, kind: 'failed', error };
    }
  }

  /** @returns undefined for a date that is not over */
  #describe(view: LakeView, date: string): Reconciliation | undefined {
    const nothing = { startedAt: null, finishedAt: null, changedWindows: null, reason: null };
    const runningSinceMs = this.#running.get(date);
    if (runningSinceMs !== undefined) {
      return { date, ...nothing, state: 'running', startedAt: instantText(runningSinceMs) };
    }
    const notes = view.gold.flatMap((gold) => gold.dates.get(date)?.note ?? []);
    const last =
      notes.length === 0
        ? nothing
        : {
            startedAt: instantText(Math.min(...notes.map((note) => note.startedMs))),
            finishedAt: instantText(Math.max(...notes.map((note) => note.finishedMs))),
            changedWindows: notes.reduce((sum, note) => sum + note.changedWindows, 0),
            reason: null,
          };
    const needs = view.gold.flatMap((gold) => needOf(view, gold, date) ?? []);
    if (needs.length === 0) return { date, ...last, state: 'done' };
    const failure = this.#failures.get(date);
    // Another process may have reconciled it since.
    if (failure && notes.every((note) => note.finishedMs <= failure.atMs)) {
      const finishedAt = instantText(failure.atMs);
      return { date, ...nothing, state: 'failed', finishedAt, reason: failure.reason };
    }
    if (stateOfDate(this.#lake.config, view, date).kind === 'open') return undefined;
    const reason = needs.includes('late data')
      ? 'late data came after it was made final'
      : 'it is over and not final';
    return { date, ...last, state: 'needed', reason };
  }
}

function summaryOf(outcome: DateOutcome): Readonly<Record<string, string | number>> {
  const { date, kind } = outcome;
  if (outcome.kind !== 'reconciled') return { date, outcome: kind };
  const changedWindows = outcome.tables.reduce((sum, table) => sum + table.changedWindows, 0);
  return { date, outcome: kind, silverVersion: outcome.silverVersion, changedWindows };
}
