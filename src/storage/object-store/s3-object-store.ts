/**
 * Object store on S3 and what speaks its protocol.
 *
 * S1 A create is one PutObject with `If-None-Match: *` over a client that never retries: a retry would
 *    turn our own lost success into `exists`. 412 is `exists` (as is 304, MinIO's old answer), 409 is
 *    thrown: a racing delete, nothing is decided. What may have landed is `unknown` (s3-errors.ts, E1).
 * S2 Creates have connections of their own, so that a commit never queues behind data uploads.
 * S3 Every body is a single PutObject with its length, a CRC32 and (without TLS) a signed SHA-256; a
 *    store cannot keep a cut one. Bodies read are checked against their length and the stored checksum.
 * S4 Everything but a create is idempotent and retried with backoff; a body that breaks off too.
 * S5 No request waits for ever: connecting and silence on a connection are bounded; a slow transfer
 *    that moves is not cut.
 *
 * Source: S3 user guide "Conditional writes"; delta-rules.md "Atomic commit"; @smithy/node-http-handler.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import type { Ambient } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { LakeConfig } from '../../pipeline/pipeline-config.ts';
import {
  type ByteRange,
  checkKey,
  checkPrefix,
  checkRange,
  compareKeys,
  isKey,
} from './object-key.ts';
import type { CreateOutcome, ObjectInfo, ObjectStore } from './object-store.ts';
import { readS3Failure, type S3Failure, s3Error } from './s3-errors.ts';
import { Slots } from './slots.ts';

/** Attempts of an idempotent request, the first included. */
const ATTEMPTS_MAX = 4;
const RETRY_BASE_MS = 100;
const DATA_SOCKETS_MAX = 64;
const CREATE_SOCKETS_MAX = 32;
/** Below the idle limit of common servers and balancers, so that we rarely use a socket they just closed. */
const IDLE_SOCKET_MS = 4_000;

/** Bounds on waiting (S5), milliseconds. */
export interface S3Timeouts {
  /** Until a connection is there. */
  readonly connectMs: number;
  /** Without a byte in either direction. */
  readonly silenceMs: number;
}

/** Where the store is, and what it needs. */
export interface S3ObjectStoreOptions {
  /** Credentials come from the AWS default chain. */
  readonly lake: Extract<LakeConfig, { kind: 's3' }>;
  readonly ambient: Pick<Ambient, 'clock' | 'random'>;
  readonly timeouts?: S3Timeouts;
}

/**
 * A store whose credentials could be found; nothing is asked of the store itself yet.
 * @throws PipelineError invalid TM_STORE_DENIED without credentials
 */
export async function openS3ObjectStore(options: S3ObjectStoreOptions): Promise<S3ObjectStore> {
  const store = new S3ObjectStore(options);
  try {
    await store.findCredentials();
    return store;
  } catch (thrown) {
    await store.close();
    throw new PipelineError(
      'invalid',
      'TM_STORE_DENIED',
      `${store.description}: no AWS credentials found; set AWS_ACCESS_KEY_ID and ` +
        'AWS_SECRET_ACCESS_KEY, a profile, or a role',
      { cause: new Error(thrown instanceof Error ? thrown.message : String(thrown)) },
    );
  }
}

/** See `openS3ObjectStore`. */
export class S3ObjectStore implements ObjectStore {
  readonly description: string;
  readonly #bucket: string;
  /** Empty, or ends in a slash. */
  readonly #prefix: string;
  readonly #ambient: Pick<Ambient, 'clock' | 'random'>;
  readonly #client: S3Client;
  /** One per socket: in the agent's own line, waiting would count as connecting (S5). */
  readonly #slots = new Slots(DATA_SOCKETS_MAX);
  readonly #createClient: S3Client;
  readonly #createSlots = new Slots(CREATE_SOCKETS_MAX);

