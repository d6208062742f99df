/** A process that runs the seeds that it is sent, one at a time, and answers with what they came to. */
import process from 'node:process';
import type { LogFields, Logger, LogLevel } from '../../src/logger.ts';
import { createParquetCodec } from '../../src/storage/parquet/parquet-wasm-codec.ts';
import { plainCodec } from './plain-codec.ts';
import { runSeed } from './scenario.ts';
import type { VirtualTime } from './virtual-time.ts';

/** What the pool sends. */
export interface SeedOrder {
  readonly seed: number;
  /** Run it a second time and compare the traces. */
  readonly twice: boolean;
  /** Lowest level of production's log lines that go to stderr. */
  readonly logLevel: LogLevel | undefined;
}

/** What the worker answers. */
export interface SeedReport {
  readonly seed: number;
  /** Invariant and problem; undefined when the run was right. */
  readonly violation: string | undefined;
  readonly traceHash: string;
  readonly events: number;
  readonly virtualSeconds: number;
  readonly commits: number;
  readonly records: number;
  /** Faults met, and codes of errors that production code reported, by name. */
  readonly counts: Readonly<Record<string, number>>;
}

/** Every so many seeds the data files are real Parquet. */
const PARQUET_EVERY = 20;
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

const parquet = createParquetCodec();

/** Counts the codes of reported errors, and prints lines when asked. */
function countingLogger(
  counts: Map<string, number>,
  logLevel: LogLevel | undefined,
): (time: VirtualTime, name: string) => Logger {
  return (time, name) => {
    const least = logLevel === undefined ? LEVELS.length : LEVELS.indexOf(logLevel);
    const create = (bound: LogFields): Logger => {
      const at =
        (level: LogLevel) =>
        (message: string, fields?: LogFields): void => {
          const code = fields?.['errorCode'];
          if (typeof code === 'string') counts.set(code, (counts.get(code) ?? 0) + 1);
          if (LEVELS.indexOf(level) < least) return;
          const line = {
            ms: Math.round(time.nowMs),
            process: name,
            level,
            message,
            ...bound,
            ...fields,
          };
          const text = JSON.stringify(line, (_key, value: unknown) =>
            typeof value === 'bigint' ? value.toString() : value,
          );
          process.stderr.write(`${text}\n`);
        };
      return {
        debug: at('debug'),
        info: at('info'),
        warn: at('warn'),
        error: at('error'),
        child: (fields) => create({ ...bound, ...fields }),
      };
    };
    return create({});
  };
}

/** Runs one seed, or the same one twice. */
export async function carryOut({ seed, twice, logLevel }: SeedOrder): Promise<SeedReport> {
  const codec = seed % PARQUET_EVERY === 0 ? parquet : plainCodec;
  const errors = new Map<string, number>();
  const outcome = await runSeed(seed, { codec, createLogger: countingLogger(errors, logLevel) });
  let violation = outcome.violation?.message;
  if (twice && violation === undefined) {
    const again = await runSeed(seed, {
      codec,
      createLogger: countingLogger(new Map(), undefined),
    });
    if (again.traceHash !== outcome.traceHash) {
      violation = `determinism: trace ${outcome.traceHash} became ${again.traceHash}`;
    }
  }
  return {
    seed,
    violation,
    traceHash: outcome.traceHash,
    events: outcome.events,
    virtualSeconds: outcome.seconds,
    commits: outcome.commits,
    records: outcome.records,
    counts: Object.fromEntries([...outcome.faults, ...errors]),
  };
}

process.on('disconnect', () => process.exit());
process.on('message', (order: SeedOrder) => {
  void carryOut(order).then((report) => process.send!(report));
});
