/**
 * Values at the edges of types and of statistics: cut strings, instants beside a millisecond, numbers
 * beyond doubles. Every event is of another date, so that each is in a file of its own, which a reader
 * skips or not by that one value.
 */
import type { JsonRow } from '../support/pipeline-tables.ts';

export const EDGES_DEFINITION = {
  name: 'edges',
  event: {
    id: 'id',
    time: 'happened',
    schema: {
      fields: {
        id: 'string',
        happened: 'timestamp',
        s: 'string',
        last: 'string',
        n: 'long',
        price: 'decimal(38,10)',
        d: 'double',
        day: 'date',
        ok: 'boolean',
        client: 'struct<s:string,n:long>',
        tags: 'array<string>',
        m: 'map<string,long>',
      },
    },
  },
  gold: [{ name: 'edge-events', window: '1d', measures: { n: { fn: 'count' } } }],
};

/** An event; JSON texts for the numbers that JavaScript would round. */
export interface Edge {
  readonly id: string;
  /** RFC 3339 in UTC, to the microsecond. */
  readonly at: string;
  readonly s: string;
  readonly last: string;
  readonly n: string;
  readonly price: string;
  readonly d: number;
  readonly day: string;
}

const THIRTY_ONE = 'x'.repeat(31);

/** Statistics keep 32 code points of a string. */
const STRINGS = [
  '',
  'a',
  `${THIRTY_ONE}x`,
  `${THIRTY_ONE}xa`,
  `${THIRTY_ONE}xz`,
  `${THIRTY_ONE}y`,
  `${THIRTY_ONE}😀 and more`,
  `${THIRTY_ONE}~~~`,
  'ÿ'.repeat(32),
  '\u007f'.repeat(40),
  `${'ÿ'.repeat(32)}ÿ`,
  `Zürich ${'é'.repeat(40)}`,
];

/** No text above them can be made by cutting, so that statistics may lack the upper bound. */
const LAST_TEXTS = [
  `${THIRTY_ONE}\u{10ffff}\u{10ffff}`,
  '\u{10ffff}'.repeat(40),
  '\u{10ffff}'.repeat(32),
  ...Array.from({ length: 9 }, (_, i) => `plain ${i}`),
];

/** Times of day; statistics have milliseconds. */
const TIMES = [
  '00:00:00.000000',
  '10:00:00.123000',
  '10:00:00.123001',
  '10:00:00.123999',
  '10:00:00.124000',
  '10:00:00.999999',
  '23:59:59.999999',
  '23:59:59.999001',
  '12:00:00.000001',
  '12:00:00.500500',
  '12:00:00.000999',
  '23:59:59.999999',
];

const LONGS = [
  '-9223372036854775808',
  '9223372036854775807',
  '9007199254740992',
  '9007199254740993',
  '9007199254740991',
  '-9007199254740993',
  '0',
  '-1',
  '2147483648',
  '-2147483649',
  '9223372036854775806',
  '1',
];

const DECIMALS = [
  '0.0000000001',
  '-0.0000000001',
  '1234567890123456789012345678.0123456789',
  '1234567890123456789012345678.0123456788',
  '-1234567890123456789012345678.0123456789',
  '9999999999999999999999999999.9999999999',
  '-9999999999999999999999999999.9999999999',
  '0.0000000000',
  '0.1000000000',
  '9007199254740993.0000000001',
  '1.5000000000',
  '-1.5000000000',
];

const DOUBLES = [
  0, 0.1, 0.30000000000000004, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 1e21, 1e-7, 123.456,
  -0.1, 9007199254740992,
];

/** Before the epoch, at leap days, and beyond what nanoseconds hold. */
const DATES = [
  '1969-12-31',
  '1970-01-01',
  '2024-02-29',
  '2026-03-29',
  '2026-10-25',
  '2026-11-21',
  '2026-11-22',
  '2026-12-31',
  '2027-01-01',
  '1900-02-28',
  '1700-01-01',
  '9999-12-31',
];

export const EDGES: readonly Edge[] = DATES.map((date, i) => ({
  id: `edge-${String(i).padStart(2, '0')}`,
  at: `${date}T${TIMES[i]!}Z`,
  s: STRINGS[i]!,
  last: LAST_TEXTS[i]!,
  n: LONGS[i]!,
  price: DECIMALS[i]!,
  d: DOUBLES[i]!,
  day: DATES[DATES.length - 1 - i]!,
}));

