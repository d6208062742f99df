/**
 * State in memory with a copy on disk, for pipelines of one process: `state.json` in a folder, replaced
 * as a whole shortly after a change.
 *
 * ES1 The file is replaced by rename, so a reader or a restart sees one complete state. It is not
 *     synced: all of it is hints (P1), and a file that a power cut emptied counts as none.
 * ES2 One process owns the folder (folder-owner.ts); others may only read, and then see the file.
 * ES3 Leases are not kept: they end with the process that excluded its own parts by them.
 * ES4 A disk that cannot be written costs the copy, not the run: it is logged and tried again.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Ambient, Timer } from '../../ambient.ts';
import { PipelineError } from '../../errors.ts';
import type { Logger } from '../../logger.ts';
import { takeFolder } from './folder-owner.ts';
import { MemoryStateStore, type StateData } from './memory-state-store.ts';
import type { Lease, StateStore } from './state-store.ts';

const FILE = 'state.json';
/** Changes within this time share one write. */
const SAVE_DELAY_MS = 200;
/** After a failed write. */
const SAVE_RETRY_MS = 5_000;

/** `path` is the state folder; it is created where needed. */
export interface EmbeddedStateOptions {
  readonly path: string;
  readonly ambient: Ambient;
  readonly logger: Logger;
}

/**
 * Opens the state folder for the one process that runs the pipeline.
 * @throws PipelineError invalid (TM_STATE_UNSAFE) while another process runs on it; unavailable when
 *   it cannot be written
 */
export async function openEmbeddedStateStore(options: EmbeddedStateOptions): Promise<StateStore> {
  const folder = resolve(options.path);
  const release = takeFolder(folder);
  const data = await readState(folder, options.logger);
  return new EmbeddedStateStore({ ...options, folder, data, release });
}

/** Opens the state folder beside the process that owns it: reads only, always from the file. */
export function openEmbeddedStateReader(options: {
  readonly path: string;
  readonly logger: Logger;
}): StateStore {
  return new EmbeddedStateReader(resolve(options.path), options.logger);
}

class EmbeddedStateStore extends MemoryStateStore {
  override readonly description: string;
  readonly #folder: string;
  readonly #ambient: Ambient;
  readonly #logger: Logger;
  readonly #release: () => void;
  #timer: Timer | undefined;
  #saving: Promise<void> = Promise.resolve();
  #isDirty = false;
  #isClosed = false;

  constructor(
    options: EmbeddedStateOptions & {
      readonly folder: string;
      readonly data: StateData;
      readonly release: () => void;
    },
  ) {
    super({ clock: options.ambient.clock, data: options.data });
    this.description = options.folder;
    this.#folder = options.folder;
    this.#ambient = options.ambient;
    this.#logger = options.logger;
    this.#release = options.release;
  }

  override async setHash(key: string, fields: Readonly<Record<string, string>>): Promise<void> {
    await super.setHash(key, fields);
    this.#changed();
  }

  override async delete(key: string): Promise<void> {
    await super.delete(key);
    this.#changed();
  }

  override async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#saving;
    if (this.#isDirty) await this.#save();
    this.#release();
  }

  #changed(): void {
    this.#isDirty = true;
    this.#saveAfter(SAVE_DELAY_MS);
  }

  #saveAfter(delayMs: number): void {
    if (this.#timer !== undefined || this.#isClosed) return;
    this.#timer = this.#ambient.clock.after(delayMs, () => {
      this.#saving = this.#save().then((isSaved) => {
        this.#timer = undefined;
        if (this.#isDirty) this.#saveAfter(isSaved ? SAVE_DELAY_MS : SAVE_RETRY_MS);
      });
    });
  }

  /** ES1. @returns false when it could not be written (ES4) */
  async #save(): Promise<boolean> {
    this.#isDirty = false;
    const temporary = join(this.#folder, `${FILE}.${this.#ambient.ids.id()}`);
    try {
      await writeFile(temporary, JSON.stringify(this.data()));
      await rename(temporary, join(this.#folder, FILE));
      return true;
    } catch (thrown) {
      this.#isDirty = true;
      this.#logger.warn('the copy of the state could not be written', {
        folder: this.#folder,
        error: (thrown as Error).message,
      });
      await rm(temporary, { force: true }).catch(() => undefined);
      return false;
    }
  }
}

class EmbeddedStateReader implements StateStore {
  readonly description: string;
  readonly #logger: Logger;

  constructor(folder: string, logger: Logger) {
    this.description = folder;
    this.#logger = logger;
  }

  check(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  async getHash(key: string): Promise<Readonly<Record<string, string>>> {
    const data = await readState(this.description, this.#logger);
    return Object.hasOwn(data, key) ? { ...data[key] } : {};
  }

  async keys(prefix: string): Promise<readonly string[]> {
    const data = await readState(this.description, this.#logger);
    return Object.keys(data).filter((key) => key.startsWith(prefix));
  }

  setHash(): Promise<void> {
    return this.#refuse();
  }

  delete(): Promise<void> {
    return this.#refuse();
  }

  acquireLease(): Promise<Lease | undefined> {
    return this.#refuse();
  }

  renewLease(): Promise<boolean> {
    return this.#refuse();
  }

  releaseLease(): Promise<void> {
    return this.#refuse();
  }

  /** ES3: unknown outside the owner's process. */
  leaseHolder(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #refuse(): Promise<never> {
    return Promise.reject(
      new PipelineError('internal', 'TM_INTERNAL', 'this state was opened for reading only', {
        context: { folder: this.description },
      }),
    );
  }
}

/** What the file holds; empty when there is none or it makes no sense (ES1). */
async function readState(folder: string, logger: Logger): Promise<StateData> {
  let text: string;
  try {
    text = await readFile(join(folder, FILE), 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new PipelineError(
      'unavailable',
      'TM_STATE_UNAVAILABLE',
      `the state folder cannot be read: ${(thrown as Error).message}`,
      { context: { folder }, cause: thrown },
    );
  }
  const data = parseState(text);
  if (data === undefined) logger.warn('the copy of the state is damaged and ignored', { folder });
  return data ?? {};
}

function parseState(text: string): StateData | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const isHash = (hash: unknown): boolean =>
    isObject(hash) && Object.values(hash).every((one) => typeof one === 'string');
  if (!isObject(value) || !Object.values(value).every(isHash)) return undefined;
  return value as StateData;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
