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
import { proveLedger } from '../../operations/ledger/prove.ts';
import { statedEvidence } from '../../operations/ledger/statements.ts';
import type { LedgerReport } from '../../pipeline/ledger/ledger.ts';
import type { Violation } from '../../pipeline/ledger/ledger-evidence.ts';
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
  readonly #open: (root: string) => Promise<DeltaTable | undefined>;
  readonly #clock: Clock;
  #facts: LedgerFacts | undefined;
  #suspected: ReadonlySet<string> = new Set();
  #nextMs = Number.NEGATIVE_INFINITY;

  /** @param open opens the table at a root; undefined while there is none */
  constructor(
    config: PipelineConfig,
    open: (root: string) => Promise<DeltaTable | undefined>,
    clock: Clock,
  ) {
    this.#config = config;
    this.#open = open;
    this.#clock = clock;
  }

  /**
   * The newest facts; looks again when it is time.
   * @throws PipelineError unavailable
   */
  async look(): Promise<LedgerFacts> {
    const startedMs = this.#clock.monotonicMs();
    if (this.#facts && startedMs < this.#nextMs) return this.#facts;
    const { stages, violations } = await proveLedger(async () =>
      statedEvidence(this.#config, await readLakeState(this.#config, this.#open)),
    );
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
