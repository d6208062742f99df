import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PipelineError } from '../../../src/errors.ts';
import type { Gap, RecordChunk } from '../../../src/pipeline/records.ts';
import { decodeRecordBatches } from '../../../src/storage/source/record-batch.ts';
import { COMPRESSIONS, inflate } from '../../../src/storage/source/record-batch-codec.ts';
import {
  type BatchOptions,
  controlRecord,
  encodeRecordBatch,
  type RecordInput,
} from '../../../src/storage/source/record-batch-encoder.ts';
import { murmur2, partitionOfKey } from '../../../src/storage/source/murmur2.ts';
import { assertExplained, bytesAt, headersAt } from '../../support/source-records.ts';

const T0 = 1_790_000_000_000;
const text = (value: string): Uint8Array => Buffer.from(value);

/** A batch of text values, one per offset from `baseOffset` on. */
function batch(values: readonly string[], options: BatchOptions): Uint8Array {
  return encodeRecordBatch(
    values.map((value) => ({ timestampMs: T0, value: text(value) })),
    options,
  );
}

function marker(type: 'commit' | 'abort', producerId: bigint, baseOffset: bigint): Uint8Array {
  return encodeRecordBatch([controlRecord(type, T0)], {
    baseOffset,
    producerId,
    transactional: true,
    control: true,
  });
}

function decode(
  batches: readonly Uint8Array[],
  options: Partial<Parameters<typeof decodeRecordBatches>[1]> = {},
): RecordChunk {
  return decodeRecordBatches(Buffer.concat(batches), {
    partition: 0,
    fromOffset: 0n,
    aborted: [],
    maxRecordBytes: 1 << 20,
    maxInflatedBytes: 64 << 20,
    ...options,
  });
}

/** `offset:value` of every row. */
function rows(chunk: RecordChunk): string[] {
  return Array.from(
    chunk.offsets,
    (offset, row) => `${offset}:${String(bytesAt(chunk.values, row))}`,
  );
}

function gaps(chunk: RecordChunk): string[] {
  return chunk.gaps.map((gap) => `${gap.kind}[${gap.from},${gap.to})`);
}

function code(kind: string, expected: string) {
  return (error: unknown) =>
    error instanceof PipelineError && error.kind === kind && error.code === expected;
}

for (const compression of COMPRESSIONS) {
  test(`records survive ${compression} with keys, nulls, headers and timestamps`, () => {
    const records: RecordInput[] = [
      { timestampMs: T0, key: text('k'), value: text('{"a":1}'), headers: [['h', text('1')]] },
      { timestampMs: T0 - 86_400_000_123, key: null, value: null },
      { timestampMs: T0 + 7, key: text(''), value: text('') },
      {
        timestampMs: T0,
        key: text('a key longer than thirty-two bytes, to be sure'),
        value: text('x'.repeat(5000)),
        headers: [
          ['same', text('1')],
          ['same', null],
          ['', text('')],
        ],
      },
    ];
    const chunk = decode([encodeRecordBatch(records, { baseOffset: 40n, compression })], {
      fromOffset: 40n,
    });
    assert.deepEqual([...chunk.offsets], [40n, 41n, 42n, 43n]);
    assert.deepEqual(
      [...chunk.timestamps],
      records.map((record) => BigInt(record.timestampMs) * 1000n),
    );
    for (const [row, record] of records.entries()) {
      assert.deepEqual(bytesAt(chunk.keys, row), record.key ?? null);
      assert.deepEqual(bytesAt(chunk.values, row), record.value);
    }
    assert.deepEqual([...chunk.valueSizes], [7, -1, 0, 5000]);
    assert.deepEqual(headersAt(chunk, 0), [['h', '1']]);
    assert.equal(headersAt(chunk, 1), null);
    assert.equal(headersAt(chunk, 2), null);
    assert.deepEqual(headersAt(chunk, 3), [
      ['same', '1'],
      ['same', null],
      ['', ''],
    ]);
    assert.equal(chunk.utf8, undefined);
    assert.equal(chunk.nextOffset, 44n);
    assertExplained(chunk);
  });
}

