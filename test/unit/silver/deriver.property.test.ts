/**
 * V1, V2, R1 to R3, F1 to F3: the deriver agrees with an independent slow one, however it is cut.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RowValue } from '../../../src/pipeline/column-builder.ts';
import type { EventConfig } from '../../../src/pipeline/pipeline-config.ts';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import type { SilverResult } from '../../../src/pipeline/silver/derivation.ts';
import { SilverDeriver } from '../../../src/pipeline/silver/deriver.ts';
import { fingerprintsOf } from '../../../src/pipeline/silver/fingerprints.ts';
import { bronzeInput, deadRowsOf, LATE, silverRowsOf, type TestRecord } from './bronze-batches.ts';
import { eventConfig, eventText } from './event-arbitraries.ts';
import { deriveByReference } from './silver-reference.ts';

interface World {
  readonly event: EventConfig;
  /** In the order that counts. */
  readonly records: readonly TestRecord[];
  /** Random numbers for cuts. */
  readonly cuts: readonly number[];
}

const TOPIC_START = 1_795_306_200_000_000n; // 2026-11-22T00:10:00Z

const world: fc.Arbitrary<World> = eventConfig.chain((event) =>
  fc
    .record({
      values: fc.array(
        fc.oneof(
          { weight: 30, arbitrary: eventText(event).map((text) => Buffer.from(text)) },
          fc.constantFrom(null, 20_000_000, Buffer.from(''), Buffer.from(' \n'), Buffer.from('[]')),
          fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
        ),
        { minLength: 1, maxLength: 12 },
      ),
      // Fewer values than records, so that events come again.
      places: fc.array(
        fc.record({ pick: fc.nat(999), version: fc.nat(2), partition: fc.nat(2), step: fc.nat(3) }),
        { minLength: 1, maxLength: 20 },
      ),
      cuts: fc.array(fc.nat(1000), { minLength: 40, maxLength: 40 }),
    })
    .map(({ values, places, cuts }): World => {
      const order = places
        .map((place) => ({ ...place, value: values[place.pick % values.length] ?? null }))
        .sort((a, b) => a.version - b.version || a.partition - b.partition);
      const records = order.map(({ value, version, partition, step }, i) => ({
        bronzeVersion: version + 1,
        partition,
        offset: BigInt(i * 5 + step) + 2n ** 33n,
        timestamp: TOPIC_START + BigInt(i) * 1_000n,
        value,
      }));
      return { event, records, cuts };
    }),
);

/** Cuts the records of each version into shuffled files, and files into calls of derive. */
function cutIntoCalls({ records, cuts }: World): TestRecord[][][] {
  const versions = [...new Set(records.map((r) => r.bronzeVersion))];
  let used = 0;
  const dice = (sides: number): number => cuts[used++ % cuts.length]! % sides;
  const calls: TestRecord[][][] = [[]];
  for (const version of versions) {
    const files: TestRecord[][] = Array.from({ length: 1 + dice(3) }, () => []);
    for (const record of records) {
      if (record.bronzeVersion === version) files[dice(files.length)]!.push(record);
    }
    if (dice(3) === 0) for (const file of files) file.reverse();
    if (dice(2) === 0) files.reverse();
    if (dice(2) === 0) calls.push([]);
    calls.at(-1)!.push(...files.filter((file) => file.length > 0));
  }
  return calls;
}

async function deriveAll(
  { event }: World,
  calls: readonly (readonly (readonly TestRecord[])[])[],
  subBatchRows: number,
  buckets?: { count: number; owned: ReadonlySet<number> },
): Promise<SilverResult[]> {
  const deriver = new SilverDeriver({ event, late: LATE, subBatchRows }, new MemoryDedupIndex());
  const results: SilverResult[] = [];
  for (const files of calls) results.push(await deriver.derive(files.map(bronzeInput), buckets));
  return results;
}

const sum = (results: readonly SilverResult[], name: string): number =>
  results.reduce((total, { counts }) => total + counts[name]!, 0);

const byPlace = (a: RowValue, b: RowValue): number =>
  Number(a['_kafka_partition']) - Number(b['_kafka_partition']) ||
  Number((a['_kafka_offset'] as bigint) - (b['_kafka_offset'] as bigint));

const deadEssence = (row: RowValue): RowValue => ({
  _kafka_topic: row['_kafka_topic']!,
  _kafka_partition: row['_kafka_partition']!,
  _kafka_offset: row['_kafka_offset']!,
  _kafka_timestamp: row['_kafka_timestamp']!,
  _quality_flags: row['_quality_flags']!,
});

const RUNS = { numRuns: Number(process.env['SILVER_RUNS'] ?? 100) };

