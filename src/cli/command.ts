/**
 * What a command of `tidemark` is: its name, options with types, an example and `run`. program.ts
 * turns commands into a command line; each file of this folder defines one.
 */
import { PipelineError } from '../errors.ts';
import { daysOfDate } from '../pipeline/progress.ts';
import type { CommandContext } from './context.ts';

/** The contract with shells and checks (design 6). */
export const EXIT = {
  ok: 0,
  /** A check found a violation, or the stored data contradicts itself. */
  violation: 1,
  /** Bad usage or configuration. */
  usage: 2,
  /** A needed service stayed unavailable. */
  unavailable: 3,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The exit code that an error's kind asks for. */
export function exitCodeOf(error: PipelineError): ExitCode {
  switch (error.kind) {
    case 'invalid':
      return EXIT.usage;
    case 'unavailable':
      return EXIT.unavailable;
    case 'corrupt':
    case 'fenced':
    case 'internal':
      return EXIT.violation;
  }
}

/** One option; its key in a command's `options` is its name in camel case. */
export interface OptionSpec<T> {
  /** Name of the value in the help, such as `N`; undefined for a switch. */
  readonly value: string | undefined;
  readonly summary: string;
  /** What it is when it is not given. */
  readonly fallback: T;
  /** May be given several times; `parse` gets what it returned before. */
  readonly repeatable: boolean;
  /** @throws PipelineError invalid `TM_USAGE` */
  parse(text: string, before: T, name: string): T;
}

export type OptionSpecs = Readonly<Record<string, OptionSpec<unknown>>>;

/** The values of a command's options. */
export type Options<Specs extends OptionSpecs> = {
  readonly [Name in keyof Specs]: Specs[Name] extends OptionSpec<infer T> ? T : never;
};

/** A command as program.ts sees it. */
export interface Command {
  /** Words after `tidemark`: `verify`, `checkpoint ls`. */
  readonly name: string;
  readonly summary: string;
  /** Positional arguments in commander's notation: `<dir>`, `[query]`. */
  readonly arguments?: string | undefined;
  readonly options: OptionSpecs;
  /** A full command line, shown by --help. */
  readonly example: string;
  /** @throws PipelineError, whose kind gives the exit code */
  run(
    context: CommandContext,
    given: {
      readonly options: Readonly<Record<string, unknown>>;
      readonly args: readonly string[];
    },
  ): Promise<ExitCode>;
}

/** Ties the types of a command's options to its `run`. */
export function defineCommand<Specs extends OptionSpecs>(
  command: Omit<Command, 'options' | 'run'> & {
    readonly options: Specs;
    run(
      context: CommandContext,
      given: { readonly options: Options<Specs>; readonly args: readonly string[] },
    ): Promise<ExitCode>;
  },
): Command {
  // program.ts fills every key of `options` by its spec, which is what Options<Specs> says.
  return command as Command;
}

/** A usage error: exit code 2. */
export function usageError(message: string): PipelineError {
  return new PipelineError('invalid', 'TM_USAGE', message);
}

/** `--name`: true when given. */
export function toggle(summary: string): OptionSpec<boolean> {
  return { value: undefined, summary, fallback: false, repeatable: false, parse: () => true };
}

/** `--name VALUE`: any text. */
export function text(value: string, summary: string): OptionSpec<string | undefined> {
  return { value, summary, fallback: undefined, repeatable: false, parse: (given) => given };
}

/** `--name VALUE`, any number of times. */
export function texts(value: string, summary: string): OptionSpec<readonly string[]> {
  return {
    value,
    summary,
    fallback: [],
    repeatable: true,
    parse: (given, before) => [...before, given],
  };
}

/** `--name YYYY-MM-DD`: a UTC date. */
export function calendarDate(summary: string): OptionSpec<string | undefined> {
  return {
    value: 'D',
    summary,
    fallback: undefined,
    repeatable: false,
    parse: (given, _before, name) => {
      if (daysOfDate(given) !== undefined) return given;
      throw usageError(`${name} takes a date such as 2026-11-23; "${given}" is none.`);
    },
  };
}

/** `--name N`: a whole number of at least `min`. */
export function integer(
  summary: string,
  options: { readonly min: number; readonly max?: number; readonly fallback: number },
): OptionSpec<number> {
  const { min, max = Number.MAX_SAFE_INTEGER, fallback } = options;
  return {
    value: 'N',
    summary,
    fallback,
    repeatable: false,
    parse: (given, _before, name) => {
      const number = Number(given);
      if (/^\d+$/.test(given) && number >= min && number <= max) return number;
      const range = max === Number.MAX_SAFE_INTEGER ? `${min} or more` : `${min} to ${max}`;
      throw usageError(`${name} takes a whole number, ${range}; "${given}" is none.`);
    },
  };
}

/** `--name X`: a decimal number within bounds. */
export function decimal<Fallback extends number | undefined>(
  value: string,
  summary: string,
  options: { readonly min: number; readonly max: number; readonly fallback: Fallback },
): OptionSpec<number | Fallback> {
  const { min, max, fallback } = options;
  return {
    value,
    summary,
    fallback,
    repeatable: false,
    parse: (given, _before, name) => {
      const number = Number(given);
      if (given.trim() !== '' && number >= min && number <= max) return number;
      throw usageError(`${name} takes a number from ${min} to ${max}; "${given}" is none.`);
    },
  };
}
