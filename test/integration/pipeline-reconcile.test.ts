/**
 * Issue 5: a two hours' flood of late events across midnight, after both dates were made final. Gold by
 * the stream, gold by the batch, and a report that explains every difference; read without our code.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, stringify } from 'yaml';
import { eventually } from '../support/eventually.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import { type JsonRow, TableReader } from '../support/pipeline-tables.ts';

const DEFINITION = {
  name: 'usage',
  commit: { maxRows: 1_000, maxLatency: '100ms' },
  event: {
    id: 'id',
    time: 'happened',
    schema: {
      fields: {
        id: { type: 'string', required: true },
        happened: { type: 'timestamp', required: true },
        customer: 'string',
        bytes: 'long',
        price: 'decimal(18,6)',
        seconds: 'double',
      },
    },
  },
  late: { after: '2h' },
  gold: [
    {
      name: 'hourly',
      window: '1h',
      groupBy: ['customer'],
      measures: {
        n: { fn: 'count' },
        bytes: { fn: 'sum', field: 'bytes' },
        price: { fn: 'sum', field: 'price' },
        seconds: { fn: 'sum', field: 'seconds' },
        longest: { fn: 'max', field: 'seconds' },
      },
    },
    {
      name: 'daily',
      window: '1d',
      measures: { n: { fn: 'count' }, customers: { fn: 'countDistinct', field: 'customer' } },
    },
  ],
};

const DATES = ['2026-03-10', '2026-03-11'];
const START_MS = Date.parse('2026-03-10T00:00:00Z');
const HOUR_MS = 3_600_000;
const ORDINARY = 4_000;
const FLOOD = 600;
const CUSTOMERS = 13;
/** One of them has nothing but late events. */
const CUSTOMERS_OF_FLOOD = 14;

interface Reconciled {
  readonly dates: readonly {
    readonly date: string;
    readonly outcome: string;
    readonly tables: readonly {
      readonly aggregate: string;
      readonly revision: number;
      readonly changedWindows: number;
      readonly windowsByCause: Readonly<Record<string, number>>;
    }[];
  }[];
}

/** Lines of events whose times run over [fromMs, toMs) and that arrive `delayMs` later. */
function lines(
  label: string,
  count: number,
  span: {
    readonly fromMs: number;
    readonly toMs: number;
    readonly delayMs: number;
    readonly customers: number;
  },
): string {
  const stepMs = (span.toMs - span.fromMs) / count;
  return Array.from({ length: count }, (_, i) => {
    const atMs = Math.floor(span.fromMs + i * stepMs);
    return JSON.stringify({
      id: `${label}-${i}`,
      happened: new Date(atMs).toISOString(),
      customer: `customer-${i % span.customers}`,
      bytes: (i * 7_919) % 100_003,
      price: `${i % 97}.${String(i % 1_000_000).padStart(6, '0')}`,
      seconds: (i % 1_009) / 7,
      arrived: atMs + span.delayMs,
    });
  }).join('\n');
}

