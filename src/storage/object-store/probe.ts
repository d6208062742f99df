/**
 * Start-up probe: does the store really create an object only when it is absent? Many accept
 * `If-None-Match` and ignore it, and then two writers silently overwrite each other's commits.
 * Source: delta-rules.md "Probe at start-up".
 */
import type { IdGenerator } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { CreateOutcome, ObjectStore } from './object-store.ts';

const PROBE_FOLDER = '_tidemark/probe/';
/** Enough for a check-then-write race to show on every such store we know. */
const RACERS = 32;

/**
 * Races creates on fresh keys below `_tidemark/probe/` and removes them.
 * @throws PipelineError invalid TM_STORE_IGNORES_CONDITION when a create is not atomic, a created object
 *   cannot be read or is not listed at once; unavailable when the store did not answer well enough to tell
 */
export async function probeConditionalCreate(store: ObjectStore, ids: IdGenerator): Promise<void> {
  const folder = `${PROBE_FOLDER}${ids.id()}/`;
  const probe = new Probe(store, folder);
  try {
    await Promise.all([probe.createTwice(), probe.race()]);
    await probe.expectListing();
  } finally {
    // What stays behind after a failure is small, and no reader looks here.
    await Promise.allSettled(probe.keys.map((key) => store.delete(key)));
  }
}

class Probe {
  readonly keys: readonly [sequential: string, raced: string];
  readonly #store: ObjectStore;
  readonly #folder: string;
  /** Why the store last failed to answer. */
  #refusal: PipelineError | undefined;

  constructor(store: ObjectStore, folder: string) {
    this.#store = store;
    this.#folder = folder;
    this.keys = [`${folder}0`, `${folder}1`];
  }

  /** Created, then refused; deleted, then created again. */
  async createTwice(): Promise<void> {
    const [key] = this.keys;
    await this.#expectCreate(key, 'first', 'created', 'a fresh key');
    await this.#expectCreate(key, 'second', 'exists', 'a key that exists');
    await this.#expectBody(key, 'first');
    await this.#store.delete(key);
    await this.#expectCreate(key, 'third', 'created', 'a key that was deleted');
    await this.#expectBody(key, 'third');
  }

  /** One winner, whose bytes are there. */
  async race(): Promise<void> {
    const key = this.keys[1];
    const outcomes = await Promise.all(
      Array.from({ length: RACERS }, (_, racer) => this.#create(key, `racer ${racer}`)),
    );
    const winners = outcomes.flatMap((outcome, racer) => (outcome === 'created' ? [racer] : []));
    if (winners.length > 1) {
      throw this.#unsafe(`${winners.length} of ${RACERS} racing creates of one key succeeded`);
    }
    // With a response lost or refused (409 is legal in a race) the winner may be one of those.
    if (winners.length === 0) throw this.#untold(`no racing create succeeded: ${outcomes.join()}`);
    await this.#expectBody(key, `racer ${winners[0]}`);
  }

  async expectListing(): Promise<void> {
    const found: string[] = [];
    for await (const { key } of this.#store.list(this.#folder)) found.push(key);
    if (found.join() !== this.keys.join()) {
      throw this.#unsafe('objects just created are not listed, in order');
    }
  }

  async #expectCreate(
    key: string,
    body: string,
    expected: CreateOutcome,
    when: string,
  ): Promise<void> {
    const outcome = await this.#create(key, body);
    if (outcome === expected) return;
    if (outcome === 'unknown' || outcome === 'refused') {
      throw this.#untold(`creating ${when} ended as ${outcome}`);
    }
    throw this.#unsafe(`creating ${when} ended as ${outcome} instead of ${expected}`);
  }

  async #create(key: string, body: string): Promise<CreateOutcome | 'refused'> {
    try {
      return await this.#store.createIfAbsent(key, Buffer.from(body));
    } catch (error) {
      if (!(error instanceof PipelineError) || error.kind !== 'unavailable') throw error;
      this.#refusal = error;
      return 'refused';
    }
  }

  async #expectBody(key: string, expected: string): Promise<void> {
    const body = await this.#store.get(key);
    if (body && Buffer.from(body).toString() === expected) return;
    throw this.#unsafe('a created object is not read back as it was created');
  }

  #unsafe(finding: string): PipelineError {
    return new PipelineError(
      'invalid',
      'TM_STORE_IGNORES_CONDITION',
      `${this.#store.description} cannot hold the tables: ${finding}. Two writers could overwrite each ` +
        "other's commits. Use a store with atomic If-None-Match (AWS S3, versitygw 1.8 or newer) or a " +
        'local disk with hard links.',
    );
  }

  #untold(finding: string): PipelineError {
    const refusal = this.#refusal;
    const why = refusal === undefined ? '' : `: ${refusal.message}`;
    return new PipelineError(
      'unavailable',
      'TM_STORE_UNAVAILABLE',
      `${this.#store.description} could not be probed: ${finding}${why}`,
      { cause: refusal },
    );
  }
}
