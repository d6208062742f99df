/** Bronze rows from record chunks, and the coverage that goes with them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PipelineError } from '../../src/errors.ts';
import { bitmapBytes, setBits } from '../../src/pipeline/bitmaps.ts';
import {
  bronzeFileSchema,
  bronzeTableSchema,
  buildBronzeBatches,
  coverageOf,
  coverageText,
  parseCoverage,
} from '../../src/pipeline/bronze.ts';
import {
  type CellValue,
  type RowValue,
  rowsFromColumns,
  vectorFromCells,
} from '../../src/pipeline/column-builder.ts';
import type { Gap, RecordChunk } from '../../src/pipeline/records.ts';
import { primitive } from '../../src/pipeline/types.ts';

const DAY = 86_400_000_000n;
const HEADERS = bronzeFileSchema().fields.find(({ name }) => name === '_kafka_headers')!.type;

/** A record; `value` undefined stands for one that was too large to keep. */
interface TestRecord {
  readonly offset: bigint;
  readonly timestamp?: bigint;
  readonly key?: Uint8Array | null;
  readonly value?: Uint8Array | null | undefined;
  readonly headers?: readonly { readonly key: string; readonly value: Uint8Array | null }[] | null;
}

const TOO_LARGE_BYTES = 1_000_000;
const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

