/**
 * Small things that Tidemark keeps in the lake and reads again: the manifest and the parts of the
 * dedup index, tags of files. Others can write there too.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeManifest, encodeManifest } from '../../src/actors/silver-writer/dedup-manifest.ts';
import { coverageText, parseCoverage } from '../../src/pipeline/bronze.ts';
import { parseGoldTags } from '../../src/pipeline/gold/gold-tags.ts';
import { buildPart, headBytesOf, PartHead } from '../../src/pipeline/silver/dedup-part.ts';
import { bytesOfWords, FINGERPRINT_WORDS } from '../../src/pipeline/silver/fingerprints.ts';
import { attempted, type FuzzTarget, property } from './fuzz-target.ts';
import { byteDamage, jsonDamage, lineDamage } from './mutation.ts';

const manifest = {
  tableId: 't',
  bucketCount: 16,
  version: 7,
  runs: [
    {
      level: 0,
      prefixBits: 1,
      rows: 4,
      parts: [
        { name: 'a.part', prefix: 0, rows: 2, headCrc: 1 },
        { name: 'b.part', prefix: 1, rows: 2, headCrc: 2 },
      ],
    },
  ],
};

/** A manifest is what was written, or none (DM1). */
const manifests = property(
  fc.oneof(
    byteDamage.map((damage) => damage(encodeManifest(manifest))),
    lineDamage.map((damage) => damage(encodeManifest(manifest))),
  ),
  (bytes) => {
    const read = decodeManifest(bytes);
    if (read !== undefined) assert.deepEqual(read, manifest);
  },
);

const ids = fc.array(
  fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), {
    minLength: FINGERPRINT_WORDS,
    maxLength: FINGERPRINT_WORDS,
  }),
  { minLength: 1, maxLength: 70 },
);

/** A head that passes its checksum finds every id; another is refused, and no search leaves it. */
const partHeads = property(fc.tuple(ids, fc.option(byteDamage)), async ([rows, damage]) => {
  const { words } = buildPart([Uint32Array.from(rows.flat())], { prefixBits: 0, prefix: 0 });
  const good = Buffer.from(bytesOfWords(words)).subarray(0, headBytesOf(rows.length));
  const damaged = damage ? damage(good) : good;
  const bytes = new Uint8Array(good.length);
  bytes.set(damaged.subarray(0, good.length));
  const { value: head } = await attempted(['corrupt'], () => new PartHead(bytes, rows.length, 0));
  if (!head) return;
  for (const row of rows) {
    let steps = 0;
    let isFound = false;
    for (let at = -1; ; ) {
      at = head.find(row[1]!, row[2]!, at < 0 ? -1 : at + 1);
      if (at < 0) break;
      isFound = true;
      assert.ok(at < rows.length && ++steps <= rows.length, 'a search leaves the part');
    }
    if (!damage) assert.ok(isFound);
  }
});

const coverage = coverageText([
  {
    partition: 3,
    from: 5n,
    to: 2n ** 60n,
    rows: 2,
    gaps: [{ from: 6n, to: 8n, kind: 'compacted' }],
  },
]);
/** Tags of files are read, or refused as corrupt, whoever wrote them. */
const tags = property(fc.tuple(jsonDamage, fc.option(byteDamage)), async ([change, damage]) => {
  const spoilt = (text: string): string => {
    const changed = change(text);
    return damage ? damage(Buffer.from(changed)).toString() : changed;
  };
  const kinds = ['corrupt'] as const;
  await attempted(kinds, () => parseCoverage(spoilt(coverage)));
  await attempted(kinds, () =>
    parseGoldTags({
      'tidemark.slot': '1',
      'tidemark.reconciliation': spoilt('{"at":1,"changes":[{"cause":"late"}]}'),
    }),
  );
});

export const dedupManifests: FuzzTarget = {
  name: 'dedup-manifests',
  runs: 1_500,
  open: () => ({ property: manifests }),
};
export const dedupHeads: FuzzTarget = {
  name: 'dedup-heads',
  runs: 1_000,
  open: () => ({ property: partHeads }),
};
export const fileTags: FuzzTarget = {
  name: 'file-tags',
  runs: 1_500,
  open: () => ({ property: tags }),
};
