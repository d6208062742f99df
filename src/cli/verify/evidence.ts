/**
 * Gathers what the ledger judges: coverage and progress from the Delta logs, rows by reading the
 * files with DuckDB, so that a fault of our own Parquet code shows.
 *
 * E1 Downstream tables are read before upstream ones, and every comparison is made at the upstream
 *    version that the downstream table covers: while the stream runs, lag is no violation.
 */
import { asPipelineError } from '../../errors.ts';
import { COVERAGE_TAG, parseCoverage } from '../../pipeline/bronze.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import {
  bronzeAppPrefix,
  goldAppId,
  silverAppId,
  type TableRoots,
  tableRoots,
} from '../../pipeline/progress.ts';
import type { DeltaTable } from '../../storage/delta/delta-table.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import type { CommitSummary } from '../../storage/delta/transaction.ts';
import { nameOfRoot, queriedTable } from '../../storage/query/lake-catalog.ts';
import { type JsonValue, queryRows } from '../../storage/query/lake-query.ts';
import { sqlName, sqlText } from '../../storage/query/table-view-sql.ts';
import { usageError } from '../command.ts';
import type { OpenLake } from '../lake.ts';
import type {
  Evidence,
  GoldEvidence,
  PartitionEvidence,
  StageEvidence,
  StatedCoverage,
} from './ledger.ts';
import { normalizeRanges, type OffsetRange } from './offset-ranges.ts';

/** Examples named in a violation. */
const EXAMPLES_MAX = 10;
/** Records whose event id is looked for a second time. */
const SECOND_LOOKS_MAX = 10_000;

/** A table at the version that is compared. */
interface TableAt {
  readonly root: string;
  readonly snapshot: Snapshot;
}

type Row = Readonly<Record<string, JsonValue>>;
type Ask = (sql: string, tables: readonly TableAt[]) => Promise<readonly Row[]>;

/**
 * Reads the evidence.
 * @throws PipelineError invalid when the pipeline has no tables yet | corrupt | unavailable
 */
export async function gatherEvidence(lake: OpenLake, signal: AbortSignal): Promise<Evidence> {
  const { config, catalog } = lake;
  const roots = tableRoots(config);
  const engine = await lake.query();
  const ask: Ask = (sql, tables) =>
    queryRows(
      engine,
      sql,
      new Map(tables.map(({ root, snapshot }) => [nameOfRoot(root), queriedTable(root, snapshot)])),
      { signal },
    );
  const required = async (root: string): Promise<DeltaTable> => {
    const table = await catalog.table(root);
    if (table) return table;
    throw usageError(`${lake.store.description} has no table ${root}; run the pipeline first.`);
  };

  // E1: gold, then silver, then dead letters and bronze.
  const goldAt: { readonly root: string; readonly snapshot: Snapshot; readonly measure: string }[] =
    [];
  for (const { name, measures } of config.gold) {
    const measure = measures.find(({ fn, field }) => fn === 'count' && field === undefined);
    const root = roots.gold.get(name)!;
    if (measure)
      goldAt.push({ root, snapshot: (await required(root)).snapshot, measure: measure.name });
  }
  const silver = await required(roots.silver);
  const silverAt: TableAt = { root: roots.silver, snapshot: await silver.refresh() };
  const deadAt: TableAt = {
    root: roots.deadLetter,
    snapshot: await (await required(roots.deadLetter)).refresh(),
  };
  const bronze = await required(roots.bronze);
  const bronzeAt: TableAt = { root: roots.bronze, snapshot: await bronze.refresh() };

  const gold: GoldEvidence[] = [];
  for (const { root, snapshot, measure } of goldAt) {
    gold.push(await goldEvidence({ ask, config, silver, gold: { root, snapshot }, measure }));
  }
  return {
    tables: {
      bronze: nameOfRoot(roots.bronze),
      silver: nameOfRoot(roots.silver),
      deadLetter: nameOfRoot(roots.deadLetter),
    },
    bronzeVersion: bronzeAt.snapshot.version,
    partitions: await partitionEvidence(ask, config, bronzeAt),
    stages: await stageEvidence({ ask, config, roots, bronze, silver, silverAt, deadAt }),
    gold,
  };
}

