/**
 * Kafka record batches: the decoder refuses or is exact, whatever the bytes; what it takes, kafkajs's
 * own decoder reads the same where its checksum is the producer's. Memory is bounded by the bytes and the limits, not by what they claim.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import type { RecordChunk } from '../../src/pipeline/records.ts';
import { decodeRecordBatches } from '../../src/storage/source/record-batch.ts';
import { COMPRESSIONS } from '../../src/storage/source/record-batch-codec.ts';
import { encodeRecordBatch } from '../../src/storage/source/record-batch-encoder.ts';
import {
  BATCH_FIELD,
  BATCH_HEADER_BYTES,
  BATCH_OVERHEAD_BYTES,
  batchSizeAt,
  readBatchHeader,
} from '../../src/storage/source/record-batch-header.ts';
import { assertExplained, rowsOf } from '../support/source-records.ts';
import { attempted, type FuzzTarget, property } from './fuzz-target.ts';
import { byteDamage } from './mutation.ts';

const INFLATED_BYTES_MAX = 1 << 20;
/** Columns take at most so much per byte of inflated records, and so much besides. */
const COLUMN_BYTES_PER_BYTE = 32;

const bytes = fc.option(fc.uint8Array({ maxLength: 40 }), { nil: null });
const batch = fc
  .record({
    records: fc.array(
      fc.record({
        timestampMs: fc.integer({ min: 0, max: 2_000_000_000 }),
        key: bytes,
        value: bytes,
        headers: fc.array(fc.tuple(fc.string({ maxLength: 4 }), bytes), { maxLength: 2 }),
      }),
      { minLength: 1, maxLength: 6 },
    ),
    compression: fc.constantFrom(...COMPRESSIONS),
    transactional: fc.boolean(),
  })
  .map(
    ({ records, ...options }) =>
      (baseOffset: bigint) =>
        Buffer.from(encodeRecordBatch(records, { baseOffset, producerId: 7n, ...options })),
  );

/** One to three batches one after another. */
const fetched = fc.array(batch, { minLength: 1, maxLength: 3 }).map((batches) => {
  let next = 0n;
  return batches.map((make) => {
    const made = make(next);
    next += BigInt(made.readInt32BE(BATCH_FIELD.lastOffsetDelta)) + 1n;
    return made;
  });
});

/** Makes checksums fit, as a broken or hostile broker would. */
function resealed(damaged: Buffer): Buffer {
  const sealed = Buffer.from(damaged);
  const view = new DataView(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  for (let at = 0; ; ) {
    const size = batchSizeAt(view, at);
    if (size === undefined || size < BATCH_FIELD.attributes || at + size > sealed.length) break;
    const content = sealed.subarray(at + BATCH_FIELD.attributes, at + size);
    sealed.writeUInt32BE(crc32c(content), at + BATCH_FIELD.crc);
    at += size;
  }
  return sealed;
}

async function holdsFor({ bytes: given, isHonest }: Fetched): Promise<void> {
  const { value: chunk } = await attempted(['corrupt', 'invalid'], () =>
    decodeRecordBatches(given, {
      partition: 0,
      fromOffset: 0n,
      aborted: [{ producerId: 7n, firstOffset: 3n }],
      maxRecordBytes: 1 << 16,
      maxInflatedBytes: INFLATED_BYTES_MAX,
    }),
  );
  if (!chunk) return;
  assertExplained(chunk);
  assertBounded(chunk, given.length);
  if (isHonest) await assertSameAsKafkajs(chunk, given);
}

function assertBounded(chunk: RecordChunk, given: number): void {
  const buffers = [chunk.offsets, chunk.timestamps, chunk.valueSizes].map(({ buffer }) => buffer);
  for (const { data, offsets } of [chunk.keys, chunk.values]) {
    if (data) buffers.push(data.buffer);
    if (offsets) buffers.push(offsets.buffer);
  }
  const held = [...new Set(buffers)].reduce((sum, buffer) => sum + buffer.byteLength, 0);
  const allowed = COLUMN_BYTES_PER_BYTE * (given + INFLATED_BYTES_MAX) + 65_536;
  assert.ok(held <= allowed, `${held} bytes are held for ${given}`);
}

interface KafkajsRecord {
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

type KafkajsBatch = (decoder: object) => Promise<{ readonly records: readonly KafkajsRecord[] }>;

const require = createRequire(import.meta.url);
const KafkajsDecoder = require('kafkajs/src/protocol/decoder') as new (bytes: Buffer) => object;
const decodeKafkajsBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder') as KafkajsBatch;

/** Batches with rows; it knows no snappy, lz4 or zstd by itself. */
async function assertSameAsKafkajs(chunk: RecordChunk, given: Buffer): Promise<void> {
  const ours = new Map(rowsOf(chunk).map((row) => [row.offset, row]));
  const view = new DataView(given.buffer, given.byteOffset, given.byteLength);
  for (let at = 0; ; ) {
    const size = batchSizeAt(view, at);
    if (size === undefined || at + size > given.length) break;
    const { attributes, baseOffset, offsetLast } = readBatchHeader(view, at);
    const isTaken = [...ours.keys()].some((one) => one >= baseOffset && one <= offsetLast);
    if ((attributes & 7) <= 1 && isTaken) {
      const { records } = await decodeKafkajsBatch(
        new KafkajsDecoder(given.subarray(at, at + size)),
      );
      for (const { offset, key, value } of records) {
        const row = ours.get(BigInt(offset));
        if (!row) continue;
        assert.equal(row.key, key?.toString() ?? null);
        assert.deepEqual(row.value, value && Buffer.from(value));
      }
    }
    at += size;
  }
}

interface Fetched {
  readonly bytes: Buffer;
  /** Whether its checksums are ours: kafkajs trusts every length, and may take a minute over a wrong one. */
  readonly isHonest: boolean;
}

const honest = (bytes: Buffer): Fetched => ({ bytes, isHonest: true });
const sealed = (bytes: Buffer): Fetched => ({ bytes: resealed(bytes), isHonest: false });

const damaged: fc.Arbitrary<Fetched> = fc.oneof(
  fetched.map((batches) => honest(Buffer.concat(batches))),
  fc.tuple(fetched, byteDamage).map(([batches, damage]) => honest(damage(Buffer.concat(batches)))),
  fc.tuple(fetched, byteDamage).map(([batches, damage]) => sealed(damage(Buffer.concat(batches)))),
  // The records of one batch, behind a header that says the truth about them.
  fc.tuple(batch, byteDamage).map(([make, damage]) => {
    const whole = make(0n);
    const records = damage(whole.subarray(BATCH_HEADER_BYTES));
    const joined = Buffer.concat([whole.subarray(0, BATCH_HEADER_BYTES), records]);
    joined.writeInt32BE(joined.length - BATCH_OVERHEAD_BYTES, BATCH_FIELD.length);
    return sealed(joined);
  }),
  fc.uint8Array({ maxLength: 200 }).map((any) => sealed(Buffer.from(any))),
);

/** Damaged batches, with and without a checksum that fits. */
export const recordBatches: FuzzTarget = {
  name: 'record-batches',
  runs: 3_000,
  open: () => ({ property: property(damaged, holdsFor) }),
};
