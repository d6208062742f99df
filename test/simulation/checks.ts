/**
 * What the tables must hold, computed from what producers sent (workload.ts) and not from production
 * code, compared with what their files hold.
 *
 * Checks I1, I2, I4 to I7, I9, I11, I12, I18 and I22 of faults.md after a run.
 */
import { rowsFromColumns } from '../../src/pipeline/column-builder.ts';
import { bronzeFileSchema } from '../../src/pipeline/bronze.ts';
import { goldTableSchema } from '../../src/pipeline/gold/gold-schema.ts';
import { goldAppId, ledgerAppPrefix, watermarkAppId } from '../../src/pipeline/progress.ts';
import { deadLetterFileSchema, silverFileSchema } from '../../src/pipeline/silver/tables.ts';
import type { StructType } from '../../src/pipeline/types.ts';
import { CHECKPOINT_READ_SCHEMA } from '../../src/storage/delta/checkpoint.ts';
import { type LakeFile, type LakeRow, type LakeTable, Violation } from './lake-log.ts';
import { type EventMeaning, rescuedOf } from './workload.ts';
import type { World } from './world.ts';

interface Copy {
  readonly partition: number;
  readonly offset: number;
  readonly timestampMs: number;
  readonly meaning: EventMeaning;
}

const LATE_MS = 2 * 3_600_000;
const FUTURE_MS = 5 * 60_000;
const HOUR_MICROS = 3_600_000_000;
const DAY_MICROS = 86_400_000_000;

/** @throws Violation naming the first difference */
export async function checkTables(world: World): Promise<void> {
  const lake = await Lake.read(world);
  checkBronze(world, lake);
  checkSilver(world, lake);
  checkLedger(world, lake);
  checkWatermarks(world, lake);
  await checkGold(world, lake);
  await checkCheckpoints(world);
}

/** All rows, by file. */
class Lake {
  readonly bronze: readonly LakeRow[];
  readonly silver: readonly LakeRow[];
  readonly dead: readonly LakeRow[];
  readonly #read: (
    table: LakeTable,
    schema: StructType,
    files: readonly LakeFile[],
  ) => Promise<LakeRow[]>;

  private constructor(
    rows: { bronze: LakeRow[]; silver: LakeRow[]; dead: LakeRow[] },
    read: (table: LakeTable, schema: StructType, files: readonly LakeFile[]) => Promise<LakeRow[]>,
  ) {
    this.bronze = rows.bronze;
    this.silver = rows.silver;
    this.dead = rows.dead;
    this.#read = read;
  }

  static async read(world: World): Promise<Lake> {
    const read = async (
      table: LakeTable,
      schema: StructType,
      files: readonly LakeFile[],
    ): Promise<LakeRow[]> => {
      const rows: LakeRow[] = [];
      for (const file of files) {
        const bytes = await world.store.get(`${table.root}/${file.path}`);
        if (!bytes) throw new Violation('I13', `${table.root}/${file.path} is gone`);
        const own = rowsFromColumns(world.codec.decode(bytes, schema));
        checkStats(`${table.root}/${file.path}`, file, own);
        for (const row of own) rows.push({ ...row, $date: dateOf(file) });
      }
      return rows;
    };
    const { bronze, silver, deadLetter } = world;
    return new Lake(
      {
        bronze: await read(bronze, bronzeFileSchema(), [...bronze.files.values()]),
        silver: await read(silver, silverFileSchema(world.config.event), [
          ...silver.files.values(),
        ]),
        dead: await read(deadLetter, deadLetterFileSchema(), [...deadLetter.files.values()]),
      },
      read,
    );
  }

  rowsOf(table: LakeTable, schema: StructType, files: readonly LakeFile[]): Promise<LakeRow[]> {
    return this.#read(table, schema, files);
  }
}

function dateOf({ partitionValues }: LakeFile): string {
  return partitionValues['_event_date'] ?? partitionValues['_dlq_date'] ?? '';
}

