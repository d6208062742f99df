/** From evidence to a report, whatever state the stored data is in. */
import { asPipelineError } from '../../errors.ts';
import { buildLedger, type LedgerReport, unreadableLedger } from '../../pipeline/ledger/ledger.ts';
import type { Evidence } from '../../pipeline/ledger/ledger-evidence.ts';
import { nameOfRoot } from '../../storage/query/lake-catalog.ts';

/**
 * Judges. Data that contradicts itself or is gone is a finding, not a failure of whoever asks.
 * @throws PipelineError invalid | unavailable, as `gather` does
 */
export async function proveLedger(gather: () => Promise<Evidence>): Promise<LedgerReport> {
  try {
    return buildLedger(await gather());
  } catch (thrown) {
    const { kind, message } = asPipelineError(thrown);
    if (kind !== 'corrupt') throw thrown;
    const root = /(?:bronze|silver|gold)\/[^/\s]+/.exec(message)?.[0] ?? '';
    return unreadableLedger({ table: nameOfRoot(root), message });
  }
}
