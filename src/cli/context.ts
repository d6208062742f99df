/**
 * What a command works with. Everything concrete is injected by main.ts, the only file that names
 * adapters (style D2), so that commands run in tests on memory.
 */
import type { Readable } from 'node:stream';
import type { Ambient } from '../ambient.ts';
import type { Environment } from '../config/yaml-document.ts';
import type { Logger } from '../logger.ts';
import type { PipelineConfig } from '../pipeline/pipeline-config.ts';
import type { ObjectStore } from '../storage/object-store/object-store.ts';
import type { ParquetCodec } from '../storage/parquet/parquet-codec.ts';
import type { LakeQuery } from '../storage/query/lake-query.ts';
import type { WorkQueue } from '../storage/queue/work-queue.ts';
import type { EventSource } from '../storage/source/event-source.ts';
import type { RecordSink } from '../storage/source/record-sink.ts';
import type { TopicAdmin } from '../storage/source/topic-admin.ts';
import type { StateStore } from '../storage/state/state-store.ts';
import type { Terminal } from './terminal.ts';

/** Takes NDJSON into the embedded source. */
export interface InputLog {
  /**
   * Appends a file or a stream, durably when it returns.
   * @returns lines whose `arrivalField` was no time; they are dated now
   */
  append(request: {
    readonly input: string | Readable;
    readonly arrivalField: string | undefined;
    readonly signal: AbortSignal;
  }): Promise<{ readonly undatedLines: number }>;
  close(): Promise<void>;
}

/** Makes the ports of one pipeline. Whoever opens one closes it. */
export interface Adapters {
  openStore(config: PipelineConfig): Promise<ObjectStore>;
  /** `readOnly`: beside a process that runs on the embedded state, which has one owner. */
  openState(config: PipelineConfig, options?: { readonly readOnly?: boolean }): Promise<StateStore>;
  openQueue(config: PipelineConfig): Promise<WorkQueue>;
  openSource(config: PipelineConfig): Promise<EventSource>;
  /** Appends records to the pipeline's source: Kafka or the embedded log. */
  openSink(config: PipelineConfig): Promise<RecordSink>;
  /** @throws PipelineError invalid when the source is not the embedded one */
  openInputLog(config: PipelineConfig): Promise<InputLog>;
  /** @throws PipelineError invalid when the source is not Kafka */
  openTopicAdmin(config: PipelineConfig): Promise<TopicAdmin>;
  /** Removes all that the pipeline has in its state store and queues, while nobody owns an embedded one. */
  eraseState(config: PipelineConfig): Promise<void>;
  /** SQL over the tables in `store`. */
  openQuery(options: {
    readonly config: PipelineConfig;
    readonly store: ObjectStore;
    readonly codec: ParquetCodec;
  }): Promise<LakeQuery>;
  openCodec(): Promise<ParquetCodec>;
}

/** One command's world. */
export interface CommandContext {
  readonly adapters: Adapters;
  readonly ambient: Ambient;
  /** Writes to stderr. */
  readonly logger: Logger;
  readonly environment: Environment;
  /** Absolute. */
  readonly cwd: string;
  readonly terminal: Terminal;
  readonly stdin: Readable;
  /** Aborts at SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** What -c named; undefined when it was not given. */
  readonly configFile: string | undefined;
  /**
   * The pipeline of -c, else of tidemark.yaml or pipeline.yaml in the current folder.
   * @throws PipelineError invalid
   */
  loadConfig(): PipelineConfig;
}
