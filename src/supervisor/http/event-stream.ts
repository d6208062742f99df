/**
 * Server-sent events to everybody who watches: one text per event, whoever gets it.
 *
 * ES1 A watcher that reads too slowly is cut off and comes back by itself; nothing piles up for it.
 */
import type { ServerResponse } from 'node:http';
import type { Clock, Timer } from '../../ambient.ts';
import { errorFields, type Logger } from '../../logger.ts';
import type { ActivityLog, NumberedActivity } from './activity-log.ts';
import type { Status } from './api-schemas.ts';
import type { SupervisorControl } from './supervisor-control.ts';

export interface EventStreamOptions {
  readonly control: SupervisorControl;
  readonly activity: ActivityLog;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Watchers at a time. */
export const WATCHERS_MAX = 64;
/** Unsent bytes of one watcher (ES1): a history and a few statuses of a wide topic. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;
/** A comment now and then, so that proxies and both ends know that the line is up. */
const HEARTBEAT_MS = 15_000;
/** How long a browser waits before it comes back. */
const RETRY_MS = 2_000;

export class EventStream {
  readonly #options: EventStreamOptions;
  readonly #watchers = new Set<ServerResponse>();
  readonly #ends: readonly (() => void)[];
  #heartbeat: Timer | undefined;

  constructor(options: EventStreamOptions) {
    this.#options = options;
    const { control, activity } = options;
    this.#ends = [
      control.onStatus((status) => this.#statusRead(status)),
      activity.subscribe((one) => this.#send(activityText(one))),
    ];
    this.#armHeartbeat();
  }

  get isFull(): boolean {
    return this.#watchers.size >= WATCHERS_MAX;
  }

  /**
   * Sends events until either end closes.
   * @param response its head is written already
   * @param lastEventId activities after this one come first
   */
  attach(response: ServerResponse, lastEventId: number): void {
    const { control, activity } = this.#options;
    const past = activity.after(lastEventId).map(activityText);
    const latest = control.latest;
    response.write(
      [
        `retry: ${RETRY_MS}\n\n`,
        eventText('history', { samples: control.history }),
        ...past,
        ...(latest ? [eventText('status', latest)] : []),
      ].join(''),
    );
    this.#watchers.add(response);
    response.on('close', () => this.#watchers.delete(response));
    if (latest) void this.#sendWorkers([response]);
  }

  /** Ends every stream. */
  close(): void {
    this.#heartbeat?.cancel();
    for (const end of this.#ends) end();
    for (const watcher of this.#watchers) watcher.end();
    this.#watchers.clear();
  }

  #statusRead(status: Status): void {
    if (this.#watchers.size === 0) return;
    this.#send(eventText('status', status));
    void this.#sendWorkers(this.#watchers);
  }

  async #sendWorkers(watchers: Iterable<ServerResponse>): Promise<void> {
    try {
      const text = eventText('workers', await this.#options.control.workers());
      this.#send(text, watchers);
    } catch (thrown) {
      this.#options.logger.warn('workers cannot be shown', errorFields(thrown));
    }
  }

  #send(text: string, watchers: Iterable<ServerResponse> = this.#watchers): void {
    for (const watcher of watchers) {
      if (watcher.writableLength > UNSENT_BYTES_MAX) watcher.destroy();
      else if (!watcher.destroyed) watcher.write(text);
    }
  }

  #armHeartbeat(): void {
    this.#heartbeat = this.#options.clock.after(
      HEARTBEAT_MS,
      () => {
        this.#send(': still here\n\n');
        this.#armHeartbeat();
      },
      { unref: true },
    );
  }
}

function activityText({ id, activity }: NumberedActivity): string {
  return `id: ${id}\n${eventText('activity', activity)}`;
}

/** JSON has no line feeds of its own, so that one `data` line is enough. */
function eventText(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
