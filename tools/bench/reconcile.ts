/**
 * Reconciliation of a month at a given number of rows: `npm run bench -- --only
 * reconcile --rows 100000000`, which needs 10 GB of disk. A real run makes the
 * tables and a few events of each day; silver then gets the rows of a full month, of which each day's
 * repeat some thousand events of that day, and `tidemark reconcile` makes the month final.
 *
 * - RB1 Gold must count every row of silver afterwards, or the benchmark ends with exit code 1.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silverEncoding } from '../../src/actors/file-settings.ts';
import { systemAmbient } from '../../src/ambient.ts';
import { byteText, groupDigits } from '../../src/cli/text-table.ts';
import { silentLogger } from '../../src/logger.ts';
import { columnsFromRows, rowsFromColumns } from '../../src/pipeline/column-builder.ts';
import { struct } from '../../src/pipeline/types.ts';
import { DeltaTable } from '../../src/storage/delta/delta-table.ts';
import { computeStats } from '../../src/storage/delta/stats.ts';
import type { LiveFile, NewFile } from '../../src/storage/delta/transaction.ts';
import { openFsObjectStore } from '../../src/storage/object-store/fs-object-store.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { projectDir } from '../tool-install.ts';
import { MeasuredProcess, type Outcome, reapedCpuSeconds } from './measured-process.ts';

const FILE_ROWS = 65_536;
const FILES_PER_COMMIT = 64;
const SEED_EVENTS = 60_000;
const START = '2026-09-01T00:00:00Z';
const HOURS = 31 * 24;
/** Of what was generated, the dates that are over. */
const [FROM, TO] = ['2026-09-01', '2026-09-30'] as const;

const PIPELINE = `
name: usage
source: {kind: embedded, partitions: 4}
event:
  id: event_id
  time: event_time
  schema:
    version: 1
    fields:
      event_id: {type: string, required: true}
      event_time: {type: timestamp, required: true}
      customer_id: {type: string, required: true}
      endpoint: string
      status_code: integer
      request_bytes: long
      response_bytes: long
      latency_ms: double
      region: string
limits: {inFlight: 128MiB}
gold:
  - name: hourly
    window: 1h
    groupBy: [customer_id, endpoint]
    measures:
      requests: {fn: count}
      response_bytes: {fn: sum, field: response_bytes}
      avg_latency_ms: {fn: avg, field: latency_ms}
  - name: daily
    window: 1d
    groupBy: [customer_id]
    measures:
      requests: {fn: count}
      response_bytes: {fn: sum, field: response_bytes}
`;

/** What `reconcile` of the month took. */
export interface ReconcileFigures {
  readonly rows: number;
  readonly silverBytes: number;
  readonly wallS: number;
  readonly cpuS: number;
  readonly peakRssBytes: number;
  /** Windows that changed. */
  readonly windows: number;
  /** A second run, which finds every date final. */
  readonly againS: number;
}

/** Makes the month and reconciles it. @throws Error when gold does not count what silver has (RB1) */
export async function measureReconcile(
  rows: number,
  note: (text: string) => void,
): Promise<ReconcileFigures> {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-bench-'));
  const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  process.once('exit', remove);
  try {
    writeFileSync(join(folder, 'tidemark.yaml'), PIPELINE);
    const hours = `${HOURS}`;
    const events = `${SEED_EVENTS}`;
    await tidemark(
      folder,
      'generate',
      '-c',
      'tidemark.yaml',
      '--events',
      events,
      '--start',
      START,
      '--hours',
      hours,
    );
    await tidemark(folder, 'run', '--until-caught-up');
    note(`making ${groupDigits(rows)} rows`);
    const silverBytes = await fillMonth(join(folder, 'tidemark-data', 'lake'), rows);
    note('reconciling');
    const cpuBefore = reapedCpuSeconds();
    const month = ['reconcile', '--from', FROM, '--to', TO, '--json'];
    const { stdout, wallS, peakRssBytes } = await tidemark(folder, ...month);
    const cpuS = reapedCpuSeconds() - cpuBefore;
    const { dates } = JSON.parse(stdout) as {
      readonly dates: readonly {
        readonly outcome: string;
        readonly tables?: readonly { readonly events: number; readonly changedWindows: number }[];
      }[];
    };
    const tables = dates.flatMap((date) => date.tables ?? []);
    const windows = tables.reduce((sum, { changedWindows }) => sum + changedWindows, 0);
    const { wallS: againS } = await tidemark(folder, ...month);
    await requireEqual(folder);
    const counted = dates.reduce((sum, date) => sum + (date.tables?.[0]?.events ?? 0), 0);
    return { rows: counted, silverBytes, wallS, cpuS, peakRssBytes, windows, againS };
  } finally {
    process.off('exit', remove);
    remove();
  }
}

