/**
 * Merges runs of the dedup index into one, a part at a time: what a step holds in memory and how long
 * it takes depend on the size of a part, not of the table.
 *
 * MG1 The new parts take the place of the old ones range by range, so that two heads of one range are
 *     in memory only for the ranges between.
 * MG2 A merge keeps every row; a run with another number of rows than its inputs is refused.
 */
import {
  corruptPart,
  directoryBytesFor,
  type HashRange,
  prefixBitsFor,
  rowBytes,
} from '../../pipeline/silver/dedup-part.ts';
import { wordsOfBytes } from '../../pipeline/silver/fingerprints.ts';
import type { ComputeThread } from '../runtime/compute-thread.ts';
import type { DedupThreadApi } from './dedup-thread.ts';
import type { LoadedPart, LoadedRun, PartStore } from './part-store.ts';

/**
 * @param inputs neighbours, oldest first
 * @returns undefined when it was closed before the end
 * @throws PipelineError corrupt | unavailable
 */
export async function mergeRuns(
  inputs: readonly LoadedRun[],
  options: {
    readonly parts: PartStore;
    readonly partRows: number;
    readonly dedupThread: () => ComputeThread<DedupThreadApi>;
    readonly isClosed: () => boolean;
  },
): Promise<LoadedRun | undefined> {
  const { parts, dedupThread, isClosed } = options;
  const rows = inputs.reduce((sum, { entry }) => sum + entry.rows, 0);
  const prefixBits = prefixBitsFor(rows, options.partRows);
  const level = Math.max(...inputs.map((run) => run.entry.level)) + 1;
  const merged = parts.newRun(level, prefixBits);
  for (let prefix = 0; prefix < 2 ** prefixBits; prefix++) {
    if (isClosed()) return undefined;
    const range = { prefixBits, prefix };
    const slices = await Promise.all(inputs.map((run) => readRange(run, range, parts)));
    const built = await dedupThread().call(
      'merge',
      { rows: slices.flat(), ...range },
      slices.flat().map((slice) => slice.buffer as ArrayBuffer),
    );
    await parts.add(merged, built);
    await detachPassed(inputs, range, parts);
  }
  // MG2
  const run = merged.finish();
  if (run.entry.rows !== rows) throw corruptPart();
  return run;
}

/** Rows of a run that may be of a range. */
async function readRange(
  run: LoadedRun,
  range: HashRange,
  parts: PartStore,
): Promise<Uint8Array[]> {
  const slices = run.parts.map(async (part): Promise<Uint8Array | undefined> => {
    const shape = { prefixBits: run.entry.prefixBits, prefix: part.prefix, rows: part.rows };
    const directory = directoryBytesFor(shape, range);
    if (directory === undefined || part.rows === 0) return undefined;
    const bounds = wordsOfBytes(await parts.read(part, directory));
    const span = { from: bounds[0]!, to: bounds.at(-1)! };
    if (span.from > span.to || span.to > part.rows) throw corruptPart();
    return parts.read(part, rowBytes(part.rows, span));
  });
  return (await Promise.all(slices)).filter((slice) => slice !== undefined);
}

/** Takes out the old parts whose range ends where `range` does (MG1). */
async function detachPassed(
  inputs: readonly LoadedRun[],
  range: HashRange,
  parts: PartStore,
): Promise<void> {
  const end = (range.prefix + 1) / 2 ** range.prefixBits;
  for (const run of inputs) {
    const size = 1 / 2 ** run.entry.prefixBits;
    const isPassed = ({ prefix }: LoadedPart): boolean => {
      const partEnd = (prefix + 1) * size;
      return partEnd <= end && partEnd > end - 1 / 2 ** range.prefixBits;
    };
    for (const part of run.parts.filter(isPassed)) await parts.detach(run, part);
  }
}
