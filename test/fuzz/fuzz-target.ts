/**
 * What the fuzz tests are made of: a target is a property that must hold for whatever is thrown at
 * one reader of foreign bytes. `npm test` tries some cases of each; `npm run fuzz` goes on for long.
 */
import fc from 'fast-check';
import { type ErrorKind, PipelineError } from '../../src/errors.ts';

/** Characters shown of a case; the seed gives the whole one. */
const SHOWN_MAX = 4_000;

/** One reader under fuzz. */
export interface FuzzTarget {
  readonly name: string;
  /** Cases that take some seconds. */
  readonly runs: number;
  open(): OpenTarget | Promise<OpenTarget>;
}

/** A target with what it needs at hand. */
export interface OpenTarget {
  readonly property: fc.IRawProperty<unknown>;
  /** Gives back what `open` took. */
  close?(): void | Promise<void>;
}

/** A property that may wait, without the types of its arguments. */
export function property<Case>(
  cases: fc.Arbitrary<Case>,
  holds: (one: Case) => void | Promise<void>,
): fc.IRawProperty<unknown> {
  return fc.asyncProperty(cases, async (one) => holds(one)) as fc.IRawProperty<unknown>;
}

/** What came of a case that may be refused, but only as errors.ts says. */
export type Attempt<Value> =
  | { readonly refused: PipelineError; readonly value?: undefined }
  | { readonly refused?: undefined; readonly value: Value };

/**
 * Runs `attempt`; a refusal of one of `kinds` comes back.
 * @throws what was thrown when it is anything else: a crash, or a refusal that means a bug
 */
export async function attempted<Value>(
  kinds: readonly ErrorKind[],
  attempt: () => Value | Promise<Value>,
): Promise<Attempt<Value>> {
  try {
    return { value: await attempt() };
  } catch (thrown) {
    if (!(thrown instanceof PipelineError) || !kinds.includes(thrown.kind)) throw thrown;
    return { refused: thrown };
  }
}

/**
 * Tries the cases of a target that a seed gives.
 * @throws an error that names the seed, the smallest failing case, and the command to try it again
 */
export async function tryCases(fuzzed: FuzzTarget, seed: number): Promise<void> {
  const { name, runs } = fuzzed;
  const target = await fuzzed.open();
  try {
    const result = await fc.check(target.property, { seed, numRuns: runs });
    if (!result.failed) return;
    const { errorInstance, counterexample } = result;
    const cause = errorInstance instanceof Error ? errorInstance : undefined;
    const again = `npm run fuzz -- --target ${name} --seed ${seed}`;
    const found = `after ${result.numRuns} cases: ${fc.stringify(counterexample).slice(0, SHOWN_MAX)}`;
    throw new Error(`${again}\n${found}\n${cause?.stack ?? String(errorInstance)}`, { cause });
  } finally {
    await target.close?.();
  }
}
