/**
 * One thing wrong with a pipeline file, and how to say it. Pure.
 */
import { PipelineError } from '../errors.ts';

/** Where, what was found, what was expected, and what to do about it. */
export interface ConfigProblem {
  /** Dotted path in the file, such as `event.schema.fields.price`; empty for the whole file. */
  readonly path: string;
  /** One-based line of the file; undefined when the file cannot be read. */
  readonly line: number | undefined;
  /** Never a secret and never a value that came from the environment. */
  readonly found: string;
  readonly expected: string;
  /** What to change; empty when `expected` says it all. */
  readonly remedy: string;
}

/** Path segments as zod and yaml use them. */
export type ConfigPath = readonly (string | number)[];

/** A path as people write it: `gold[0].measures.requests`. */
export function formatPath(path: ConfigPath): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? part : `${text}.${part}`;
  }, '');
}

/** `line 12, event.id: found X; expected Y; remedy` */
export function formatProblem(problem: ConfigProblem): string {
  const where = [
    problem.line === undefined ? '' : `line ${problem.line}`,
    problem.path === '' ? '' : problem.path,
  ]
    .filter(Boolean)
    .join(', ');
  const said = [
    problem.found === '' ? '' : `found ${problem.found}`,
    problem.expected === '' ? '' : `expected ${problem.expected}`,
    problem.remedy,
  ]
    .filter(Boolean)
    .join('; ');
  return where === '' ? said : `${where}: ${said}`;
}

/** What an invalid pipeline file is thrown as; carries every problem for `--json`. */
export function configError(file: string, problems: readonly ConfigProblem[]): PipelineError {
  const lines = problems.map((p) => `  ${formatProblem(p)}`);
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
  return new PipelineError(
    'invalid',
    'TM_CONFIG_INVALID',
    `${file} has ${count}:\n${lines.join('\n')}`,
    {
      context: { file },
      cause: problems,
    },
  );
}
