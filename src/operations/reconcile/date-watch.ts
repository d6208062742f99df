/**
 * What the commits of a table do to the rows of one date, followed from a known version on, so that a
 * commit that is tried again reads only what came since. Commits that merely rearrange rows are left out.
 */
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { CommitSummary, LiveFile } from '../../storage/delta/transaction.ts';
import { dateOf } from './lake-view.ts';

/** A date of a table. */
export class DateWatch {
  readonly #table: DeltaTable;
  readonly #date: string;
  /** Files that the date ever had since the start. */
  readonly #paths: Set<string>;
  readonly #changes: CommitSummary[] = [];
  #version: number;

  /** @param files the date's files at `version` */
  constructor(
    table: DeltaTable,
    date: string,
    at: { readonly version: number; readonly files: readonly LiveFile[] },
  ) {
    this.#table = table;
    this.#date = date;
    this.#version = at.version;
    this.#paths = new Set(at.files.map(({ path }) => path));
  }

  /**
   * Commits since the start that changed rows of the date, ascending.
   * @param version inclusive
   * @throws PipelineError unavailable | corrupt
   */
  async changesUpTo(version: number): Promise<readonly CommitSummary[]> {
    if (version > this.#version) {
      for (const commit of await this.#table.commits(this.#version, version)) {
        if (this.#follow(commit)) this.#changes.push(commit);
      }
      this.#version = version;
    }
    return this.#changes.filter((commit) => commit.version <= version);
  }

  #follow({ adds, removes }: CommitSummary): boolean {
    const came = adds.filter((file) => dateOf(file) === this.#date);
    const isChanged =
      came.some(({ dataChange }) => dataChange) ||
      removes.some(({ path, dataChange }) => dataChange && this.#paths.has(path));
    for (const { path } of came) this.#paths.add(path);
    return isChanged;
  }
}
