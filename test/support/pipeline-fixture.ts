/**
 * A pipeline for tests that run the real thing: its file in a folder of its own, a topic, prefixes
 * in the shared servers, and the commands of the command line.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { stringify } from 'yaml';
import { systemAmbient } from '../../src/ambient.ts';
import { parsePipeline } from '../../src/config.ts';
import { silentLogger } from '../../src/logger.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import { openEmbeddedRecordSink } from '../../src/storage/source/embedded-record-sink.ts';
import { openKafkaRecordSink } from '../../src/storage/source/kafka-record-sink.ts';
import type { RecordSink } from '../../src/storage/source/record-sink.ts';
import { KafkaTopicFixture } from './kafka-topic-fixture.ts';
import { type Exit, TidemarkProcess } from './pipeline-process.ts';
import { sharedKafka, sharedRedis, sharedS3, uniqueName } from './servers.ts';

/** Parts of a pipeline file as YAML has them. */
export type Definition = Readonly<Record<string, unknown>>;

export interface PipelineOptions {
  /** `name`, `event`, `gold` and whatever else differs from the defaults. */
  readonly definition: Definition;
  /** On Kafka, S3 and Redis, or all in a folder. */
  readonly on: 'servers' | 'folder';
  readonly partitions?: number;
  /** Topic settings such as `max.message.bytes`. */
  readonly topicSettings?: Readonly<Record<string, string>>;
  /** Instead of the shared broker, `host:port`. */
  readonly kafka?: string;
  /** Instead of the shared Redis. */
  readonly redisUrl?: string;
  /** Where its commands find the S3 server, instead of at the server itself. */
  readonly s3Endpoint?: string;
  /** Variables for its commands. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** The S3 bucket's client; credentials are in the environment. */
async function s3Client(): Promise<S3Client> {
  const { endpoint, region } = await sharedS3();
  return new S3Client({ endpoint, region, forcePathStyle: true });
}

export class PipelineFixture {
  /** Holds the pipeline file and everything local. */
  readonly folder: string;
  readonly file: string;
  readonly config: PipelineConfig;
  /** undefined on the embedded source. */
  readonly topic: KafkaTopicFixture | undefined;
  readonly #test: TestContext;
  readonly #definition: Definition;
  readonly #environment: Readonly<Record<string, string>>;

  private constructor(
    t: TestContext,
    folder: string,
    definition: Definition,
    given: {
      readonly topic?: KafkaTopicFixture | undefined;
      readonly environment?: Readonly<Record<string, string>> | undefined;
    },
  ) {
    this.#test = t;
    this.folder = folder;
    this.topic = given.topic;
    this.#definition = definition;
    this.#environment = { XDG_CACHE_HOME: join(folder, 'cache'), ...given.environment };
    this.file = join(folder, 'pipeline.yaml');
    const text = stringify(definition);
    writeFileSync(this.file, text);
    const parsed = parsePipeline(text, { environment: {}, cwd: folder });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    this.config = parsed.config;
  }

  static async create(t: TestContext, options: PipelineOptions): Promise<PipelineFixture> {
    const folder = newFolder(t);
    const { partitions = 4, environment } = options;
    // Several pipelines run side by side, so none may insist on the default port.
    const common = { supervisor: { http: { port: 0 } }, ...options.definition };
    if (options.on === 'folder') {
      const source = { kind: 'embedded', path: join(folder, 'log'), partitions };
      const definition = { source, ...placesIn(folder), ...common };
      return new PipelineFixture(t, folder, definition, { environment });
    }
    const kafka = options.kafka ?? (await sharedKafka());
    const topic = await KafkaTopicFixture.create(t, kafka, {
      partitions,
      ...(options.topicSettings ? { settings: options.topicSettings } : {}),
    });
    const source = { kind: 'kafka', brokers: [kafka], topic: topic.config.topic };
    const places = await placesOnServers(options.redisUrl, options.s3Endpoint);
    return new PipelineFixture(t, folder, { ...common, source, ...places }, { topic, environment });
  }

