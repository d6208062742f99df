/**
 * What a gold file says about itself in its tags, so that counts, finality and owed reports are read
 * from the log alone. Pure.
 *
 * - `tidemark.slot`: the slot it holds, milliseconds since the epoch.
 * - `tidemark.events`: silver rows in that slot; over a table they add up to silver's rows.
 * - `tidemark.final`: only of a reconciled date: the silver version it was computed from (P7).
 * - `tidemark.revision`: how often the date was reconciled; absent counts as 0, the stream's.
 * - `tidemark.reconciliation`: on the first file of a reconciled date, what the batch found.
 */

import { PipelineError } from '../../errors.ts';

const SLOT_TAG = 'tidemark.slot';
const EVENTS_TAG = 'tidemark.events';
const FINAL_TAG = 'tidemark.final';
const REVISION_TAG = 'tidemark.revision';
const RECONCILIATION_TAG = 'tidemark.reconciliation';

/** A stored file of the report table, to be committed there. */
export interface ReportFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly stats: string;
}

/** What a reconciliation of one date and one gold table did. */
export interface ReconciliationNote {
  /** Milliseconds since the epoch. */
  readonly startedMs: number;
  readonly finishedMs: number;
  /** Windows per group that the batch changed. */
  readonly changedWindows: number;
  /** Their report, which the report table owes until it has this revision (RC3). */
  readonly report: readonly ReportFile[];
}

/** A gold file's tags, parsed. */
export interface GoldTags {
  readonly slot: number;
  /** undefined in a file that another program wrote. */
  readonly events: number | undefined;
  /** Silver version of a final date; undefined while the stream updates it. */
  readonly finalVersion: number | undefined;
  readonly revision: number;
  readonly note: ReconciliationNote | undefined;
}

/** Tags as the log keeps them. */
export type Tags = Readonly<Record<string, string>>;

/** The tags of a file that the stream writes. */
export function streamingTags(slot: number, events: number): Tags {
  return { [SLOT_TAG]: String(slot), [EVENTS_TAG]: String(events) };
}

/** The tags of a file that the batch writes; `note` on the first of its date. */
export function finalTags(given: {
  readonly slot: number;
  readonly events: number;
  readonly finalVersion: number;
  readonly revision: number;
  readonly note: ReconciliationNote | undefined;
}): Tags {
  return {
    ...streamingTags(given.slot, given.events),
    [FINAL_TAG]: String(given.finalVersion),
    [REVISION_TAG]: String(given.revision),
    ...(given.note ? { [RECONCILIATION_TAG]: JSON.stringify(given.note) } : {}),
  };
}

/**
 * @returns undefined when the file holds no slot of ours
 * @throws PipelineError corrupt when its note is none
 */
export function parseGoldTags(tags: Tags | undefined): GoldTags | undefined {
  const slot = numberOf(tags?.[SLOT_TAG]);
  if (slot === undefined) return undefined;
  const note = tags?.[RECONCILIATION_TAG];
  return {
    slot,
    events: numberOf(tags?.[EVENTS_TAG]),
    finalVersion: numberOf(tags?.[FINAL_TAG]),
    revision: numberOf(tags?.[REVISION_TAG]) ?? 0,
    note: note === undefined ? undefined : parseNote(note),
  };
}

function parseNote(text: string): ReconciliationNote {
  try {
    return JSON.parse(text) as ReconciliationNote;
  } catch (cause) {
    const message = `a file's tag ${RECONCILIATION_TAG} is not JSON`;
    throw new PipelineError('corrupt', 'TM_LOG_CORRUPT', message, { cause });
  }
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d{1,15}$/.test(text) ? Number(text) : undefined;
}
