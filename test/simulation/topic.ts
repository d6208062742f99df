/**
 * Kafka of a simulation: one topic whose partitions hold real record batches, and the truth about every
 * offset. Producers append plain batches and transactions, compaction takes records out, operators
 * delete, truncate and re-create.
 *
 * - TP1 `truth` says of every offset below the end what it is: a record, a marker, aborted or compacted.
 * - TP2 Readers see what a broker serves to `read_committed`: whole batches below the last stable
 *   offset, with the aborted transactions among them.
 */
import { PipelineError } from '../../src/errors.ts';
import type { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import type {
  AbortedTransaction,
  EventSource,
  FetchResult,
  OffsetRange,
  PartitionReader,
} from '../../src/storage/source/event-source.ts';
import { controlRecord, encodeRecordBatch } from '../../src/storage/source/record-batch-encoder.ts';
import type { SimulatedHost } from './host.ts';
import type { VirtualTime } from './virtual-time.ts';

/** A record as its producer sent it. */
export interface SentRecord {
  readonly timestampMs: number;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
}

/** What an offset is (TP1). */
export type OffsetTruth<Meaning> =
  | { readonly kind: 'record'; readonly record: SentRecord; readonly meaning: Meaning }
  | { readonly kind: 'marker' | 'aborted' | 'compacted' };

interface Batch {
  readonly base: bigint;
  /** Exclusive. */
  readonly next: bigint;
  readonly bytes: Uint8Array;
}

interface OpenTransaction {
  readonly producerId: bigint;
  readonly firstOffset: bigint;
  /** Its records so far, to be decided. */
  readonly offsets: bigint[];
}

/** One partition of the topic. */
export class TopicPartition<Meaning> {
  readonly truth: (OffsetTruth<Meaning> | undefined)[] = [];
  earliest = 0n;
  /** Exclusive end of the log. */
  end = 0n;
  readonly #batches: Batch[] = [];
  readonly #aborted: (AbortedTransaction & { readonly lastOffset: bigint })[] = [];
  readonly #open = new Map<bigint, OpenTransaction>();
  readonly #waiting = new Set<() => void>();

  /** Exclusive end of what `read_committed` sees. */
  get lastStable(): bigint {
    let stable = this.end;
    for (const { firstOffset } of this.#open.values()) {
      if (firstOffset < stable) stable = firstOffset;
    }
    return stable;
  }

  get openProducers(): readonly bigint[] {
    return [...this.#open.keys()];
  }

  /**
   * Appends one batch.
   * @param records undefined stands for a record that compaction has taken out
   * @param producerId of a transaction, begun if it has none open
   */
  append(
    records: readonly ({ readonly record: SentRecord; readonly meaning: Meaning } | undefined)[],
    producerId?: bigint,
  ): void {
    const base = this.end;
    const kept = records.flatMap((sent, offsetDelta) => (sent ? [{ ...sent, offsetDelta }] : []));
    if (producerId !== undefined) {
      const open = this.#open.get(producerId) ?? { producerId, firstOffset: base, offsets: [] };
      records.forEach((_, offsetDelta) => open.offsets.push(base + BigInt(offsetDelta)));
      this.#open.set(producerId, open);
    }
    for (const sent of records) {
      this.truth.push(sent ? { kind: 'record', ...sent } : { kind: 'compacted' });
    }
    const transactional = producerId === undefined ? {} : { producerId, transactional: true };
    this.#push(
      records.length,
      // A batch that compaction emptied is gone from the log.
      kept.length === 0
        ? new Uint8Array(0)
        : encodeRecordBatch(
            kept.map(({ record, offsetDelta }) => ({ ...record, offsetDelta })),
            { baseOffset: base, lastOffsetDelta: records.length - 1, ...transactional },
          ),
    );
  }

  /** Ends the open transaction of a producer with a marker. */
  endTransaction(producerId: bigint, how: 'commit' | 'abort', timestampMs: number): void {
    const transaction = this.#open.get(producerId);
    if (!transaction) return;
    this.#open.delete(producerId);
    if (how === 'abort') {
      for (const offset of transaction.offsets) this.truth[Number(offset)] = { kind: 'aborted' };
      const { firstOffset } = transaction;
      this.#aborted.push({ producerId, firstOffset, lastOffset: this.end });
    }
    this.truth.push({ kind: 'marker' });
    const marker = encodeRecordBatch([controlRecord(how, timestampMs)], {
      baseOffset: this.end,
      producerId,
      transactional: true,
      control: true,
    });
    this.#push(1, marker);
  }

  /** Retention: what is below `offset` is gone. */
  deleteBefore(offset: bigint): void {
    this.earliest = offset;
    while (this.#batches.length > 0 && this.#batches[0]!.next <= offset) this.#batches.shift();
    this.#wake();
  }

  /** An unclean election: the log ends at `offset` again. What was read of it stays true. */
  truncateTo(offset: bigint): void {
    this.end = offset;
    while (this.#batches.length > 0 && this.#batches.at(-1)!.next > offset) this.#batches.pop();
    this.#wake();
  }

  /** TP2. @param batchesMax a broker may always answer with less than there is */
  read(offset: bigint, batchesMax: number): FetchResult {
    const { earliest, lastStable: latest } = this;
    if (offset < earliest || offset > this.end) return { kind: 'out-of-range', earliest, latest };
    const served = this.#batches
      .filter(({ next, base }) => next > offset && base < latest)
      .slice(0, batchesMax);
    const bytes = new Uint8Array(served.reduce((sum, batch) => sum + batch.bytes.length, 0));
    let at = 0;
    for (const batch of served) {
      bytes.set(batch.bytes, at);
      at += batch.bytes.length;
    }
    const servedEnd = served.at(-1)?.next ?? offset;
    const aborted = this.#aborted
      .filter(({ firstOffset, lastOffset }) => firstOffset < servedEnd && lastOffset >= offset)
      .map(({ producerId, firstOffset }) => ({ producerId, firstOffset }));
    return { kind: 'records', bytes, aborted, latest, earliest };
  }

  /** Calls back once when something changed. */
  onChange(callback: () => void): void {
    this.#waiting.add(callback);
  }

  #push(offsets: number, bytes: Uint8Array): void {
    const base = this.end;
    this.end += BigInt(offsets);
    if (bytes.length > 0) this.#batches.push({ base, next: this.end, bytes });
    this.#wake();
  }

  #wake(): void {
    for (const callback of this.#waiting) callback();
    this.#waiting.clear();
  }
}

export class SimulatedTopic<Meaning> {
  readonly name: string;
  readonly topicId: string;
  readonly partitions: TopicPartition<Meaning>[];
  /** Id of the topic of this name that took its place. */
  successorId: string | undefined;
  /** Next offsets that were reported to the group, by partition. */
  readonly reported = new Map<number, bigint>();
  /** Bytes that each process has asked for and may be sent at any moment. */
  readonly #asked = new Map<SimulatedHost, number>();
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;

  constructor(
    time: VirtualTime,
    random: SeededRandom,
    options: { readonly name: string; readonly topicId: string; readonly partitions: number },
  ) {
    this.#time = time;
    this.#random = random;
    this.name = options.name;
    this.topicId = options.topicId;
    this.partitions = Array.from({ length: options.partitions }, () => new TopicPartition());
  }

  /** Bytes of the fetches that a process has under way. */
  askedBytes(host: SimulatedHost): number {
    return this.#asked.get(host) ?? 0;
  }

  addPartition(): void {
    this.partitions.push(new TopicPartition());
  }

  /** The source as one process sees it. */
  of(host: SimulatedHost): EventSource {
    let boundTo: string | undefined;
    const request = <Result>(what: string, effect: () => Promise<Result> | Result) =>
      host.request({ service: 'source', kind: 'read', what, effect });
    const bind = (): void => {
      const present = this.successorId ?? this.topicId;
      boundTo ??= present;
      if (boundTo !== present) throw recreated(this.name);
    };
    return {
      description: `the topic as ${host.name} sees it`,
      describe: () =>
        request('describe', () => {
          const { name: topic, partitions } = this;
          const topicId = this.successorId ?? this.topicId;
          boundTo ??= topicId;
          return { topic, topicId, partitionCount: partitions.length };
        }),
      offsets: (partition) =>
        request(`offsets ${partition}`, (): OffsetRange => {
          bind();
          const { earliest, lastStable } = this.#log(partition);
          return { earliest, latest: lastStable < earliest ? earliest : lastStable };
        }),
      openPartition: async (partition) => {
        await request(`open ${partition}`, bind);
        return this.#reader(host, partition, bind);
      },
      reportProgress: (offsets) =>
        request('report progress', () => {
          for (const [partition, next] of offsets) this.reported.set(partition, next);
        }),
      close: () => Promise.resolve(),
    };
  }

  /** The topic that took this one's place is empty. */
  #log(partition: number): TopicPartition<Meaning> {
    return this.successorId === undefined ? this.partitions[partition]! : new TopicPartition();
  }

  #reader(host: SimulatedHost, partition: number, bind: () => void): PartitionReader {
    const ask = (bytes: number): void => {
      this.#asked.set(host, this.askedBytes(host) + bytes);
    };
    return {
      partition,
      fetch: async ({ offset, maxBytes, maxWaitMs, signal }) => {
        ask(maxBytes);
        try {
          return await host.request({
            service: 'source',
            kind: 'read',
            what: `fetch ${partition} ${offset}`,
            effect: () => this.#fetch(partition, offset, maxWaitMs, signal, bind),
          });
        } finally {
          ask(-maxBytes);
        }
      },
      close: () => Promise.resolve(),
    };
  }

  /** Answers as soon as there is something, or at the end of the wait. */
  #fetch(
    partition: number,
    offset: bigint,
    maxWaitMs: number,
    signal: AbortSignal | undefined,
    bind: () => void,
  ): Promise<FetchResult> {
    return new Promise((resolve, reject) => {
      const read = (): FetchResult => this.#log(partition).read(offset, 1 + this.#random.below(6));
      const answer = (): void => {
        try {
          bind();
          const result = read();
          if (result.kind === 'records' && result.bytes.length > 0) return resolve(result);
          if (result.kind === 'out-of-range') return resolve(result);
          this.#log(partition).onChange(answer);
        } catch (thrown) {
          reject(thrown as Error);
        }
      };
      const giveUp = (): void => {
        const { earliest, lastStable: latest } = this.#log(partition);
        resolve({ kind: 'records', bytes: new Uint8Array(0), aborted: [], earliest, latest });
      };
      answer();
      this.#time.schedule(maxWaitMs, `fetch ${partition} waited`, giveUp);
      if (signal?.aborted) giveUp();
      else signal?.addEventListener('abort', giveUp, { once: true });
    });
  }
}

function recreated(topic: string): PipelineError {
  return new PipelineError('invalid', 'TM_TOPIC_RECREATED', `topic ${topic} was created again`);
}