/** I12 */
function checkStats(place: string, file: LakeFile, rows: readonly LakeRow[]): void {
  const { stats } = file;
  if (!stats) throw new Violation('I12', `${place} has no statistics`);
  if (stats['numRecords'] !== rows.length) {
    throw new Violation(
      'I12',
      `${place} says ${String(stats['numRecords'])} of ${rows.length} rows`,
    );
  }
  const nullCounts = (stats['nullCount'] ?? {}) as Record<string, unknown>;
  for (const [name, count] of Object.entries(nullCounts)) {
    if (typeof count !== 'number') continue;
    const nulls = rows.filter((row) => row[name] === null).length;
    if (nulls !== count) throw new Violation('I12', `${place} ${name}: ${count} of ${nulls} nulls`);
  }
  const bounds = (which: 'minValues' | 'maxValues') =>
    Object.entries((stats[which] ?? {}) as Record<string, unknown>).filter(
      (entry): entry is [string, number] => typeof entry[1] === 'number',
    );
  const beyond = (name: string, isBeyond: (value: number) => boolean): void => {
    const found = rows.find((row) => row[name] !== null && isBeyond(Number(row[name])));
    if (found)
      throw new Violation('I12', `${place} ${name}: ${textAt(found, name)} is out of bounds`);
  };
  for (const [name, min] of bounds('minValues')) beyond(name, (value) => value < min);
  for (const [name, max] of bounds('maxValues')) beyond(name, (value) => value > max);
}

/** I1, I2, I4, I5: every offset below the committed one is a row, or explained as what it is. */
function checkBronze(world: World, lake: Lake): void {
  const byPlace = new Map<string, LakeRow>();
  for (const row of lake.bronze) {
    const place = placeOf(row);
    if (byPlace.has(place)) throw new Violation('I2', `bronze has ${place} twice`);
    byPlace.set(place, row);
  }
  const gaps = gapsOf(world.bronze);
  let rows = 0;
  world.topic.partitions.forEach(({ truth }, partition) => {
    const next = Number(world.bronzeNext(partition) ?? 0n);
    for (let offset = 0; offset < next; offset++) {
      const place = `${partition}/${offset}`;
      const row = byPlace.get(place);
      const gap = gaps.get(place);
      const fact = truth[offset];
      if (fact?.kind !== 'record') {
        if (row)
          throw new Violation('I5', `bronze has ${place}, which is ${fact?.kind ?? 'nothing'}`);
        if (gap !== fact?.kind) {
          throw new Violation('I1', `${place} is ${fact?.kind}, explained as ${gap ?? 'nothing'}`);
        }
        continue;
      }
      if (!row)
        throw new Violation('I1', `bronze lacks ${place}, explained as ${gap ?? 'nothing'}`);
      if (gap !== undefined) throw new Violation('I1', `${place} is a row and explained as ${gap}`);
      rows += 1;
      checkRaw(place, row, fact.record);
    }
  });
  if (rows !== byPlace.size) throw new Violation('I1', 'bronze has rows beyond its progress');
}

function checkRaw(
  place: string,
  row: LakeRow,
  sent: { timestampMs: number; key: Uint8Array | null; value: Uint8Array | null },
): void {
  const stored =
    typeof row['_raw_value'] === 'string'
      ? Buffer.from(row['_raw_value'])
      : (row['_raw_bytes'] as Uint8Array | null);
  const same = (a: Uint8Array | null, b: Uint8Array | null): boolean =>
    a === null || b === null ? a === b : Buffer.compare(a, b) === 0;
  if (!same(stored, sent.value)) throw new Violation('I4', `${place}: the value differs`);
  if (!same(row['_kafka_key'] as Uint8Array | null, sent.key)) {
    throw new Violation('I4', `${place}: the key differs`);
  }
  if (Number(row['_kafka_timestamp']) !== sent.timestampMs * 1000) {
    throw new Violation('I4', `${place}: the time differs`);
  }
  if (row['$date'] !== dateText(sent.timestampMs))
    throw new Violation('I4', `${place}: the date differs`);
}

/** Explained offsets by place, and a violation where two statements overlap. */
function gapsOf(bronze: LakeTable): Map<string, string> {
  const gaps = new Map<string, string>();
  const ends = new Map<number, number>();
  const statements = [...bronze.files.values()].flatMap(({ tags }) => {
    const text = tags['tidemark.coverage'];
    return text === undefined ? [] : (JSON.parse(text) as Coverage[]);
  });
  for (const { partition, from, to, gaps: own } of statements.sort((a, b) => a.from - b.from)) {
    const end = ends.get(partition) ?? 0;
    if (from !== end)
      throw new Violation('I3', `partition ${partition} covers ${from} after ${end}`);
    ends.set(partition, to);
    for (const [gapFrom, gapTo, kind] of own) {
      for (let offset = gapFrom; offset < gapTo; offset++) gaps.set(`${partition}/${offset}`, kind);
    }
  }
  return gaps;
}

