/** A topic of its own on a real broker, and batches appended to it as they are. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { Admin, Kafka } from 'kafkajs';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import type { EventSource } from '../../src/storage/source/event-source.ts';
import { type ApiCall, metadataCall } from '../../src/storage/source/kafka-api.ts';
import { createKafkaClient } from '../../src/storage/source/kafka-client.ts';
import { BrokerConnection } from '../../src/storage/source/kafka-connection.ts';
import { createKafkaEventSource } from '../../src/storage/source/kafka-event-source.ts';
import { WireReader, WireWriter } from '../../src/storage/source/kafka-wire.ts';
import type { KafkaSourceConfig } from '../../src/storage/source/source-context.ts';
import { eventually } from './eventually.ts';
import { uniqueName } from './servers.ts';
import { MAX_RECORD_BYTES } from './source-records.ts';

const context = { ambient: systemAmbient, logger: silentLogger };

/** Settings for reading `topic` of a broker at `address`. */
export function kafkaConfig(address: string, topic: string): KafkaSourceConfig {
  return {
    kind: 'kafka',
    brokers: [address],
    topic,
    clientId: uniqueName('test'),
    tls: undefined,
    sasl: undefined,
    addressMap: {},
    maxRecordBytes: MAX_RECORD_BYTES,
  };
}

/** A topic and the means to work on it; everything ends with the test. */
export class KafkaTopicFixture {
  readonly config: KafkaSourceConfig;
  readonly client: Kafka;
  readonly admin: Admin;
  readonly #test: TestContext;
  #connection: BrokerConnection | undefined;

  private constructor(t: TestContext, config: KafkaSourceConfig, client: Kafka, admin: Admin) {
    this.#test = t;
    this.config = config;
    this.client = client;
    this.admin = admin;
  }

  /** @param settings topic settings such as `cleanup.policy` */
  static async create(
    t: TestContext,
    address: string,
    options: {
      readonly partitions?: number;
      readonly settings?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<KafkaTopicFixture> {
    const config = kafkaConfig(address, uniqueName('topic'));
    const client = await createKafkaClient(config, context);
    // Tests ask again by themselves; kafkajs would go on for half a minute at a broker that is gone.
    const admin = client.admin({ retry: { retries: 1 } });
    await admin.connect();
    const fixture = new KafkaTopicFixture(t, config, client, admin);
    t.after(async () => {
      fixture.#connection?.close();
      await admin.deleteTopics({ topics: [config.topic] }).catch(() => {});
      await admin.disconnect();
    });
    await fixture.createTopic(options);
    return fixture;
  }

  /** Creates the topic and waits until its leaders serve. */
  async createTopic(
    options: {
      readonly partitions?: number;
      readonly settings?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<void> {
    const { topic } = this.config;
    const { partitions = 1, settings = {} } = options;
    // Retention goes by the records' own timestamps, and tests write records of any year.
    const configEntries = Object.entries({ 'retention.ms': '-1', ...settings }).map(
      ([name, value]) => ({ name, value }),
    );
    await eventually(async () => {
      // False says that a first try, whose answer went wrong, had created it.
      await this.admin.createTopics({
        waitForLeaders: false,
        topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }],
      });
      return true;
    });
    await eventually(async () => {
      const offsets = await this.admin.fetchTopicOffsets(topic);
      assert.equal(offsets.length, partitions);
    });
  }

  openSource(): EventSource {
    const source = createKafkaEventSource(this.config, context);
    this.#test.after(() => source.close());
    return source;
  }

  /**
   * Appends a record set as it is; the broker checks it and stamps the offsets.
   * @returns the base offset
   */
  async append(partition: number, batch: Uint8Array): Promise<bigint> {
    const [host = '', port = ''] = this.config.brokers[0]!.split(':');
    if (!this.#connection?.isOpen) {
      this.#connection = await BrokerConnection.open(
        { host, port: Number(port) },
        this.config,
        context,
      );
    }
    const connection = this.#connection;
    return eventually(async () => {
      const { error, baseOffset } = await connection.request(
        produceCall(this.config.topic, partition, batch),
      );
      assert.equal(error, 0, `the broker refused the batch with error ${error}`);
      return baseOffset;
    });
  }

  /** Waits until the topic is gone, then creates it anew. */
  async recreate(partitions = 1): Promise<void> {
    const { topic } = this.config;
    await this.admin.deleteTopics({ topics: [topic] });
    await eventually(async () => !(await this.admin.listTopics()).includes(topic));
    await this.createTopic({ partitions });
  }

  /** The topic as the broker knows it. */
  async topicId(): Promise<string> {
    const [host = '', port = ''] = this.config.brokers[0]!.split(':');
    const connection = await BrokerConnection.open(
      { host, port: Number(port) },
      this.config,
      context,
    );
    const { topic } = await connection.request(metadataCall(12, this.config.topic));
    connection.close();
    return topic!.topicId;
  }
}

function produceCall(
  topic: string,
  partition: number,
  batch: Uint8Array,
): ApiCall<{ readonly error: number; readonly baseOffset: bigint }> {
  const writer = new WireWriter(false);
  writer.nullString().int16(-1).int32(10_000);
  writer.array([topic], (name) => {
    writer.string(name).array([partition], (one) => writer.int32(one).bytes(batch));
  });
  return {
    apiKey: 0,
    apiName: 'Produce',
    apiVersion: 7,
    body: writer.finish(),
    decode(payload) {
      const reader = new WireReader(payload, false);
      const answers = reader.array(() => {
        reader.string();
        return reader.array(() => {
          reader.int32();
          const error = reader.int16();
          const baseOffset = reader.int64();
          reader.int64();
          reader.int64();
          return { error, baseOffset };
        });
      });
      return answers.flat()[0]!;
    },
  };
}
