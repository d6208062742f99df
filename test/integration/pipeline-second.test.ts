/**
 * Issue 3: a second, unrelated pipeline needs a file and no code. Orders with exact decimals, nested
 * fields and epoch milliseconds; every value in silver and gold is compared with arithmetic on bigints.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { SeededRandom } from '../../src/pipeline/generator/seeded-random.ts';
import { PipelineFixture } from '../support/pipeline-fixture.ts';
import { type JsonRow, TableReader } from '../support/pipeline-tables.ts';

const ORDERS = 3_000;
/** 2026-03-28T20:00:00Z: the clocks of Europe change in the night after. */
const START_MS = 1_774_728_000_000;
const SPAN_MS = 36 * 3_600_000;
const SCALE = 10_000n;
const SHOPS = ['Köln', 'São Paulo', 'a=b/c%20', '日本'];

const DEFINITION = {
  name: 'shop-orders',
  commit: { maxRows: 500, maxLatency: '100ms' },
  event: {
    id: 'order',
    time: { field: 'placed', unit: 'ms' },
    schema: {
      version: 3,
      fields: {
        order: { type: 'long', required: true },
        placed: { type: 'timestamp', required: true },
        shop: 'string',
        due: 'date',
        amount: 'decimal(20,4)',
        quantity: 'integer',
        weight: 'double',
        customer: 'long',
        paid: 'boolean',
        note: 'binary',
        tags: 'array<string>',
        lines: 'array<struct<sku:string,price:decimal(12,2)>>',
        address: 'struct<city:string,geo:struct<lat:double,lon:double>>',
        stock: 'map<string,long>',
      },
    },
  },
  late: { after: '30m' },
  gold: [
    {
      name: 'orders_quarter_hourly',
      window: '15m',
      groupBy: ['shop', 'due'],
      measures: {
        orders: { fn: 'count' },
        with_amount: { fn: 'count', field: 'amount' },
        amount: { fn: 'sum', field: 'amount' },
        amount_avg: { fn: 'avg', field: 'amount' },
        amount_min: { fn: 'min', field: 'amount' },
        amount_max: { fn: 'max', field: 'amount' },
        customers: { fn: 'countDistinct', field: 'customer' },
      },
    },
    {
      name: 'orders-daily',
      window: '1d',
      measures: {
        quantity: { fn: 'sum', field: 'quantity' },
        weight: { fn: 'sum', field: 'weight' },
        first_placed: { fn: 'min', field: 'placed' },
        last_due: { fn: 'max', field: 'due' },
        shops: { fn: 'countDistinct', field: 'shop' },
        amounts: { fn: 'countDistinct', field: 'amount' },
      },
    },
  ],
};

interface Order {
  readonly order: bigint;
  readonly placedMs: number;
  readonly arrivalMs: number;
  readonly shop: string | null;
  /** Days since the epoch. */
  readonly dueDays: number | null;
  /** Ten-thousandths. */
  readonly amount: bigint | null;
  readonly quantity: number;
  /** Hundredths, so that sums of doubles have one right answer. */
  readonly weightHundredths: number;
  readonly customer: bigint;
}

function makeOrders(random: SeededRandom): Order[] {
  return Array.from({ length: ORDERS }, (_, i): Order => {
    const arrivalMs = START_MS + Math.floor((i * SPAN_MS) / ORDERS);
    // Up to an hour before: about half of them late.
    const placedMs = arrivalMs - random.below(3_600_000);
    const digits = BigInt(random.below(10 ** 6)) * 10n ** BigInt(random.below(12));
    return {
      order: 2n ** 60n + BigInt(i),
      placedMs,
      arrivalMs,
      shop: random.below(10) === 0 ? null : SHOPS[random.below(SHOPS.length)]!,
      dueDays: random.below(8) === 0 ? null : 20_540 + random.below(3),
      amount: random.below(12) === 0 ? null : random.below(5) === 0 ? -digits : digits,
      quantity: random.below(9) - 2,
      weightHundredths: random.below(100_000),
      customer: 2n ** 62n + BigInt(random.below(40)),
    };
  });
}