interface Coverage {
  readonly partition: number;
  readonly from: number;
  readonly to: number;
  readonly gaps: readonly (readonly [number, number, string])[];
}

/** Committed copies of each event, by id, in the order of their partitions and offsets. */
function copiesById(world: World): Map<string, Copy[]> {
  const copies = new Map<string, Copy[]>();
  world.topic.partitions.forEach(({ truth }, partition) => {
    const next = Number(world.bronzeNext(partition) ?? 0n);
    for (let offset = 0; offset < next; offset++) {
      const fact = truth[offset];
      if (fact?.kind !== 'record' || fact.meaning.kind !== 'event') continue;
      const { meaning, record } = fact;
      const copy = { partition, offset, timestampMs: record.timestampMs, meaning };
      const known = copies.get(meaning.id);
      if (known) known.push(copy);
      else copies.set(meaning.id, [copy]);
    }
  });
  return copies;
}

/** I6, I18: silver and dead letters are what an independent derivation makes of the records. */
function checkSilver(world: World, lake: Lake): void {
  const copies = copiesById(world);
  const dead = expectedPoison(world);
  const kept = new Map<string, LakeRow>();
  for (const row of lake.silver) {
    const id = textAt(row, 'event_id');
    if (kept.has(id)) throw new Violation('I6', `silver has ${id} twice`);
    if (!copies.has(id)) throw new Violation('I6', `silver has ${id}, which was never sent`);
    kept.set(id, row);
  }
  for (const [id, own] of copies) {
    const row = kept.get(id);
    if (!row) throw new Violation('I6', `silver lacks ${id}`);
    const place = placeOf(row);
    const copy = own.find(({ partition, offset }) => `${partition}/${offset}` === place);
    if (!copy) throw new Violation('I6', `silver has ${id} from ${place}, where it was never sent`);
    const first = own.find(({ partition }) => partition === copy.partition)!;
    if (first !== copy) {
      throw new Violation('I6', `silver keeps ${id} of ${place}, not of offset ${first.offset}`);
    }
    checkEvent(row, copy);
    for (const other of own) {
      if (other === copy || isSameEvent(other.meaning, copy.meaning)) continue;
      dead.set(`${other.partition}/${other.offset}`, 'conflicting_duplicate');
    }
  }
  for (const row of lake.dead) {
    const place = placeOf(row);
    const flag = dead.get(place);
    if (flag === undefined)
      throw new Violation('I6', `dead letter ${place} is none, or is there twice`);
    const flags = (row['_quality_flags'] as readonly string[]).join();
    if (flags !== flag) throw new Violation('I6', `dead letter ${place} is ${flags}, not ${flag}`);
    dead.delete(place);
  }
  for (const place of dead.keys()) throw new Violation('I6', `no dead letter of ${place}`);
}

function expectedPoison(world: World): Map<string, string> {
  const dead = new Map<string, string>();
  world.topic.partitions.forEach(({ truth }, partition) => {
    const next = Number(world.bronzeNext(partition) ?? 0n);
    truth.slice(0, next).forEach((fact, offset) => {
      if (fact?.kind !== 'record' || fact.meaning.kind !== 'poison') return;
      dead.set(`${partition}/${offset}`, fact.meaning.flag);
    });
  });
  return dead;
}

