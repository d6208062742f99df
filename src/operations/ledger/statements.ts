/**
 * What the Delta logs state about a pipeline's rows, without reading a row: coverage, running totals,
 * rows per file, events per gold file. One listing per table tells whether the files are there.
 */
import { asPipelineError } from '../../errors.ts';
import { parseGoldTags } from '../../pipeline/gold/gold-tags.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  expiredAppId,
  expiredBeforeAppId,
  goldAppId,
  goldLateAppId,
} from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import { numRecordsOf, type Snapshot } from '../../storage/delta/snapshot.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import { nameOfRoot } from '../../storage/query/lake-catalog.ts';
import type {
  Evidence,
  FileFinding,
  GoldEvidence,
  PartitionEvidence,
  StatedTotals,
  Unproven,
} from '../../pipeline/ledger/ledger-evidence.ts';
import { ledgerTotals } from '../../pipeline/ledger/ledger-totals.ts';
import {
  archivedFiles,
  type LakeState,
  statedCoverage,
  statedProgress,
  type TableAt,
} from './lake-state.ts';

/** All that the logs state; listings are left out. */
export async function statedEvidence(config: PipelineConfig, state: LakeState): Promise<Evidence> {
  const [stated, gold] = await Promise.all([
    statedTotals(config, state),
    statedGold(config, state),
  ]);
  return {
    tables: {
      bronze: nameOfRoot(state.bronze.table.root),
      silver: nameOfRoot(state.silver.table.root),
      deadLetter: nameOfRoot(state.dead.table.root),
    },
    partitions: statedPartitions(config, state),
    stated,
    stages: undefined,
    gold: gold.evidence,
    files: [...missingHead(state.bronze, state.covered.highest, state.silver), ...gold.findings],
    unproven: gold.unproven,
  };
}

/** An upstream log that ends before what a downstream table covers has lost commits. */
function missingHead(
  { table, snapshot }: TableAt,
  covered: number,
  downstream: TableAt,
): FileFinding[] {
  if (covered <= snapshot.version) return [];
  const message =
    `ends at version ${snapshot.version}, but ${nameOfRoot(downstream.table.root)} ` +
    `covers version ${covered}`;
  return [{ kind: 'missing-commit', table: nameOfRoot(table.root), message }];
}

/** Every partition as the commits state it. */
function statedPartitions(config: PipelineConfig, state: LakeState): PartitionEvidence[] {
  const { bronze, archive } = state;
  const coverage = statedCoverage([
    ...bronze.snapshot.files(),
    ...archivedFiles(state, bronze.snapshot),
  ]);
  const progress = statedProgress(config, bronze.snapshot);
  const partitions = new Set([...coverage.keys(), ...progress.keys()]);
  return [...partitions]
    .sort((a, b) => a - b)
    .map((partition) => ({
      topic: config.source.topic,
      partition,
      topicIds: progress.get(partition)?.topicIds ?? [],
      progress: progress.get(partition)?.next,
      expiredBefore: archive?.snapshot.progress(expiredBeforeAppId(config.name, partition)) ?? 0n,
      coverage: coverage.get(partition) ?? [],
      read: undefined,
    }));
}

/**
 * Running totals and stated rows.
 * @throws PipelineError corrupt TM_OBJECT_MISSING when bronze's log no longer has a version that
 *   silver has not covered
 */