/** Written by hand, since JSON.stringify rounds these numbers. */
function orderText(order: Order): string {
  const { placedMs, shop, dueDays, amount, quantity, weightHundredths, customer } = order;
  const known = [
    `"order":${order.order}`,
    `"placed":${placedMs}`,
    `"shop":${JSON.stringify(shop)}`,
    `"due":${dueDays === null ? null : `"${dateText(dueDays)}"`}`,
    ...(amount === null ? [] : [`"amount":${decimalText(amount, SCALE)}`]),
    `"quantity":${quantity}`,
    `"weight":${decimalText(BigInt(weightHundredths), 100n)}`,
    `"customer":${customer}`,
    `"paid":${quantity > 3}`,
    `"note":"${Buffer.from([quantity & 255, 0xff]).toString('base64')}"`,
    `"tags":${quantity < 0 ? '[]' : '["a",null,"ü"]'}`,
    `"lines":[{"sku":"s${quantity}","price":${quantity}.10},{"sku":null,"price":9999999999.99}]`,
    `"address":${quantity === 0 ? null : `{"city":"c","geo":{"lat":${quantity / 8},"lon":-0.5}}`}`,
    `"stock":{"a b":${customer},"zero":0}`,
  ];
  return `{${known.join(',')}}`;
}

function dateText(days: number): string {
  return new Date(days * 86_400_000).toISOString().slice(0, 10);
}

function decimalText(unscaled: bigint, scale: bigint): string {
  const digits = unscaled < 0n ? -unscaled : unscaled;
  const fraction = String(digits % scale).padStart(String(scale).length - 1, '0');
  return `${unscaled < 0n ? '-' : ''}${digits / scale}.${fraction}`;
}

/** The double nearest to an exact quotient: more digits than a double tells apart, then rounded once. */
function nearestQuotient(unscaled: bigint, divisor: bigint): number {
  const exact = (unscaled * 10n ** 40n) / divisor;
  return Number(`${exact}e-40`);
}

const secondsText = (ms: number): string =>
  new Date(ms).toISOString().replace('T', ' ').slice(0, 19);

function windowsOf(orders: readonly Order[]): JsonRow[] {
  const width = 900_000;
  const groups = Map.groupBy(orders, ({ placedMs, shop, dueDays }) =>
    JSON.stringify([Math.floor(placedMs / width) * width, shop, dueDays]),
  );
  return [...groups].map(([key, group]) => {
    const [startMs, shop, dueDays] = JSON.parse(key) as [number, string | null, number | null];
    const amounts = group.flatMap(({ amount }) => (amount === null ? [] : [amount]));
    const sum = amounts.reduce((total, amount) => total + amount, 0n);
    const sorted = amounts.toSorted((a, b) => (a < b ? -1 : 1));
    const text = (amount: bigint | undefined): string | null =>
      amount === undefined ? null : decimalText(amount, SCALE);
    return {
      _event_date: dateText(Math.floor(startMs / 86_400_000)),
      start: secondsText(startMs),
      end: secondsText(startMs + width),
      shop,
      due: dueDays === null ? null : dateText(dueDays),
      orders: String(group.length),
      with_amount: String(amounts.length),
      amount: amounts.length === 0 ? null : text(sum),
      amount_avg:
        amounts.length === 0 ? null : nearestQuotient(sum, SCALE * BigInt(amounts.length)),
      amount_min: text(sorted[0]),
      amount_max: text(sorted.at(-1)),
      customers: String(new Set(group.map(({ customer }) => customer)).size),
    };
  });
}

function daysOf(orders: readonly Order[]): JsonRow[] {
  const days = Map.groupBy(orders, ({ placedMs }) => Math.floor(placedMs / 86_400_000));
  return [...days].map(([day, group]) => {
    const sum = (pick: (order: Order) => number): number =>
      group.reduce((total, order) => total + pick(order), 0);
    const distinct = <T>(pick: (order: Order) => T | null): string =>
      String(new Set(group.map(pick).filter((value) => value !== null)).size);
    return {
      _event_date: dateText(day),
      quantity: String(sum(({ quantity }) => quantity)),
      weight: sum(({ weightHundredths }) => weightHundredths) / 100,
      first_placed: String(Math.min(...group.map(({ placedMs }) => placedMs))),
      last_due: dateText(Math.max(...group.map(({ dueDays }) => dueDays ?? 0))),
      shops: distinct(({ shop }) => shop),
      amounts: distinct(({ amount }) => amount),
    };
  });
}

