/**
 * Which live files of a gold table hold which slot, and which dates are final; kept in step with the
 * table commit by commit, so that a commit costs what it touches and not the table.
 *
 * - SX1 After `advance` the index says what the snapshot of that version says.
 * - SX2 Every live file was written by Tidemark: another program's file cannot be attributed to a slot.
 */
import { PipelineError } from '../../errors.ts';
import { parseGoldTags } from '../../pipeline/gold/gold-tags.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import type { CommitSummary, LiveFile } from '../../storage/delta/transaction.ts';

interface IndexedFile {
  readonly slot: number;
  readonly date: string;
  readonly finalVersion: number | undefined;
}

/** An index of one gold table. */
export class SlotIndex {
  readonly #root: string;
  readonly #editsId: string;
  readonly #files = new Map<string, IndexedFile>();
  readonly #bySlot = new Map<number, Set<string>>();
  /** By date: its final files with the silver version each was made from. */
  readonly #finals = new Map<string, Map<string, number>>();
  #version: number;
  #edits: bigint | undefined;

  /**
   * @param editsId name of the table's count of edits
   * @throws PipelineError invalid when another program wrote to the table
   */
  constructor(root: string, editsId: string, snapshot: Snapshot) {
    this.#root = root;
    this.#editsId = editsId;
    this.#version = snapshot.version;
    this.#edits = snapshot.progress(editsId);
    for (const file of snapshot.files()) this.#add(file);
  }

  /** Table version that the index describes. */
  get version(): number {
    return this.#version;
  }

  /** Count of edits at that version. */
  get edits(): bigint | undefined {
    return this.#edits;
  }

  /** Live files of a slot; more than one only after a foreign rewrite. */
  filesOf(slot: number): Iterable<string> {
    return this.#bySlot.get(slot) ?? [];
  }

  /** Silver version that a final date was computed from; undefined while the stream updates it. */
  finalVersion(date: string): number | undefined {
    const versions = this.#finals.get(date)?.values();
    return versions && Math.max(...versions);
  }

  /**
   * Takes in the commits that follow; those it knows already are left out.
   * @returns dates that commits outside the stream touched
   */
  advance(commits: readonly CommitSummary[]): ReadonlySet<string> {
    const edited = new Set<string>();
    for (const commit of commits) {
      if (commit.version !== this.#version + 1) continue;
      this.#version = commit.version;
      const edits = commit.progress.get(this.#editsId);
      const touched = new Set<string>();
      for (const { path } of commit.removes) touched.add(this.#remove(path) ?? '');
      for (const file of commit.adds) touched.add(this.#add(file));
      if (edits === undefined) continue;
      this.#edits = edits;
      touched.delete('');
      for (const date of touched) edited.add(date);
    }
    return edited;
  }

  #add(file: LiveFile): string {
    const tags = parseGoldTags(file.tags);
    if (!tags) {
      throw new PipelineError(
        'invalid',
        'TM_SCHEMA_MISMATCH',
        `${this.#root}/${file.path} was not written by Tidemark; restore the table to a version before it`,
        { context: { table: this.#root, path: file.path } },
      );
    }
    const { slot, finalVersion } = tags;
    const date = file.partitionValues['_event_date'] ?? '';
    this.#remove(file.path);
    this.#files.set(file.path, { slot, date, finalVersion });
    entryOf(this.#bySlot, slot, () => new Set<string>()).add(file.path);
    if (finalVersion !== undefined) {
      entryOf(this.#finals, date, () => new Map<string, number>()).set(file.path, finalVersion);
    }
    return date;
  }

  /** @returns the date of the file, if it was live */
  #remove(path: string): string | undefined {
    const file = this.#files.get(path);
    if (!file) return undefined;
    this.#files.delete(path);
    const paths = this.#bySlot.get(file.slot)!;
    paths.delete(path);
    if (paths.size === 0) this.#bySlot.delete(file.slot);
    const finals = this.#finals.get(file.date);
    if (finals?.delete(path) && finals.size === 0) this.#finals.delete(file.date);
    return file.date;
  }
}

function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
