/**
 * Turns commands into the `tidemark` command line: parses arguments, runs one command, says errors
 * in one sentence and returns the exit code. Names no adapter and no command.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { CommanderError, Command as CommanderCommand, Option } from 'commander';
import type { Ambient } from '../ambient.ts';
import { loadPipeline } from '../config.ts';
import type { ConfigProblem } from '../config/problem.ts';
import type { Environment } from '../config/yaml-document.ts';
import { asPipelineError, type PipelineError } from '../errors.ts';
import { createLogger, type LogLevel } from '../logger.ts';
import { type Command, EXIT, type ExitCode, exitCodeOf, usageError } from './command.ts';
import type { Adapters, CommandContext } from './context.ts';
import { isReaderGone, type OutputStream, Terminal, toJson } from './terminal.ts';

/** The process around a command line. */
export interface Host {
  readonly adapters: Adapters;
  readonly ambient: Ambient;
  readonly environment: Environment;
  readonly cwd: string;
  readonly stdin: Readable;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly signal: AbortSignal;
  readonly version: string;
}

const DEFAULT_FILES = ['tidemark.yaml', 'pipeline.yaml'];

/**
 * Runs one command line; never throws.
 * @param argv without node and script
 */
export async function runCli(
  argv: readonly string[],
  commands: readonly Command[],
  host: Host,
): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  // The callback of each write gets the error too (terminal.ts); unheard, the event would crash us.
  host.stdout.on('error', () => {});
  const program = buildProgram(commands, host, async (command, given) => {
    exitCode = await command.run(contextOf(host, given), given);
  });
  try {
    await program.parseAsync(argv.length === 0 ? ['--help'] : [...argv], { from: 'user' });
    return exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return endOfParsing(thrown, argv, host);
    const error = asPipelineError(thrown);
    if (isReaderGone(error)) return EXIT.ok;
    reportError(error, argv.includes('--json'), host);
    return exitCodeOf(error);
  }
}

interface Given {
  readonly options: Readonly<Record<string, unknown>>;
  readonly args: readonly string[];
  readonly json: boolean;
  readonly configFile: string | undefined;
}

function buildProgram(
  commands: readonly Command[],
  host: Host,
  run: (command: Command, given: Given) => Promise<void>,
): CommanderCommand {
  const program = new CommanderCommand('tidemark')
    .description('Kafka topics of usage events into Delta Lake tables that count every event once.')
    .version(host.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    // A command may have a --version of its own.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => host.stdout.write(text),
      // A usage error is reported by endOfParsing.
      writeErr: () => {},
    });
  const groups = new Map<string, CommanderCommand>();
  for (const command of commands) {
    const words = command.name.split(' ');
    const last = words.pop()!;
    const parent = words.reduce((at, word) => {
      const known = groups.get(word);
      if (known) return known;
      const group = at.command(word).copyInheritedSettings(program);
      const inside = commands.filter((c) => c.name.startsWith(`${word} `));
      group.description(inside.map((c) => c.name.slice(word.length + 1)).join(', '));
      groups.set(word, group);
      return group;
    }, program);
    addCommand(parent, last, command, run);
  }
  return program;
}

function addCommand(
  parent: CommanderCommand,
  word: string,
  command: Command,
  run: (command: Command, given: Given) => Promise<void>,
): void {
  const built = parent
    .command(`${word}${command.arguments === undefined ? '' : ` ${command.arguments}`}`)
    .copyInheritedSettings(parent)
    .description(command.summary)
    .allowExcessArguments(false);
  for (const [key, spec] of Object.entries(command.options)) {
    const name = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    const option = new Option(spec.value === undefined ? name : `${name} <${spec.value}>`);
    option.description = spec.summary;
    option.default(spec.fallback, shownDefault(spec.fallback));
    if (spec.value !== undefined) {
      option.argParser((given: string, before: unknown) => spec.parse(given, before, name));
    }
    built.addOption(option);
  }
  built
    .option('-c, --config <FILE>', 'pipeline file (default: tidemark.yaml or pipeline.yaml)')
    .option('--json', 'print one JSON document on stdout')
    .addHelpText('after', `\nExample:\n  $ ${command.example}`)
    .action(async () => {
      const { json, config, ...options } = built.opts<Record<string, unknown>>();
      const configFile = config as string | undefined;
      await run(command, { options, args: built.args, json: json === true, configFile });
    });
}

function shownDefault(fallback: unknown): string | undefined {
  if (typeof fallback === 'number' || typeof fallback === 'string') return String(fallback);
  return undefined;
}

function contextOf(host: Host, given: Given): CommandContext {
  const { environment, ambient, cwd } = host;
  const { configFile } = given;
  return {
    adapters: host.adapters,
    ambient,
    logger: createLogger({
      clock: ambient.clock,
      level: logLevelOf(environment),
      write: (line) => host.stderr.write(line),
    }),
    environment,
    cwd,
    terminal: new Terminal({
      stdout: host.stdout,
      stderr: host.stderr,
      json: given.json,
      colors: environment['NO_COLOR'] === undefined,
    }),
    stdin: host.stdin,
    signal: host.signal,
    configFile,
    loadConfig: () => {
      const file = configFile ?? DEFAULT_FILES.find((name) => existsSync(join(cwd, name)));
      return loadPipeline(file ?? DEFAULT_FILES[0]!, { environment, cwd });
    },
  };
}

/** `TIDEMARK_LOG`: debug, info, warn (default) or error. */
function logLevelOf(environment: Environment): LogLevel {
  const level = environment['TIDEMARK_LOG'] ?? 'warn';
  if (level === 'debug' || level === 'info' || level === 'warn' || level === 'error') return level;
  throw usageError(`TIDEMARK_LOG is "${level}"; it takes debug, info, warn or error.`);
}

/** commander ends help and version by throwing too. */
function endOfParsing(thrown: CommanderError, argv: readonly string[], host: Host): ExitCode {
  if (thrown.exitCode === 0) return EXIT.ok;
  if (thrown.code === 'commander.help') {
    host.stderr.write('Name a command; `tidemark --help` lists them.\n');
    return EXIT.usage;
  }
  const said = thrown.message.replace(/^error: /, '').replace(/\n/g, ' ');
  const sentence = `${said.charAt(0).toUpperCase()}${said.slice(1)}${/[.?)]$/.test(said) ? '' : '.'}`;
  const word = thrown.code === 'commander.unknownCommand' ? '' : commandWord(argv);
  const help = `See \`tidemark ${word}--help\`.`;
  reportError(usageError(`${sentence} ${help}`), argv.includes('--json'), host);
  return EXIT.usage;
}

function commandWord(argv: readonly string[]): string {
  const word = argv.find((arg) => !arg.startsWith('-'));
  return word !== undefined && /^[a-z]+$/.test(word) ? `${word} ` : '';
}

function reportError(error: PipelineError, json: boolean, host: Host): void {
  host.stderr.write(`${error.message}\n`);
  if (error.kind === 'internal') {
    const stack = (error.cause as Error | undefined)?.stack ?? error.stack;
    host.stderr.write(`This is a bug in Tidemark.\n${stack}\n`);
  }
  if (!json) return;
  const { kind, code, message, context } = error;
  const problems = code === 'TM_CONFIG_INVALID' && Array.isArray(error.cause) ? error.cause : [];
  host.stdout.write(
    `${toJson({
      error: {
        kind,
        code,
        message,
        context,
        ...(problems.length > 0 ? { problems: problems as ConfigProblem[] } : {}),
      },
    })}\n`,
  );
}
