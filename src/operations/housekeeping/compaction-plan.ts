/**
 * Which files of a table are rewritten together, and what the file that replaces them is tagged with.
 * Pure.
 *
 * CP1 Files of one bin have the same partition values and keep their order.
 * CP2 Files of one bin have the same tags, but for those that are merged; the new file keeps them.
 * CP3 Merged coverage states the same offsets, rows and gaps as the tags it is made of (P4).
 */
import { COVERAGE_TAG, type Coverage, coverageText, parseCoverage } from '../../pipeline/bronze.ts';
import { numRecordsOf } from '../../storage/delta/snapshot.ts';
import { EVENT_TIME_TAG } from '../../pipeline/gold/silver-files.ts';
import type { LiveFile } from '../../storage/delta/transaction.ts';

/** What a rewritten file should be like. */
export interface CompactionTarget {
  /** As stored. A file of half of it or more is not small. */
  readonly fileBytes: number;
  /** Bounds what one rewrite holds in memory. */
  readonly fileRows: number;
}

/** Whether rewriting a file together with others would make it larger by much. */
export function isSmall(file: LiveFile, target: CompactionTarget): boolean {
  const rows = numRecordsOf(file.stats) ?? 0;
  return file.sizeBytes < target.fileBytes / 2 && rows < target.fileRows / 2;
}

/**
 * Small files in bins that become one file each.
 * @param files in the order in which they were committed
 * @param filesMin bins of fewer files are not worth it; at least 2
 */
export function planBins<File extends LiveFile>(
  files: readonly File[],
  target: CompactionTarget,
  filesMin: number,
): readonly (readonly File[])[] {
  const alike = Map.groupBy(
    files.filter((file) => isSmall(file, target)),
    // CP2
    (file) => JSON.stringify([file.partitionValues, Object.entries(keptTags(file)).sort(byName)]),
  );
  return [...alike.values()].flatMap((group) => {
    const bins: File[][] = [[]];
    let bytes = 0;
    let rows = 0;
    // CP1
    for (const file of group.toSorted((a, b) => a.modifiedMs - b.modifiedMs)) {
      const fileRows = numRecordsOf(file.stats) ?? 0;
      if (bytes + file.sizeBytes > target.fileBytes || rows + fileRows > target.fileRows) {
        bins.push([]);
        bytes = 0;
        rows = 0;
      }
      bins.at(-1)!.push(file);
      bytes += file.sizeBytes;
      rows += fileRows;
    }
    return bins.filter((bin) => bin.length >= Math.max(2, filesMin));
  });
}

function keptTags({ tags = {} }: LiveFile): Record<string, string> {
  const { [COVERAGE_TAG]: _coverage, [EVENT_TIME_TAG]: _eventTime, ...kept } = tags;
  return kept;
}

/** The tags of the file that replaces `files`; undefined when there are none. */
export function mergedTags(files: readonly LiveFile[]): Record<string, string> | undefined {
  const merged = { ...keptTags(files[0]!) };
  const coverage = files.flatMap(({ tags }) => {
    const text = tags?.[COVERAGE_TAG];
    return text === undefined ? [] : parseCoverage(text);
  });
  if (coverage.length > 0) merged[COVERAGE_TAG] = coverageText(mergedCoverage(coverage));
  const times = files.map(({ tags }) => tags?.[EVENT_TIME_TAG]);
  if (times.every((time) => time !== undefined)) {
    const ranges = times.map((time) => time.split(',').map(Number) as [number, number]);
    const min = Math.min(...ranges.map(([from]) => from));
    const max = Math.max(...ranges.map(([, to]) => to));
    merged[EVENT_TIME_TAG] = `${min},${max}`;
  }
  return Object.keys(merged).length > 0 ? merged : undefined;
}

/** CP3: ranges that meet become one; the others stay apart. */
function mergedCoverage(coverage: readonly Coverage[]): readonly Coverage[] {
  const merged: Coverage[] = [];
  const ordered = coverage.toSorted(
    (a, b) => a.partition - b.partition || (a.from < b.from ? -1 : a.from > b.from ? 1 : 0),
  );
  for (const next of ordered) {
    const last = merged.at(-1);
    if (last?.partition !== next.partition || last.to !== next.from) {
      merged.push(next);
      continue;
    }
    const gaps = [...last.gaps];
    for (const gap of next.gaps) {
      const before = gaps.at(-1);
      if (before?.kind === gap.kind && before.to === gap.from) {
        gaps[gaps.length - 1] = { ...before, to: gap.to };
      } else {
        gaps.push(gap);
      }
    }
    merged[merged.length - 1] = { ...last, to: next.to, rows: last.rows + next.rows, gaps };
  }
  return merged;
}

function byName([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : 1;
}
