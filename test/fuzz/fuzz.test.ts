/**
 * Some cases of every fuzz target, the same in each run, so that a change is judged by what it changed;
 * `npm run fuzz` and `TIDEMARK_TEST_SEED` try others.
 */
import { test } from 'node:test';
import { tryCases } from './fuzz-target.ts';
import { FUZZ_TARGETS } from './targets.ts';

const seed = Number(process.env['TIDEMARK_TEST_SEED'] ?? 20_261_123);

for (const target of FUZZ_TARGETS) {
  test(`${target.name} holds for whatever it is given`, async (t) => {
    t.diagnostic(`seed ${seed}`);
    await tryCases(target, seed);
  });
}