  constructor(options: S3ObjectStoreOptions) {
    const { lake, ambient, timeouts = { connectMs: 5_000, silenceMs: 30_000 } } = options;
    this.#bucket = lake.bucket;
    this.#prefix = lake.prefix === '' ? '' : `${lake.prefix}/`;
    this.description = `s3://${this.#bucket}/${lake.prefix}`;
    this.#ambient = ambient;
    const shared: S3ClientConfig = {
      region: lake.region,
      forcePathStyle: lake.forcePathStyle,
      ...(lake.endpoint === undefined ? {} : { endpoint: lake.endpoint }),
      // It would double the round trips of uploads to learn early of what is rare.
      expectContinueHeader: false,
    };
    this.#client = new S3Client({
      ...shared,
      maxAttempts: ATTEMPTS_MAX,
      retryMode: 'standard',
      requestHandler: handlerOptions(DATA_SOCKETS_MAX, timeouts),
    });
    this.#createClient = new S3Client({
      ...shared,
      credentials: this.#client.config.credentials,
      maxAttempts: 1,
      requestHandler: handlerOptions(CREATE_SOCKETS_MAX, timeouts),
    });
  }

  /** @throws the SDK's error when the chain has none */
  async findCredentials(): Promise<void> {
    await this.#client.config.credentials();
  }

  async get(
    key: string,
    options?: { readonly range?: ByteRange },
  ): Promise<Uint8Array | undefined> {
    const Key = this.#keyOf(key);
    const range = options?.range;
    if (range) checkRange(range);
    return this.#slots.run(() => this.#read(key, Key, range));
  }

  async #read(
    key: string,
    Key: string,
    range: ByteRange | undefined,
  ): Promise<Uint8Array | undefined> {
    const Range = range && `bytes=${range.start}-${range.end - 1}`;
    for (let attempt = 1; ; attempt++) {
      let response: GetObjectCommandOutput;
      try {
        response = await this.#client.send(
          new GetObjectCommand({ Bucket: this.#bucket, Key, ...(Range ? { Range } : {}) }),
        );
      } catch (thrown) {
        const failure = readS3Failure(thrown);
        if (isAbsence(failure)) return undefined;
        // The range begins behind the object's end.
        if (range && failure.status === 416) return new Uint8Array();
        throw this.#error(failure, 'reading', key);
      }
      try {
        const body = await readBody(response);
        // A store may ignore Range and send the whole object, as HTTP allows.
        return range && response.ContentRange === undefined
          ? body.slice(range.start, range.end)
          : body;
      } catch (thrown) {
        if (attempt === ATTEMPTS_MAX) throw this.#error(readS3Failure(thrown), 'reading', key);
      }
      await this.#backOff(attempt);
    }
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const Key = this.#keyOf(key);
    try {
      const command = new HeadObjectCommand({ Bucket: this.#bucket, Key });
      const found = await this.#slots.run(() => this.#client.send(command));
      return {
        key,
        sizeBytes: found.ContentLength ?? 0,
        modifiedMs: found.LastModified?.getTime() ?? 0,
      };
    } catch (thrown) {
      const failure = readS3Failure(thrown);
      if (isAbsence(failure)) return undefined;
      throw this.#error(failure, 'looking at', key);
    }
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    const Key = this.#keyOf(key);
    const command = new PutObjectCommand({
      Bucket: this.#bucket,
      Key,
      Body: body,
      ContentLength: body.byteLength,
    });
    try {
      await this.#slots.run(() => this.#client.send(command));
    } catch (thrown) {
      throw this.#error(readS3Failure(thrown), 'writing', key);
    }
  }

  async createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    const Key = this.#keyOf(key);
    const command = new PutObjectCommand({
      Bucket: this.#bucket,
      Key,
      Body: body,
      ContentLength: body.byteLength,
      IfNoneMatch: '*',
    });
    try {
      await this.#createSlots.run(() => this.#createClient.send(command));
      return 'created';
    } catch (thrown) {
      const failure = readS3Failure(thrown);
      if (failure.status === 412 || failure.status === 304) return 'exists';
      if (failure.status === 501) {
        throw new PipelineError(
          'invalid',
          'TM_STORE_IGNORES_CONDITION',
          `${this.description}: the store does not implement If-None-Match, which commits need`,
          { context: failure.context },
        );
      }
      if (failure.effect === 'open') return 'unknown';
      throw this.#error(failure, 'creating', key);
    }
  }

  async *list(
    prefix: string,
    options?: { readonly startAfter?: string },
  ): AsyncIterable<ObjectInfo> {
    const startAfter = options?.startAfter ?? '';
    const request = {
      Bucket: this.#bucket,
      Prefix: this.#prefix + checkPrefix(prefix),
      // XML cannot hold every character that a key can.
      EncodingType: 'url',
      ...(startAfter === '' ? {} : { StartAfter: this.#prefix + startAfter }),
    } as const;
    let last = '';
    let token: string | undefined;
    do {
      const page = await this.#page(prefix, {
        ...request,
        ...(token === undefined ? {} : { ContinuationToken: token }),
      });
      for (const object of page.Contents ?? []) {
        const key = decodeKey(object.Key ?? '', page.EncodingType).slice(this.#prefix.length);
        // Folder markers and other keys that no adapter makes; stores that ignore start-after.
        if (!isKey(key) || compareKeys(key, startAfter) <= 0) continue;
        const order = compareKeys(key, last);
        if (order === 0) continue;
        if (order < 0) {
          throw new PipelineError(
            'invalid',
            'TM_STORE_DENIED',
            `${this.description}: the store lists keys out of order, so the newest cannot be found`,
            { context: { key, last } },
          );
        }
        last = key;
        yield {
          key,
          sizeBytes: object.Size ?? 0,
          modifiedMs: object.LastModified?.getTime() ?? 0,
        };
      }
      if (page.IsTruncated === true && page.NextContinuationToken === undefined) {
        throw new PipelineError(
          'unavailable',
          'TM_STORE_UNAVAILABLE',
          `${this.description}: the store cut a listing without saying how it goes on`,
        );
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(key: string): Promise<void> {
    const Key = this.#keyOf(key);
    try {
      const command = new DeleteObjectCommand({ Bucket: this.#bucket, Key });
      await this.#slots.run(() => this.#client.send(command));
    } catch (thrown) {
      const failure = readS3Failure(thrown);
      if (!isAbsence(failure)) throw this.#error(failure, 'deleting', key);
    }
  }

  localPath(_key: string): undefined {
    return undefined;
  }

  async close(): Promise<void> {
    this.#client.destroy();
    this.#createClient.destroy();
  }

  #keyOf(key: string): string {
    return this.#prefix + checkKey(key);
  }

  async #page(
    prefix: string,
    request: ConstructorParameters<typeof ListObjectsV2Command>[0],
  ): Promise<ListObjectsV2CommandOutput> {
    try {
      const command = new ListObjectsV2Command(request);
      return await this.#slots.run(() => this.#client.send(command));
    } catch (thrown) {
      throw this.#error(readS3Failure(thrown), 'listing', prefix);
    }
  }

  #backOff(attempt: number): Promise<void> {
    const { clock, random } = this.#ambient;
    return clock.sleep(RETRY_BASE_MS * 2 ** attempt * random.next());
  }

  #error(failure: S3Failure, doing: string, key: string): PipelineError {
    return s3Error(failure, `${doing} ${key} in ${this.description}`);
  }
}

/** Agents of our own: the handler then keeps connections also for large bodies. */
function handlerOptions(
  maxSockets: number,
  timeouts: S3Timeouts,
): NonNullable<S3ClientConfig['requestHandler']> {
  const agent = { keepAlive: true, maxSockets, timeout: IDLE_SOCKET_MS };
  return {
    httpAgent: new HttpAgent(agent),
    httpsAgent: new HttpsAgent(agent),
    connectionTimeout: timeouts.connectMs,
    socketTimeout: timeouts.silenceMs,
  };
}

/** @throws Error when the body ends early or does not match its checksum (S3) */
async function readBody(response: GetObjectCommandOutput): Promise<Uint8Array> {
  const chunks = response.Body as AsyncIterable<Uint8Array>;
  const lengthBytes = response.ContentLength;
  if (lengthBytes === undefined) {
    const parts: Uint8Array[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    return new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
  }
  const body = new Uint8Array(Buffer.allocUnsafeSlow(lengthBytes).buffer);
  let filled = 0;
  for await (const chunk of chunks) {
    if (filled + chunk.length > lengthBytes) throw new Error('the body is longer than announced');
    body.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled !== lengthBytes) throw new Error(`${filled} of ${lengthBytes} bytes of the body came`);
  return body;
}

function decodeKey(key: string, encoding: string | undefined): string {
  return encoding === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
}

/** HEAD has no body to tell a missing bucket from a missing key. */
function isAbsence(failure: S3Failure): boolean {
  return failure.status === 404 && failure.name !== 'NoSuchBucket';
}
