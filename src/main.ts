/**
 * Composition root: the only file that names concrete adapters (style D2). Adapters are loaded on
 * demand, so that a command pays only for what it uses.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { systemAmbient } from './ambient.ts';
import { EXIT, usageError } from './cli/command.ts';
import { commands } from './cli/commands.ts';
import type { Adapters } from './cli/context.ts';
import { runCli } from './cli/program.ts';
import { roleCommands } from './cli/roles.ts';
import { runCommand } from './cli/run.ts';
import { shutdownSignal } from './cli/shutdown-signal.ts';
import { CRASH_VARIABLE } from './crash-points.ts';
import { createLogger, errorFields } from './logger.ts';
import { OUTAGES_VARIABLE, withOutages } from './operations/drill/outages.ts';
import { TIDEMARK_VERSION } from './version.ts';

const ambient = systemAmbient;
const logger = createLogger({
  clock: ambient.clock,
  level: 'warn',
  write: (line) => process.stderr.write(line),
});
const services = { ambient, logger };

// Whatever state it is in, it is none that was meant: end, so that whoever started it starts it anew (P1).
process.on('uncaughtException', (thrown) => {
  logger.error('nobody handled an error: the process ends', errorFields(thrown));
  process.exit(EXIT.violation);
});

const realAdapters: Adapters = {
  async openStore({ lake }) {
    const { createObjectStore } = await import('./storage/object-store/create-object-store.ts');
    return createObjectStore(lake, services);
  },
  async openState(config, options) {
    const { createStateStore } = await import('./storage/state/create-state-store.ts');
    return createStateStore(config, { ...services, ...options });
  },
  async openQueue(config) {
    const { createWorkQueue } = await import('./storage/queue/create-work-queue.ts');
    return createWorkQueue(config, services);
  },
  async openSource({ source }) {
    if (source.kind === 'kafka') {
      const { createKafkaEventSource } = await import('./storage/source/kafka-event-source.ts');
      return createKafkaEventSource(source, services);
    }
    const { openEmbeddedEventSource } = await import('./storage/source/embedded-event-source.ts');
    return openEmbeddedEventSource(source, services);
  },
  async openSink({ source }) {
    if (source.kind === 'kafka') {
      const { openKafkaRecordSink } = await import('./storage/source/kafka-record-sink.ts');
      return openKafkaRecordSink(source, services);
    }
    const { openEmbeddedRecordSink } = await import('./storage/source/embedded-record-sink.ts');
    return openEmbeddedRecordSink(source, services);
  },
  async openInputLog({ source }) {
    if (source.kind !== 'embedded') throw usageError('Only the embedded source takes files.');
    const { EmbeddedLog } = await import('./storage/source/embedded-log.ts');
    const { ingestNdjson } = await import('./storage/source/ndjson-ingest.ts');
    const log = await EmbeddedLog.open(source, services);
    const { key: keyField, maxRecordBytes } = source;
    return {
      append: (request) => ingestNdjson({ log, keyField, maxRecordBytes, ...request }, services),
      close: () => log.close(),
    };
  },
  async openTopicAdmin({ source }) {
    if (source.kind !== 'kafka') throw usageError('Only Kafka has topics to make.');
    const { openKafkaTopicAdmin } = await import('./storage/source/kafka-topic-admin.ts');
    return openKafkaTopicAdmin(source, services);
  },
  async eraseState(config) {
    const { eraseState } = await import('./storage/state/erase-state.ts');
    return eraseState(config, services);
  },
  async openCodec() {
    const { createParquetCodec } = await import('./storage/parquet/parquet-wasm-codec.ts');
    return createParquetCodec();
  },
  async openQuery({ config, store }) {
    const { DuckDbLakeQuery } = await import('./storage/query/duckdb-lake-query.ts');
    const cacheRoot = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
    const cacheFolder = join(cacheRoot, 'tidemark', config.name);
    return DuckDbLakeQuery.open({ store, ambient, cacheFolder });
  },
};

const outages = process.env[OUTAGES_VARIABLE];
const adapters = outages === undefined ? realAdapters : withOutages(realAdapters, outages);

const crashAt = process.env[CRASH_VARIABLE];
if (crashAt !== undefined) {
  const { armCrashPoints } = await import('./crash-striker.ts');
  armCrashPoints(crashAt, ambient.clock);
}

const [first, ...rest] = commands;
process.exitCode = await runCli(
  process.argv.slice(2),
  [first!, runCommand, ...roleCommands, ...rest],
  {
    adapters,
    ambient,
    environment: process.env,
    cwd: process.cwd(),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: shutdownSignal(process, ambient.clock, (code) => process.exit(code)),
    version: TIDEMARK_VERSION,
  },
);
