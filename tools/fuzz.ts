/**
 * The fuzz tests for longer than `npm test` has time: every target in turn, each round from a seed of
 * its own, until the minutes are over or a case fails.
 *
 *   npm run fuzz -- --minutes M [--seed S] [--target NAME…]
 *   npm run fuzz -- --target NAME --seed S          one round, as a failure prints it
 *
 * Exit code 1 when a case failed, 2 for arguments that make no sense.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { type FuzzTarget, tryCases } from '../test/fuzz/fuzz-target.ts';
import { FUZZ_TARGETS } from '../test/fuzz/targets.ts';

const SEEDS = 2 ** 31 - 1;

/** @throws Error on a name that is none */
function chosen(names: readonly string[] | undefined): readonly FuzzTarget[] {
  if (!names) return FUZZ_TARGETS;
  return names.map((name) => {
    const target = FUZZ_TARGETS.find((one) => one.name === name);
    const known = FUZZ_TARGETS.map((one) => one.name).join(', ');
    if (!target) throw new Error(`there is no target ${name}; there are ${known}`);
    return target;
  });
}

/** @throws Error on a text that is no number from 0 on */
function numberOf(option: string, text: string): number {
  const number = Number(text);
  if (text === '' || !(number >= 0)) throw new Error(`--${option} takes a number, not "${text}"`);
  return number;
}

/** @returns how many targets failed */
async function fuzz(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string' },
      seed: { type: 'string' },
      target: { type: 'string', multiple: true },
    },
  });
  const targets = chosen(values.target);
  const first = values.seed === undefined ? randomInt(SEEDS) : numberOf('seed', values.seed);
  const untilMs = performance.now() + numberOf('minutes', values.minutes ?? '0') * 60_000;
  const failed = new Set<FuzzTarget>();
  const cases = new Map<FuzzTarget, number>();
  for (let round = 0; round === 0 || performance.now() < untilMs; round++) {
    for (const target of targets.filter((one) => !failed.has(one))) {
      try {
        await tryCases(target, (first + round) % SEEDS);
        cases.set(target, (cases.get(target) ?? 0) + target.runs);
      } catch (error) {
        failed.add(target);
        console.error((error as Error).message);
      }
    }
  }
  for (const target of targets) {
    const verdict = failed.has(target) ? 'FAIL' : 'ok  ';
    console.log(`${verdict}  ${target.name}: ${cases.get(target) ?? 0} cases, from seed ${first}`);
  }
  return failed.size;
}

try {
  process.exitCode = (await fuzz(process.argv.slice(2))) === 0 ? 0 : 1;
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 2;
}