function isUtf8(bytes: Uint8Array): boolean {
  try {
    strictUtf8.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

function chunkOf(
  records: readonly TestRecord[],
  options: {
    readonly partition?: number;
    readonly from?: bigint;
    readonly next?: bigint;
    readonly gaps?: readonly Gap[];
  } = {},
): RecordChunk {
  const { partition = 0, gaps = [] } = options;
  const length = records.length;
  const fromOffset = options.from ?? records[0]?.offset ?? 0n;
  const utf8 = new Uint8Array(bitmapBytes(length));
  records.forEach(({ value }, row) => {
    if (value && isUtf8(value)) setBits(utf8, row, 1);
  });
  const allText = records.every(({ value }) => !value || isUtf8(value));
  return {
    partition,
    fromOffset,
    nextOffset: options.next ?? (records.at(-1)?.offset ?? fromOffset - 1n) + 1n,
    length,
    offsets: BigInt64Array.from(records, ({ offset }) => offset),
    timestamps: BigInt64Array.from(records, ({ timestamp = 0n }) => timestamp),
    keys: vectorFromCells(
      primitive('binary'),
      records.map(({ key }) => key),
    ),
    values: vectorFromCells(
      primitive('binary'),
      records.map(({ value }) => value),
    ),
    valueSizes: Int32Array.from(records, ({ value }) =>
      value === null ? -1 : (value?.length ?? TOO_LARGE_BYTES),
    ),
    ...(allText ? {} : { utf8 }),
    headers: vectorFromCells(
      HEADERS,
      records.map(({ headers }) => headers as CellValue),
    ),
    gaps,
  };
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const notText = new Uint8Array([0xc3, 0x28]);
const OPTIONS = { topic: 'api.usage', ingestedAtMicros: 77n };

/** Every row of every date, with its date. */
function rowsOf(chunks: readonly RecordChunk[]): RowValue[] {
  return buildBronzeBatches(chunks, OPTIONS).flatMap(({ dateDays, batch }) =>
    rowsFromColumns(batch).map((row): RowValue => ({ dateDays, ...row })),
  );
}

test('the table has the date as partition column, the files do not', () => {
  const names = bronzeFileSchema().fields.map(({ name }) => name);
  assert.deepEqual(
    bronzeTableSchema().fields.map(({ name }) => name),
    [...names, '_event_date'],
  );
  assert.ok(!names.includes('_event_date'));
});

test('a record keeps its bytes, key, headers and coordinates (B1)', () => {
  const headers = [
    { key: 'trace', value: new Uint8Array([1]) },
    { key: 'trace', value: null },
  ];
  const chunk = chunkOf(
    [{ offset: 41n, timestamp: DAY + 5n, key: text('k'), value: text('{"é":1}'), headers }],
    { partition: 3 },
  );
  assert.deepEqual(rowsOf([chunk]), [
    {
      dateDays: 1,
      _raw_value: '{"é":1}',
      _raw_bytes: null,
      _kafka_key: text('k'),
      _kafka_headers: headers,
      _kafka_topic: 'api.usage',
      _kafka_partition: 3,
      _kafka_offset: 41n,
      _kafka_timestamp: DAY + 5n,
      _ingested_at: 77n,
      _value_size: 8,
    },
  ]);
});

test('text, bytes that are no text, tombstones and too large values are told apart (B1)', () => {
  const rows = rowsOf([
    chunkOf([
      { offset: 0n, value: notText },
      { offset: 1n, value: null },
      { offset: 2n, value: text('a') },
      { offset: 3n, value: undefined },
      { offset: 4n, value: text('') },
      { offset: 5n, value: notText },
    ]),
  ]);
  assert.deepEqual(
    rows.map((row) => [row['_raw_value'], row['_raw_bytes'], row['_value_size']]),
    [
      [null, notText, 2],
      [null, null, null],
      ['a', null, 1],
      [null, null, TOO_LARGE_BYTES],
      ['', null, 0],
      [null, notText, 2],
    ],
  );
});

test('rows are ordered by partition and offset, whatever the order of the chunks (B2)', () => {
  const chunks = [
    chunkOf([{ offset: 9n }], { partition: 1 }),
    chunkOf([{ offset: 7n }, { offset: 8n }], { partition: 1 }),
    chunkOf([{ offset: 100n }], { partition: 0 }),
  ];
  assert.deepEqual(
    rowsOf(chunks).map((row) => [row['_kafka_partition'], row['_kafka_offset']]),
    [
      [0, 100n],
      [1, 7n],
      [1, 8n],
      [1, 9n],
    ],
  );
});

test('dates are UTC days of the Kafka timestamp, also before 1970 and beyond exact doubles', () => {
  const farDays = 100_000_000n;
  const chunk = chunkOf([
    { offset: 0n, timestamp: DAY - 1000n },
    { offset: 1n, timestamp: DAY },
    { offset: 2n, timestamp: -1000n },
    { offset: 3n, timestamp: farDays * DAY - 1000n },
    { offset: 4n, timestamp: farDays * DAY },
    { offset: 5n, timestamp: farDays * DAY - 1000n },
    { offset: 6n, timestamp: 0n },
  ]);
  assert.deepEqual(
    rowsOf([chunk]).map((row) => [row['dateDays'], row['_kafka_offset']]),
    [
      [-1, 2n],
      [0, 0n],
      [0, 6n],
      [1, 1n],
      [99_999_999, 3n],
      [99_999_999, 5n],
      [100_000_000, 4n],
    ],
  );
});

test('chunks without rows give no file', () => {
  const marker: Gap = { from: 5n, to: 6n, kind: 'marker' };
  assert.deepEqual(
    buildBronzeBatches([chunkOf([], { from: 5n, next: 6n, gaps: [marker] })], OPTIONS),
    [],
  );
  assert.deepEqual(buildBronzeBatches([], OPTIONS), []);
});

test('any cut of the same records into chunks gives the same rows (B1, P9)', () => {
  const record = fc.record({
    timestamp: fc.constantFrom(0n, 5n, DAY, 2n * DAY - 1n),
    key: fc.option(fc.uint8Array({ maxLength: 3 })),
    value: fc.oneof(
      fc.constantFrom(null, undefined),
      fc.string({ maxLength: 5 }).map(text),
      fc.uint8Array({ maxLength: 3 }),
    ),
    headers: fc.option(
      fc.array(fc.record({ key: fc.string({ maxLength: 3 }), value: fc.constant(null) }), {
        maxLength: 2,
      }),
    ),
  });
  fc.assert(
    fc.property(fc.array(record, { maxLength: 40 }), fc.array(fc.nat(40)), (records, cuts) => {
      const all = records.map((own, i) => ({ ...own, offset: BigInt(i) }));
      const bounds = [...new Set([0, ...cuts, all.length])]
        .filter((at) => at <= all.length)
        .toSorted((a, b) => a - b);
      const chunks = bounds.slice(1).map((to, i) => chunkOf(all.slice(bounds[i]!, to)));
      const rows = rowsOf(chunks);
      assert.deepEqual(rows, rowsOf([chunkOf(all)]));
      assert.equal(rows.length, all.length);
      for (const row of rows) {
        const { value } = all[Number(row['_kafka_offset'])]!;
        const kept = value && isUtf8(value) ? strictUtf8.decode(value) : (value ?? null);
        assert.deepEqual(row['_raw_value'] ?? row['_raw_bytes'], kept);
      }
    }),
  );
});

test('coverage joins the chunks of a partition and adjacent gaps of one kind (B3)', () => {
  const coverage = coverageOf([
    chunkOf([{ offset: 12n }], {
      partition: 2,
      from: 11n,
      next: 14n,
      gaps: [
        { from: 11n, to: 12n, kind: 'marker' },
        { from: 13n, to: 14n, kind: 'marker' },
      ],
    }),
    chunkOf([{ offset: 5n }, { offset: 9n }], {
      partition: 2,
      next: 11n,
      gaps: [
        { from: 6n, to: 9n, kind: 'aborted' },
        { from: 10n, to: 11n, kind: 'marker' },
      ],
    }),
    chunkOf([{ offset: 0n }], { partition: 1 }),
  ]);
  assert.deepEqual(coverage, [
    { partition: 1, from: 0n, to: 1n, rows: 1, gaps: [] },
    {
      partition: 2,
      from: 5n,
      to: 14n,
      rows: 3,
      gaps: [
        { from: 6n, to: 9n, kind: 'aborted' },
        { from: 10n, to: 12n, kind: 'marker' },
        { from: 13n, to: 14n, kind: 'marker' },
      ],
    },
  ]);
});

test('an offset that is neither row nor gap, or between chunks, is refused (B3)', () => {
  const internal = (error: unknown): boolean =>
    error instanceof PipelineError && error.kind === 'internal';
  assert.throws(() => coverageOf([chunkOf([{ offset: 5n }, { offset: 7n }])]), internal);
  assert.throws(() => coverageOf([chunkOf([{ offset: 5n }]), chunkOf([{ offset: 7n }])]), internal);
});

test('coverage survives its text form, offsets beyond 2^53 included', () => {
  const offset = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
  const kind = fc.constantFrom<Gap['kind']>('marker', 'aborted', 'compacted');
  const gap = fc.record({ from: offset, to: offset, kind }, { noNullPrototype: true });
  const anyCoverage = fc.array(
    fc.record(
      { partition: fc.nat(), from: offset, to: offset, rows: fc.nat(), gaps: fc.array(gap) },
      { noNullPrototype: true },
    ),
  );
  fc.assert(
    fc.property(anyCoverage, (coverage) => {
      assert.deepEqual(parseCoverage(coverageText(coverage)), coverage);
    }),
  );
  assert.equal(
    coverageText([
      { partition: 0, from: 5n, to: 9n, rows: 3, gaps: [{ from: 7n, to: 8n, kind: 'marker' }] },
    ]),
    '[{"partition":0,"from":5,"to":9,"rows":3,"gaps":[[7,8,"marker"]]}]',
  );
});

test('a coverage text that is damaged is refused', () => {
  for (const damaged of [
    '',
    '{}',
    '[{}]',
    '[{"partition":0,"from":1,"to":2,"rows":1,"gaps":[[1,2,"x"]]}]',
  ]) {
    assert.throws(
      () => parseCoverage(damaged),
      (error) => error instanceof PipelineError && error.code === 'TM_LOG_CORRUPT',
    );
  }
});
