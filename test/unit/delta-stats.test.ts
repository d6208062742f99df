/** File statistics as readers parse them: never tighter than the data. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type CellValue,
  columnsFromRows,
  rowsFromColumns,
} from '../../src/pipeline/column-builder.ts';
import {
  type DataType,
  field,
  type PrimitiveName,
  primitive,
  struct,
} from '../../src/pipeline/types.ts';
import { computeStats } from '../../src/storage/delta/stats.ts';
import { flatBatch } from './parquet/column-arbitraries.ts';

interface Stats {
  readonly numRecords: number;
  readonly minValues: Readonly<Record<string, unknown>>;
  readonly maxValues: Readonly<Record<string, unknown>>;
  readonly nullCount: Readonly<Record<string, unknown>>;
}

type SourceReviver = (
  key: string,
  value: unknown,
  context: { readonly source?: string },
) => unknown;
const parseJson = JSON.parse as (text: string, reviver: SourceReviver) => unknown;

/** Numbers stay texts, so that nothing is rounded on the way. */
function parse(text: string): Stats {
  const parsed = parseJson(text, (_key, value, { source }) =>
    typeof value === 'number' ? source : value,
  ) as Stats;
  return { ...parsed, numRecords: Number(parsed.numRecords) };
}

/** Stats of one column called `c`. */
function statsOf(
  type: DataType | PrimitiveName,
  cells: readonly (CellValue | undefined)[],
): string {
  return computeStats(
    columnsFromRows(
      struct([field('c', type)]),
      cells.map((c) => ({ c })),
    ),
  );
}

const boundsOf = (type: DataType | PrimitiveName, cells: readonly (CellValue | undefined)[]) => {
  const { minValues, maxValues } = parse(statsOf(type, cells));
  return { min: minValues['c'], max: maxValues['c'] };
};

const NO_BOUNDS = { min: undefined, max: undefined };

const byCodePoint = (a: string, b: string): number =>
  Buffer.compare(Buffer.from(a), Buffer.from(b));

/** What a reader makes of a bound, on the scale of the cells. */
function parseBound(type: DataType, text: string): CellValue {
  if (type.kind === 'decimal') {
    const [whole, fraction = ''] = text.split('.');
    assert.equal(fraction.length, type.scale);
    return BigInt(whole! + fraction);
  }
  assert.ok(type.kind === 'primitive');
  switch (type.name) {
    case 'string':
      return text;
    case 'long':
      return BigInt(text);
    case 'date':
      return Date.parse(`${text}T00:00:00Z`) / 86_400_000;
    case 'timestamp':
      return BigInt(Date.parse(text)) * 1000n;
    default:
      return Number(text);
  }
}

