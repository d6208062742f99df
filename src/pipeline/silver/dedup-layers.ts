/**
 * The dedup index of a table of any size: the newest ids in memory, the others in parts (dedup-part)
 * of which the heads are in memory as far as the bound allows. Pure but for the reads it asks for.
 *
 * DL1 Verdicts are those of one MemoryDedupIndex with the same ids: an id's first fingerprint stays.
 * DL2 An id found in a part is not put into memory, so it is in one layer only; while a layer takes
 *    the place of another both may hold it, with the same payload.
 * DL3 Heads beyond `headBytesMax` stay on disk: lookups then cost reads, never memory.
 * DL4 Reads are asked for once per call and only for rows that a head does not rule out.
 */
import { assert } from '../../errors.ts';
import {
  type DedupIndex,
  ID_CONFLICT,
  ID_DUPLICATE,
  ID_NEW,
  MemoryDedupIndex,
} from './dedup-index.ts';
import { bucketBoundsBytes, corruptPart, PartHead, rowBytes } from './dedup-part.ts';
import { FINGERPRINT_WORDS, wordsOfBytes } from './fingerprints.ts';

/** Bytes [start, end) of a part. */
export interface PartRead {
  readonly part: number;
  readonly start: number;
  readonly end: number;
}

/**
 * Port: reads parts, many places at once, results in the same order.
 * @throws PipelineError corrupt (TM_DEDUP_INDEX_CORRUPT) when a part is gone or too short
 */
export type PartReader = (reads: readonly PartRead[]) => Promise<readonly Uint8Array[]>;

/** A part as it enters the index. */
export interface AttachedPart {
  /** Number by which the reader knows it. */
  readonly part: number;
  /** Parts of one run have the same number of prefix bits and cover different ranges. */
  readonly run: number;
  readonly prefixBits: number;
  readonly prefix: number;
  readonly rows: number;
}

interface Layer {
  readonly prefixBits: number;
  /** By prefix; undefined where the run has no part, or none any more. */
  readonly parts: (LayerPart | undefined)[];
}

interface LayerPart {
  readonly part: number;
  readonly rows: number;
  readonly head: PartHead | undefined;
}

/** A row that may be in a part: at `slot`, or anywhere in its bucket when that is -1. */
interface Candidate {
  readonly row: number;
  readonly part: LayerPart;
  readonly prefixBits: number;
  readonly slot: number;
}

const UNDECIDED = 255;

/** See the header. One caller at a time: nothing may be rearranged while a lookup waits for its reads. */
export class LayeredDedupIndex implements DedupIndex {
  readonly #read: PartReader;
  readonly #headBytesMax: number;
  readonly #layers = new Map<number, Layer>();
  #hot = new MemoryDedupIndex();
  /** Generations that take no more ids, oldest first. */
  #frozen: MemoryDedupIndex[] = [];
  #headBytes = 0;

  constructor(read: PartReader, headBytesMax: number) {
    this.#read = read;
    this.#headBytesMax = headBytesMax;
  }

  /** Ids that came since the last freeze. */
  get hotIds(): number {
    return this.#hot.size;
  }

  /** Bytes of memory held. */
  get memoryBytes(): number {
    const frozen = this.#frozen.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    return this.#hot.memoryBytes + frozen + this.#headBytes;
  }

  /** Takes everything out. */
  clear(): void {
    this.#layers.clear();
    this.#hot = new MemoryDedupIndex();
    this.#frozen = [];
    this.#headBytes = 0;
  }

  /** Adds fingerprints of committed rows that no part holds. @see MemoryDedupIndex */
  insertFingerprints(bytes: Uint8Array): void {
    this.#hot.insertFingerprints(bytes);
  }

  /** Begins a new generation; the one before it only answers from now on. */
  freeze(): void {
    this.#frozen.push(this.#hot);
    this.#hot = new MemoryDedupIndex();
  }

