/**
 * A set of Kafka coordinates, each with a number beside it: which rows of bronze are meant. 17 bytes
 * per row. Pure.
 *
 * Invariant KC1: a row is taken once, so that a record that lies in two bronze files (one of them on
 * its way to the archive) counts once.
 */
import { columnOf, type ColumnBatch } from '../../pipeline/columns.ts';

interface PartitionOffsets {
  offsets: BigInt64Array;
  /** What was added beside each offset. */
  marks: Float64Array;
  taken: Uint8Array;
  length: number;
  sorted: boolean;
}

const ROWS_MIN = 1024;

/** Offsets by partition; add first, then take. */
export class CoordinateSet {
  #size = 0;
  readonly #partitions = new Map<number, PartitionOffsets>();

  get size(): number {
    return this.#size;
  }

  /**
   * Adds the rows of a batch that has Kafka coordinates.
   * @param marks one number per row
   */
  add(batch: ColumnBatch, marks?: ArrayLike<number>): void {
    const partitions = columnOf(batch, '_kafka_partition')!.values as Int32Array;
    const offsets = columnOf(batch, '_kafka_offset')!.values as BigInt64Array;
    for (let row = 0; row < batch.length; row++) {
      const own = this.#partition(partitions[row]!);
      if (own.length === own.offsets.length) grow(own);
      const offset = offsets[row]!;
      if (own.length > 0 && offset <= own.offsets[own.length - 1]!) own.sorted = false;
      own.marks[own.length] = marks?.[row] ?? 0;
      own.offsets[own.length++] = offset;
      this.#size++;
    }
  }

  has(partition: number, offset: bigint): boolean {
    return this.#find(partition, offset) !== undefined;
  }

  /** Takes a row of the set (KC1). @returns false when it is not there, or was taken before */
  take(partition: number, offset: bigint): boolean {
    const found = this.#find(partition, offset);
    if (found === undefined || found.own.taken[found.index] === 1) return false;
    found.own.taken[found.index] = 1;
    return true;
  }

  /** What was added beside a row. */
  markOf(partition: number, offset: bigint): number | undefined {
    const found = this.#find(partition, offset);
    return found?.own.marks[found.index];
  }

  #partition(partition: number): PartitionOffsets {
    let own = this.#partitions.get(partition);
    if (own === undefined) {
      own = {
        offsets: new BigInt64Array(ROWS_MIN),
        marks: new Float64Array(ROWS_MIN),
        taken: new Uint8Array(ROWS_MIN),
        length: 0,
        sorted: true,
      };
      this.#partitions.set(partition, own);
    }
    return own;
  }

  #find(
    partition: number,
    offset: bigint,
  ): { readonly own: PartitionOffsets; readonly index: number } | undefined {
    const own = this.#partitions.get(partition);
    if (own === undefined) return undefined;
    if (!own.sorted) sort(own);
    let low = 0;
    let high = own.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const at = own.offsets[middle]!;
      if (at === offset) return { own, index: middle };
      if (at < offset) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }
}

function grow(own: PartitionOffsets): void {
  const capacity = own.offsets.length * 2;
  const offsets = new BigInt64Array(capacity);
  offsets.set(own.offsets);
  const marks = new Float64Array(capacity);
  marks.set(own.marks);
  own.offsets = offsets;
  own.marks = marks;
  own.taken = new Uint8Array(capacity);
}

function sort(own: PartitionOffsets): void {
  const order = Uint32Array.from({ length: own.length }, (_, i) => i);
  const { offsets, marks } = own;
  order.sort((a, b) => (offsets[a]! < offsets[b]! ? -1 : offsets[a]! > offsets[b]! ? 1 : 0));
  own.offsets = BigInt64Array.from(order, (i) => offsets[i]!);
  own.marks = Float64Array.from(order, (i) => marks[i]!);
  own.taken = new Uint8Array(own.length);
  own.sorted = true;
}