test('every value lies within the bounds as a reader parses them (S1)', () => {
  fc.assert(
    fc.property(flatBatch, (batch) => {
      const stats = parse(computeStats(batch));
      const rows = rowsFromColumns(batch);
      assert.equal(stats.numRecords, rows.length);
      for (const { name, type } of batch.schema.fields) {
        const cells = rows.map((row) => row[name]!);
        assert.equal(Number(stats.nullCount[name]), cells.filter((cell) => cell === null).length);
        for (const [bounds, sign] of [
          [stats.minValues, 1],
          [stats.maxValues, -1],
        ] as const) {
          const text = bounds[name] as string | undefined;
          if (text === undefined) continue;
          const bound = parseBound(type, text);
          for (const cell of cells) {
            if (cell === null) continue;
            const order =
              typeof cell === 'string'
                ? byCodePoint(cell, bound as string)
                : cell === bound
                  ? 0
                  : (cell as number) < (bound as number)
                    ? -1
                    : 1;
            assert.ok(order * sign >= 0, `${name} has a value outside ${text}`);
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('bounds are as tight as their text allows', () => {
  assert.deepEqual(boundsOf('long', [5n, null, -7n, 2n ** 63n - 1n, -(2n ** 63n)]), {
    min: '-9223372036854775808',
    max: '9223372036854775807',
  });
  // High words equal, low words beyond 2^31: the low word is unsigned.
  assert.deepEqual(boundsOf('long', [0xffff_ffffn, 1n, 0x7fff_ffffn]), {
    min: '1',
    max: '4294967295',
  });
  assert.deepEqual(boundsOf('long', [-1n, -0xffff_ffffn]), { min: '-4294967295', max: '-1' });
  assert.deepEqual(boundsOf('integer', [3, -2, null]), { min: '-2', max: '3' });
  assert.deepEqual(boundsOf('date', [-1, 20_780]), { min: '1969-12-31', max: '2026-11-23' });
  assert.deepEqual(boundsOf('string', ['b', 'a', 'ab', 'B']), { min: 'B', max: 'b' });
  assert.deepEqual(boundsOf('string', ['ab', 'a', '']), { min: '', max: 'ab' });
});

test('decimals keep every digit, over both words (S1)', () => {
  const wide = { kind: 'decimal', precision: 38, scale: 10 } as const;
  assert.deepEqual(boundsOf(wide, [-(10n ** 38n) + 1n, 1n, 10n ** 38n - 1n]), {
    min: '-9999999999999999999999999999.9999999999',
    max: '9999999999999999999999999999.9999999999',
  });
  const small = { kind: 'decimal', precision: 9, scale: 2 } as const;
  assert.deepEqual(boundsOf(small, [-5n, 0n]), { min: '-0.05', max: '0.00' });
  const whole = { kind: 'decimal', precision: 20, scale: 0 } as const;
  assert.deepEqual(boundsOf(whole, [2n ** 64n, 2n ** 64n + 1n, 3n]), {
    min: '3',
    max: '18446744073709551617',
  });
});

test('timestamps are floored and raised to milliseconds, before the epoch too (S1)', () => {
  assert.deepEqual(boundsOf('timestamp', [1_795_395_723_456_001n]), {
    min: '2026-11-23T01:02:03.456Z',
    max: '2026-11-23T01:02:03.457Z',
  });
  assert.deepEqual(boundsOf('timestamp', [-1n]), {
    min: '1969-12-31T23:59:59.999Z',
    max: '1970-01-01T00:00:00.000Z',
  });
});

test('a bound outside the years 1 to 9999 is left out, the other stays', () => {
  assert.deepEqual(boundsOf('date', [-719_163, 0]), { min: undefined, max: '1970-01-01' });
  assert.deepEqual(boundsOf('date', [0, 2_932_897]), { min: '1970-01-01', max: undefined });
  assert.deepEqual(boundsOf('timestamp', [0n, 253_402_300_800_000_000n]), {
    min: '1970-01-01T00:00:00.000Z',
    max: undefined,
  });
});

test('the last millisecond of the year 9999 is bounded by its last microsecond (S1)', () => {
  assert.equal(boundsOf('timestamp', [253_402_300_799_999_000n]).max, '9999-12-31T23:59:59.999Z');
  for (const micros of [253_402_300_799_999_001n, 253_402_300_799_999_999n]) {
    assert.equal(boundsOf('timestamp', [micros]).max, '9999-12-31T23:59:59.999999Z');
  }
});

test('floats with NaN or infinity have no bounds, a zero bound holds for both zeros (S3)', () => {
  for (const type of ['double', 'float'] as const) {
    for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      assert.deepEqual(boundsOf(type, [1, odd, 2]), NO_BOUNDS);
      assert.deepEqual(boundsOf(type, [odd]), NO_BOUNDS);
    }
    assert.deepEqual(boundsOf(type, [0, -0]), { min: '-0.0', max: '0.0' });
    assert.deepEqual(boundsOf(type, [-0]), { min: '-0.0', max: '0.0' });
  }
  assert.deepEqual(boundsOf('double', [1e21, 5]), { min: '5.0', max: '1e+21' });
  assert.deepEqual(boundsOf('float', [Math.fround(0.1)]), {
    min: '0.10000000149011612',
    max: '0.10000000149011612',
  });
});

test('long strings are cut to 32 code points, a maximum ends in a tie-breaker (S2)', () => {
  const cut = (text: string) => boundsOf('string', [text]);
  const x32 = 'x'.repeat(32);
  assert.deepEqual(cut(x32), { min: x32, max: x32 });
  assert.deepEqual(cut(`${x32}a`), { min: x32, max: `${x32}\u007f` });
  assert.deepEqual(cut(`${x32}\u007f`), { min: x32, max: `${x32}\u{10ffff}` });
  assert.deepEqual(cut(`${x32}é`), { min: x32, max: `${x32}\u{10ffff}` });
  // Surrogate pairs count once and are never split.
  const party = '🎉'.repeat(32);
  assert.deepEqual(cut(`${party}🎉🎉`), { min: party, max: `${party}\u{10ffff}` });
  // A text far longer than what is examined of it is not cut within a character.
  const euro = '€'.repeat(32);
  assert.deepEqual(cut('€'.repeat(500)), { min: euro, max: `${euro}\u{10ffff}` });
  // Nothing is above the last code point: the cut moves on, or the bound is left out.
  const last = '\u{10ffff}';
  assert.deepEqual(cut(`${x32}${last}a`), { min: x32, max: `${x32}${last}\u007f` });
  assert.deepEqual(cut(last.repeat(40)), { min: last.repeat(32), max: undefined });
  assert.deepEqual(cut(last.repeat(500)), { min: last.repeat(32), max: undefined });
});

test('a string column that holds invalid UTF-8 has no bound there', () => {
  assert.deepEqual(boundsOf('string', ['a', new Uint8Array([0xff])]), { min: 'a', max: undefined });
});

test('strings are ordered by code point, not by UTF-16 unit', () => {
  assert.deepEqual(boundsOf('string', ['\uffee', '\u{10000}']), {
    min: '\uffee',
    max: '\u{10000}',
  });
});

test('booleans, binaries, lists, maps and all-null columns have a null count only (S5)', () => {
  const list: DataType = { kind: 'array', element: primitive('long'), containsNull: true };
  const map: DataType = {
    kind: 'map',
    key: primitive('string'),
    value: primitive('long'),
    valueContainsNull: true,
  };
  const cells: readonly (readonly [DataType | PrimitiveName, CellValue])[] = [
    ['boolean', true],
    ['binary', new Uint8Array(1)],
    [list, [1n]],
    [map, new Map([['k', 1n]])],
  ];
  for (const [type, cell] of cells) {
    assert.equal(
      statsOf(type, [cell, null]),
      '{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{"c":1}}',
    );
  }
  assert.equal(
    statsOf('long', [null, null]),
    '{"numRecords":2,"minValues":{},"maxValues":{},"nullCount":{"c":2}}',
  );
  assert.equal(
    statsOf('long', []),
    '{"numRecords":0,"minValues":{},"maxValues":{},"nullCount":{"c":0}}',
  );
});

test('struct members are mirrored, and null wherever a struct around them is (S4)', () => {
  const schema = struct([
    field('o"uter', struct([field('a', 'long'), field('in', struct([field('b', 'string')]))])),
  ]);
  const stats = parse(
    computeStats(
      columnsFromRows(schema, [
        { 'o"uter': { a: 1n, in: { b: 'x' } } },
        { 'o"uter': { a: 2n, in: null } },
        { 'o"uter': null },
      ]),
    ),
  );
  assert.deepEqual(stats, {
    numRecords: 3,
    minValues: { 'o"uter': { a: '1', in: { b: 'x' } } },
    maxValues: { 'o"uter': { a: '2', in: { b: 'x' } } },
    nullCount: { 'o"uter': { a: '1', in: { b: '2' } } },
  });
});

test('a value that a null struct hides does not widen the bounds (S4)', () => {
  const schema = struct([field('s', struct([field('a', 'integer')]))]);
  const batch = columnsFromRows(schema, [{ s: { a: 5 } }, { s: { a: 9 } }, { s: { a: null } }]);
  const [outer] = batch.columns;
  const hidden = { ...outer!, nullCount: 1, validity: new Uint8Array([0b101]) };
  const stats = parse(computeStats({ ...batch, columns: [hidden] }));
  assert.deepEqual(stats.maxValues, { s: { a: '5' } });
  assert.deepEqual(stats.nullCount, { s: { a: '2' } });
});

test('only the first 32 leaves have statistics, struct members counted one by one (S5)', () => {
  const members = Array.from({ length: 30 }, (_, i) => field(`m${i}`, 'integer'));
  const schema = struct([
    field('s', struct(members)),
    field('a', 'integer'),
    field('b', 'integer'),
    field('beyond', 'integer'),
  ]);
  const { nullCount, minValues } = parse(
    computeStats(columnsFromRows(schema, [{ a: 1, b: 2, beyond: 3 }])),
  );
  assert.deepEqual(Object.keys(nullCount), ['s', 'a', 'b']);
  assert.deepEqual(minValues, { a: '1', b: '2' });
});

test('columns that are not asked for keep their null count only', () => {
  const schema = struct([field('a', 'integer'), field('b', 'integer')]);
  const batch = columnsFromRows(schema, [{ a: 1, b: 2 }]);
  assert.equal(
    computeStats(batch, { minMaxColumns: ['b'] }),
    '{"numRecords":1,"minValues":{"b":2},"maxValues":{"b":2},"nullCount":{"a":0,"b":0}}',
  );
});

test('the extremes of texts with long common prefixes are found', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 6 });
  fc.assert(
    fc.property(fc.array(fc.option(text), { minLength: 1 }), (cells) => {
      const present = cells.filter((cell) => cell !== null).toSorted(byCodePoint);
      assert.deepEqual(boundsOf('string', cells), { min: present[0], max: present.at(-1) });
    }),
    { numRuns: 300 },
  );
});
