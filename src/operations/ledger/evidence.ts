/**
 * What the data files hold, read with DuckDB, so that a fault of our own Parquet code shows.
 */
import { asPipelineError } from '../../errors.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import type { Snapshot } from '../../storage/delta/snapshot.ts';
import type { ObjectStore } from '../../storage/object-store/object-store.ts';
import { type LakeCatalog, nameOfRoot, queriedTable } from '../../storage/query/lake-catalog.ts';
import {
  type JsonValue,
  type LakeQuery,
  type QueriedTables,
  queryRows,
} from '../../storage/query/lake-query.ts';
import { sqlName, sqlText } from '../../storage/query/table-view-sql.ts';
import {
  archivedFiles,
  type LakeState,
  readLakeState,
  statedProgress,
  type TableAt,
} from './lake-state.ts';
import type {
  Evidence,
  FileFinding,
  GoldEvidence,
  PartitionEvidence,
  PartitionRows,
  StageEvidence,
  StatedTotals,
  Unproven,
} from '../../pipeline/ledger/ledger-evidence.ts';
import {
  normalizeRanges,
  type OffsetRange,
  subtractRanges,
} from '../../pipeline/ledger/offset-ranges.ts';
import {
  checkFiles,
  type GoldVersions,
  goldVersions,
  olderThanLog,
  silverAt,
  statedEvidence,
} from './statements.ts';

/** What keeps the data files from being read. */
const GONE: ReadonlySet<FileFinding['kind']> = new Set(['missing-file', 'missing-commit']);
/** Examples named in a violation. */
const EXAMPLES_MAX = 10;
/** Records whose event id is looked for a second time. */
const SECOND_LOOKS_MAX = 10_000;

type Row = Readonly<Record<string, JsonValue>>;

/** Runs a query over bronze (with the archive), silver and dead letters, or over the tables given. */
type Ask = (sql: string, tables: QueriedTables) => Promise<readonly Row[]>;

/** Where the evidence is. */
export interface LedgerLake {
  readonly config: PipelineConfig;
  readonly store: ObjectStore;
  readonly catalog: LakeCatalog;
  /** Opened only when data files are to be read. */
  readonly query: () => Promise<LakeQuery>;
}

/** What to prove. */
export interface EvidenceOptions {
  /** Read the data files too. */
  readonly deep: boolean;
  /** `YYYY-MM-DD`: only the records of that UTC date, by reading their files. */
  readonly date: string | undefined;
}

/**
 * Gathers the evidence.
 * @throws PipelineError invalid when the pipeline has no tables yet | corrupt | unavailable
 */
export async function gatherEvidence(
  lake: LedgerLake,
  { deep, date }: EvidenceOptions,
  signal: AbortSignal,
): Promise<Evidence> {
  const { config } = lake;
  const state = await readLakeState(config, (root) => lake.catalog.table(root));
  const [stated, files] = await Promise.all([
    statedEvidence(config, state),
    checkFiles(lake.store, state),
  ]);
  const evidence = { ...stated, files: [...files, ...stated.files] };
  // Reading would only stumble over what is known to be gone.
  const isReadable = !evidence.files.some(({ kind }) => GONE.has(kind));
  if ((!deep && date === undefined) || !isReadable) return evidence;
  const engine = await lake.query();
  const ask: Ask = (sql, queried) => queryRows(engine, sql, queried, { signal });
  const reader = { ask, config, state, date };
  const gold = await readGold(reader);
  return {
    ...evidence,
    partitions: await readPartitions(reader, stated.partitions),
    stated: date === undefined ? stated.stated : undefined,
    stages: await readStages(reader, stated.stated!),
    gold: gold.evidence,
    unproven: gold.unproven,
  };
}

interface Reader {
  readonly ask: Ask;
  readonly config: PipelineConfig;
  readonly state: LakeState;
  readonly date: string | undefined;
}

/** A table as queries see it, and the SQL that stands for it. */
interface Queried {
  readonly sql: string;
  readonly tables: QueriedTables;
}

function queriedAt({ table, snapshot }: TableAt): Queried {
  const { root } = table;
  const queried = queriedTable(root, snapshot);
  return { sql: sqlOfRoot(root), tables: new Map([[nameOfRoot(root), queried]]) };
}

/** Bronze at a version, with the rows that retention moved to the archive since. */
function queriedBronze(state: LakeState, snapshot: Snapshot): Queried {
  const { bronze, archive } = state;
  const live = queriedAt({ ...bronze, snapshot });
  if (!archive) return live;
  const { root } = archive.table;
  const all = queriedTable(root, archive.snapshot);
  const moved = { ...all, files: archivedFiles(state, snapshot) };
  return {
    sql: `(SELECT * FROM ${live.sql} UNION ALL BY NAME SELECT * FROM archive.moved)`,
    tables: new Map([...live.tables, ['archive.moved', moved]]),
  };
}

