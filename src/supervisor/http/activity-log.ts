/**
 * What supervisors decided and operators asked for, newest last: live to whoever listens, the last
 * few hundred in memory, and changes also in the state store, so that they outlive this process.
 *
 * AL1 Every change somebody asked for is a log line too, whatever came of it; it names the subject and
 *     the outcome, never a token.
 */
import { z } from 'zod';
import type { Clock } from '../../ambient.ts';
import { errorFields, type Logger } from '../../logger.ts';
import { instantText } from '../../pipeline/generator/instant-text.ts';
import type { StateStore } from '../../storage/state/state-store.ts';
import type { SupervisorEvent } from '../supervisor.ts';
import type { Activity } from './api-schemas.ts';

/** An activity with its number in this process, which a reconnecting listener names. */
export interface NumberedActivity {
  readonly id: number;
  readonly activity: Activity;
}

/** A change that somebody asked for. */
export interface Change {
  readonly subject: string;
  readonly remoteAddress: string;
  /** `POST /v1/pause` */
  readonly action: string;
  /** The validated request, when there was one. */
  readonly request: Readonly<Record<string, unknown>> | undefined;
  readonly status: number;
  /** Why it was refused. */
  readonly problem: string | undefined;
}

const KEPT_MAX = 500;
const AUDIT_KEY = 'audit';
const AUDIT_SLOTS = 200;

const auditSchema = z.object({
  seq: z.int().min(0),
  at: z.iso.datetime(),
  text: z.string().max(4_096),
  subject: z.string().max(256),
  outcome: z.string().max(4_096),
});

export class ActivityLog {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #state: StateStore | undefined;
  readonly #listeners = new Set<(one: NumberedActivity) => void>();
  #kept: NumberedActivity[] = [];
  /** From the clock, so that ids grow over restarts, and a listener that comes back misses nothing. */
  #idNext: number;
  #auditSeqNext = 0;

  /** @param options.state keeps the changes; without it they end with the process */
  constructor(options: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly state?: StateStore;
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#state = options.state;
    this.#idNext = Math.round(options.clock.nowMs());
  }

  /** Takes in the changes that earlier processes kept; an outage leaves them out. */
  async load(): Promise<void> {
    if (!this.#state) return;
    try {
      const fields = await this.#state.getHash(AUDIT_KEY);
      const entries = Object.values(fields)
        .flatMap((text) => {
          const parsed = auditSchema.safeParse(jsonOrNothing(text));
          return parsed.success ? [parsed.data] : [];
        })
        .toSorted((a, b) => a.seq - b.seq);
      for (const { at, text, subject, outcome } of entries) {
        this.#keep({ at, kind: 'change', text, subject, outcome });
      }
      this.#auditSeqNext = (entries.at(-1)?.seq ?? -1) + 1;
    } catch (thrown) {
      this.#logger.warn('earlier changes cannot be shown', errorFields(thrown));
    }
  }

  /** Activities after `id`, oldest first. */
  after(id: number): readonly NumberedActivity[] {
    return this.#kept.filter((one) => one.id > id);
  }

  /** @returns ends it */
  subscribe(listener: (one: NumberedActivity) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Keeps what a supervisor noticed; give it to the Supervisor as `onEvent`. */
  readonly onSupervisorEvent = (event: SupervisorEvent): void => {
    const text = textOf(event);
    this.#keep({ at: this.#now(), kind: event.kind, text, subject: null, outcome: null });
  };

  /** AL1. */
  recordChange(change: Change): void {
    const { subject, remoteAddress, action, request, status, problem } = change;
    const outcome = problem ?? (status < 400 ? 'done' : `refused (${status})`);
    // Not a warning as such, but a line that no default log level may drop.
    this.#logger.warn('audit: change requested', {
      subject,
      remoteAddress,
      action,
      ...(request ? { request } : {}),
      status,
      outcome,
    });
    const at = this.#now();
    const asked = request && Object.keys(request).length > 0 ? ` ${JSON.stringify(request)}` : '';
    const text = `${action}${asked}`;
    this.#keep({ at, kind: 'change', text, subject, outcome });
    const seq = this.#auditSeqNext++;
    const entry = { seq, at, text, subject, outcome } satisfies z.infer<typeof auditSchema>;
    this.#state
      ?.setHash(AUDIT_KEY, { [String(seq % AUDIT_SLOTS)]: JSON.stringify(entry) })
      .catch((thrown: unknown) => {
        this.#logger.warn('a change is in the log alone', errorFields(thrown));
      });
  }

  #keep(activity: Activity): void {
    const one = { id: this.#idNext++, activity };
    this.#kept.push(one);
    if (this.#kept.length > KEPT_MAX) this.#kept = this.#kept.slice(-KEPT_MAX);
    for (const listener of this.#listeners) listener(one);
  }

  #now(): string {
    return instantText(Math.round(this.#clock.nowMs()));
  }
}

function textOf(event: SupervisorEvent): string {
  switch (event.kind) {
    case 'leading':
      return `${event.supervisorId} leads`;
    case 'standby':
      return `${event.supervisorId} stands by`;
    case 'member-joined':
      return `${event.memberId} joined`;
    case 'member-lost':
      return `${event.memberId} is gone; its units move`;
    case 'unit-moved':
      return `${event.unit}: ${event.from ?? 'nobody'} → ${event.to ?? 'nobody'}`;
    case 'partitions-added':
      return `the topic now has ${event.partitionCount} partitions`;
  }
}

function jsonOrNothing(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