async function partitionEvidence(
  ask: Ask,
  config: PipelineConfig,
  bronze: TableAt,
): Promise<PartitionEvidence[]> {
  const table = tableName(bronze.root);
  const steps = `SELECT _kafka_partition AS p, _kafka_offset AS o, lag(_kafka_offset) OVER
    (PARTITION BY _kafka_partition ORDER BY _kafka_offset) AS before FROM ${table}`;
  const stats = await ask(
    `SELECT p, count(*) AS n, min(o) AS lo, max(o) AS hi, count(*) FILTER (o = before) AS again,
      min(o) FILTER (o = before) AS again_lo, max(o) FILTER (o = before) AS again_hi
      FROM (${steps}) GROUP BY p`,
    [bronze],
  );
  const holes = await ask(
    `SELECT p, before + 1 AS lo, o AS hi FROM (${steps}) WHERE o > before + 1 ORDER BY p, o`,
    [bronze],
  );
  const byPartition = Map.groupBy(holes, (row) => Number(row['p']));
  const statsOf = new Map(stats.map((row) => [Number(row['p']), row]));
  const coverage = statedCoverage(bronze.snapshot);
  const progress = statedProgress(config, bronze.snapshot);
  const partitions = new Set([...statsOf.keys(), ...coverage.keys(), ...progress.keys()]);
  return [...partitions]
    .sort((a, b) => a - b)
    .map((partition): PartitionEvidence => {
      const row = statsOf.get(partition);
      const again = bigintOf(row?.['again']) ?? 0n;
      return {
        topic: config.source.topic,
        partition,
        topicIds: progress.get(partition)?.topicIds ?? [],
        progress: progress.get(partition)?.next,
        coverage: coverage.get(partition) ?? [],
        rows: bigintOf(row?.['n']) ?? 0n,
        firstRow: bigintOf(row?.['lo']),
        lastRow: bigintOf(row?.['hi']),
        holes: normalizeRanges(
          (byPartition.get(partition) ?? []).map(
            (hole): OffsetRange => ({ from: bigintOf(hole['lo'])!, to: bigintOf(hole['hi'])! }),
          ),
        ),
        repeats:
          again === 0n
            ? undefined
            : {
                rows: again,
                span: { from: bigintOf(row!['again_lo'])!, to: bigintOf(row!['again_hi'])! + 1n },
              },
      };
    });
}

/** What the live files' tags state, by partition. */
function statedCoverage(bronze: Snapshot): Map<number, StatedCoverage[]> {
  const stated = bronze.files().flatMap((file): StatedCoverage[] => {
    const tag = file.tags?.[COVERAGE_TAG];
    if (tag === undefined) return [];
    return parseCoverage(tag).map((part) => ({ ...part, version: file.addedVersion }));
  });
  return Map.groupBy(stated, ({ partition }) => partition);
}

function statedProgress(
  config: PipelineConfig,
  bronze: Snapshot,
): Map<number, { readonly next: bigint; readonly topicIds: readonly string[] }> {
  const prefix = bronzeAppPrefix(config.name, config.source.topic);
  const found = new Map<number, { readonly next: bigint; readonly topicIds: readonly string[] }>();
  for (const [appId, next] of bronze.progressEntries()) {
    if (!appId.startsWith(prefix)) continue;
    const rest = appId.slice(prefix.length);
    const colon = rest.lastIndexOf(':');
    const partition = Number(rest.slice(colon + 1));
    const before = found.get(partition);
    found.set(partition, {
      next: before && before.next > next ? before.next : next,
      topicIds: [...(before?.topicIds ?? []), rest.slice(0, colon)],
    });
  }
  return found;
}