async function readPartitions(
  { ask, config, state, date }: Reader,
  partitions: readonly PartitionEvidence[],
): Promise<PartitionEvidence[]> {
  const bronze = queriedBronze(state, state.bronze.snapshot);
  const steps = `SELECT p, o, lag(o) OVER (PARTITION BY p ORDER BY o) AS before FROM
    (SELECT _kafka_partition AS p, _kafka_offset AS o FROM ${bronze.sql} WHERE ${onDate(date)})`;
  const stats = await ask(
    `SELECT p, count(*) AS n, min(o) AS lo, max(o) AS hi, count(*) FILTER (o = before) AS again,
      min(o) FILTER (o = before) AS again_lo, max(o) FILTER (o = before) AS again_hi
      FROM (${steps}) GROUP BY p`,
    bronze.tables,
  );
  const holes = await ask(
    `SELECT p, before + 1 AS lo, o AS hi FROM (${steps}) WHERE o > before + 1 ORDER BY p, o`,
    bronze.tables,
  );
  const rangesOf = (rows: readonly Row[]): ReadonlyMap<number, readonly OffsetRange[]> =>
    new Map(
      [...Map.groupBy(rows, (row) => Number(row['p']))].map(([partition, own]) => [
        partition,
        normalizeRanges(
          own.map((row) => ({ from: bigintOf(row['lo'])!, to: bigintOf(row['hi'])! })),
        ),
      ]),
    );
  const holesOf = rangesOf(holes);
  // Offsets of other dates among those of the date are none of its business.
  const othersOf =
    date === undefined
      ? undefined
      : rangesOf(
          await ask(
            `SELECT p, min(o) AS lo, max(o) + 1 AS hi FROM (SELECT _kafka_partition AS p,
              _kafka_offset AS o, _kafka_offset - row_number() OVER
              (PARTITION BY _kafka_partition ORDER BY _kafka_offset) AS island
              FROM ${bronze.sql} WHERE NOT ${onDate(date)}) GROUP BY p, island`,
            bronze.tables,
          ),
        );
  const statsOf = new Map(stats.map((row) => [Number(row['p']), row]));
  const stated = new Map(partitions.map((evidence) => [evidence.partition, evidence]));
  const { topic } = config.source;
  const all = new Set([...stated.keys(), ...statsOf.keys()]);
  const chosen = date === undefined ? all : new Set(statsOf.keys());
  return [...chosen]
    .sort((a, b) => a - b)
    .map((partition): PartitionEvidence => {
      const read = partitionRows(statsOf.get(partition), holesOf.get(partition) ?? []);
      const others = othersOf?.get(partition) ?? [];
      const span = [{ from: read.firstRow ?? 0n, to: (read.lastRow ?? -1n) + 1n }];
      const unstated = {
        topic,
        partition,
        topicIds: [],
        progress: undefined,
        expiredBefore: 0n,
        coverage: [],
      };
      return {
        ...(stated.get(partition) ?? unstated),
        read: othersOf ? { ...read, within: subtractRanges(span, others) } : read,
      };
    });
}

function partitionRows(row: Row | undefined, holes: readonly OffsetRange[]): PartitionRows {
  const again = bigintOf(row?.['again']) ?? 0n;
  return {
    within: undefined,
    rows: bigintOf(row?.['n']) ?? 0n,
    firstRow: bigintOf(row?.['lo']),
    lastRow: bigintOf(row?.['hi']),
    holes,
    repeats:
      again === 0n
        ? undefined
        : {
            rows: again,
            span: { from: bigintOf(row!['again_lo'])!, to: bigintOf(row!['again_hi'])! + 1n },
          },
  };
}

/** Condition on bronze's rows. */
function onDate(date: string | undefined): string {
  return date === undefined ? 'true' : `_event_date = DATE ${sqlText(date)}`;
}

/** Condition on rows that carry their record's coordinates. */
function arrivedOn(date: string | undefined): string {
  return date === undefined
    ? 'true'
    : `CAST(_kafka_timestamp AT TIME ZONE 'UTC' AS DATE) = DATE ${sqlText(date)}`;
}