async function statedTotals(config: PipelineConfig, state: LakeState): Promise<StatedTotals> {
  const { bronze, archive, silver, dead, covered } = state;
  const entries = silver.snapshot.progressEntries();
  const totals = ledgerTotals(config.name, bronze.table.tableId, entries);
  const bronzeFileRows = sumOf([
    rowsOf(bronze.snapshot.files()),
    rowsOf(archivedFiles(state, bronze.snapshot)),
  ]);
  const expiredOf = (counter: 'rows' | 'coveredRows'): bigint =>
    archive?.snapshot.progress(expiredAppId(config.name, counter)) ?? 0n;
  const expired = { rows: expiredOf('rows'), coveredRows: expiredOf('coveredRows') };
  // Retention moves rows between tables, so rows up to a version are all rows but those added since.
  const since = await bronze.table.commits(covered.lowest, bronze.snapshot.version);
  const upTo = (version: number): bigint | undefined => {
    const later = since.filter((commit) => commit.version > version);
    const added = rowsOf(later.flatMap(({ adds }) => adds.filter(({ dataChange }) => dataChange)));
    if (bronzeFileRows === undefined || added === undefined) return undefined;
    return bronzeFileRows + expired.rows - added;
  };
  const atLeast = upTo(covered.lowest);
  const atMost = upTo(covered.highest);
  return {
    bronzeRows: atLeast === undefined || atMost === undefined ? undefined : { atLeast, atMost },
    bronzeFileRows,
    expired,
    totals,
    silverRows: rowsOf(silver.snapshot.files()),
    deadRows: sumOf([rowsOf(dead.snapshot.files()), -BigInt(dead.rowsAhead)]),
    isRetryUnfinished: dead.isRetryUnfinished,
  };
}

/** What gold's files state to count, beside the rows of silver they were made from. */
async function statedGold(
  config: PipelineConfig,
  { gold, silver }: LakeState,
): Promise<{
  readonly evidence: readonly GoldEvidence[];
  readonly findings: FileFinding[];
  readonly unproven: Unproven[];
}> {
  const evidence: GoldEvidence[] = [];
  const findings: FileFinding[] = [];
  const unproven: Unproven[] = [];
  for (const at of gold) {
    const { table, snapshot } = at;
    const name = nameOfRoot(table.root);
    const counted = new Map<string, bigint>();
    for (const file of snapshot.files()) {
      const { events } = parseGoldTags(file.tags) ?? {};
      if (events === undefined) {
        const message = `${commitOf(file)} added ${file.path}, which Tidemark did not write`;
        findings.push({ kind: 'rows-mismatch', table: name, message });
        continue;
      }
      addTo(counted, dateOf(file), BigInt(events));
    }
    const versions = goldVersions(config, silver, at);
    const missing = missingHead(silver, versions.covered, at);
    if (missing.length > 0) {
      findings.push(...missing);
      continue;
    }
    const dates: GoldEvidence['dates'][number][] = [];
    for (const silverVersion of versions.all) {
      const then = await silverAt(silver.table, silverVersion, versions.covered);
      if (!then) {
        unproven.push(olderThanLog(name, versions, silverVersion));
        continue;
      }
      const rows = new Map<string, bigint>();
      for (const file of then.files()) {
        addTo(rows, dateOf(file), BigInt(numRecordsOf(file.stats) ?? 0));
      }
      for (const date of new Set([...rows.keys(), ...counted.keys()])) {
        if (versions.of(date) !== silverVersion) continue;
        const silverRows = rows.get(date) ?? 0n;
        dates.push({ date, silverVersion, silverRows, counted: counted.get(date) ?? 0n });
      }
    }
    dates.sort((a, b) => (a.date < b.date ? -1 : 1));
    evidence.push({ table: name, version: snapshot.version, dates });
  }
  return { evidence, findings, unproven };
}

/** The silver version whose rows each date of a gold table must count. */
export interface GoldVersions {
  /** Of every date that does not wait for a reconciliation. */
  readonly covered: number;
  readonly all: ReadonlySet<number>;
  of(date: string): number;
  /** Dates of a version other than `covered`. */
  datesOf(version: number): readonly string[];
}

/**
 * A final date counts the version it was made from until the stream has covered that, and again from
 * the late event on that waits for the next reconciliation (P7); else every date counts what the
 * stream has covered.
 */
export function goldVersions(
  config: PipelineConfig,
  silver: TableAt,
  { snapshot }: TableAt,
): GoldVersions {
  const silverId = silver.table.tableId;
  const covered = Number(snapshot.progress(goldAppId(config.name, silverId)) ?? 0n);
  const others = new Map<string, number>();
  for (const file of snapshot.files()) {
    const { finalVersion } = parseGoldTags(file.tags) ?? {};
    if (finalVersion === undefined) continue;
    const date = dateOf(file);
    const late = Number(snapshot.progress(goldLateAppId(config.name, silverId, date)) ?? 0n);
    const version = late > finalVersion ? finalVersion : Math.max(finalVersion, covered);
    if (version !== covered) others.set(date, version);
  }
  return {
    covered,
    all: new Set([covered, ...others.values()]),
    of: (date) => others.get(date) ?? covered,
    datesOf: (version) => [...others].flatMap(([date, of]) => (of === version ? [date] : [])),
  };
}

