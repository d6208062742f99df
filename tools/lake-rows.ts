/**
 * Watches a Delta table on local disk from outside the process that writes it: how many rows its log
 * says it has. Enough for a young table, whose log is whole; a checkpoint is not read.
 * Source: PROTOCOL.md, "Actions".
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The part of an action that says how many rows come or go. */
interface FileAction {
  readonly add?: { readonly path: string; readonly stats?: string };
  readonly remove?: { readonly path: string };
}

export class TableRows {
  readonly #log: string;
  readonly #rowsOf = new Map<string, number>();
  #versionNext = 0;
  #rows = 0;

  /** @param root of the table, a folder that need not exist yet */
  constructor(root: string) {
    this.#log = join(root, '_delta_log');
  }

  /** Newest version; -1 before the table is there. */
  get version(): number {
    return this.#versionNext - 1;
  }

  /** Rows of the newest version that the last refresh saw. */
  get rows(): number {
    return this.#rows;
  }

  /** Reads the commits that are new. @returns rows of the newest version */
  refresh(): number {
    for (;;) {
      const commit = join(this.#log, `${String(this.#versionNext).padStart(20, '0')}.json`);
      if (!existsSync(commit)) return this.#rows;
      for (const line of readFileSync(commit, 'utf8').split('\n')) {
        if (line.startsWith('{"add"') || line.startsWith('{"remove"')) {
          this.#apply(JSON.parse(line) as FileAction);
        }
      }
      this.#versionNext += 1;
    }
  }

  #apply({ add, remove }: FileAction): void {
    if (add) {
      const { numRecords } = JSON.parse(add.stats ?? '{}') as { readonly numRecords?: number };
      this.#rowsOf.set(add.path, numRecords ?? 0);
      this.#rows += numRecords ?? 0;
    }
    if (remove) {
      this.#rows -= this.#rowsOf.get(remove.path) ?? 0;
      this.#rowsOf.delete(remove.path);
    }
  }
}
