/**
 * Turns JSON lines into record batches per partition. Pure but for the clock.
 * The key is the value of one member of the line's object: text without its quotes and escapes, any
 * other scalar as it is written. A line that is no object, or lacks the member, has no key; its
 * partition then follows from its bytes, so that routing the same input again gives the same result.
 */
import type { Clock } from '../../ambient.ts';
import { InstantParser } from '../../pipeline/silver/civil-time.ts';
import { EVENT_OK, EventTokenizer } from '../../pipeline/silver/event-tokenizer.ts';
import {
  JsonScanner,
  TOKEN_ABSENT,
  TOKEN_ARRAY,
  TOKEN_ESCAPED,
  TOKEN_LONE_SURROGATE,
  TOKEN_NULL,
  TOKEN_OBJECT,
  TOKEN_STRING,
  TokenTable,
} from '../../pipeline/silver/json-scanner.ts';
import { ByteScratch, unescapeInto } from '../../pipeline/silver/string-text.ts';
import type { PendingBatch } from './embedded-log.ts';
import { partitionOfKey } from './murmur2.ts';
import { RecordBatchBuilder } from './record-batch-encoder.ts';

/** A batch is closed when it reaches this size. */
const BATCH_BYTES = 1 << 20;
const KEY = 0;
const ARRIVAL = 1;

/** Marks batches as the work of one input, so that an interrupted one can be continued. */
export interface InputProgress {
  readonly producerId: bigint;
  /** Records that each partition holds of this input already. */
  readonly done: readonly number[];
}

/** Routes lines until their batches are taken. */
export class RecordRouter {
  readonly #clock: Clock;
  readonly #arrivalField: string | undefined;
  readonly #scanner = new JsonScanner();
  readonly #tokens = new TokenTable(2);
  readonly #tokenizer: EventTokenizer;
  readonly #instant = new InstantParser();
  readonly #unescaped = new ByteScratch();
  readonly #builders: readonly RecordBatchBuilder[];
  readonly #progress: InputProgress | undefined;
  /** Records still to be passed over, and records so far, of this input per partition. */
  readonly #skip: number[];
  readonly #sequence: number[];
  #closed: PendingBatch[] = [];
  #closedBytes = 0;
  #nowMs = 0;
  /** Lines without a readable arrival time, which got the present one. */
  undatedLines = 0;

  constructor(options: {
    readonly clock: Clock;
    readonly partitionCount: number;
    readonly keyField: string | undefined;
    readonly arrivalField: string | undefined;
    readonly progress: InputProgress | undefined;
  }) {
    const { partitionCount, progress } = options;
    this.#clock = options.clock;
    this.#arrivalField = options.arrivalField;
    this.#progress = progress;
    // A name that no member can have stands for a field that is not asked for.
    const names = [options.keyField ?? '\u0000key', options.arrivalField ?? '\u0000arrival'];
    this.#tokenizer = new EventTokenizer(this.#scanner, this.#tokens, names);
    this.#builders = Array.from({ length: partitionCount }, () => new RecordBatchBuilder());
    this.#skip = Array.from({ length: partitionCount }, (_, one) => progress?.done[one] ?? 0);
    this.#sequence = [...this.#skip];
  }

  /** Bytes waiting to be taken. */
  get pendingBytes(): number {
    return this.#builders.reduce((sum, one) => sum + one.byteLength, this.#closedBytes);
  }

  /** The present moment is asked for once per chunk of input. */
  beginChunk(): void {
    this.#nowMs = this.#clock.nowMs();
  }

  /** Appends the line `bytes[start, end)` to a batch of its partition. */
  route(bytes: Buffer, start: number, end: number): void {
    const kinds = this.#tokens.kinds;
    kinds[KEY] = TOKEN_ABSENT;
    kinds[ARRIVAL] = TOKEN_ABSENT;
    if (this.#scanner.data !== bytes) this.#scanner.setData(bytes);
    this.#scanner.end = end;
    const isObject = this.#tokenizer.read(0, start) === EVENT_OK;
    this.#tokenizer.unknown.truncate(0);
    if (!isObject) {
      kinds[KEY] = TOKEN_ABSENT;
      kinds[ARRIVAL] = TOKEN_ABSENT;
    }

    let key: Uint8Array | null = bytes;
    let keyStart = this.#tokens.starts[KEY]!;
    let keyEnd = this.#tokens.ends[KEY]!;
    switch (kinds[KEY]) {
      case TOKEN_ABSENT:
      case TOKEN_NULL:
      case TOKEN_OBJECT:
      case TOKEN_ARRAY:
        key = null;
        break;
      case TOKEN_ESCAPED:
        unescapeInto(this.#unescaped, bytes, keyStart, keyEnd);
        key = this.#unescaped.bytes;
        keyStart = 0;
        keyEnd = this.#unescaped.length;
        break;
      default:
      // Text without escapes and other scalars: the bytes as they stand. Text with a lone surrogate,
      // which has no UTF-8, too.
    }
    const partition =
      key === null
        ? partitionOfKey(bytes, this.#builders.length, start, end)
        : partitionOfKey(key, this.#builders.length, keyStart, keyEnd);
    if (this.#skip[partition]! > 0) {
      this.#skip[partition]! -= 1;
      return;
    }
    const timestampMs = this.#arrivalMs(bytes);
    const builder = this.#builders[partition]!;
    builder.append(timestampMs, key, keyStart, keyEnd, bytes, start, end);
    if (builder.byteLength >= BATCH_BYTES) this.#close(partition);
  }

  /** Closes and hands out all batches. */
  take(): readonly PendingBatch[] {
    for (let partition = 0; partition < this.#builders.length; partition++) this.#close(partition);
    const taken = this.#closed;
    this.#closed = [];
    this.#closedBytes = 0;
    return taken;
  }

  #close(partition: number): void {
    const builder = this.#builders[partition]!;
    const records = builder.recordCount;
    if (records === 0) return;
    const sequence = this.#sequence[partition]!;
    const batch = builder.finish({
      baseOffset: 0n,
      ...(this.#progress
        ? {
            producerId: this.#progress.producerId,
            producerEpoch: 0,
            // Kafka's sequence numbers start over after 2^31 - 1.
            baseSequence: sequence & 0x7fffffff,
          }
        : {}),
    });
    this.#sequence[partition] = sequence + records;
    this.#closed.push({ partition, batch });
    this.#closedBytes += batch.length;
  }

  #arrivalMs(bytes: Uint8Array): number {
    if (this.#arrivalField === undefined) return this.#nowMs;
    const kind = this.#tokens.kinds[ARRIVAL]!;
    const start = this.#tokens.starts[ARRIVAL]!;
    const end = this.#tokens.ends[ARRIVAL]!;
    const value = this.#tokens.numbers[ARRIVAL]!;
    const instant = this.#instant;
    const readable =
      kind >= TOKEN_STRING && kind <= TOKEN_LONE_SURROGATE
        ? instant.parseRfc3339(bytes, start, end)
        : instant.parseEpoch('ms', kind, bytes, start, end, value);
    if (!readable) {
      this.undatedLines += 1;
      return this.#nowMs;
    }
    // Microseconds to milliseconds: exact, for both are below 2^53 within the years that parse.
    return Math.floor((instant.high * 2 ** 32 + (instant.low >>> 0)) / 1000);
  }
}