  /** The same pipeline on the same source, but for `changes`, with tables and state of its own. */
  async sibling(
    changes: Definition = {},
    environment: Readonly<Record<string, string>> = {},
  ): Promise<PipelineFixture> {
    const folder = newFolder(this.#test);
    const places = this.topic ? await placesOnServers() : placesIn(folder);
    return new PipelineFixture(
      this.#test,
      folder,
      { ...this.#definition, ...changes, ...places },
      { topic: this.topic, environment: { ...this.#environment, ...environment } },
    );
  }

  /** Starts a command on the pipeline file. */
  start(args: readonly string[]): TidemarkProcess {
    return new TidemarkProcess(this.#test, [...args, '-c', this.file, '--json'], {
      cwd: this.folder,
      environment: this.#environment,
    });
  }

  /** Runs a command to its end. */
  async command(args: readonly string[], withinMs?: number): Promise<Exit> {
    return this.start(args).ended(withinMs);
  }

  /**
   * Runs a command that must succeed.
   * @returns what it printed as JSON
   */
  async json<Shape>(args: readonly string[], withinMs?: number): Promise<Shape> {
    const { code, signal, stdout, stderr } = await this.command(args, withinMs);
    assert.equal(code, 0, `tidemark ${args.join(' ')}: ${signal ?? code}\n${stdout}\n${stderr}`);
    assert.doesNotMatch(stderr, /did not drain in time/, `tidemark ${args.join(' ')}`);
    return JSON.parse(stdout) as Shape;
  }

  /** Runs until gold has all that the source has. */
  runUntilCaughtUp(options: readonly string[] = [], withinMs?: number): Promise<RunResult> {
    return this.json(['run', '--until-caught-up', ...options], withinMs);
  }

  /**
   * Asserts that `verify` finds nothing, neither by the commits nor by the data files, and that both
   * proofs count alike.
   */
  async verify(): Promise<VerifyResult> {
    const stated = await this.json<VerifyResult>(['verify']);
    const read = await this.json<VerifyResult>(['verify', '--deep']);
    for (const found of [stated, read]) {
      assert.deepEqual(found.violations, []);
      assert.equal(found.ok, true);
    }
    assert.deepEqual({ ...stated, deep: true }, read);
    return read;
  }

  /** Appends to the source as `generate` does. */
  openSink(): Promise<RecordSink> {
    const context = { ambient: systemAmbient, logger: silentLogger };
    const { source } = this.config;
    return source.kind === 'kafka'
      ? openKafkaRecordSink(source, context)
      : openEmbeddedRecordSink(source, context);
  }

  /** The newest version of a table, such as `silver/usage`, by its log; -1 when there is none. */
  async version(table: string): Promise<number> {
    const names = await this.#logNames(table);
    const versions = names.flatMap((name) => /^(\d{20})\.json$/.exec(name)?.[1] ?? []);
    return versions.length === 0 ? -1 : Number(versions.toSorted().at(-1));
  }

  /** The lake as a local folder; a copy as of now when it is on S3. */
  async lakeFolder(): Promise<string> {
    const { lake } = this.config;
    if (lake.kind === 'fs') return lake.path;
    const folder = mkdtempSync(join(this.folder, 'lake-'));
    await copyPrefix(lake.bucket, `${lake.prefix}/`, folder);
    return folder;
  }

  async #logNames(table: string): Promise<readonly string[]> {
    const { lake } = this.config;
    if (lake.kind === 'fs') {
      return readdir(join(lake.path, table, '_delta_log')).catch(() => []);
    }
    const prefix = `${lake.prefix}/${table}/_delta_log/`;
    return (await keysBelow(lake.bucket, prefix)).map((key) => key.slice(prefix.length));
  }
}

/** What `run` prints. */
export interface RunResult {
  readonly seconds: number;
  readonly bronzeRows: number;
  readonly silverRows: number;
  readonly duplicates: number;
  readonly conflicts: number;
  readonly deadLetters: number;
  readonly late: number;
  readonly failures: readonly { readonly unit: string; readonly reason: string }[];
}

/** What `verify` prints. */
export interface VerifyResult {
  readonly ok: boolean;
  readonly partitions: readonly {
    readonly partition: number;
    readonly expected: number;
    readonly actual: number;
    readonly gapsUnexplained: readonly (readonly [number, number])[];
  }[];
  readonly stages: {
    readonly bronzeRows: number;
    readonly silverRows: number;
    readonly duplicates: number;
    readonly conflicts: number;
    readonly deadLetters: number;
  };
  readonly silverDuplicates: number;
  readonly violations: readonly unknown[];
}

/** What `status` prints. */
export interface StatusResult {
  readonly partitions: readonly {
    readonly partition: number;
    readonly worker: string | null;
    readonly nextOffset: number | null;
    readonly endOffset: number | null;
    readonly lag: number | null;
    readonly state: string;
    readonly reason?: string | null;
  }[];
  readonly tables: readonly { readonly name: string; readonly version: number; rows: number }[];
  readonly queues: readonly { readonly name: string; readonly completed: number }[];
}

function newFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-pipeline-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}

function placesIn(folder: string): Definition {
  return {
    lake: { kind: 'fs', path: join(folder, 'lake') },
    state: { kind: 'embedded', path: join(folder, 'state') },
  };
}

async function placesOnServers(redisUrl?: string, s3Endpoint?: string): Promise<Definition> {
  const shared = await sharedS3();
  const { bucket, region } = shared;
  const endpoint = s3Endpoint ?? shared.endpoint;
  const prefix = uniqueName('lake');
  return {
    lake: { kind: 's3', bucket, prefix, endpoint, region, forcePathStyle: true },
    state: { kind: 'redis', url: redisUrl ?? (await sharedRedis()), prefix: uniqueName('state') },
  };
}

async function keysBelow(bucket: string, prefix: string): Promise<string[]> {
  const client = await s3Client();
  try {
    const keys: string[] = [];
    let token: string | undefined;
    do {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken: token }),
      );
      keys.push(...(page.Contents ?? []).map(({ Key }) => Key!));
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return keys;
  } finally {
    client.destroy();
  }
}

const COPIES_AT_A_TIME = 16;

async function copyPrefix(bucket: string, prefix: string, folder: string): Promise<void> {
  const keys = await keysBelow(bucket, prefix);
  const client = await s3Client();
  const lane = async (): Promise<void> => {
    for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
      const path = join(folder, key.slice(prefix.length));
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, await Body!.transformToByteArray());
    }
  };
  mkdirSync(folder, { recursive: true });
  try {
    await Promise.all(Array.from({ length: COPIES_AT_A_TIME }, lane));
  } finally {
    client.destroy();
  }
}