/** The event as a record's value. */
export function edgeValue({ id, at, s, last, n, price, d, day }: Edge): string {
  const text = JSON.stringify(s);
  const lastText = JSON.stringify(last);
  return (
    `{"id":"${id}","happened":"${at}","s":${text},"last":${lastText},"n":${n},"price":${price},"d":${d},"day":"${day}",` +
    `"ok":${d > 0},"client":{"s":${text},"n":${n}},"tags":[${text},null],"m":{"k":${n}}}`
  );
}

/** All rows with all values. */
export const edgeRows: { readonly sql: string; readonly expected: readonly JsonRow[] } = {
  sql: 'SELECT id, happened, s, last, n, price, d, day, ok, client, tags, m, _event_date FROM t ORDER BY id',
  expected: EDGES.map(({ id, at, s, last, n, price, d, day }) => ({
    id,
    happened: at,
    s,
    last,
    n: printed(n),
    price: printed(price.replace(/\.?0+$/, '')),
    d,
    day,
    ok: d > 0,
    client: { s, n: printed(n) },
    tags: [s, null],
    m: [['k', printed(n)]],
    _event_date: at.slice(0, 10),
  })),
};

/** As the scripts print it: text beyond what a double holds. */
function printed(n: string): number | string {
  return n.includes('.') || !Number.isSafeInteger(Number(n)) ? n : Number(n);
}

/** How a column's values are written in SQL, and how they are ordered. */
interface Column {
  readonly sql: string;
  readonly literal: (edge: Edge) => string;
  readonly order: (a: Edge, b: Edge) => number;
  /** A reader that takes an absent bound for null, and so loses rows of any writer's tables. */
  readonly notIn?: string;
}

const scaled = ({ price }: Edge): bigint => BigInt(price.replace('.', ''));
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
const sign = (a: bigint | number | string, b: bigint | number | string): number =>
  a < b ? -1 : a > b ? 1 : 0;

const COLUMNS: readonly Column[] = [
  { sql: 'happened', literal: ({ at }) => `TS'${at}'`, order: (a, b) => sign(a.at, b.at) },
  { sql: 's', literal: ({ s }) => `'${s}'`, order: (a, b) => byBytes(a.s, b.s) },
  { sql: "client['s']", literal: ({ s }) => `'${s}'`, order: (a, b) => byBytes(a.s, b.s) },
  {
    sql: 'last',
    literal: ({ last }) => `'${last}'`,
    order: (a, b) => byBytes(a.last, b.last),
    notIn: 'dataset', // delta-rs 1.6.6
  },
  {
    sql: 'n',
    literal: ({ n }) => `CAST('${n}' AS BIGINT)`,
    order: (a, b) => sign(BigInt(a.n), BigInt(b.n)),
  },
  {
    sql: 'price',
    literal: ({ price }) => `CAST('${price}' AS DECIMAL(38,10))`,
    order: (a, b) => sign(scaled(a), scaled(b)),
  },
  { sql: 'd', literal: ({ d }) => `CAST('${d}' AS DOUBLE)`, order: (a, b) => sign(a.d, b.d) },
  { sql: 'day', literal: ({ day }) => `DATE '${day}'`, order: (a, b) => sign(a.day, b.day) },
];

const COMPARISONS: Readonly<Record<string, (order: number) => boolean>> = {
  '=': (order) => order === 0,
  '>=': (order) => order >= 0,
  '<': (order) => order < 0,
};

/** Compared with every value of every column: whoever skips a file too many counts too few. */
export function edgeQueries() {
  // Nanoseconds, in which some readers compare instants, end in 2262.
  const asked = EDGES.filter(({ at }) => at < '2200');
  return COLUMNS.flatMap((column) =>
    Object.entries(COMPARISONS).map(([operator, holds]) => ({
      what: `${column.sql} ${operator}`,
      operator,
      notIn: column.notIn,
      sql: asked
        .map(
          (edge, i) =>
            `SELECT ${i} AS i, count(*) AS n FROM t WHERE ${column.sql} ${operator} ${column.literal(edge)}`,
        )
        .join(' UNION ALL ')
        .concat(' ORDER BY i'),
      expected: asked.map(
        (edge, i): JsonRow => ({
          i,
          n: EDGES.filter((other) => holds(column.order(other, edge))).length,
        }),
      ),
    })),
  );
}
