/**
 * Object store in memory: the reference for the contract suite and the disk of simulations.
 *
 * M1 Every operation takes effect in one tick, so creates race as they do on a real store: one wins.
 * M2 Bytes are copied in and out; nobody can change a stored object through a shared buffer.
 * M3 A listing is the store at the moment of its first step.
 */
import type { Clock } from '../../ambient.ts';
import { type ByteRange, checkKey, checkPrefix, checkRange, lowerBound } from './object-key.ts';
import type { CreateOutcome, ObjectInfo, ObjectStore } from './object-store.ts';

interface StoredObject {
  readonly body: Uint8Array;
  readonly modifiedMs: number;
}

/** See the port for the meaning of each method; none of them fails for lack of a service. */
export class MemoryObjectStore implements ObjectStore {
  readonly description = 'memory';
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #objects = new Map<string, StoredObject>();
  /** Keys of `#objects`, ascending. */
  readonly #keys: string[] = [];

  constructor(options: { readonly clock: Pick<Clock, 'nowMs'> }) {
    this.#clock = options.clock;
  }

  async get(
    key: string,
    options?: { readonly range?: ByteRange },
  ): Promise<Uint8Array | undefined> {
    const body = this.#objects.get(checkKey(key))?.body;
    if (!options?.range) return body?.slice();
    checkRange(options.range);
    return body?.slice(options.range.start, options.range.end);
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const stored = this.#objects.get(checkKey(key));
    return stored && info(key, stored);
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    this.#store(checkKey(key), body);
  }

  async createIfAbsent(key: string, body: Uint8Array): Promise<CreateOutcome> {
    if (this.#objects.has(checkKey(key))) return 'exists';
    this.#store(key, body);
    return 'created';
  }

  async *list(
    prefix: string,
    options?: { readonly startAfter?: string },
  ): AsyncIterable<ObjectInfo> {
    checkPrefix(prefix);
    const startAfter = options?.startAfter ?? '';
    const first = Math.max(
      lowerBound(this.#keys, prefix),
      lowerBound(this.#keys, startAfter, true),
    );
    const found: ObjectInfo[] = [];
    for (let i = first; i < this.#keys.length && this.#keys[i]!.startsWith(prefix); i++) {
      const key = this.#keys[i]!;
      found.push(info(key, this.#objects.get(key)!));
    }
    yield* found;
  }

  async delete(key: string): Promise<void> {
    if (this.#objects.delete(checkKey(key))) this.#keys.splice(lowerBound(this.#keys, key), 1);
  }

  localPath(_key: string): undefined {
    return undefined;
  }

  async close(): Promise<void> {}

  #store(key: string, body: Uint8Array): void {
    if (!this.#objects.has(key)) this.#keys.splice(lowerBound(this.#keys, key), 0, key);
    this.#objects.set(key, { body: new Uint8Array(body), modifiedMs: this.#clock.nowMs() });
  }
}

function info(key: string, stored: StoredObject): ObjectInfo {
  return { key, sizeBytes: stored.body.length, modifiedMs: stored.modifiedMs };
}
