/**
 * What a command says: its result on stdout (one JSON document with --json, else text), everything
 * else on stderr. Colours and progress only where a person looks.
 */
import type { Writable } from 'node:stream';
import { PipelineError } from '../errors.ts';

/** Marks up text for a person; the identity when colours are off. */
export interface Style {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
}

const ansi =
  (code: number, enabled: boolean) =>
  (text: string): string =>
    enabled ? `\u001b[${code}m${text}\u001b[0m` : text;

function styleOf(colors: boolean): Style {
  return {
    bold: ansi(1, colors),
    dim: ansi(2, colors),
    good: ansi(32, colors),
    bad: ansi(31, colors),
  };
}

/** A Writable that may be a terminal. */
export interface OutputStream extends Writable {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export class Terminal {
  /** Whether stdout carries one JSON document. */
  readonly json: boolean;
  readonly #out: OutputStream;
  readonly #err: OutputStream;
  readonly #style: Style;
  #progressShown = false;

  constructor(options: {
    readonly stdout: OutputStream;
    readonly stderr: OutputStream;
    readonly json: boolean;
    readonly colors: boolean;
  }) {
    this.json = options.json;
    this.#out = options.stdout;
    this.#err = options.stderr;
    this.#style = styleOf(options.colors && !options.json && this.#out.isTTY === true);
  }

  /** The command's result; call it once. `render` ends without a line feed. */
  async result(document: unknown, render: (style: Style) => string): Promise<void> {
    const text = this.json ? toJson(document) : render(this.#style);
    await this.write(text === '' ? '' : `${text}\n`);
  }

  /** Raw output to stdout; resolves when more may be written. */
  write(chunk: string | Uint8Array): Promise<void> {
    this.clearProgress();
    return writeTo(this.#out, chunk);
  }

  /** A remark to the user on stderr; not part of the result. */
  note(text: string): void {
    this.clearProgress();
    this.#err.write(`${text}\n`);
  }

  /** Replaces the line of progress; silent unless stderr is a terminal. */
  progress(text: string): void {
    if (this.#err.isTTY !== true) return;
    const width = (this.#err.columns ?? 80) - 1;
    this.#err.write(`\r\u001b[K${text.slice(0, width)}`);
    this.#progressShown = true;
  }

  clearProgress(): void {
    if (!this.#progressShown) return;
    this.#err.write('\r\u001b[K');
    this.#progressShown = false;
  }
}

/** Whether the error means that whoever read our output is gone, as in `| head`. */
export function isReaderGone(error: PipelineError): boolean {
  return (error.cause as NodeJS.ErrnoException | undefined)?.code === 'EPIPE';
}

/**
 * Writes with back-pressure.
 * @throws PipelineError unavailable when the disk is full or the reader is gone
 */
function writeTo(stream: Writable, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => {
      if (!error) return resolve();
      const message = `Cannot write the output: ${error.message}.`;
      reject(new PipelineError('unavailable', 'TM_DISK_FULL', message, { cause: error }));
    });
  });
}

/** JSON with 64-bit integers as strings. */
export function toJson(document: unknown): string {
  return JSON.stringify(
    document,
    (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value),
    2,
  );
}