async function readStages(
  { ask, config, state, date }: Reader,
  stated: StatedTotals,
): Promise<StageEvidence> {
  const { covered } = state;
  const snapshot = await state.bronze.table.snapshotAt(covered.lowest);
  const bronze = queriedBronze(state, snapshot);
  const silver = queriedAt(state.silver);
  const dead = queriedAt(state.dead);
  const tables = new Map([...bronze.tables, ...silver.tables, ...dead.tables]);
  const ends = statedProgress(config, snapshot);
  const endOfPartition = `CASE _kafka_partition ${[...ends]
    .map(([partition, { next }]) => `WHEN ${partition} THEN ${next}`)
    .join(' ')} ELSE 0 END`;
  const within =
    ends.size === 0 ? 'false' : `_kafka_offset < ${endOfPartition} AND ${arrivedOn(date)}`;
  const id = sqlName(config.event.id);
  const pointer = `/${config.event.id.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  const parts = `
    b AS (SELECT _kafka_partition AS p, _kafka_offset AS o, _raw_value
      FROM ${bronze.sql} WHERE ${onDate(date)}),
    s AS (SELECT _kafka_partition AS p, _kafka_offset AS o FROM ${silver.sql} WHERE ${within}),
    d AS (SELECT _kafka_partition AS p, _kafka_offset AS o,
      list_contains(_quality_flags, 'conflicting_duplicate') AS conflict
      FROM ${dead.sql} WHERE ${within}),
    derived AS (SELECT p, o FROM s UNION ALL SELECT p, o FROM d),
    rest AS (SELECT p, o, TRY(json_extract_string(_raw_value, ${sqlText(pointer)})) AS id
      FROM b ANTI JOIN derived USING (p, o)),
    lost AS (SELECT p, o FROM rest
      ANTI JOIN (SELECT DISTINCT CAST(${id} AS VARCHAR) AS id FROM ${silver.sql}) AS known
      USING (id))`;
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
      `SELECT DISTINCT CAST(${id} AS VARCHAR) AS id FROM ${silver.sql}
        WHERE CAST(${id} AS VARCHAR) IN (${ids.map(sqlText).join(', ')})`,
      silver.tables,
    ),
  );
  const lost = count('lost') - BigInt(unmatched.length - stillLost.length);
  const repeated = await ask(
    `SELECT sum(n - 1) OVER () AS total, id FROM (SELECT count(*) AS n, ${id} AS id
      FROM ${silver.sql} GROUP BY ${id} HAVING count(*) > 1 AND bool_or(${arrivedOn(date)}))
      ORDER BY id LIMIT ${EXAMPLES_MAX}`,
    silver.tables,
  );
  const speaksOfThese = date === undefined && covered.lowest === covered.highest;
  return {
    bronzeVersion: covered.lowest,
    silverVersion: state.silver.snapshot.version,
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
    stated: speaksOfThese ? stated.totals : undefined,
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

interface GoldRead {
  readonly evidence: GoldEvidence[];
  readonly unproven: Unproven[];
}

async function readGold(reader: Reader): Promise<GoldRead> {
  const read: GoldRead = { evidence: [], unproven: [] };
  for (const { aggregate, ...at } of reader.state.gold) {
    const measure = aggregate.measures.find(({ fn, field }) => fn === 'count' && !field);
    if (measure) await readAggregate(reader, at, { measure: measure.name, read });
  }
  return read;
}

async function readAggregate(
  reader: Reader,
  at: TableAt,
  { measure, read }: { readonly measure: string; readonly read: GoldRead },
): Promise<void> {
  const { ask, config, state, date } = reader;
  const name = nameOfRoot(at.table.root);
  const gold = queriedAt(at);
  const counted = await ask(
    `SELECT _event_date AS date, sum(${sqlName(measure)}) AS n FROM ${gold.sql}
      WHERE ${onDate(date)} GROUP BY 1`,
    gold.tables,
  );
  const countedOn = new Map(counted.map((row) => [textOf(row['date']), bigintOf(row['n']) ?? 0n]));
  const versions = goldVersions(config, state.silver, at);
  const dates: GoldEvidence['dates'][number][] = [];
  for (const silverVersion of versions.all) {
    const rows = await silverRowsByDate(reader, silverVersion, versions);
    if (!rows) {
      read.unproven.push(olderThanLog(name, versions, silverVersion));
      continue;
    }
    const rowsOn = new Map(rows.map((row) => [textOf(row['date']), bigintOf(row['n'])!]));
    for (const each of new Set([...rowsOn.keys(), ...countedOn.keys()])) {
      if (versions.of(each) !== silverVersion || (date !== undefined && each !== date)) continue;
      const silverRows = rowsOn.get(each) ?? 0n;
      dates.push({ date: each, silverVersion, silverRows, counted: countedOn.get(each) ?? 0n });
    }
  }
  dates.sort((a, b) => (a.date < b.date ? -1 : 1));
  read.evidence.push({ table: name, version: at.snapshot.version, dates });
}

/** @returns undefined when the version or one of its files is no longer kept */
async function silverRowsByDate(
  { ask, state }: Reader,
  version: number,
  versions: GoldVersions,
): Promise<readonly Row[] | undefined> {
  const { table, snapshot: head } = state.silver;
  const snapshot = await silverAt(table, version, versions.covered);
  if (!snapshot) return undefined;
  const dates = new Set(versions.datesOf(version));
  const all = queriedTable(table.root, snapshot);
  const files = all.files.filter(
    ({ partitionValues }) =>
      version === versions.covered || dates.has(partitionValues['_event_date'] ?? ''),
  );
  try {
    return await ask(
      `SELECT _event_date AS date, count(*) AS n FROM ${sqlOfRoot(table.root)} GROUP BY 1`,
      new Map([[nameOfRoot(table.root), { ...all, files }]]),
    );
  } catch (thrown) {
    // Vacuum removes files that only older versions have.
    const isOld = files.some(({ path }) => !head.file(path));
    if (!isOld || asPipelineError(thrown).code !== 'TM_OBJECT_MISSING') throw thrown;
    return undefined;
  }
}

function sqlOfRoot(root: string): string {
  return root.split('/').map(sqlName).join('.');
}

function textOf(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : JSON.stringify(value ?? null);
}

function bigintOf(value: JsonValue | undefined): bigint | undefined {
  return value === null || value === undefined ? undefined : BigInt(value as string | number);
}