test('a late flood across midnight of final dates is explained to the last cent (P6, P7)', async (t) => {
  const pipeline = await PipelineFixture.create(t, { definition: DEFINITION, on: 'folder' });
  const reader = await TableReader.open(t);
  const lake = await pipeline.lakeFolder();
  const feed = async (name: string, text: string): Promise<void> => {
    const file = join(pipeline.folder, `${name}.ndjson`);
    writeFileSync(file, `${text}\n`);
    await pipeline.runUntilCaughtUp(['--input', file, '--arrival-field', 'arrived']);
    await attach();
  };
  const attach = async (): Promise<void> => {
    await reader.attach('silver', join(lake, 'silver/usage'));
    await reader.attach('hourly', join(lake, 'gold/hourly'));
    await reader.attach('daily', join(lake, 'gold/daily'));
  };
  /** Windows where gold is not what DuckDB makes of silver; its own sums of doubles are not exact. */
  const wrongWindows = async (): Promise<readonly JsonRow[]> =>
    reader.rows(`WITH expected AS (
        SELECT time_bucket(INTERVAL 1 HOUR, happened) AS window_start, customer, count(*) AS n,
          sum(bytes) AS bytes, sum(price) AS price, fsum(seconds) AS seconds,
          max(seconds) AS longest
        FROM silver GROUP BY ALL)
      SELECT * FROM expected FULL JOIN hourly USING (window_start, customer)
      WHERE expected.n IS DISTINCT FROM hourly.n OR expected.bytes IS DISTINCT FROM hourly.bytes
        OR expected.price IS DISTINCT FROM hourly.price
        OR expected.longest IS DISTINCT FROM hourly.longest
        OR coalesce(abs(expected.seconds - hourly.seconds) > 1e-12 * expected.seconds, true)`);
  /** The same for days. */
  const wrongDays = async (): Promise<readonly JsonRow[]> =>
    reader.rows(`WITH expected AS (
        SELECT time_bucket(INTERVAL 1 DAY, happened) AS window_start, count(*) AS n,
          count(DISTINCT customer) AS customers
        FROM silver GROUP BY ALL)
      SELECT * FROM expected FULL JOIN daily USING (window_start)
      WHERE expected.n IS DISTINCT FROM daily.n
        OR expected.customers IS DISTINCT FROM daily.customers`);
  const reconcile = async (...args: readonly string[]): Promise<Reconciled> => {
    const done = await pipeline.json<Reconciled>(['reconcile', ...args]);
    await attach();
    return done;
  };

  await feed(
    'ordinary',
    lines('o', ORDINARY, {
      fromMs: START_MS,
      toMs: START_MS + 48 * HOUR_MS,
      delayMs: 1_000,
      customers: CUSTOMERS,
    }),
  );

  await t.test('both dates become final without a change; gold is what silver says', async () => {
    const { dates } = await reconcile('--from', DATES[0]!, '--to', DATES[1]!);
    assert.deepEqual(
      dates.map(({ date, outcome, tables }) => [
        date,
        outcome,
        tables.map(({ aggregate, revision, changedWindows }) => [
          aggregate,
          revision,
          changedWindows,
        ]),
      ]),
      DATES.map((date) => [
        date,
        'reconciled',
        [
          ['hourly', 1, 0],
          ['daily', 1, 0],
        ],
      ]),
    );
    assert.deepEqual([await wrongWindows(), await wrongDays()], [[], []]);
    assert.deepEqual(await reader.rows('SELECT * FROM hourly WHERE NOT _is_final'), []);
  });

  await reader.run('CREATE TABLE before_hourly AS SELECT * FROM hourly');
  const flood = { fromMs: START_MS + 23 * HOUR_MS, toMs: START_MS + 25 * HOUR_MS };
  await feed(
    'flood',
    lines('f', FLOOD, { ...flood, delayMs: 12 * HOUR_MS, customers: CUSTOMERS_OF_FLOOD }),
  );

  await t.test('the stream leaves the final dates as they are, flags and marks', async () => {
    const { flagged } = await reader.row(
      'SELECT count(*) FILTER (_is_late_arriving)::INT AS flagged FROM silver',
    );
    assert.equal(flagged, FLOOD);
    assert.deepEqual(
      await reader.rows('SELECT * FROM hourly EXCEPT SELECT * FROM before_hourly'),
      [],
    );
    assert.notDeepEqual(await wrongWindows(), []);
    assert.equal((await wrongDays()).length, DATES.length);
    await pipeline.verify();
  });

  await t.test('the batch counts the flood, and the report explains every difference', async () => {
    const { dates } = await reconcile();
    await reader.attach('report', join(lake, 'gold/usage_reconciliation'));
    assert.deepEqual([await wrongWindows(), await wrongDays()], [[], []]);
    assert.deepEqual(
      dates.map(({ date }) => date),
      DATES,
    );
    // All customers of the flood in the last hour of one date and in the first of the other.
    for (const { tables } of dates) {
      const causes = tables.map(({ aggregate, revision, windowsByCause }) => [
        aggregate,
        revision,
        windowsByCause,
      ]);
      assert.deepEqual(causes, [
        ['hourly', 2, { late: CUSTOMERS_OF_FLOOD }],
        ['daily', 2, { late: 1 }],
      ]);
    }
    // Old value + difference = new value, and that is the table's now and was the table's then.
    const unexplained = await reader.rows(`
      SELECT * FROM hourly AS now JOIN before_hourly AS old USING (window_start, customer)
      LEFT JOIN (PIVOT (SELECT window_start, groups->>'customer' AS customer, measure,
          difference, streaming_value, batch_value FROM report WHERE aggregate = 'hourly')
        ON measure IN ('n', 'bytes', 'price')
        USING first(difference::DECIMAL(38,6)) AS difference, first(batch_value) AS after,
          first(streaming_value) AS before) AS r USING (window_start, customer)
      WHERE now.n - old.n <> coalesce(r.n_difference, 0)
        OR now.bytes - old.bytes <> coalesce(r.bytes_difference, 0)
        OR now.price - old.price <> coalesce(r.price_difference, 0)
        OR now.n::VARCHAR <> coalesce(r.n_after, now.n::VARCHAR)
        OR old.n::VARCHAR <> coalesce(r.n_before, old.n::VARCHAR)`);
    assert.deepEqual(unexplained, []);
    const sums = await reader.row(`SELECT
      (SELECT sum(difference::DECIMAL(38,6)) FROM report WHERE aggregate = 'hourly'
        AND measure = 'price')::VARCHAR AS reported,
      (SELECT sum(price) FROM silver WHERE _is_late_arriving)::DECIMAL(38,6)::VARCHAR AS flooded,
      (SELECT sum(difference::INT) FROM report WHERE aggregate = 'daily'
        AND measure = 'n')::INT AS daily`);
    assert.equal(sums['reported'], sums['flooded']);
    assert.equal(sums['daily'], FLOOD);
    await pipeline.verify();
  });

  await t.test('once more changes nothing', async () => {
    assert.deepEqual((await reconcile()).dates, []);
    const again = await reconcile('--date', DATES[0]!);
    assert.deepEqual(again.dates, [{ date: DATES[0], outcome: 'already-final', revision: 2 }]);
  });

  await t.test('an open date and a date that is none are refused with exit code 2', async () => {
    const today = new Date().toISOString().slice(0, 10);
    for (const date of [today, '2999-01-01', '2026-02-30', 'yesterday']) {
      const { code } = await pipeline.command(['reconcile', '--date', date]);
      assert.equal(code, 2, date);
    }
  });
});

