import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { TIDEMARK_VERSION } from '../../../src/version.ts';

it('commits name the version that package.json has', () => {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  assert.equal((JSON.parse(text) as { version: string }).version, TIDEMARK_VERSION);
});
