/**
 * `npm run crash-rounds -- [--rounds N] [--seed N]`: test/integration/crash-points.test.ts with as many
 * rounds as wanted, each as it comes. Starts the servers it needs unless they are named in the environment
 * (test/README.md). Exit code 1 when a crash cost or doubled anything.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { projectDir } from './tool-install.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '300' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
  },
});
console.log(`rounds ${options.rounds}, --seed ${options.seed}`);
const test = spawn(
  process.execPath,
  ['--test-reporter=spec', join(projectDir, 'test', 'integration', 'crash-points.test.ts')],
  {
    stdio: 'inherit',
    env: {
      ...process.env,
      TIDEMARK_CRASH_ROUNDS: options.rounds,
      TIDEMARK_TEST_SEED: options.seed,
    },
  },
);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => test.kill(signal));
test.on('exit', (code) => {
  process.exitCode = code ?? 1;
});
