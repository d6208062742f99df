/**
 * Creates one version of a log and finds out whose it is. The outcome is never guessed (P3).
 * Source: PROTOCOL.md "Delta Log Entries"; faults 66 to 70.
 *
 * M1 An attempt that may have landed is settled by reading the version back and comparing the nonce;
 *    until then the same version is retried with the same bytes, which a late first attempt equals.
 * M2 Nothing of a settled loss can appear later: the version holds another writer's entry.
 * M3 Giving up (the signal) is itself an outcome, and it says that the version is undecided.
 */
import type { Ambient } from '../../ambient.ts';
import { crashPoint, stageOf } from '../../crash-points.ts';
import { asPipelineError, assert, type PipelineError } from '../../errors.ts';
import { errorFields, type Logger } from '../../logger.ts';
import type { ObjectStore } from '../object-store/object-store.ts';
import { corruptLog, encodeLogEntry, type LogEntry } from './actions.ts';
import { commitKey } from './log-path.ts';
import type { LogReader } from './log-reader.ts';

/** Whose the version is. */
export type VersionOutcome =
  /**
   * `alreadyOurs`: found by reading back; `inDoubt`: some response was lost, so that time has passed
   * since the version was first tried.
   */
  | { readonly kind: 'ours'; readonly alreadyOurs: boolean; readonly inDoubt: boolean }
  | { readonly kind: 'theirs'; readonly entry: LogEntry }
  /** Somebody had created it, and it is gone already: log clean-up has been past this version. */
  | { readonly kind: 'gone' }
  | { readonly kind: 'undecided' };

/** Reading back found an entry that is not ours, since it cannot even be read. */
const SOMEBODY_ELSES: ReadonlySet<string> = new Set(['TM_LOG_CORRUPT', 'TM_LOG_UNSUPPORTED']);

/** Refusals that left nothing behind are retried this often before they are thrown. */
const CERTAIN_FAILURES_MAX = 5;

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 10_000;

/** What a committer needs; `root` is the key prefix of the table. */
export interface CommitterOptions {
  readonly store: ObjectStore;
  readonly ambient: Ambient;
  readonly logger: Logger;
  readonly reader: LogReader;
  readonly root: string;
}

/** Creates versions of one table, one at a time. */
export class Committer {
  readonly #options: CommitterOptions;

  constructor(options: CommitterOptions) {
    this.#options = options;
  }

  /**
   * Creates `entry.version` unless it exists, waiting until it is known whose it is.
   * @param entry has a `commitInfo.txnId` that no other attempt has
   * @param signal ends the wait for an undecided outcome (M3)
   * @throws PipelineError when nothing was written and nothing can appear later
   */
  async createVersion(entry: LogEntry, signal?: AbortSignal): Promise<VersionOutcome> {
    const { store, root, logger } = this.#options;
    const stage = stageOf(root);
    const key = commitKey(root, entry.version);
    const body = encodeLogEntry(entry);
    let inDoubt = false;
    for (let attempt = 1; ; attempt++) {
      let failure: PipelineError | undefined;
      try {
        crashPoint(`${stage}.commit.put.sent`);
        const outcome = await store.createIfAbsent(key, body);
        crashPoint(`${stage}.commit.put.acked`);
        if (outcome === 'created') {
          return { kind: 'ours', alreadyOurs: false, inDoubt };
        }
        if (outcome === 'unknown') inDoubt = true;
        const found = await this.#readBack(entry);
        if (found) return found;
        if (outcome === 'exists' && !inDoubt) return { kind: 'gone' };
      } catch (thrown) {
        failure = asPipelineError(thrown);
        if (SOMEBODY_ELSES.has(failure.code)) throw failure;
        const certain = !inDoubt;
        const hopeless = failure.kind !== 'unavailable' || attempt >= CERTAIN_FAILURES_MAX;
        if (certain && (hopeless || signal?.aborted)) throw failure;
      }
      logger.warn('commit attempt is undecided or was refused; retrying the same version', {
        table: root,
        version: entry.version,
        attempt,
        inDoubt,
        ...(failure ? errorFields(failure) : {}),
      });
      if (!signal?.aborted) await this.#backOff(attempt, signal);
      if (signal?.aborted && inDoubt) return { kind: 'undecided' };
    }
  }

  async #readBack(entry: LogEntry): Promise<VersionOutcome | undefined> {
    const found = await this.#options.reader.readEntry(entry.version);
    if (!found) return undefined;
    const txnId = entry.commitInfo?.txnId;
    assert(txnId !== undefined, 'an attempt has a nonce');
    if (found.commitInfo?.txnId !== txnId) return { kind: 'theirs', entry: found };
    if (found.adds.length === entry.adds.length && found.txns.length === entry.txns.length) {
      return { kind: 'ours', alreadyOurs: true, inDoubt: true };
    }
    throw corruptLog(
      commitKey(this.#options.root, entry.version),
      'has our nonce and not our actions',
    );
  }

  #backOff(attempt: number, signal: AbortSignal | undefined): Promise<void> {
    const { clock, random } = this.#options.ambient;
    const limitMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt - 1, 16));
    return clock.sleep(limitMs * (0.5 + random.next() / 2), signal);
  }
}