  /** Drops the oldest frozen generation: its ids are in parts now. */
  forgetFrozen(): void {
    assert(this.#frozen.length > 0, 'a generation was frozen');
    this.#frozen.shift();
  }

  /**
   * Adds a part.
   * @param head its head; kept while the bound allows (DL3)
   */
  attach({ part, run, prefixBits, prefix, rows }: AttachedPart, head: Uint8Array): void {
    let layer = this.#layers.get(run);
    if (!layer) {
      layer = { prefixBits, parts: Array.from({ length: 2 ** prefixBits }, () => undefined) };
      this.#layers.set(run, layer);
    }
    const checked = new PartHead(head, rows, prefixBits);
    const fits = this.#headBytes + checked.memoryBytes <= this.#headBytesMax;
    layer.parts[prefix] = { part, rows, head: fits ? checked : undefined };
    if (fits) this.#headBytes += checked.memoryBytes;
  }

  /** Takes a part out. */
  detach(run: number, prefix: number): void {
    const layer = this.#layers.get(run)!;
    this.#headBytes -= layer.parts[prefix]?.head?.memoryBytes ?? 0;
    layer.parts[prefix] = undefined;
    if (layer.parts.every((part) => part === undefined)) this.#layers.delete(run);
  }

  async lookupOrInsert(
    fingerprints: Uint32Array,
    rows: number,
    verdicts: Uint8Array,
  ): Promise<void> {
    if (this.#layers.size > 0) {
      verdicts.fill(UNDECIDED, 0, rows);
      const candidates: Candidate[] = [];
      for (const layer of this.#layers.values()) probe(layer, fingerprints, rows, candidates);
      if (candidates.length > 0) await this.#settle(candidates, fingerprints, verdicts);
    }
    const isSettled = this.#layers.size > 0;
    for (let row = 0, at = 0; row < rows; row++, at += FINGERPRINT_WORDS) {
      if (isSettled && verdicts[row] !== UNDECIDED) continue;
      let verdict = ID_NEW;
      for (const generation of this.#frozen) {
        verdict = generation.find(fingerprints, at);
        if (verdict !== ID_NEW) break;
      }
      verdicts[row] = verdict === ID_NEW ? this.#hot.decide(fingerprints, at) : verdict;
    }
  }

  /** Reads what the candidates name, and decides those whose id is there. */
  async #settle(
    candidates: readonly Candidate[],
    fingerprints: Uint32Array,
    verdicts: Uint8Array,
  ): Promise<void> {
    const unbounded = candidates.filter(({ slot }) => slot < 0);
    const bounds = await this.#readChecked(
      unbounded.map(({ row, part, prefixBits }) => ({
        part: part.part,
        ...bucketBoundsBytes(part.rows, prefixBits, fingerprints[row * FINGERPRINT_WORDS + 1]!),
      })),
    );
    const places = [
      ...candidates
        .filter(({ slot }) => slot >= 0)
        .map(({ row, part, slot }) => ({ row, part, span: { from: slot, to: slot + 1 } })),
      ...unbounded.flatMap(({ row, part }, i) => {
        const [from, to] = bounds[i]!;
        if (from! > to! || to! > part.rows) throw corruptPart();
        return from === to ? [] : [{ row, part, span: { from: from!, to: to! } }];
      }),
    ];
    const found = await this.#readChecked(
      places.map(({ part, span }) => ({ part: part.part, ...rowBytes(part.rows, span) })),
    );
    for (const [i, { row, part }] of places.entries()) {
      const at = row * FINGERPRINT_WORDS;
      // The head said that this row has the tag: another row here is not the one that was written.
      const isOther = ((found[i]![2]! ^ fingerprints[at + 2]!) & 0xffff) !== 0;
      if (part.head !== undefined && isOther) throw corruptPart();
      if (verdicts[row] !== UNDECIDED) continue;
      const verdict = verdictAmong(found[i]!, fingerprints, at);
      if (verdict !== ID_NEW) verdicts[row] = verdict;
    }
  }

  async #readChecked(reads: readonly PartRead[]): Promise<readonly Uint32Array[]> {
    if (reads.length === 0) return [];
    const bytes = await this.#read(reads);
    return bytes.map((read, i) => {
      if (read.byteLength !== reads[i]!.end - reads[i]!.start) throw corruptPart();
      return wordsOfBytes(read);
    });
  }
}

/** Collects the rows that a layer may hold. */
function probe(
  { prefixBits, parts }: Layer,
  fingerprints: Uint32Array,
  rows: number,
  candidates: Candidate[],
): void {
  const shift = 32 - prefixBits;
  for (let row = 0; row < rows; row++) {
    const at = row * FINGERPRINT_WORDS;
    const word1 = fingerprints[at + 1]!;
    const part = parts[prefixBits === 0 ? 0 : word1 >>> shift];
    if (part === undefined) continue;
    if (part.head === undefined) {
      candidates.push({ row, part, prefixBits, slot: -1 });
      continue;
    }
    const word2 = fingerprints[at + 2]!;
    for (let slot = part.head.find(word1, word2, -1); slot >= 0; ) {
      candidates.push({ row, part, prefixBits, slot });
      slot = part.head.find(word1, word2, slot + 1);
    }
  }
}

/** The verdict of the first stored fingerprint with the same id; ID_NEW when there is none. */
function verdictAmong(stored: Uint32Array, words: Uint32Array, at: number): number {
  const w0 = words[at]! || 1;
  for (let from = 0; from < stored.length; from += FINGERPRINT_WORDS) {
    if (
      stored[from] === w0 &&
      stored[from + 1] === words[at + 1] &&
      stored[from + 2] === words[at + 2] &&
      stored[from + 3] === words[at + 3]
    ) {
      const equal = stored[from + 4] === words[at + 4] && stored[from + 5] === words[at + 5];
      return equal ? ID_DUPLICATE : ID_CONFLICT;
    }
  }
  return ID_NEW;
}