function checkEvent(row: LakeRow, { meaning, timestampMs }: Copy): void {
  const differs = (what: string): never => {
    throw new Violation('I6', `silver has another ${what} for ${meaning.id} at ${placeOf(row)}`);
  };
  const delayMs = timestampMs - meaning.timeMs;
  if (Number(row['event_time']) !== meaning.timeMs * 1000) differs('event_time');
  if (row['customer'] !== meaning.customer) differs('customer');
  if ((row['bytes'] === null ? null : Number(row['bytes'])) !== meaning.bytes) differs('bytes');
  if (row['_is_late_arriving'] !== delayMs >= LATE_MS) differs('_is_late_arriving');
  if (row['_arrival_delay_seconds'] !== delayMs / 1000) differs('_arrival_delay_seconds');
  if (row['$date'] !== dateText(meaning.timeMs)) differs('date');
  const flags = [
    ...meaning.flags,
    ...(isFuture(timestampMs, meaning) ? ['future_event_time'] : []),
  ];
  const found = (row['_quality_flags'] ?? []) as readonly string[];
  if (found.toSorted().join() !== flags.toSorted().join()) differs(`flags ${found.join()}`);
  const rescued = typeof row['_rescued'] === 'string' ? row['_rescued'] : 'null';
  const expected = JSON.stringify(rescuedOf(meaning));
  if (rescued !== expected) differs(`_rescued ${rescued}`);
}

function isFuture(timestampMs: number, meaning: EventMeaning): boolean {
  return meaning.timeMs - timestampMs > FUTURE_MS;
}

function isSameEvent(a: EventMeaning, b: EventMeaning): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** A plain value as text. */
function textAt(row: LakeRow, name: string): string {
  const value = row[name];
  if (value === null || value === undefined || typeof value === 'object') return 'nothing';
  return value.toString();
}

function placeOf(row: LakeRow): string {
  return `${textAt(row, '_kafka_partition')}/${textAt(row, '_kafka_offset')}`;
}

/** I22: running totals say what the tables hold. */
function checkLedger(world: World, lake: Lake): void {
  const prefix = ledgerAppPrefix(world.config.name, world.bronze.tableId);
  const totals = new Map<string, number>();
  for (const [id, value] of world.silver.txns) {
    if (!id.startsWith(prefix)) continue;
    const counter = id.split(':').at(-1)!;
    totals.set(counter, (totals.get(counter) ?? 0) + Number(value));
  }
  const total = (counter: string): number => totals.get(counter) ?? 0;
  const letters = total('conflicts') + total('deadLetters') - total('retried');
  const expected: [string, number, number][] = [
    ['bronzeRows', total('bronzeRows'), lake.bronze.length],
    ['silverRows', total('silverRows'), lake.silver.length],
    ['dead letters', letters, lake.dead.length],
    ['duplicates', total('duplicates'), lake.bronze.length - lake.silver.length - lake.dead.length],
  ];
  for (const [what, counted, held] of expected) {
    if (counted !== held) throw new Violation('I22', `ledger counts ${counted} ${what} of ${held}`);
  }
}

/** I18: the latest time of a partition's events that are not from the future. */
function checkWatermarks(world: World, lake: Lake): void {
  const { config, topic, silver } = world;
  // What is derived after the topic was replaced counts for its successor.
  if (topic.successorId !== undefined) return;
  const conflicts = new Set(
    lake.dead
      .filter((row) =>
        (row['_quality_flags'] as readonly string[]).includes('conflicting_duplicate'),
      )
      .map(placeOf),
  );
  const expected = new Map<number, number>();
  for (const copies of copiesById(world).values()) {
    for (const { partition, offset, timestampMs, meaning } of copies) {
      if (isFuture(timestampMs, meaning) || conflicts.has(`${partition}/${offset}`)) continue;
      const before = expected.get(partition) ?? -1;
      expected.set(partition, Math.max(before, meaning.timeMs * 1000));
    }
  }
  for (const partition of topic.partitions.keys()) {
    const committed = silver.txns.get(watermarkAppId(config.name, topic.topicId, partition));
    const watermark = committed === undefined ? undefined : Number(committed);
    if (watermark !== expected.get(partition)) {
      const should = expected.get(partition) ?? 'none';
      throw new Violation(
        'I18',
        `watermark of ${partition} is ${watermark ?? 'none'}, not ${should}`,
      );
    }
  }
}

