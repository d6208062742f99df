/** Reading what an event source hands out, for tests: rows as objects, and the ledger of P4. */
import assert from 'node:assert/strict';
import { isNullAt, type Vector } from '../../src/pipeline/columns.ts';
import type { Gap, RecordChunk } from '../../src/pipeline/records.ts';
import type {
  EventSource,
  FetchResult,
  PartitionReader,
} from '../../src/storage/source/event-source.ts';
import { decodeRecordBatches } from '../../src/storage/source/record-batch.ts';

export const MAX_RECORD_BYTES = 32 << 20;

/** A row of a chunk. */
export interface Row {
  readonly offset: bigint;
  readonly timestampMs: number;
  readonly key: string | null;
  readonly value: Buffer | null;
  readonly headers: readonly (readonly [string, string | null])[] | null;
}

/** The bytes in row `row` of a string or binary column. */
export function bytesAt(vector: Vector, row: number): Buffer | null {
  if (isNullAt(vector, row)) return null;
  return Buffer.from(vector.data!.subarray(vector.offsets![row], vector.offsets![row + 1]));
}

/** The headers of a row; null when it has none. */
export function headersAt(chunk: RecordChunk, row: number): [string, string | null][] | null {
  if (isNullAt(chunk.headers, row)) return null;
  const [keys, values] = chunk.headers.children![0]!.children!;
  const found: [string, string | null][] = [];
  for (let i = chunk.headers.offsets![row]!; i < chunk.headers.offsets![row + 1]!; i++) {
    found.push([bytesAt(keys!, i)!.toString(), bytesAt(values!, i)?.toString() ?? null]);
  }
  return found;
}

/** All rows of a chunk. */
export function rowsOf(chunk: RecordChunk): Row[] {
  return Array.from(chunk.offsets, (offset, row) => ({
    offset,
    timestampMs: Number(chunk.timestamps[row]! / 1000n),
    key: bytesAt(chunk.keys, row)?.toString() ?? null,
    value: bytesAt(chunk.values, row),
    headers: headersAt(chunk, row),
  }));
}

/** Fails unless every offset of the chunk's range is exactly one of row and gap (P4). */
export function assertExplained(
  chunk: Pick<RecordChunk, 'fromOffset' | 'nextOffset' | 'gaps'> & {
    readonly offsets: Iterable<bigint>;
  },
): void {
  const ranges = [
    ...Array.from(chunk.offsets, (offset) => ({ from: offset, to: offset + 1n })),
    ...chunk.gaps,
  ].toSorted((a, b) => (a.from < b.from ? -1 : 1));
  let next = chunk.fromOffset;
  for (const { from, to } of ranges) {
    assert.equal(from, next);
    next = to;
  }
  assert.equal(next, chunk.nextOffset);
}

/** Decodes a fetch that must have brought records. */
export function decodeFetch(
  partition: number,
  fromOffset: bigint,
  result: FetchResult,
): RecordChunk {
  assert.equal(result.kind, 'records');
  const chunk = decodeRecordBatches(result.bytes, {
    partition,
    fromOffset,
    aborted: result.aborted,
    maxRecordBytes: MAX_RECORD_BYTES,
    maxInflatedBytes: 128 << 20,
  });
  assertExplained(chunk);
  return chunk;
}

/** What a partition held when it was read to its end. */
export interface PartitionContent {
  readonly rows: readonly Row[];
  readonly gaps: readonly Gap[];
  readonly nextOffset: bigint;
  readonly fetches: number;
}

/** Reads from `fromOffset` to the present end; fails when that does not advance. */
export async function readToEnd(
  source: EventSource,
  partition: number,
  options: {
    readonly fromOffset?: bigint;
    readonly maxBytes?: number;
    readonly reader?: PartitionReader;
  } = {},
): Promise<PartitionContent> {
  const { maxBytes = 1 << 20 } = options;
  const reader = options.reader ?? (await source.openPartition(partition));
  const { earliest, latest } = await source.offsets(partition);
  let next = options.fromOffset ?? earliest;
  const fromOffset = next;
  const rows: Row[] = [];
  const gaps: Gap[] = [];
  let fetches = 0;
  for (let idle = 0; next < latest; ) {
    const result = await reader.fetch({ offset: next, maxBytes, maxWaitMs: 500 });
    fetches += 1;
    const chunk = decodeFetch(partition, next, result);
    rows.push(...rowsOf(chunk));
    gaps.push(...chunk.gaps);
    idle = chunk.nextOffset > next ? 0 : idle + 1;
    assert.ok(idle < 20, `reading stands still at ${next} of ${latest}`);
    next = chunk.nextOffset;
  }
  if (!options.reader) await reader.close();
  assertExplained({ fromOffset, nextOffset: next, gaps, offsets: rows.map((row) => row.offset) });
  return { rows, gaps, nextOffset: next, fetches };
}

/** `kind[from,to)` of each gap, neighbours of one kind joined. */
export function gapText(gaps: readonly Gap[]): string[] {
  const joined: { kind: string; from: bigint; to: bigint }[] = [];
  for (const gap of gaps) {
    const last = joined.at(-1);
    if (last?.kind === gap.kind && last.to === gap.from) last.to = gap.to;
    else joined.push({ ...gap });
  }
  return joined.map(({ kind, from, to }) => `${kind}[${from},${to})`);
}
