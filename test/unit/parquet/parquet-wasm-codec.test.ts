/** The Parquet codec against itself: fidelity, projection, refusals, memory. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { PipelineError } from '../../../src/errors.ts';
import { columnsFromRows, rowsFromColumns } from '../../../src/pipeline/column-builder.ts';
import type { ColumnBatch, Vector } from '../../../src/pipeline/columns.ts';
import { field, primitive, struct } from '../../../src/pipeline/types.ts';
import type { EncodeOptions } from '../../../src/storage/parquet/parquet-codec.ts';
import { createParquetCodec } from '../../../src/storage/parquet/parquet-wasm-codec.ts';
import { anyBatch } from './column-arbitraries.ts';

const codec = createParquetCodec();
const snappy: EncodeOptions = { compression: 'snappy' };

/** The instance that was loaded last, for looking at its memory. */
function lastWasm(): typeof import('parquet-wasm/node') {
  return createRequire(import.meta.url)('parquet-wasm/node') as typeof import('parquet-wasm/node');
}

function corruptWith(code: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof PipelineError && error.kind === 'corrupt' && error.code === code;
}

function assertNormalised(vector: Vector): void {
  assert.equal(vector.offsets?.[0] ?? 0, 0);
  assert.equal(vector.validity === undefined, vector.nullCount === 0);
  for (const child of vector.children ?? []) assertNormalised(child);
}

test('every type comes back as it went in, in normal form (M2)', () => {
  fc.assert(
    fc.property(anyBatch, fc.constantFrom('zstd', 'snappy', 'none'), (batch, compression) => {
      const file = codec.encode(batch, { compression, plainColumns: ['f0'] });
      const decoded = codec.decode(file, batch.schema);
      assert.equal(decoded.length, batch.length);
      assert.deepEqual(rowsFromColumns(decoded), rowsFromColumns(batch));
      decoded.columns.forEach(assertNormalised);
    }),
    { numRuns: 100 },
  );
});

test('a column that is a slice of a larger one is written as the slice', () => {
  const schema = struct([field('s', 'string'), field('n', 'integer')]);
  const whole = columnsFromRows(schema, [
    { s: 'before', n: 1 },
    { s: 'one', n: 2 },
    { s: 'two', n: 3 },
    { s: 'after', n: 4 },
  ]);
  const [text, numbers] = whole.columns as [Vector, Vector];
  const slice: ColumnBatch = {
    schema,
    length: 2,
    columns: [
      { ...text, length: 2, offsets: text.offsets!.subarray(1, 4) },
      { ...numbers, length: 2, values: (numbers.values as Int32Array).subarray(1, 3) },
    ],
  };
  assert.deepEqual(rowsFromColumns(codec.decode(codec.encode(slice, snappy), schema)), [
    { s: 'one', n: 2 },
    { s: 'two', n: 3 },
  ]);
});

test('rows beyond one row group come back in order', () => {
  const schema = struct([field('n', 'integer'), field('s', 'string')]);
  const length = 300_000;
  const offsets = Int32Array.from({ length: length + 1 }, (_, row) => row * 3);
  const batch: ColumnBatch = {
    schema,
    length,
    columns: [
      {
        type: primitive('integer'),
        length,
        nullCount: 0,
        values: Int32Array.from({ length }, (_, row) => row),
      },
      {
        type: primitive('string'),
        length,
        nullCount: 0,
        offsets,
        data: new Uint8Array(length * 3).map((_, at) => 97 + (at % 26)),
      },
    ],
  };
  const decoded = codec.decode(codec.encode(batch, snappy), schema);
  assert.deepEqual(decoded.columns[0]!.values, batch.columns[0]!.values);
  assert.deepEqual(decoded.columns[1]!.offsets, offsets);
  assert.deepEqual(decoded.columns[1]!.data, batch.columns[1]!.data);
});

test('any subset of columns in any order is decoded, absent ones as nulls (J1)', () => {
  fc.assert(
    fc.property(
      anyBatch.chain((batch) =>
        fc.tuple(fc.constant(batch), fc.shuffledSubarray([...batch.schema.fields])),
      ),
      ([batch, kept]) => {
        const wanted = struct([...kept, field('absent', 'string')]);
        const decoded = codec.decode(codec.encode(batch, snappy), wanted);
        const expected = rowsFromColumns(batch).map((row) => ({
          ...Object.fromEntries(kept.map(({ name }) => [name, row[name]])),
          absent: null,
        }));
        assert.deepEqual(rowsFromColumns(decoded), expected);
      },
    ),
    { numRuns: 60 },
  );
});

