/**
 * The Delta tables of a lake by the names that queries use: `bronze.x` is the table below `bronze/x`,
 * and `archive.x` the one below `archive/bronze/x`.
 */
import { nearest } from '../../config/nearest.ts';
import { PipelineError } from '../../errors.ts';
import { type DeltaEnvironment, DeltaTable } from '../delta/delta-table.ts';
import type { Snapshot } from '../delta/snapshot.ts';
import type { QueriedTable, QueriedTables } from './lake-query.ts';

const ARCHIVE = 'archive/bronze/';
const FOLDERS = ['bronze/', 'silver/', 'gold/', ARCHIVE];

/** `bronze/x` of `bronze.x`. */
function rootOfName(name: string): string {
  return name.startsWith('archive.')
    ? ARCHIVE + name.slice('archive.'.length)
    : name.replace('.', '/');
}

/** `bronze.x` of `bronze/x`. */
export function nameOfRoot(root: string): string {
  return root.replace(ARCHIVE, 'archive/').replace('/', '.');
}

/** A snapshot as a query takes it. */
export function queriedTable(root: string, snapshot: Snapshot): QueriedTable {
  const { schema, partitionColumns } = snapshot;
  return { root, schema, partitionColumns, files: snapshot.files() };
}

export class LakeCatalog {
  readonly #env: DeltaEnvironment;
  readonly #tables = new Map<string, DeltaTable>();

  constructor(env: DeltaEnvironment) {
    this.#env = env;
  }

  /**
   * Opens a table at its newest version.
   * @returns undefined when there is none
   */
  async table(root: string): Promise<DeltaTable | undefined> {
    const known = this.#tables.get(root);
    if (known) return known;
    const table = await DeltaTable.open(this.#env, root);
    if (table) this.#tables.set(root, table);
    return table;
  }

  /** Names of all tables, ascending. One listing per table, however many files it has. */
  async names(): Promise<string[]> {
    const names: string[] = [];
    for (const prefix of FOLDERS) {
      for (let after = ''; ; ) {
        const folder = await this.#folderAfter(prefix, after);
        if (folder === undefined) break;
        const root = prefix + folder;
        if (await this.#hasLog(root)) names.push(nameOfRoot(root));
        // '0' is the character after '/': everything below the folder is skipped.
        after = `${root}0`;
      }
    }
    return names;
  }

  /**
   * The tables that a query names.
   * @param versions by name; the newest where there is none
   * @throws PipelineError invalid `TM_USAGE` when a table or version is not there
   */
  async queried(
    names: readonly string[],
    versions: ReadonlyMap<string, number> = new Map(),
  ): Promise<QueriedTables> {
    const pairs = await Promise.all(
      names.map(async (name): Promise<[string, QueriedTable]> => {
        const root = rootOfName(name);
        const table = await this.table(root);
        if (!table) throw await this.#unknownTable(name);
        const version = versions.get(name);
        const snapshot =
          version === undefined ? await table.refresh() : await table.snapshotAt(version);
        return [name, queriedTable(root, snapshot)];
      }),
    );
    return new Map(pairs);
  }

  async #folderAfter(prefix: string, after: string): Promise<string | undefined> {
    const options = after === '' ? {} : { startAfter: after };
    for await (const { key } of this.#env.store.list(prefix, options)) {
      const [folder, ...rest] = key.slice(prefix.length).split('/');
      if (rest.length > 0) return folder;
    }
    return undefined;
  }

  async #hasLog(root: string): Promise<boolean> {
    for await (const _ of this.#env.store.list(`${root}/_delta_log/`)) return true;
    return false;
  }

  async #unknownTable(name: string): Promise<PipelineError> {
    const names = await this.names();
    const meant = nearest(name, names);
    const known =
      names.length === 0 ? 'The lake has no tables yet.' : `It has ${names.join(', ')}.`;
    return new PipelineError(
      'invalid',
      'TM_USAGE',
      `The lake has no table ${name}${meant ? `; did you mean ${meant}?` : '.'} ${known}`,
    );
  }
}
