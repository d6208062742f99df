/**
 * Structured logs (style O1): a constant message plus fields, one JSON document a line on stderr.
 * Record values and credentials never go into fields.
 */
import type { Clock } from './ambient.ts';
import { asPipelineError } from './errors.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
}

/** The parts of a failure that may be logged: kind, code, message, context; never the cause's own fields. */
export function errorFields(thrown: unknown): LogFields {
  const error = asPipelineError(thrown);
  return {
    errorKind: error.kind,
    errorCode: error.code,
    error: error.message,
    ...error.context,
    ...(error.kind === 'internal'
      ? { stack: (error.cause as Error | undefined)?.stack ?? error.stack }
      : {}),
  };
}

const SEVERITY: Readonly<Record<LogLevel, number>> = { debug: 10, info: 20, warn: 30, error: 40 };

/**
 * Writes JSON lines.
 * @param write takes one line with its line feed
 */
export function createLogger(options: {
  readonly clock: Clock;
  readonly level: LogLevel;
  readonly write: (line: string) => void;
  readonly fields?: LogFields;
}): Logger {
  const { clock, level, write, fields = {} } = options;
  const log = (at: LogLevel, message: string, more: LogFields | undefined): void => {
    if (SEVERITY[at] < SEVERITY[level]) return;
    const line = { time: clock.nowMs(), level: at, message, ...fields, ...more };
    write(
      `${JSON.stringify(line, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))}\n`,
    );
  };
  return {
    debug: (message, more) => log('debug', message, more),
    info: (message, more) => log('info', message, more),
    warn: (message, more) => log('warn', message, more),
    error: (message, more) => log('error', message, more),
    child: (more) => createLogger({ clock, level, write, fields: { ...fields, ...more } }),
  };
}

/** Drops everything; for tests and pure tools. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};
