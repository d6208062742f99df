/**
 * How the silver thread reads parts of the dedup index: from local files where the store has them,
 * else by ranges that the main thread, which owns the store, fetches for it.
 *
 * PR1 A thread blocks for a local read, which takes microseconds, but never for a remote one.
 * PR2 Remote reads at once are bounded (P10).
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { MessagePort } from 'node:worker_threads';
import { asPipelineError, type PipelineError } from '../../errors.ts';
import type { PartRead, PartReader } from '../../pipeline/silver/dedup-layers.ts';
import { corruptPart } from '../../pipeline/silver/dedup-part.ts';
import { codeOf, fsError } from '../../storage/object-store/file-errors.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import { Slots } from '../../storage/object-store/slots.ts';

/** Where a part is. */
export type PartPlace = { readonly path: string } | { readonly key: string };

interface ReadRequest {
  readonly id: number;
  readonly reads: readonly { readonly key: string; readonly start: number; readonly end: number }[];
}

type ReadReply =
  | { readonly id: number; readonly bytes: readonly Uint8Array[] }
  | { readonly id: number; readonly error: Pick<PipelineError, 'kind' | 'code' | 'message'> };

/** PR2 */
const CONCURRENCY = 32;

/** The thread's side: parts by number, and reads of them. */
export class PartFiles {
  readonly #keys = new Map<number, string>();
  readonly #files = new Map<number, number>();
  readonly #open = new Map<number, (reply: ReadReply) => void>();
  #port: MessagePort | undefined;
  #idNext = 0;

  /** @param port whose other end `servePartReads` has */
  connect(port: MessagePort): void {
    this.#port = port;
    port.on('message', (reply: ReadReply) => {
      this.#open.get(reply.id)?.(reply);
      this.#open.delete(reply.id);
      if (this.#open.size === 0) port.unref();
    });
    port.unref();
  }

  /**
   * Makes a part known.
   * @throws PipelineError corrupt when its file is gone, unavailable or invalid when it cannot be opened
   */
  add(part: number, place: PartPlace): void {
    if ('key' in place) {
      this.#keys.set(part, place.key);
      return;
    }
    try {
      this.#files.set(part, openSync(place.path, 'r'));
    } catch (thrown) {
      throw codeOf(thrown) === 'ENOENT' ? corruptPart(thrown) : fsError(thrown, place.path);
    }
  }

  remove(part: number): void {
    const file = this.#files.get(part);
    if (file !== undefined) closeSync(file);
    this.#files.delete(part);
    this.#keys.delete(part);
  }

  /** Forgets all parts. */
  clear(): void {
    for (const file of this.#files.values()) closeSync(file);
    this.#files.clear();
    this.#keys.clear();
  }

  /** See PartReader. */
  readonly read: PartReader = (reads) => {
    const results: Uint8Array[] = [];
    const remote: number[] = [];
    for (const [i, read] of reads.entries()) {
      const file = this.#files.get(read.part);
      // PR1
      if (file === undefined) remote.push(i);
      else results[i] = readLocal(file, read);
    }
    return remote.length === 0
      ? Promise.resolve(results)
      : this.#readRemote(reads, remote, results);
  };

  async #readRemote(
    reads: readonly PartRead[],
    remote: readonly number[],
    results: Uint8Array[],
  ): Promise<readonly Uint8Array[]> {
    const id = this.#idNext++;
    const asked = remote.map((i) => {
      const { part, start, end } = reads[i]!;
      return { key: this.#keys.get(part)!, start, end };
    });
    const reply = await new Promise<ReadReply>((resolve) => {
      this.#open.set(id, resolve);
      this.#port!.ref();
      this.#port!.postMessage({ id, reads: asked } satisfies ReadRequest);
    });
    if ('error' in reply) throw Object.assign(corruptPart(), reply.error);
    for (const [i, index] of remote.entries()) results[index] = reply.bytes[i]!;
    return results;
  }
}

function readLocal(file: number, { start, end }: PartRead): Uint8Array {
  const bytes = new Uint8Array(end - start);
  if (readSync(file, bytes, 0, bytes.length, start) !== bytes.length) throw corruptPart();
  return bytes;
}

/** The main thread's side: answers the reads of a `PartFiles` from the store. */
export function servePartReads(port: MessagePort, store: ObjectStore): void {
  const slots = new Slots(CONCURRENCY);
  const answer = async ({ id, reads }: ReadRequest): Promise<ReadReply> => {
    try {
      const bytes = await Promise.all(
        reads.map(({ key, start, end }) =>
          slots.run(async () => {
            const found = await store.get(key, { range: { start, end } });
            if (found === undefined) throw corruptPart();
            return found;
          }),
        ),
      );
      return { id, bytes };
    } catch (thrown) {
      const { kind, code, message } = asPipelineError(thrown);
      return { id, error: { kind, code, message } };
    }
  };
  port.on('message', (request: ReadRequest) => {
    void answer(request).then((reply) => port.postMessage(reply));
  });
  // Only the asking end keeps its thread alive, and only while it waits.
  port.unref();
}
