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
  ledgerAppPrefix,
  type LedgerCounter,
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
} from '../../pipeline/ledger/ledger.ts';
import {
  archivedFiles,
  type LakeState,
  statedCoverage,
  statedProgress,
  type TableAt,
} from './lake-state.ts';

const DAY_MS = 86_400_000;
const ALL_DATES = 'all dates';

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
    files: gold.findings,
    unproven: gold.unproven,
  };
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
  const totals: Record<LedgerCounter, bigint> = {
    bronzeRows: 0n,
    silverRows: 0n,
    duplicates: 0n,
    conflicts: 0n,
    deadLetters: 0n,
    retried: 0n,
  };
  const prefix = ledgerAppPrefix(config.name, bronze.table.tableId);
  for (const [appId, total] of silver.snapshot.progressEntries()) {
    if (!appId.startsWith(prefix)) continue;
    const counter = appId.slice(appId.lastIndexOf(':') + 1);
    if (Object.hasOwn(totals, counter)) totals[counter as LedgerCounter] += total;
  }
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
    deadRows: rowsOf(dead.snapshot.files()),
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
  for (const { aggregate, table, snapshot } of gold) {
    const name = nameOfRoot(table.root);
    const covered = Number(snapshot.progress(goldAppId(config.name, silver.table.tableId)) ?? 0n);
    const counted = new Map<string, bigint>();
    const versions = new Map<string, number>();
    const oneDatePerWindow = DAY_MS % aggregate.windowMs === 0;
    for (const file of snapshot.files()) {
      const { events, finalVersion } = parseGoldTags(file.tags) ?? {};
      const date = oneDatePerWindow ? (file.partitionValues['_event_date'] ?? '') : ALL_DATES;
      if (events === undefined) {
        const message = `${commitOf(file)} added ${file.path}, which Tidemark did not write`;
        findings.push({ kind: 'rows-mismatch', table: name, message });
        continue;
      }
      counted.set(date, (counted.get(date) ?? 0n) + BigInt(events));
      if (finalVersion !== undefined) versions.set(date, finalVersion);
    }
    // Of a window that reaches into another date only part may be final: nothing to hold it against.
    if (!oneDatePerWindow && versions.size > 0) continue;
    const dates: GoldEvidence['dates'][number][] = [];
    for (const silverVersion of new Set([covered, ...versions.values()])) {
      const snapshot = await silverAt(silver.table, silverVersion, covered);
      if (!snapshot) {
        unproven.push(olderThanLog(name, versions, silverVersion));
        continue;
      }
      const rows = rowsByDate(snapshot, oneDatePerWindow);
      for (const date of new Set([...rows.keys(), ...counted.keys()])) {
        if ((versions.get(date) ?? covered) !== silverVersion) continue;
        const silverRows = rows.get(date) ?? 0n;
        dates.push({ date, silverVersion, silverRows, counted: counted.get(date) ?? 0n });
      }
    }
    dates.sort((a, b) => (a.date < b.date ? -1 : 1));
    evidence.push({ table: name, version: snapshot.version, dates });
  }
  return { evidence, findings, unproven };
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

/** What is said of final dates whose silver version is gone. */
export function olderThanLog(
  table: string,
  versions: ReadonlyMap<string, number>,
  silverVersion: number,
): Unproven {
  const dates = [...versions].filter(([, version]) => version === silverVersion);
  const message =
    `final dates (${dates.map(([date]) => date).join(', ')}) were made from silver version ` +
    `${silverVersion}, which is no longer kept`;
  return { table, message };
}

function rowsByDate(snapshot: Snapshot, byDate: boolean): ReadonlyMap<string, bigint> {
  const rows = new Map<string, bigint>();
  for (const file of snapshot.files()) {
    const date = byDate ? (file.partitionValues['_event_date'] ?? '') : ALL_DATES;
    rows.set(date, (rows.get(date) ?? 0n) + BigInt(numRecordsOf(file.stats) ?? 0));
  }
  return rows;
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