test('V1 V2: any cut of any events gives what the slow reference gives', async () => {
  await fc.assert(
    fc.asyncProperty(world, fc.integer({ min: 1, max: 9 }), async (given, subBatchRows) => {
      const expected = deriveByReference(given.records, given.event, LATE);
      const results = await deriveAll(given, cutIntoCalls(given), subBatchRows);
      assert.deepEqual(
        results.flatMap(silverRowsOf).sort(byPlace),
        [...expected.silver].sort(byPlace),
      );
      const dead = results.flatMap(deadRowsOf).sort(byPlace);
      assert.deepEqual(dead.map(deadEssence), [...expected.dead].sort(byPlace));
      assert.equal(sum(results, 'bronzeRows'), given.records.length);
      assert.equal(sum(results, 'silverRows'), expected.silver.length);
      assert.equal(sum(results, 'duplicates'), expected.duplicates);
      assert.equal(sum(results, 'conflicts'), expected.conflicts);
      const watermarks = new Map<number, bigint>();
      for (const { watermarksMicros } of results) {
        for (const [partition, micros] of watermarksMicros) {
          const before = watermarks.get(partition);
          if (before === undefined || micros > before) watermarks.set(partition, micros);
        }
      }
      assert.deepEqual(watermarks, expected.watermarks);
    }),
    RUNS,
  );
});

test('every rescued text is JSON, and every dead letter keeps its bytes and says why', async () => {
  await fc.assert(
    fc.asyncProperty(world, async (given) => {
      const [result] = await deriveAll(given, [given.records.map((record) => [record])], 4);
      for (const row of silverRowsOf(result!)) {
        if (row['_rescued'] !== null) JSON.parse(row['_rescued'] as string);
      }
      for (const row of deadRowsOf(result!)) {
        const { value } = given.records.find(
          (r) => r.partition === row['_kafka_partition'] && r.offset === row['_kafka_offset'],
        )!;
        const kept = row['_raw_bytes'] ?? row['_raw_value'];
        if (value instanceof Uint8Array) {
          const bytes = typeof kept === 'string' ? Buffer.from(kept) : (kept as Uint8Array);
          assert.deepEqual(Buffer.from(bytes), value);
        } else {
          assert.equal(kept, null);
        }
        assert.match(row['_error'] as string, /^[A-Zi].+\.$/);
      }
    }),
    RUNS,
  );
});

test('H1 H2: fingerprints taken again from silver rows are those of the derivation', async () => {
  await fc.assert(
    fc.asyncProperty(world, async (given) => {
      const results = await deriveAll(given, cutIntoCalls(given), 5);
      for (const { batch, fingerprints } of results.flatMap((r) => r.silver)) {
        assert.deepEqual(
          Buffer.from(fingerprintsOf(batch, given.event)),
          Buffer.from(fingerprints),
        );
      }
    }),
    RUNS,
  );
});

test('P5: deriving again after a rebuild from fingerprints finds only duplicates', async () => {
  await fc.assert(
    fc.asyncProperty(world, async (given) => {
      const calls = cutIntoCalls(given);
      const first = await deriveAll(given, calls, 5);
      const index = new MemoryDedupIndex();
      for (const { fingerprints } of first.flatMap((r) => r.silver)) {
        index.insertFingerprints(fingerprints);
      }
      const deriver = new SilverDeriver({ event: given.event, late: LATE }, index);
      const again = await deriver.derive(calls.flat().map(bronzeInput));
      assert.equal(again.counts.silverRows, 0);
      assert.equal(again.counts.conflicts, sum(first, 'conflicts'));
      assert.equal(again.counts.duplicates, sum(first, 'duplicates') + sum(first, 'silverRows'));
    }),
    RUNS,
  );
});

test('P9: writers of separate buckets together give what one writer gives', async () => {
  await fc.assert(
    fc.asyncProperty(world, fc.integer({ min: 2, max: 4 }), async (given, count) => {
      const calls = cutIntoCalls(given);
      const [whole, ...parts] = await Promise.all([
        deriveAll(given, calls, 6),
        ...Array.from({ length: count }, (_, bucket) =>
          deriveAll(given, calls, 3, { count, owned: new Set([bucket]) }),
        ),
      ]);
      const all = parts.flat();
      assert.deepEqual(
        all.flatMap(silverRowsOf).sort(byPlace),
        whole!.flatMap(silverRowsOf).sort(byPlace),
      );
      assert.deepEqual(
        all.flatMap(deadRowsOf).sort(byPlace),
        whole!.flatMap(deadRowsOf).sort(byPlace),
      );
      for (const name of ['bronzeRows', 'silverRows', 'duplicates', 'conflicts', 'deadLetters']) {
        assert.equal(sum(all, name), sum(whole!, name), name);
      }
    }),
    RUNS,
  );
});
