/**
 * The completeness ledger as the status shows it: proved from the logs again and again while the
 * pipeline runs.
 *
 * LW1 A violation counts once two looks in a row found it: an edit of two tables, such as a dead-letter
 *     retry, is between its commits for a moment.
 * LW2 Looking takes at most a hundredth of the time, however large the tables are (P10).
 */
import type { Clock } from '../../ambient.ts';
import { readLakeState } from '../../operations/ledger/lake-state.ts';
import { statedEvidence } from '../../operations/ledger/statements.ts';
import { buildLedger, type LedgerReport, type Violation } from '../../pipeline/ledger/ledger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';

/** The ledger at one moment. */
export interface LedgerFacts {
  readonly checkedAtMs: number;
  readonly stages: LedgerReport['stages'];
  /** Confirmed ones (LW1). */
  readonly violations: readonly Violation[];
}

const PAUSE_MIN_MS = 10_000;
const COST_FACTOR = 100;

export class LedgerWatch {
  readonly #config: PipelineConfig;
  readonly #tables: ReadonlyMap<string, DeltaTable>;
  readonly #clock: Clock;
  #facts: LedgerFacts | undefined;
  #suspected: ReadonlySet<string> = new Set();
  #nextMs = Number.NEGATIVE_INFINITY;

  /** @param tables all of the pipeline */
  constructor(config: PipelineConfig, tables: readonly DeltaTable[], clock: Clock) {
    this.#config = config;
    this.#tables = new Map(tables.map((table) => [table.root, table]));
    this.#clock = clock;
  }

  /**
   * The newest facts; looks again when it is time.
   * @throws PipelineError corrupt | unavailable
   */
  async look(): Promise<LedgerFacts> {
    const startedMs = this.#clock.monotonicMs();
    if (this.#facts && startedMs < this.#nextMs) return this.#facts;
    const state = await readLakeState(this.#config, async (root) => this.#tables.get(root));
    const { stages, violations } = buildLedger(await statedEvidence(this.#config, state));
    // Messages state numbers that move on with the stream.
    const nameOf = ({ kind, table }: Violation): string => `${kind} ${table}`;
    const confirmed = violations.filter((violation) => this.#suspected.has(nameOf(violation)));
    this.#suspected = new Set(violations.map(nameOf));
    const endedMs = this.#clock.monotonicMs();
    this.#nextMs = endedMs + Math.max(PAUSE_MIN_MS, COST_FACTOR * (endedMs - startedMs)); // LW2
    const checkedAtMs = Math.round(this.#clock.nowMs());
    return (this.#facts = { checkedAtMs, stages, violations: confirmed });
  }
}