test('a struct member that the file lacks is null, an undeclared one is dropped (M3)', () => {
  const written = struct([field('st', struct([field('old', 'string'), field('both', 'long')]))]);
  const asked = struct([field('st', struct([field('both', 'long'), field('new', 'date')]))]);
  const file = codec.encode(columnsFromRows(written, [{ st: { old: 'x', both: 7n } }]), snappy);
  assert.deepEqual(rowsFromColumns(codec.decode(file, asked)), [{ st: { both: 7n, new: null } }]);
});

test('a column of another type is refused by name (M3)', () => {
  const file = codec.encode(columnsFromRows(struct([field('n', 'integer')]), [{ n: 1 }]), snappy);
  assert.throws(
    () => codec.decode(file, struct([field('n', 'long')])),
    (error) =>
      corruptWith('TM_SCHEMA_MISMATCH')(error) &&
      (error as PipelineError).context['column'] === 'n',
  );
});

test('bytes that are no Parquet file are refused', () => {
  const schema = struct([field('n', 'integer')]);
  const tooLong = new TextEncoder().encode('PAR1....\xffPAR1');
  for (const bytes of [new Uint8Array(0), new TextEncoder().encode('PAR1PAR1'), tooLong]) {
    assert.throws(() => codec.decode(bytes, schema), corruptWith('TM_PARQUET_CORRUPT'));
  }
});

test('a damaged file is refused or decoded, and the codec goes on (J3, W2)', () => {
  const schema = struct([
    field('s', 'string'),
    field('l', { kind: 'array', element: primitive('long'), containsNull: true }),
  ]);
  const rows = Array.from({ length: 50 }, (_, i) => ({ s: `row ${i % 7}`, l: [BigInt(i), null] }));
  const good = codec.encode(columnsFromRows(schema, rows), { compression: 'zstd' });
  const damaged = fc.oneof(
    fc.nat(good.length - 1).map((length) => good.slice(0, length)),
    fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
      .map((changes) => {
        const copy = good.slice();
        for (const [at, byte] of changes) copy[at] = byte;
        return copy;
      }),
  );
  fc.assert(
    fc.property(damaged, (file) => {
      try {
        codec.decode(file, schema);
      } catch (error) {
        assert.ok(error instanceof PipelineError, String(error));
        assert.equal(error.kind, 'corrupt');
      }
    }),
    { numRuns: 60 },
  );
  assert.deepEqual(rowsFromColumns(codec.decode(good, schema)), rows);
});

test('an invalid UTF-8 string is refused, and another instance goes on (W2)', () => {
  const schema = struct([field('s', 'string')]);
  const good = columnsFromRows(schema, [{ s: 'ok' }]);
  const bad = columnsFromRows(schema, [{ s: new Uint8Array([0xff]) }]);
  codec.encode(good, snappy);
  const failed = lastWasm();
  assert.throws(
    () => codec.encode(bad, snappy),
    (error) => error instanceof PipelineError && error.kind === 'internal',
  );
  assert.deepEqual(rowsFromColumns(codec.decode(codec.encode(good, snappy), schema)), [
    { s: 'ok' },
  ]);
  assert.notEqual(lastWasm(), failed);
});

test('two hundred encodes and decodes leave WebAssembly memory as it was (W1)', () => {
  const own = createParquetCodec();
  const schema = struct([field('s', 'string'), field('n', 'long')]);
  const batch = columnsFromRows(
    schema,
    Array.from({ length: 5000 }, (_, i) => ({ s: `value ${i}`.repeat(5), n: BigInt(i) })),
  );
  const round = (): void => void own.decode(own.encode(batch, { compression: 'zstd' }), schema);
  for (let i = 0; i < 10; i++) round();
  const before = lastWasm().wasmMemory().buffer.byteLength;
  for (let i = 0; i < 200; i++) round();
  assert.equal(lastWasm().wasmMemory().buffer.byteLength, before);
});

test('an instance that outgrew its bound is replaced (W3)', () => {
  const own = createParquetCodec({ memoryBytesMax: 1 });
  const schema = struct([field('n', 'long')]);
  const batch = columnsFromRows(schema, [{ n: 1n }]);
  const file = own.encode(batch, snappy);
  const first = lastWasm();
  assert.deepEqual(rowsFromColumns(own.decode(file, schema)), [{ n: 1n }]);
  assert.notEqual(lastWasm(), first);
});

test('a worker thread has a codec of its own', async () => {
  const schema = struct([field('s', 'string')]);
  const file = codec.encode(columnsFromRows(schema, [{ s: 'from main' }]), snappy);
  const worker = new Worker(new URL('./codec-thread.child.ts', import.meta.url), {
    workerData: { file, schema },
  });
  const [reply] = await new Promise<[Uint8Array]>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  assert.deepEqual(rowsFromColumns(codec.decode(reply, schema)), [{ s: 'from main' }]);
});
