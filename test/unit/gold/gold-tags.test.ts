/** Tags of gold files, as others may have left them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGoldTags } from '../../../src/pipeline/gold/gold-tags.ts';

test('a note that is not JSON is corrupt, not a crash', () => {
  const tags = { 'tidemark.slot': '0', 'tidemark.reconciliation': '{' };
  assert.throws(() => parseGoldTags(tags), {
    kind: 'corrupt',
    message: /tidemark\.reconciliation/,
  });
});
