/**
 * What producers send, and what it means: each record is made together with what the tables must hold
 * of it, so that the expectation does not come from parsing what production code parses.
 */
import type { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import { pick } from './faults.ts';
import type { SentRecord, SimulatedTopic } from './topic.ts';

/** The pipeline under test; `maxLatency` and buckets vary with the seed. */
export function pipelineText(random: SeededRandom): string {
  const writers = pick(random, [1, 1, 2]);
  return `
name: simulated
source: {kind: embedded, partitions: 1, topic: events}
commit: {maxLatency: ${pick(random, ['200ms', '500ms', '1s'])}, maxRows: ${pick(random, [5, 50, 1000])}}
silver: {dedupBuckets: ${pick(random, [writers, 4])}, writers: ${writers}}
event:
  id: event_id
  time: event_time
  schema:
    version: 1
    fields:
      event_id: {type: string, required: true}
      event_time: {type: timestamp, required: true}
      customer: string
      bytes: long
late: {after: 2h, futureTolerance: 5m}
gold:
  - name: hourly
    window: 1h
    groupBy: [customer]
    measures:
      events: {fn: count}
      bytes: {fn: sum, field: bytes}
      bytes_max: {fn: max, field: bytes}
      customers: {fn: countDistinct, field: event_id}
  - name: daily
    window: 1d
    groupBy: []
    measures:
      events: {fn: count}
`;
}

/** A valid event as silver must have it. */
export interface EventMeaning {
  readonly kind: 'event';
  readonly id: string;
  readonly timeMs: number;
  readonly customer: string | null;
  readonly bytes: number | null;
  /** Flags that do not depend on when it came. */
  readonly flags: readonly string[];
}

/** What silver keeps of members that have no column or do not fit theirs. */
export function rescuedOf({ flags }: EventMeaning): Readonly<Record<string, unknown>> | null {
  if (flags.length === 0) return null;
  return {
    ...(flags.includes(MISMATCH) ? { bytes: 'many' } : {}),
    ...(flags.includes(UNKNOWN) ? { extra: 1 } : {}),
  };
}

/** A record that is no event. */
export interface PoisonMeaning {
  readonly kind: 'poison';
  readonly flag: string;
}

export type Meaning = EventMeaning | PoisonMeaning;

interface Sent {
  readonly record: SentRecord;
  readonly meaning: Meaning;
}

const MISMATCH = 'type_mismatch:bytes';
const UNKNOWN = 'unknown_fields';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const CUSTOMERS = ['ada', 'bob', 'cleo', 'dän', ''];

const utf8 = new TextEncoder();

export class Workload {
  readonly #random: SeededRandom;
  readonly #topic: SimulatedTopic<Meaning>;
  readonly #sent: { readonly partition: number; readonly meaning: EventMeaning }[] = [];
  readonly #name: string;
  /** Share of each kind of record, drawn per seed. */
  readonly #shares: {
    readonly duplicate: number;
    readonly conflict: number;
    readonly poison: number;
    readonly late: number;
    readonly elsewhere: number;
    readonly transactional: number;
    readonly compacted: number;
  };
  #idNext = 0;
  /** Partitions that take no more records, since their log was truncated. */
  readonly #closed = new Set<number>();

  constructor(random: SeededRandom, topic: SimulatedTopic<Meaning>, name = 'e') {
    this.#random = random;
    this.#topic = topic;
    this.#name = name;
    const share = (most: number): number => (random.unit() < 0.3 ? 0 : random.unit() * most);
    this.#shares = {
      duplicate: share(0.4),
      conflict: share(0.1),
      poison: share(0.2),
      late: share(0.2),
      elsewhere: share(0.3),
      transactional: share(0.5),
      compacted: share(0.15),
    };
  }

  close(partition: number): void {
    this.#closed.add(partition);
  }

  /** Appends a batch to some partition, or begins or ends a transaction. */
  produce(wallMs: number): void {
    const nowMs = Math.trunc(wallMs);
    const random = this.#random;
    const partition = random.below(this.#topic.partitions.length);
    const log = this.#topic.partitions[partition]!;
    if (this.#closed.has(partition)) return;
    const open = log.openProducers;
    if (open.length > 0 && random.unit() < 0.4) {
      log.endTransaction(pick(random, open), random.unit() < 0.5 ? 'commit' : 'abort', nowMs);
      return;
    }
    const count = 1 + random.below(random.unit() < 0.2 ? 12 : 4);
    if (random.unit() < this.#shares.transactional) {
      const producerId =
        open.length > 0 && random.unit() < 0.5 ? pick(random, open) : BigInt(random.below(4));
      // Ids of a transaction that may be aborted must not be taken for sent by later duplicates.
      const sent = Array.from({ length: count }, () => this.#freshEvent(nowMs));
      log.append(sent, producerId);
      return;
    }
    if (random.unit() < this.#shares.compacted) {
      log.append(Array.from({ length: 1 + random.below(3) }, () => undefined));
    }
    const sent = Array.from({ length: count }, () => this.#next(partition, nowMs));
    const last = sent.length - 1;
    log.append(
      sent.map((one, i) =>
        i < last && random.unit() < this.#shares.compacted ? undefined : this.#note(partition, one),
      ),
    );
  }

  /** Ends what is open, so that everything can be read. */
  finish(wallMs: number): void {
    const nowMs = Math.trunc(wallMs);
    for (const log of this.#topic.partitions) {
      for (const producerId of log.openProducers) {
        log.endTransaction(producerId, this.#random.unit() < 0.5 ? 'commit' : 'abort', nowMs);
      }
    }
  }

  #note(partition: number, sent: Sent): Sent {
    if (sent.meaning.kind === 'event') this.#sent.push({ partition, meaning: sent.meaning });
    return sent;
  }

  #next(partition: number, nowMs: number): Sent {
    const random = this.#random;
    const shares = this.#shares;
    const draw = random.unit();
    if (draw < shares.poison) return this.#poison(nowMs);
    const copies = this.#sent.filter(
      (one) => one.partition === partition || random.unit() < shares.elsewhere / 10,
    );
    if (copies.length > 0 && draw < shares.poison + shares.duplicate) {
      const { meaning } = pick(random, copies);
      return this.#encode(
        meaning,
        this.#timestamp(nowMs),
        meaning.flags.length === 0 && random.unit() < 0.5,
      );
    }
    if (copies.length > 0 && draw < shares.poison + shares.duplicate + shares.conflict) {
      const { meaning } = pick(random, copies);
      const flags = meaning.flags.filter((flag) => flag !== MISMATCH);
      return this.#encode(
        { ...meaning, flags, bytes: (meaning.bytes ?? 0) + 1 },
        this.#timestamp(nowMs),
        false,
      );
    }
    return this.#freshEvent(nowMs);
  }

  #freshEvent(nowMs: number): Sent {
    const random = this.#random;
    const timestampMs = this.#timestamp(nowMs);
    let timeMs = timestampMs - random.below(90_000);
    if (random.unit() < this.#shares.late) {
      // Exactly at the bounds of late and of future, and beyond.
      timeMs = pick(random, [
        timestampMs - 2 * HOUR_MS,
        timestampMs - 3 * HOUR_MS - random.below(40 * HOUR_MS),
        timestampMs + 5 * 60_000,
        timestampMs + 6 * 60_000 + random.below(DAY_MS),
        0,
      ]);
    }
    const oddBytes = random.unit() < 0.05;
    const unknown = random.unit() < 0.05;
    const flags = [...(oddBytes ? [MISMATCH] : []), ...(unknown ? [UNKNOWN] : [])];
    const meaning: EventMeaning = {
      kind: 'event',
      id: `${this.#name}${this.#idNext++}`,
      timeMs,
      customer: random.unit() < 0.1 ? null : pick(random, CUSTOMERS),
      bytes: oddBytes || random.unit() < 0.1 ? null : random.below(1000),
      flags,
    };
    return this.#encode(meaning, timestampMs, false);
  }

  /** @param isReordered members in another order and with other white space; the same event */
  #encode(meaning: EventMeaning, timestampMs: number, isReordered: boolean): Sent {
    const { id, timeMs, customer, bytes } = meaning;
    const members: [string, unknown][] = [
      ['event_id', id],
      ['event_time', new Date(timeMs).toISOString()],
    ];
    if (customer !== null) members.push(['customer', customer]);
    if (bytes !== null) members.push(['bytes', bytes]);
    members.push(...Object.entries(rescuedOf(meaning) ?? {}));
    const text = isReordered
      ? JSON.stringify(Object.fromEntries(members.toReversed()), null, 1)
      : JSON.stringify(Object.fromEntries(members));
    return { record: recordOf(timestampMs, text, customer), meaning };
  }

  #poison(nowMs: number): Sent {
    const at = new Date(nowMs).toISOString();
    const [flag, value] = pick<readonly [string, string | Uint8Array | null]>(this.#random, [
      ['invalid_json', '{"event_id":"x",'],
      ['tombstone', null],
      ['empty', ' '],
      ['not_an_object', '[1]'],
      ['missing_id', `{"event_time":"${at}"}`],
      ['missing_time', '{"event_id":"x"}'],
      ['invalid_time', '{"event_id":"x","event_time":"2026-02-30T00:00:00Z"}'],
      ['invalid_utf8', Uint8Array.of(0x7b, 0xff, 0x7d)],
    ]);
    return {
      record: recordOf(this.#timestamp(nowMs), value, null),
      meaning: { kind: 'poison', flag },
    };
  }

  /** Producers' clocks differ, so that the dates of one partition interleave. */
  #timestamp(nowMs: number): number {
    return nowMs - this.#random.below(4_000);
  }
}

function recordOf(
  timestampMs: number,
  value: string | Uint8Array | null,
  key: string | null,
): SentRecord {
  return {
    timestampMs,
    key: key === null ? null : utf8.encode(key),
    value: typeof value === 'string' ? utf8.encode(value) : value,
  };
}