test('at the time of day that is set, dates that are over become final by the scheduler in Redis (P7)', async (t) => {
  const minuteMs = 60_000;
  const pipeline = await PipelineFixture.create(t, {
    definition: {
      ...DEFINITION,
      // What is due at the start is caught up once partitions may be idle; here only the clock counts.
      late: { ...DEFINITION.late, idlePartition: '1h' },
    },
    on: 'servers',
  });
  const sink = await pipeline.openSink();
  // A day and a half, so that every partition's watermark is beyond the first day.
  const span = {
    fromMs: START_MS,
    toMs: START_MS + 36 * HOUR_MS,
    delayMs: 0,
    customers: CUSTOMERS,
  };
  await sink.append(
    lines('event', ORDINARY, span)
      .split('\n')
      .map((value, i) => ({
        key: `${i % CUSTOMERS}`,
        value,
        timestampMs: START_MS + Math.floor((i * 36 * HOUR_MS) / ORDINARY),
      })),
  );
  await sink.close();
  const finals = async (): Promise<JsonRow> => {
    const [row] = await pipeline.json<readonly JsonRow[]>([
      'sql',
      `SELECT _event_date::VARCHAR AS date, bool_and(_is_final) AS final, sum(n)::INT AS n
        FROM gold.hourly GROUP BY ALL ORDER BY 1`,
    ]);
    assert.equal(row?.['date'], DATES[0]);
    return row!;
  };
  await pipeline.runUntilCaughtUp();
  assert.equal((await finals())['final'], false);

  // A minute ahead at least: a schedule that is declared too late waits until tomorrow.
  const dueMs = Math.floor((Date.now() + 2 * minuteMs) / minuteMs) * minuteMs;
  const file = parse(readFileSync(pipeline.file, 'utf8')) as object;
  const at = new Date(dueMs).toISOString().slice(11, 16);
  writeFileSync(pipeline.file, stringify({ ...file, reconcile: { at } }));
  const run = pipeline.start(['run']);
  const last = await eventually(
    async () => {
      const row = await finals();
      return row['final'] === true && row;
    },
    { withinMs: dueMs - Date.now() + minuteMs },
  );
  t.diagnostic(`final ${((Date.now() - dueMs) / 1_000).toFixed(1)} s after it was due`);
  assert.ok(last && Date.now() >= dueMs);
  assert.equal(last['n'], Math.round((ORDINARY * 24) / 36));
  const { code, stderr } = await run.kill('SIGTERM');
  assert.equal(code, 0, stderr);
  await pipeline.verify();
});