async function stageEvidence(given: {
  readonly ask: Ask;
  readonly config: PipelineConfig;
  readonly roots: TableRoots;
  readonly bronze: DeltaTable;
  readonly silver: DeltaTable;
  readonly silverAt: TableAt;
  readonly deadAt: TableAt;
}): Promise<StageEvidence> {
  const { ask, config, bronze, silver, silverAt, deadAt } = given;
  const covered = Array.from({ length: config.dedupBuckets }, (_, bucket) =>
    Number(silverAt.snapshot.progress(silverAppId(config.name, bronze.tableId, bucket)) ?? 0n),
  );
  const bronzeVersion = Math.min(...covered);
  const bronzeAt: TableAt = {
    root: given.roots.bronze,
    snapshot: await bronze.snapshotAt(bronzeVersion),
  };
  const tables = [bronzeAt, silverAt, deadAt];
  const ends = statedProgress(config, bronzeAt.snapshot);
  const endOfPartition = `CASE _kafka_partition ${[...ends]
    .map(([partition, { next }]) => `WHEN ${partition} THEN ${next}`)
    .join(' ')} ELSE 0 END`;
  const within = ends.size === 0 ? 'false' : `_kafka_offset < ${endOfPartition}`;
  const id = sqlName(config.event.id);
  const pointer = `/${config.event.id.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  const parts = `
    b AS (SELECT _kafka_partition AS p, _kafka_offset AS o, _raw_value
      FROM ${tableName(bronzeAt.root)}),
    s AS (SELECT _kafka_partition AS p, _kafka_offset AS o, ${id} AS id
      FROM ${tableName(silverAt.root)} WHERE ${within}),
    d AS (SELECT _kafka_partition AS p, _kafka_offset AS o,
      list_contains(_quality_flags, 'conflicting_duplicate') AS conflict
      FROM ${tableName(deadAt.root)} WHERE ${within}),
    derived AS (SELECT p, o FROM s UNION ALL SELECT p, o FROM d),
    rest AS (SELECT p, o, TRY(json_extract_string(_raw_value, ${sqlText(pointer)})) AS id
      FROM b ANTI JOIN derived USING (p, o)),
    lost AS (SELECT p, o FROM rest
      ANTI JOIN (SELECT DISTINCT CAST(id AS VARCHAR) AS id FROM s) AS known USING (id))`;
  const [counts] = await ask(
    `WITH ${parts} SELECT
      (SELECT count(*) FROM b) AS bronze_rows,
      (SELECT count(*) FROM s) AS silver_rows,
      (SELECT count(*) FROM d WHERE conflict) AS conflicts,
      (SELECT count(*) FROM d WHERE NOT conflict) AS dead_letters,
      (SELECT count(*) FROM rest) AS rest,
      (SELECT count(*) FROM lost) AS lost,
      (SELECT count(*) FROM (SELECT p FROM derived GROUP BY p, o HAVING count(*) > 1)) AS twice,
      (SELECT count(*) FROM derived ANTI JOIN b USING (p, o)) AS without_record`,
    tables,
  );
  const count = (name: string): bigint => bigintOf(counts![name])!;
  const unmatched =
    count('lost') === 0n
      ? []
      : await ask(
          `WITH ${parts} SELECT p, o, _raw_value AS value FROM lost JOIN b USING (p, o)
            ORDER BY p, o LIMIT ${SECOND_LOOKS_MAX}`,
          tables,
        );
  const stillLost = await secondLook(unmatched, config.event.id, (ids) =>
    ask(
      `SELECT DISTINCT CAST(${id} AS VARCHAR) AS id FROM ${tableName(silverAt.root)}
        WHERE CAST(${id} AS VARCHAR) IN (${ids.map(sqlText).join(', ')})`,
      [silverAt],
    ),
  );
  const lost = count('lost') - BigInt(unmatched.length - stillLost.length);
  const repeated = await ask(
    `SELECT sum(n - 1) OVER () AS total, id FROM (SELECT count(*) AS n, ${id} AS id
      FROM ${tableName(silverAt.root)} GROUP BY ${id} HAVING count(*) > 1)
      ORDER BY id LIMIT ${EXAMPLES_MAX}`,
    [silverAt],
  );
  return {
    bronzeVersion,
    silverVersion: silverAt.snapshot.version,
    bronzeRows: count('bronze_rows'),
    silverRows: count('silver_rows'),
    conflicts: count('conflicts'),
    deadLetters: count('dead_letters'),
    duplicates: count('rest') - lost,
    lost,
    lostAt: stillLost
      .slice(0, EXAMPLES_MAX)
      .map((row) => ({ partition: Number(row['p']), offset: bigintOf(row['o'])! })),
    countedTwice: count('twice'),
    withoutRecord: count('without_record'),
    repeatedIds: bigintOf(repeated[0]?.['total']) ?? 0n,
    repeatedIdsAt: repeated.map((row) => textOf(row['id'])),
    stated: await statedCounts(silver, silverAt.snapshot.version),
  };
}

/**
 * The records of `rows` whose event id silver has not. DuckDB's JSON reader refuses some texts that
 * the pipeline takes (a byte order mark, lone surrogates) and takes the first of doubled keys, where
 * JavaScript and the pipeline take the last.
 */
async function secondLook(
  rows: readonly Row[],
  idField: string,
  known: (ids: readonly string[]) => Promise<readonly Row[]>,
): Promise<readonly Row[]> {
  const idOf = (row: Row): string | undefined => {
    try {
      const event: unknown = JSON.parse(textOf(row['value']).replace(/^\uFEFF/, ''));
      const id = (event as Readonly<Record<string, unknown>> | null)?.[idField];
      return typeof id === 'string' || typeof id === 'number'
        ? String(id).toWellFormed()
        : undefined;
    } catch {
      return undefined;
    }
  };
  const ids = rows.flatMap((row) => idOf(row) ?? []);
  if (ids.length === 0) return rows;
  const inSilver = new Set((await known(ids)).map((row) => textOf(row['id'])));
  return rows.filter((row) => !inSilver.has(idOf(row) ?? ''));
}

/**
 * Sums over all commits of silver.
 * @returns undefined when the log no longer has them all, or one changed rows and states no counts
 */
async function statedCounts(silver: DeltaTable, version: number): Promise<StageEvidence['stated']> {
  let commits: readonly CommitSummary[];
  try {
    commits = await silver.commits(-1, version);
  } catch (thrown) {
    if (asPipelineError(thrown).code === 'TM_OBJECT_MISSING') return undefined;
    throw thrown;
  }
  let duplicates = 0n;
  let conflicts = 0n;
  for (const { adds, removes, lineage } of commits) {
    const counts = lineage?.['counts'] as Readonly<Record<string, number>> | undefined;
    if (!counts && [...adds, ...removes].some(({ dataChange }) => dataChange)) return undefined;
    duplicates += BigInt(counts?.['duplicates'] ?? 0);
    conflicts += BigInt(counts?.['conflicts'] ?? 0);
  }
  return { duplicates, conflicts };
}

async function goldEvidence(given: {
  readonly ask: Ask;
  readonly config: PipelineConfig;
  readonly silver: DeltaTable;
  readonly gold: TableAt;
  readonly measure: string;
}): Promise<GoldEvidence> {
  const { ask, config, silver, gold, measure } = given;
  const covered = Number(gold.snapshot.progress(goldAppId(config.name, silver.tableId)) ?? 0n);
  const counted = await ask(
    `SELECT _event_date AS date, sum(${sqlName(measure)}) AS n, bool_and(_is_final) AS final,
      max(_silver_version) AS version FROM ${tableName(gold.root)} GROUP BY 1`,
    [gold],
  );
  // A final date stays as it was reconciled, whatever silver gained since (P7).
  const versionOf = new Map(
    counted.map((row) => [
      textOf(row['date']),
      row['final'] === true ? Number(row['version']) : covered,
    ]),
  );
  const countedOn = new Map(counted.map((row) => [textOf(row['date']), bigintOf(row['n']) ?? 0n]));
  const dates: GoldEvidence['dates'][number][] = [];
  for (const silverVersion of new Set([covered, ...versionOf.values()])) {
    const root = silver.root;
    const rows = await ask(
      `SELECT _event_date AS date, count(*) AS n FROM ${tableName(root)} GROUP BY 1`,
      [{ root, snapshot: await silver.snapshotAt(silverVersion) }],
    );
    const rowsOn = new Map(rows.map((row) => [textOf(row['date']), bigintOf(row['n'])!]));
    for (const date of new Set([...rowsOn.keys(), ...versionOf.keys()])) {
      if ((versionOf.get(date) ?? covered) !== silverVersion) continue;
      const silverRows = rowsOn.get(date) ?? 0n;
      dates.push({ date, silverVersion, silverRows, counted: countedOn.get(date) ?? 0n });
    }
  }
  dates.sort((a, b) => (a.date < b.date ? -1 : 1));
  return { table: nameOfRoot(gold.root), version: gold.snapshot.version, dates };
}

function tableName(root: string): string {
  return root.split('/').map(sqlName).join('.');
}

function textOf(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : JSON.stringify(value ?? null);
}

function bigintOf(value: JsonValue | undefined): bigint | undefined {
  return value === null || value === undefined ? undefined : BigInt(value as string | number);
}
