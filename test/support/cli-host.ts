/**
 * Runs command lines in this process, with what they print kept.
 */
import { Readable, Writable } from 'node:stream';
import { systemAmbient } from '../../src/ambient.ts';
import type { Command } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/commands.ts';
import type { Adapters } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';
import { PipelineError } from '../../src/errors.ts';

export interface CliRun {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

class Collector extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

const absent = (what: string) => async (): Promise<never> => {
  throw new PipelineError('invalid', 'TM_USAGE', `this test has no ${what}`);
};

/** Adapters of which a test gives those that it is about. */
export function someAdapters(adapters: Partial<Adapters>): Adapters {
  return {
    openStore: absent('store'),
    openState: absent('state'),
    openQueue: absent('queue'),
    openSource: absent('source'),
    openSink: absent('sink'),
    openInputLog: absent('input log'),
    openTopicAdmin: absent('topic admin'),
    eraseState: absent('state to erase'),
    openQuery: absent('query'),
    openCodec: absent('codec'),
    ...adapters,
  };
}

/** Runs `tidemark` with these arguments. */
export async function cli(
  argv: readonly string[],
  options: {
    readonly cwd: string;
    readonly adapters?: Partial<Adapters>;
    readonly environment?: Readonly<Record<string, string>>;
    readonly stdin?: string;
    readonly commands?: readonly Command[];
    readonly signal?: AbortSignal;
    /** Instead of one that is kept. */
    readonly stdout?: Writable;
  },
): Promise<CliRun> {
  const stdout = new Collector();
  const stderr = new Collector();
  const exitCode = await runCli(argv, options.commands ?? commands, {
    adapters: someAdapters(options.adapters ?? {}),
    ambient: systemAmbient,
    environment: options.environment ?? {},
    cwd: options.cwd,
    stdin: Readable.from([options.stdin ?? '']),
    stdout: options.stdout ?? stdout,
    stderr,
    signal: options.signal ?? new AbortController().signal,
    version: '0.0.0',
  });
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}