/**
 * Silver at the version that gold was made from.
 * @param covered silver version that the stream has covered: that one must be there
 * @returns undefined when log clean-up removed it, as it may once a date is final
 */
export async function silverAt(
  silver: DeltaTable,
  version: number,
  covered: number,
): Promise<Snapshot | undefined> {
  try {
    return await silver.snapshotAt(version);
  } catch (thrown) {
    if (version === covered || asPipelineError(thrown).code !== 'TM_OBJECT_MISSING') throw thrown;
    return undefined;
  }
}

/** What is said of dates that wait for a reconciliation and whose silver version is gone. */
export function olderThanLog(
  table: string,
  versions: GoldVersions,
  silverVersion: number,
): Unproven {
  const message =
    `final dates that wait for a reconciliation (${versions.datesOf(silverVersion).join(', ')}) were ` +
    `made from silver version ${silverVersion}, which is no longer kept`;
  return { table, message };
}

function dateOf({ partitionValues }: LiveFile): string {
  return partitionValues['_event_date'] ?? '';
}

function addTo(sums: Map<string, bigint>, key: string, amount: bigint): void {
  sums.set(key, (sums.get(key) ?? 0n) + amount);
}

/** Holds the tables' files and logs against a listing of the store (L7). */
export async function checkFiles(store: ObjectStore, state: LakeState): Promise<FileFinding[]> {
  const tables = [
    state.bronze,
    ...(state.archive ? [state.archive] : []),
    state.dead,
    state.silver,
    ...state.gold,
  ];
  const findings = await Promise.all(tables.map((table) => checkTable(store, table)));
  return findings.flat();
}

async function checkTable(
  store: ObjectStore,
  { table, snapshot }: TableAt,
): Promise<FileFinding[]> {
  const name = nameOfRoot(table.root);
  const sizes = new Map<string, number>();
  const versions: number[] = [];
  for await (const { key, sizeBytes } of store.list(`${table.root}/`)) {
    const path = key.slice(table.root.length + 1);
    const entry = /^_delta_log\/(\d{20})\.json$/.exec(path);
    if (entry) versions.push(Number(entry[1]));
    else sizes.set(path, sizeBytes);
  }
  const findings: FileFinding[] = [];
  versions.sort((a, b) => a - b);
  for (const [index, version] of versions.entries()) {
    const before = versions[index - 1];
    if (before === undefined || version === before + 1) continue;
    const missing =
      before + 1 === version - 1 ? `${before + 1}` : `${before + 1} to ${version - 1}`;
    const message = `the log has no version ${missing}, though it has ${version}`;
    findings.push({ kind: 'missing-commit', table: name, message });
  }
  for (const file of snapshot.files()) {
    const size = sizes.get(file.path);
    if (size === file.sizeBytes) continue;
    const where = `${file.path} of ${commitOf(file)}`;
    findings.push(
      size === undefined
        ? { kind: 'missing-file', table: name, message: `${where} is gone` }
        : {
            kind: 'changed-file',
            table: name,
            message: `${where} has ${size} bytes instead of ${file.sizeBytes}`,
          },
    );
  }
  return findings;
}

function commitOf({ addedVersion }: LiveFile): string {
  return addedVersion === undefined ? 'a commit before the checkpoint' : `commit ${addedVersion}`;
}

/** @returns undefined when a file does not state its rows */
function rowsOf(files: readonly LiveFile[]): bigint | undefined {
  return sumOf(
    files.map(({ stats }) => {
      const rows = numRecordsOf(stats);
      return rows === undefined ? undefined : BigInt(rows);
    }),
  );
}

function sumOf(parts: readonly (bigint | undefined)[]): bigint | undefined {
  let sum = 0n;
  for (const part of parts) {
    if (part === undefined) return undefined;
    sum += part;
  }
  return sum;
}