/** The figures as lines of text. */
export function reconcileText(figures: ReconcileFigures): string {
  const { rows, silverBytes, wallS, cpuS, peakRssBytes, windows, againS } = figures;
  return (
    `\nReconciliation of ${FROM} to ${TO}: ${groupDigits(rows)} rows (${byteText(silverBytes)}), two aggregates\n\n` +
    `  ${wallS.toFixed(0)} s, ${cpuS.toFixed(0)} s of CPU, ${groupDigits(Math.round(rows / wallS))} rows/s, ` +
    `${byteText(peakRssBytes)} at most, ${groupDigits(windows)} windows changed\n` +
    `  again, all of it final: ${againS.toFixed(1)} s\n`
  );
}

async function tidemark(cwd: string, ...args: readonly string[]): Promise<Outcome> {
  const main = join(projectDir, 'src', 'main.ts');
  const outcome = await new MeasuredProcess(process.execPath, [main, ...args], {}, cwd).ended;
  if (outcome.code === 0) return outcome;
  throw new Error(
    `tidemark ${args[0]} ended with ${outcome.code}: ${outcome.stdout}${outcome.stderr}`,
  );
}

/** Commits `rows` rows to silver, spread evenly over its dates. @returns bytes of their files */
async function fillMonth(lake: string, rows: number): Promise<number> {
  const services = { ambient: systemAmbient, logger: silentLogger };
  const store = await openFsObjectStore({ path: lake, ...services });
  const codec = createParquetCodec();
  const silver = await DeltaTable.open({ store, codec, ...services }, 'silver/usage');
  if (!silver) throw new Error('the run made no silver table');
  const schema = struct(silver.snapshot.schema.fields.filter(({ name }) => name !== '_event_date'));
  const month = silver.snapshot
    .files()
    .filter((file) => dateOf(file) >= FROM && dateOf(file) <= TO);
  const byDate = Map.groupBy(month, dateOf);
  const filesPerDate = Math.ceil(rows / byDate.size / FILE_ROWS);
  let bytes = 0;
  for (const [date, files] of byDate) {
    const events: Parameters<typeof columnsFromRows>[1][number][] = [];
    for (const { path } of files) {
      const stored = await store.get(`silver/usage/${path}`);
      if (!stored) throw new Error(`${path} is gone`);
      events.push(...rowsFromColumns(codec.decode(stored, schema)));
    }
    const repeated = Array.from({ length: FILE_ROWS }, (_, row) => events[row % events.length]!);
    const batch = columnsFromRows(schema, repeated);
    const parquet = codec.encode(batch, silverEncoding('event_id'));
    const stats = computeStats(batch);
    for (let from = 0; from < filesPerDate; from += FILES_PER_COMMIT) {
      const adds: NewFile[] = [];
      for (let file = from; file < Math.min(filesPerDate, from + FILES_PER_COMMIT); file++) {
        const path = `${date}/part-${systemAmbient.ids.id()}.parquet`;
        await store.put(`silver/usage/${path}`, parquet);
        bytes += parquet.length;
        adds.push({
          path,
          partitionValues: { _event_date: date },
          sizeBytes: parquet.length,
          modifiedMs: systemAmbient.clock.nowMs(),
          stats,
        });
      }
      const outcome = await silver.commit({ operation: 'WRITE', adds, progress: [] });
      if (outcome.kind !== 'committed') throw new Error(outcome.kind);
    }
  }
  await silver.idle();
  await store.close();
  return bytes;
}

function dateOf({ partitionValues }: LiveFile): string {
  return partitionValues['_event_date'] ?? '';
}

/** RB1 */
async function requireEqual(folder: string): Promise<void> {
  const of = (table: string): string =>
    `(SELECT sum(requests) FROM gold.${table} WHERE _event_date BETWEEN '${FROM}' AND '${TO}' AND _is_final)`;
  const { stdout } = await tidemark(
    folder,
    'sql',
    `SELECT count(*)::VARCHAR AS silver, ${of('hourly')}::VARCHAR AS hourly, ${of('daily')}::VARCHAR AS daily
     FROM silver.usage WHERE _event_date BETWEEN '${FROM}' AND '${TO}'`,
    '--json',
  );
  const [counts] = JSON.parse(stdout) as readonly Readonly<Record<string, string>>[];
  if (new Set(Object.values(counts ?? {})).size !== 1) throw new Error(stdout);
}
