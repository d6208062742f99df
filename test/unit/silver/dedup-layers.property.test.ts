/**
 * The layered dedup index decides as the one in memory does, whatever layer an id is in.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MemoryDedupIndex } from '../../../src/pipeline/silver/dedup-index.ts';
import { LayeredDedupIndex, type PartReader } from '../../../src/pipeline/silver/dedup-layers.ts';
import {
  buildPart,
  directoryBytesFor,
  headBytesOf,
  PartHead,
  prefixBitsFor,
  rowBytes,
} from '../../../src/pipeline/silver/dedup-part.ts';
import { bytesOfWords, FINGERPRINT_WORDS } from '../../../src/pipeline/silver/fingerprints.ts';

/** Spread over all hashes, and the same for the same number. */
function idWords(id: number): number[] {
  const mixed = (salt: number): number =>
    Math.imul(Math.imul(id + salt, 0x9e3779b1) ^ (id >>> 3), 0x85ebca6b) >>> 0;
  return [id % 5 === 0 ? 0 : mixed(1), mixed(2), mixed(3), id];
}

interface Row {
  readonly id: number;
  readonly payload: number;
}

function wordsOf(rows: readonly Row[]): Uint32Array {
  return Uint32Array.from(rows.flatMap(({ id, payload }) => [...idWords(id), payload, 7]));
}

/** Objects in memory and the runs that an index has of them. */
class Objects {
  readonly objects = new Map<number, Uint8Array>();
  reads = 0;
  readonly read: PartReader = (reads) => {
    this.reads += reads.length;
    return Promise.resolve(
      reads.map(({ part, start, end }) => this.objects.get(part)!.slice(start, end)),
    );
  };
}

interface StoredPart {
  readonly part: number;
  readonly prefix: number;
  readonly rows: number;
}

interface StoredRun {
  readonly run: number;
  readonly prefixBits: number;
  readonly parts: readonly StoredPart[];
}

class Harness {
  readonly objects = new Objects();
  readonly headBytesMax: number;
  index: LayeredDedupIndex;
  runs: StoredRun[] = [];
  /** Rows by generation: frozen ones first, the hot one last. */
  generations: Row[][] = [[]];
  #next = 0;

  constructor(headBytesMax: number) {
    this.headBytesMax = headBytesMax;
    this.index = new LayeredDedupIndex(this.objects.read, headBytesMax);
  }

  freeze(): void {
    this.index.freeze();
    this.generations.push([]);
  }

  archive(partRows: number): void {
    if (this.generations.length < 2) return;
    const words = wordsOf(this.generations[0]!);
    this.#addRun([words], words.length / FINGERPRINT_WORDS, partRows);
    this.index.forgetFrozen();
    this.generations.shift();
  }

  merge(partRows: number): void {
    const merged = this.runs;
    this.runs = [];
    const rows = merged.flatMap(({ parts }) => parts).reduce((sum, part) => sum + part.rows, 0);
    const prefixBits = prefixBitsFor(Math.max(1, rows), partRows);
    const run = this.#next++;
    const parts: StoredPart[] = [];
    for (let prefix = 0; prefix < 2 ** prefixBits; prefix++) {
      const inputs = merged.flatMap((old) =>
        old.parts.flatMap((part) => {
          const shape = { prefixBits: old.prefixBits, prefix: part.prefix, rows: part.rows };
          const object = this.objects.objects.get(part.part)!;
          const at = directoryBytesFor(shape, { prefixBits, prefix });
          if (at === undefined) return [];
          const bounds = new Uint32Array(object.slice(at.start, at.end).buffer);
          const bytes = rowBytes(part.rows, { from: bounds[0]!, to: bounds.at(-1)! });
          return [new Uint32Array(object.slice(bytes.start, bytes.end).buffer)];
        }),
      );
      parts.push(this.#attach(run, prefixBits, prefix, inputs));
    }
    assert.equal(
      parts.reduce((sum, part) => sum + part.rows, 0),
      rows,
    );
    for (const old of merged) {
      for (const part of old.parts) this.index.detach(old.run, part.prefix);
    }
    if (rows > 0) this.runs = [{ run, prefixBits, parts }];
  }

  reload(): void {
    this.index = new LayeredDedupIndex(this.objects.read, this.headBytesMax);
    for (const { run, prefixBits, parts } of this.runs) {
      for (const { part, prefix, rows } of parts) {
        const head = this.objects.objects.get(part)!.slice(0, headBytesOf(rows));
        this.index.attach({ part, run, prefixBits, prefix, rows }, head);
      }
    }
    const rest = this.generations.flat();
    this.index.insertFingerprints(bytesOfWords(wordsOf(rest)));
    this.generations = [rest];
  }

  #addRun(inputs: readonly Uint32Array[], rows: number, partRows: number): void {
    const prefixBits = prefixBitsFor(Math.max(1, rows), partRows);
    const run = this.#next++;
    const parts = Array.from({ length: 2 ** prefixBits }, (_, prefix) =>
      this.#attach(run, prefixBits, prefix, inputs),
    );
    this.runs.push({ run, prefixBits, parts });
  }