const byText = (rows: readonly JsonRow[]): readonly JsonRow[] =>
  rows.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

test('a second pipeline of other events works by its file alone, every value exact', async (t) => {
  const pipeline = await PipelineFixture.create(t, {
    definition: DEFINITION,
    on: 'servers',
    partitions: 3,
    // With a change of clocks within the data, which must not change a row.
    environment: { TZ: 'Europe/Berlin' },
  });
  const orders = makeOrders(new SeededRandom(5));
  const sink = await pipeline.openSink();
  await sink.append(
    orders.map((order) => ({
      key: order.shop ?? undefined,
      value: orderText(order),
      timestampMs: order.arrivalMs,
    })),
  );
  await sink.close();

  const run = await pipeline.runUntilCaughtUp(['--workers', '2']);
  assert.deepEqual([run.silverRows, run.deadLetters, run.conflicts], [ORDERS, 0, 0]);
  await pipeline.verify();

  const lake = await pipeline.lakeFolder();
  const reader = await TableReader.open(t);
  await reader.attach('silver', join(lake, 'silver/shop_orders'));
  await reader.attach('windows', join(lake, 'gold/orders_quarter_hourly'));
  await reader.attach('days', join(lake, 'gold/orders_daily'));

  await t.test('silver has every field of every order', async () => {
    const rows = await reader.rows(`SELECT "order", epoch_ms(placed) AS placed, shop, due, amount,
        quantity, weight, customer, paid, hex(note) AS note, tags, lines, address,
        map_entries(stock) AS stock, _event_date, _is_late_arriving AS late,
        _arrival_delay_seconds AS delay, _schema_version AS version, _quality_flags AS flags
      FROM silver ORDER BY "order"`);
    const expected = orders.map((order): JsonRow => {
      const { placedMs, dueDays, amount, quantity, customer, arrivalMs } = order;
      const hex = Buffer.from([quantity & 255, 0xff])
        .toString('hex')
        .toUpperCase();
      const geo = { lat: quantity / 8, lon: -0.5 };
      return {
        order: String(order.order),
        placed: String(placedMs),
        shop: order.shop,
        due: dueDays === null ? null : dateText(dueDays),
        amount: amount === null ? null : decimalText(amount, SCALE),
        quantity,
        weight: order.weightHundredths / 100,
        customer: String(customer),
        paid: quantity > 3,
        note: hex,
        tags: quantity < 0 ? [] : ['a', null, 'ü'],
        lines: [
          { sku: `s${quantity}`, price: `${quantity}.10` },
          { sku: null, price: '9999999999.99' },
        ],
        address: quantity === 0 ? null : { city: 'c', geo },
        stock: [
          { key: 'a b', value: String(customer) },
          { key: 'zero', value: '0' },
        ],
        _event_date: dateText(Math.floor(placedMs / 86_400_000)),
        late: arrivalMs - placedMs >= 1_800_000,
        delay: (arrivalMs - placedMs) / 1000,
        version: 3,
        flags: null,
      };
    });
    assert.deepEqual(rows, expected);
  });

  await t.test('gold per shop and due date', async () => {
    const rows = await reader.rows(`SELECT _event_date,
        strftime(make_timestamp(epoch_us(window_start)), '%Y-%m-%d %H:%M:%S') AS start,
        strftime(make_timestamp(epoch_us(window_end)), '%Y-%m-%d %H:%M:%S') AS end,
        shop, due, orders, with_amount, amount, amount_avg, amount_min, amount_max, customers
      FROM windows`);
    assert.deepEqual(byText(rows), byText(windowsOf(orders)));
  });

  await t.test('gold per day', async () => {
    const rows = await reader.rows(`SELECT _event_date, quantity, weight,
        epoch_ms(first_placed) AS first_placed, last_due, shops, amounts FROM days`);
    assert.deepEqual(byText(rows), byText(daysOf(orders)));
  });
});