test('any records come back byte for byte, whatever the cut (R1, R4)', () => {
  const bytes = fc.oneof(fc.constant(null), fc.uint8Array({ maxLength: 80 }));
  const record = fc.record({
    timestampMs: fc.integer({ min: -4_000_000_000_000, max: 9_000_000_000_000 }),
    key: bytes,
    value: bytes,
    headers: fc.array(fc.tuple(fc.string({ maxLength: 5 }), bytes), { maxLength: 3 }),
    hole: fc.nat({ max: 2 }),
  });
  fc.assert(
    fc.property(
      fc.array(fc.array(record, { minLength: 1, maxLength: 12 }), { maxLength: 4 }),
      fc.constantFrom(0n, 4_294_967_290n, 9_007_199_254_740_990n),
      fc.nat({ max: 60 }),
      (batches, start, skip) => {
        const expected: { offset: bigint; record: RecordInput }[] = [];
        let base = start;
        const encoded = batches.map((records) => {
          let delta = -1;
          const withDeltas = records.map(({ hole, ...rest }) => {
            delta += 1 + hole;
            expected.push({ offset: base + BigInt(delta), record: rest });
            return { ...rest, offsetDelta: delta };
          });
          const out = encodeRecordBatch(withDeltas, {
            baseOffset: base,
            lastOffsetDelta: delta + 1,
          });
          base += BigInt(delta + 2);
          return out;
        });
        const fromOffset = start + BigInt(skip);
        const chunk = decode(encoded, { fromOffset });
        assertExplained(chunk);
        const kept = expected.filter(({ offset }) => offset >= fromOffset);
        assert.deepEqual(
          [...chunk.offsets],
          kept.map(({ offset }) => offset),
        );
        for (const [row, { record: input }] of kept.entries()) {
          assert.equal(chunk.timestamps[row], BigInt(input.timestampMs) * 1000n);
          assert.deepEqual(bytesAt(chunk.keys, row), input.key && Buffer.from(input.key));
          assert.deepEqual(bytesAt(chunk.values, row), input.value && Buffer.from(input.value));
          const headers = input.headers!.map(([name, value]) => [
            Buffer.from(name).toString(),
            value && Buffer.from(value).toString(),
          ]);
          assert.deepEqual(headersAt(chunk, row) ?? [], headers);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('decoding leaves its input as it was and starts inside a batch', () => {
  const bytes = batch(['a', 'b', 'c'], { baseOffset: 10n });
  const before = Buffer.from(bytes);
  const chunk = decode([bytes], { fromOffset: 11n });
  assert.deepEqual(rows(chunk), ['11:b', '12:c']);
  assert.deepEqual(Buffer.from(bytes), before);
});

test('a batch that is cut off is ignored, whatever the cut', () => {
  const first = batch(['a'], { baseOffset: 0n });
  const second = batch(['b'], { baseOffset: 1n });
  for (let cut = 0; cut < second.length; cut++) {
    const chunk = decode([first, second.subarray(0, cut)]);
    assert.deepEqual(rows(chunk), ['0:a']);
    assert.equal(chunk.nextOffset, 1n);
  }
});

test('no bytes advance nothing', () => {
  const chunk = decode([], { fromOffset: 5n });
  assert.equal(chunk.nextOffset, 5n);
  assert.equal(chunk.length, 0);
  assert.equal(chunk.headers.length, 0);
});

test('any flipped bit behind the length is refused (R2)', () => {
  const good = batch(['{"a":1}'], { baseOffset: 3n });
  for (let at = 16; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at]! ^= 0x10;
    assert.throws(() => decode([bad], { fromOffset: 3n }), PipelineError, `byte ${at}`);
  }
});

test('batches that overlap are corrupt (R2)', () => {
  const first = batch(['a', 'b'], { baseOffset: 0n });
  const again = batch(['b'], { baseOffset: 1n });
  assert.throws(() => decode([first, again]), code('corrupt', 'TM_RECORD_BATCH_CORRUPT'));
});

test('message formats 0 and 1 and codecs unknown to us are refused loudly (P8)', () => {
  const old = Buffer.from(batch(['a'], { baseOffset: 0n }));
  old[16] = 1;
  assert.throws(() => decode([old]), code('invalid', 'TM_RECORD_BATCH_UNSUPPORTED'));
  assert.throws(
    // A magic 0 message set entry can be shorter than a batch header.
    () =>
      decode([
        Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14]), Buffer.alloc(14)]),
      ]),
    code('invalid', 'TM_RECORD_BATCH_UNSUPPORTED'),
  );
});

test('LogAppendTime gives every record the time of the batch', () => {
  const records = [
    { timestampMs: T0, value: text('a') },
    { timestampMs: T0 + 5, value: text('b') },
  ];
  const chunk = decode([encodeRecordBatch(records, { baseOffset: 0n, logAppendTimeMs: T0 + 99 })]);
  assert.deepEqual([...chunk.timestamps], Array(2).fill(BigInt(T0 + 99) * 1000n));
});

test('timestamps beyond the range of microseconds saturate, -1 stays before the epoch', () => {
  const nanos = T0 * 1e6;
  const none = encodeRecordBatch([{ timestampMs: -1, value: null }], { baseOffset: 0n });
  assert.deepEqual([...decode([none]).timestamps], [-1000n]);
  const far = encodeRecordBatch([{ timestampMs: 0, value: null }], {
    baseOffset: 0n,
    logAppendTimeMs: nanos,
  });
  assert.deepEqual([...decode([far]).timestamps], [9_223_372_036_854_775_000n]);
});

test('values above the limit become null and keep their size', () => {
  const chunk = decode([batch(['small', 'much too large', 'ok'], { baseOffset: 0n })], {
    maxRecordBytes: 5,
  });
  assert.deepEqual(rows(chunk), ['0:small', '1:null', '2:ok']);
  assert.deepEqual([...chunk.valueSizes], [5, 14, 2]);
});

test('UTF-8 is judged per value, also where two halves would join to a character', () => {
  const euro = text('€');
  const values = [
    text('ä'),
    euro.subarray(0, 2),
    euro.subarray(2),
    null,
    text('z'),
    Uint8Array.of(0xff),
  ];
  const chunk = decode([
    encodeRecordBatch(
      values.map((value) => ({ timestampMs: T0, value })),
      { baseOffset: 0n },
    ),
  ]);
  const valid = values.map((_value, row) => (chunk.utf8![0]! >> row) & 1);
  assert.deepEqual(valid, [1, 0, 0, 1, 1, 0]);
});

test('a batch that inflates beyond the limit is refused before it is inflated', () => {
  const bomb = 'a'.repeat(1 << 20);
  for (const compression of COMPRESSIONS.slice(1)) {
    const bytes = batch([bomb], { baseOffset: 0n, compression });
    assert.throws(
      () => decode([bytes], { maxInflatedBytes: 1 << 19 }),
      code('invalid', 'TM_RECORD_BATCH_UNSUPPORTED'),
      compression,
    );
    assert.equal(decode([bytes], { maxInflatedBytes: 2 << 20 }).length, 1, compression);
  }
});

test('broken compressed bytes are corrupt, not a crash', () => {
  for (const codec of COMPRESSIONS.slice(1)) {
    assert.throws(
      () => inflate(codec, text('neither this nor that, but long enough'), 1 << 20),
      code('corrupt', 'TM_RECORD_BATCH_CORRUPT'),
      codec,
    );
  }
});

test('maxBytes ends a chunk between batches, and decoding again from there continues (R4)', () => {
  const batches = [0n, 2n, 4n].map((baseOffset) => batch(['x'.repeat(500), 'y'], { baseOffset }));
  const seen: string[] = [];
  let fromOffset = 0n;
  for (let i = 0; i < 3; i++) {
    const chunk = decode(batches, { fromOffset, maxBytes: 600 });
    assertExplained(chunk);
    assert.equal(chunk.length, 2);
    seen.push(...Array.from(chunk.offsets, String));
    fromOffset = chunk.nextOffset;
  }
  assert.deepEqual(seen, ['0', '1', '2', '3', '4', '5']);
});

const tx = (producerId: bigint, baseOffset: bigint): BatchOptions => ({
  baseOffset,
  producerId,
  transactional: true,
});

test('an aborted transaction is skipped up to its marker, the next one of the producer is not (R3)', () => {
  const chunk = decode(
    [
      batch(['a', 'b'], tx(1n, 0n)),
      batch(['other'], tx(2n, 2n)),
      marker('abort', 1n, 3n),
      batch(['c'], tx(1n, 4n)),
      marker('commit', 1n, 5n),
      marker('commit', 2n, 6n),
    ],
    { aborted: [{ producerId: 1n, firstOffset: 0n }] },
  );
  assert.deepEqual(rows(chunk), ['2:other', '4:c']);
  assert.deepEqual(gaps(chunk), ['aborted[0,2)', 'marker[3,4)', 'marker[5,7)']);
  assertExplained(chunk);
});

test('several aborted transactions of one producer in one fetch are all skipped (R3, fault 30)', () => {
  const chunk = decode(
    [
      batch(['a'], tx(1n, 0n)),
      marker('abort', 1n, 1n),
      batch(['b'], tx(1n, 2n)),
      marker('commit', 1n, 3n),
      batch(['c'], tx(1n, 4n)),
      marker('abort', 1n, 5n),
    ],
    // Out of order on purpose: brokers list by segment.
    { aborted: [4n, 0n].map((firstOffset) => ({ producerId: 1n, firstOffset })) },
  );
  assert.deepEqual(rows(chunk), ['2:b']);
  assertExplained(chunk);
});

test('a record whose key looks like an abort marker is none (R3, fault 28)', () => {
  const int32Zero = { timestampMs: T0, key: Uint8Array.of(0, 0, 0, 0), value: text('data') };
  const chunk = decode(
    [
      encodeRecordBatch([int32Zero], tx(1n, 0n)),
      batch(['still aborted'], tx(1n, 1n)),
      marker('abort', 1n, 2n),
      encodeRecordBatch([int32Zero], { baseOffset: 3n }),
    ],
    { aborted: [{ producerId: 1n, firstOffset: 0n }] },
  );
  assert.deepEqual(rows(chunk), ['3:data']);
  assert.deepEqual(gaps(chunk), ['aborted[0,2)', 'marker[2,3)']);
});

test('two transactions open at the start of the fetch are both skipped (R3, fault 29)', () => {
  const chunk = decode(
    [
      batch(['a'], tx(1n, 10n)),
      batch(['b'], tx(2n, 11n)),
      batch(['kept'], { baseOffset: 12n }),
      marker('abort', 2n, 13n),
      marker('abort', 1n, 14n),
    ],
    {
      fromOffset: 10n,
      aborted: [
        { producerId: 1n, firstOffset: 3n },
        { producerId: 2n, firstOffset: 5n },
      ],
    },
  );
  assert.deepEqual(rows(chunk), ['12:kept']);
  assertExplained(chunk);
});

test('a fetch may begin at a marker or inside an aborted batch (R3, faults 31, 32)', () => {
  const log = [
    batch(['a', 'b'], tx(1n, 0n)),
    marker('abort', 1n, 2n),
    batch(['c'], { baseOffset: 3n }),
  ];
  const aborted = [{ producerId: 1n, firstOffset: 0n }];
  const atMarker = decode(log.slice(1), { fromOffset: 2n, aborted });
  assert.deepEqual(rows(atMarker), ['3:c']);
  assert.deepEqual(gaps(atMarker), ['marker[2,3)']);
  const inside = decode(log, { fromOffset: 1n, aborted });
  assert.deepEqual(gaps(inside), ['aborted[1,2)', 'marker[2,3)']);
  assertExplained(inside);
});

test('a non-transactional batch of an aborting producer id stays (R3)', () => {
  const chunk = decode([batch(['a'], { baseOffset: 0n, producerId: 1n })], {
    aborted: [{ producerId: 1n, firstOffset: 0n }],
  });
  assert.deepEqual(rows(chunk), ['0:a']);
});

test('compaction leaves explained gaps: inside, at the tail, whole batches, between batches (R1)', () => {
  const value = text('v');
  const chunk = decode([
    encodeRecordBatch(
      [
        { timestampMs: T0, value, offsetDelta: 1 },
        { timestampMs: T0, value, offsetDelta: 4 },
      ],
      { baseOffset: 0n, lastOffsetDelta: 6 },
    ),
    encodeRecordBatch([], { baseOffset: 7n, lastOffsetDelta: 2 }),
    batch(['w'], { baseOffset: 15n }),
    encodeRecordBatch([], { ...tx(1n, 16n), lastOffsetDelta: 0, control: true }),
  ]);
  assert.deepEqual(rows(chunk), ['1:v', '4:v', '15:w']);
  assert.deepEqual(gaps(chunk), [
    'compacted[0,1)',
    'compacted[2,4)',
    'compacted[5,15)',
    'compacted[16,17)',
  ]);
  assert.equal(chunk.nextOffset, 17n);
  assertExplained(chunk);
});

test('a fetch that holds only markers still advances (fault 33)', () => {
  const chunk = decode([marker('commit', 1n, 8n), marker('abort', 2n, 9n)], { fromOffset: 8n });
  assert.equal(chunk.nextOffset, 10n);
  assert.deepEqual(chunk.gaps, [{ from: 8n, to: 10n, kind: 'marker' }] satisfies Gap[]);
});

test("keys hash as in Kafka's own tests", () => {
  for (const [key, hash] of [
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ] as const) {
    assert.equal(murmur2(text(key)), hash, key);
    assert.equal(murmur2(text(`<${key}>`), 1, key.length + 1), hash, key);
  }
  assert.equal(partitionOfKey(text('foobar'), 7), (-790332482 & 0x7fffffff) % 7);
});
