/** Some cases of every fuzz target, from a seed that a failure prints. */
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { tryCases } from './fuzz-target.ts';
import { FUZZ_TARGETS } from './targets.ts';

const seed = Number(process.env['TIDEMARK_TEST_SEED'] ?? randomInt(2 ** 31));

for (const target of FUZZ_TARGETS) {
  test(`${target.name} holds for whatever it is given`, async (t) => {
    t.diagnostic(`seed ${seed}`);
    await tryCases(target, seed);
  });
}