/** I7: gold is what its silver version gives, now and at a version in between. */
async function checkGold(world: World, lake: Lake): Promise<void> {
  const { config, silver } = world;
  const appId = goldAppId(config.name, silver.tableId);
  for (const aggregate of config.gold) {
    const table = world.gold.get(aggregate.name)!;
    const between = Math.floor(table.version / 2);
    for (const version of new Set([between, table.version])) {
      const covered = Number(table.txnAt(version, appId) ?? 0n);
      const files = table.filesAt(version);
      const rows = await lake.rowsOf(table, goldTableSchema(aggregate, config.event), files);
      const source = await lake.rowsOf(
        silver,
        silverFileSchema(config.event),
        silver.filesAt(covered),
      );
      const window = aggregate.name === 'hourly' ? HOUR_MICROS : DAY_MICROS;
      compareGold(`${table.root} version ${version}`, rows, expectedGold(source, window));
      const tagged = files.reduce((sum, { tags }) => sum + Number(tags['tidemark.events'] ?? 0), 0);
      if (tagged !== source.length) {
        throw new Violation('I7', `${table.root}: tags count ${tagged} of ${source.length} events`);
      }
    }
  }
}

interface GoldTotals {
  events: number;
  bytes: number | null;
  bytesMax: number | null;
}

function expectedGold(rows: readonly LakeRow[], window: number): Map<string, GoldTotals> {
  const totals = new Map<string, GoldTotals>();
  for (const row of rows) {
    const start = Math.floor(Number(row['event_time']) / window) * window;
    const key = JSON.stringify([start, window === HOUR_MICROS ? row['customer'] : null]);
    const known = totals.get(key) ?? { events: 0, bytes: null, bytesMax: null };
    known.events += 1;
    if (row['bytes'] !== null) {
      const bytes = Number(row['bytes']);
      known.bytes = (known.bytes ?? 0) + bytes;
      known.bytesMax = Math.max(known.bytesMax ?? 0, bytes);
    }
    totals.set(key, known);
  }
  return totals;
}

function compareGold(
  place: string,
  rows: readonly LakeRow[],
  expected: Map<string, GoldTotals>,
): void {
  const number = (value: unknown): number | null => (value === null ? null : Number(value));
  for (const row of rows) {
    const hourly = row['bytes'] !== undefined;
    const key = JSON.stringify([Number(row['window_start']), hourly ? row['customer'] : null]);
    const totals = expected.get(key);
    if (!totals) throw new Violation('I7', `${place} has ${key}, which is nothing or there twice`);
    expected.delete(key);
    const found = hourly
      ? [row['events'], row['bytes'], row['bytes_max'], row['customers']].map(number)
      : [number(row['events'])];
    const { events, bytes, bytesMax } = totals;
    const wanted = hourly ? [events, bytes, bytesMax, events] : [events];
    if (found.join() !== wanted.join()) {
      throw new Violation('I7', `${place} has ${found.join()} for ${key}, not ${wanted.join()}`);
    }
    if (row['_source'] !== 'streaming' || row['_is_final'] !== false) {
      throw new Violation('I7', `${place} ${key} says it is final`);
    }
    if (row['$date'] !== dateText(Number(row['window_start']) / 1000)) {
      throw new Violation('I7', `${place} ${key} is in another date`);
    }
  }
  for (const key of expected.keys()) throw new Violation('I7', `${place} lacks ${key}`);
}

/** I11: a checkpoint is the log up to its version. */
async function checkCheckpoints(world: World): Promise<void> {
  for (const key of world.checkpoints) {
    const bytes = await world.store.get(key);
    const match = /^(.+)\/_delta_log\/(\d{20})\.checkpoint\.parquet$/.exec(key);
    if (!bytes || !match) continue;
    const table = world.tables.get(match[1]!)!;
    const version = Number(match[2]);
    const actions = rowsFromColumns(world.codec.decode(bytes, CHECKPOINT_READ_SCHEMA));
    const inCheckpoint = actions.flatMap((action) => {
      const add = action['add'] as LakeRow | null;
      const txn = action['txn'] as LakeRow | null;
      if (add) return [`add ${decodeURIComponent(textAt(add, 'path'))}`];
      return txn ? [`txn ${textAt(txn, 'appId')} ${textAt(txn, 'version')}`] : [];
    });
    const txns = new Map<string, bigint>();
    for (const commit of table.commits.slice(0, version + 1)) {
      for (const [id, next] of commit.txns) txns.set(id, next);
    }
    const inLog = [
      ...table.filesAt(version).map(({ path }) => `add ${path}`),
      ...[...txns].map(([id, next]) => `txn ${id} ${next}`),
    ];
    if (inCheckpoint.toSorted().join('\n') !== inLog.toSorted().join('\n')) {
      throw new Violation('I11', `${key} differs from the log`);
    }
  }
}

function dateText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
