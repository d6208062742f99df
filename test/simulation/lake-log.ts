/**
 * The tables as their logs tell, read without production code: every commit is looked at when it
 * becomes visible, and must be one that the protocol allows.
 *
 * Checks I8, I9, I10, I13, I17, I18, I21 of faults.md as commits land; `problem` is thrown then.
 */
import type { CellValue } from '../../src/pipeline/column-builder.ts';

/** A file as the log describes it. */
export interface LakeFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly partitionValues: Readonly<Record<string, string | null>>;
  readonly stats: Readonly<Record<string, unknown>> | undefined;
  readonly tags: Readonly<Record<string, string>>;
  readonly dataChange: boolean;
}

export interface LakeCommit {
  readonly version: number;
  readonly adds: readonly LakeFile[];
  readonly removes: readonly string[];
  readonly txns: ReadonlyMap<string, bigint>;
  readonly lineage: Readonly<Record<string, unknown>>;
  readonly atMs: number;
  readonly writer: string;
}

/** A violated invariant. */
export class Violation extends Error {
  constructor(invariant: string, problem: string) {
    super(`${invariant}: ${problem}`);
    this.name = 'Violation';
  }
}

/** A row read from a data file. */
export type LakeRow = Readonly<Record<string, CellValue>>;

interface RawAction {
  readonly add?: {
    readonly path: string;
    readonly size: number;
    readonly partitionValues: Record<string, string | null>;
    readonly stats?: string;
    readonly tags?: Record<string, string>;
    readonly dataChange: boolean;
  };
  readonly remove?: { readonly path: string };
  readonly txn?: { readonly appId: string; readonly version: number };
  readonly metaData?: { readonly id: string };
  readonly commitInfo?: Record<string, unknown>;
}

/** One table's log. */
export class LakeTable {
  readonly root: string;
  readonly commits: LakeCommit[] = [];
  readonly files = new Map<string, LakeFile>();
  readonly txns = new Map<string, bigint>();
  tableId = '';
  readonly #nonces = new Set<string>();

  constructor(root: string) {
    this.root = root;
  }

  get version(): number {
    return this.commits.length - 1;
  }

  /**
   * Takes in a commit that became visible.
   * @param sizeOf bytes of an object of the lake, undefined when there is none
   */
  land(version: number, text: string, sizeOf: (key: string) => number | undefined): LakeCommit {
    const fail = (invariant: string, problem: string): never => {
      throw new Violation(invariant, `${this.root} version ${version}: ${problem}`);
    };
    if (version !== this.commits.length) fail('I10', `follows version ${this.version}`);
    const actions = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as RawAction);
    const info = actions[0]?.commitInfo ?? fail('I10', 'no commitInfo first');
    const nonce = String(info['txnId']);
    if (this.#nonces.has(nonce)) fail('I10', `nonce ${nonce} is there twice`);
    this.#nonces.add(nonce);
    const atMs = Number(info['timestamp']);
    const before = this.commits.at(-1);
    if (before && atMs < before.atMs) fail('I21', `dated ${atMs} after ${before.atMs}`);

    const adds: LakeFile[] = [];
    const removes: string[] = [];
    const txns = new Map<string, bigint>();
    for (const { add, remove, txn, metaData } of actions) {
      if (metaData) this.tableId = metaData.id;
      if (txn) {
        if (txns.has(txn.appId)) fail('I10', `two txns of ${txn.appId}`);
        txns.set(txn.appId, BigInt(txn.version));
      }
      if (remove) removes.push(decodeURIComponent(remove.path));
      if (add) adds.push(fileOf(add));
    }
    for (const path of removes) {
      if (!this.files.delete(path)) fail('I10', `removes ${path}, which is not live`);
    }
    for (const file of adds) {
      if (this.files.has(file.path)) fail('I2', `adds ${file.path}, which is live`);
      const size = sizeOf(`${this.root}/${file.path}`);
      if (size !== file.sizeBytes)
        fail('I9', `${file.path} has ${size} of ${file.sizeBytes} bytes`);
      this.files.set(file.path, file);
    }
    for (const [appId, next] of txns) {
      const last = this.txns.get(appId);
      if (last !== undefined && next < last)
        fail('I3', `${appId} goes back from ${last} to ${next}`);
      this.txns.set(appId, next);
    }
    const lineage = (info['tidemark'] ?? info['lineage'] ?? {}) as Record<string, unknown>;
    const commit = { version, adds, removes, txns, lineage, atMs, writer: nonce };
    this.commits.push(commit);
    return commit;
  }

  /** Live files as of a version. */
  filesAt(version: number): LakeFile[] {
    const files = new Map<string, LakeFile>();
    for (const commit of this.commits.slice(0, version + 1)) {
      for (const path of commit.removes) files.delete(path);
      for (const file of commit.adds) files.set(file.path, file);
    }
    return [...files.values()];
  }

  /** Progress as of a version. */
  txnAt(version: number, appId: string): bigint | undefined {
    for (let v = version; v >= 0; v--) {
      const next = this.commits[v]?.txns.get(appId);
      if (next !== undefined) return next;
    }
    return undefined;
  }
}

function fileOf(add: NonNullable<RawAction['add']>): LakeFile {
  return {
    path: decodeURIComponent(add.path),
    sizeBytes: add.size,
    partitionValues: add.partitionValues,
    stats: add.stats === undefined ? undefined : (JSON.parse(add.stats) as Record<string, unknown>),
    tags: add.tags ?? {},
    dataChange: add.dataChange,
  };
}