  #attach(
    run: number,
    prefixBits: number,
    prefix: number,
    inputs: readonly Uint32Array[],
  ): StoredPart {
    const { words, rows } = buildPart(inputs, { prefixBits, prefix });
    const part = this.#next++;
    const object = bytesOfWords(words);
    this.objects.objects.set(part, object.slice());
    const head = object.slice(0, headBytesOf(rows));
    this.index.attach({ part, run, prefixBits, prefix, rows }, head);
    return { part, prefix, rows };
  }
}

const rowsArbitrary = fc.array(
  fc.record({ id: fc.integer({ min: 1, max: 400 }), payload: fc.integer({ min: 0, max: 1 }) }),
  { maxLength: 120 },
);
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('look' as const), rows: rowsArbitrary }) },
  ...(['freeze', 'archive', 'merge', 'reload'] as const).map((kind) => ({
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant(kind), partRows: fc.integer({ min: 4, max: 200 }) }),
  })),
);

test('DL1 verdicts are those of the memory index, through any freezes, runs, merges and reloads', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 30 }),
      fc.constantFrom(0, 700, Number.POSITIVE_INFINITY),
      async (steps, headBytesMax) => {
        const memory = new MemoryDedupIndex();
        const layered = new Harness(headBytesMax);
        for (const at of steps) {
          if (at.kind === 'look') {
            const words = wordsOf(at.rows);
            const expected = new Uint8Array(at.rows.length);
            const actual = new Uint8Array(at.rows.length);
            await memory.lookupOrInsert(words, at.rows.length, expected);
            await layered.index.lookupOrInsert(words, at.rows.length, actual);
            assert.deepEqual(actual, expected);
            const added = at.rows.filter((_, row) => expected[row] === 0);
            layered.generations.at(-1)!.push(...added);
          } else if (at.kind === 'freeze') layered.freeze();
          else if (at.kind === 'archive') layered.archive(at.partRows);
          else if (at.kind === 'merge') layered.merge(at.partRows);
          else layered.reload();
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('DL3 heads beyond the bound stay on disk: memory does not grow, verdicts stay exact', async () => {
  const harness = new Harness(0);
  const rows = Array.from({ length: 500 }, (_, i) => ({ id: i + 1, payload: 1 }));
  await harness.index.lookupOrInsert(wordsOf(rows), rows.length, new Uint8Array(rows.length));
  harness.generations[0]!.push(...rows);
  harness.freeze();
  harness.archive(100);
  const empty = new LayeredDedupIndex(harness.objects.read, 0).memoryBytes;
  assert.equal(harness.index.memoryBytes, empty);
  const verdicts = new Uint8Array(rows.length);
  await harness.index.lookupOrInsert(wordsOf(rows), rows.length, verdicts);
  assert.ok(verdicts.every((verdict) => verdict === 1));
});

test('DL4 of ids that no part holds, hardly one in a thousand costs a read', async () => {
  const harness = new Harness(Number.POSITIVE_INFINITY);
  const rows = Array.from({ length: 20_000 }, (_, i) => ({ id: i + 1, payload: 1 }));
  await harness.index.lookupOrInsert(wordsOf(rows), rows.length, new Uint8Array(rows.length));
  harness.generations[0]!.push(...rows);
  harness.freeze();
  harness.archive(20_000);
  const fresh = rows.map(({ id }) => ({ id: id + 1_000_000, payload: 1 }));
  await harness.index.lookupOrInsert(wordsOf(fresh), fresh.length, new Uint8Array(fresh.length));
  assert.ok(harness.objects.reads < 40, `${harness.objects.reads} reads`);
});

test('DP1 a head that does not fit its number of rows is refused', () => {
  const { words, rows } = buildPart([wordsOf([{ id: 1, payload: 1 }])], {
    prefixBits: 0,
    prefix: 0,
  });
  const head = bytesOfWords(words).slice(0, headBytesOf(rows));
  assert.ok(new PartHead(head, rows, 0));
  for (const at of [0, 4, 8]) {
    const damaged = head.slice();
    damaged[at + 3] = 0xff;
    assert.throws(() => new PartHead(damaged, rows, 0), { code: 'TM_DEDUP_INDEX_CORRUPT' });
  }
});
