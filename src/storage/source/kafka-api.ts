/**
 * The requests we send to Kafka ourselves, as pairs of encoder and decoder: those whose versions
 * kafkajs lacks (topic ids in Metadata and Fetch) or whose records it would decode. Pure.
 * Source: Kafka documentation, "Protocol Messages"; KIP-98 (aborted transactions), KIP-320 (leader
 * epochs), KIP-516 (topic ids), KIP-595 (diverging epochs).
 */
import type { AbortedTransaction } from './event-source.ts';
import { WireReader, WireWriter } from './kafka-wire.ts';

/** One request of one version, and how to read its answer. */
export interface ApiCall<T> {
  readonly apiKey: number;
  readonly apiName: string;
  readonly apiVersion: number;
  /** Everything behind the client id of the request header. */
  readonly body: Buffer;
  /** @param payload everything behind the correlation id of the response header */
  decode(payload: Buffer): T;
}

/** Versions of an API that a broker speaks. */
export interface VersionRange {
  readonly minVersion: number;
  readonly maxVersion: number;
}

/** The APIs we use, with the versions whose layout is implemented here. */
export const API = {
  fetch: { key: 1, min: 11, max: 13 },
  listOffsets: { key: 2, min: 4, max: 5 },
  metadata: { key: 3, min: 11, max: 12 },
  offsetCommit: { key: 8, min: 5, max: 5 },
  findCoordinator: { key: 10, min: 1, max: 2 },
  apiVersions: { key: 18, min: 0, max: 0 },
  saslAuthenticate: { key: 36, min: 0, max: 1 },
} as const;

/** The topic id of brokers that have none. */
export const NO_TOPIC_ID = '00000000-0000-0000-0000-000000000000';

interface Outlined<T> {
  readonly name: string;
  readonly key: number;
  readonly version: number;
  readonly flexible?: boolean;
  readonly write?: (writer: WireWriter) => void;
  readonly read: (reader: WireReader) => T;
}

function call<T>({ name, key, version, flexible = false, write, read }: Outlined<T>): ApiCall<T> {
  const writer = new WireWriter(flexible);
  // A flexible request header ends with tagged fields, which kafkajs's header lacks.
  writer.endStruct();
  write?.(writer);
  writer.endStruct();
  return {
    apiKey: key,
    apiName: name,
    apiVersion: version,
    body: writer.finish(),
    decode(payload) {
      const reader = new WireReader(payload, flexible);
      reader.endStruct();
      return read(reader);
    },
  };
}

/** Which versions of which API the broker speaks. */
export function apiVersionsCall(): ApiCall<{
  readonly error: number;
  readonly versions: Readonly<Record<number, VersionRange>>;
}> {
  return call({
    name: 'ApiVersions',
    key: API.apiVersions.key,
    version: 0,
    read: (r) => ({
      error: r.int16(),
      versions: Object.fromEntries(
        r.array(() => [r.int16(), { minVersion: r.int16(), maxVersion: r.int16() }] as const),
      ),
    }),
  });
}

/** Where a broker is. */
export interface BrokerNode {
  readonly nodeId: number;
  readonly host: string;
  readonly port: number;
}

/** A partition and its leader. */
interface PartitionMetadata {
  readonly error: number;
  readonly partition: number;
  /** -1: none now. */
  readonly leader: number;
  readonly leaderEpoch: number;
}

/** Brokers, and the topic asked for. */
export interface MetadataResponse {
  readonly brokers: readonly BrokerNode[];
  readonly topic:
    | {
        readonly error: number;
        readonly topicId: string;
        readonly partitions: readonly PartitionMetadata[];
      }
    | undefined;
}

/** Brokers, and one topic's id, partitions and leaders. Never creates the topic. */
export function metadataCall(version: number, topic: string): ApiCall<MetadataResponse> {
  return call({
    name: 'Metadata',
    key: API.metadata.key,
    version,
    flexible: true,
    write: (w) => {
      w.array([topic], (name) => w.uuid(NO_TOPIC_ID).string(name).endStruct());
      w.int8(0).int8(0);
    },
    read: (r) => {
      r.int32();
      const brokers = r.array(() => {
        const node = { nodeId: r.int32(), host: r.string(), port: r.int32() };
        r.nullableString();
        r.endStruct();
        return node;
      });
      r.nullableString();
      r.int32();
      const topics = r.array(() => {
        const error = r.int16();
        r.nullableString();
        const topicId = r.uuid();
        r.int8();
        const partitions = r.array(() => {
          const partition = {
            error: r.int16(),
            partition: r.int32(),
            leader: r.int32(),
            leaderEpoch: r.int32(),
          };
          for (let replicas = 0; replicas < 3; replicas++) r.array(() => r.int32());
          r.endStruct();
          return partition;
        });
        r.int32();
        r.endStruct();
        return { error, topicId, partitions };
      });
      return { brokers, topic: topics[0] };
    },
  });
}

/** The answer for the one partition asked for. */
export interface ListedOffset {
  readonly error: number;
  readonly offset: bigint;
}

/**
 * An offset of one partition as a read_committed consumer sees it.
 * @param at `latest`: the last stable offset
 */
export function listOffsetsCall(
  version: number,
  request: {
    readonly topic: string;
    readonly partition: number;
    readonly leaderEpoch: number;
    readonly at: 'earliest' | 'latest';
  },
): ApiCall<ListedOffset> {
  return call({
    name: 'ListOffsets',
    key: API.listOffsets.key,
    version,
    write: (w) => {
      w.int32(-1).int8(1);
      w.array([request], ({ topic, partition, leaderEpoch, at }) => {
        w.string(topic);
        w.array([partition], () => {
          w.int32(partition)
            .int32(leaderEpoch)
            .int64(at === 'earliest' ? -2n : -1n);
        });
      });
    },
    read: (r) => {
      r.int32();
      const listed = r
        .array(() => {
          r.string();
          return r.array(() => {
            r.int32();
            const error = r.int16();
            r.int64();
            const offset = r.int64();
            r.int32();
            return { error, offset };
          });
        })
        .flat();
      return listed[0] ?? { error: -1, offset: -1n };
    },
  });
}

/** What is asked for of one partition. */
export interface FetchPartition {
  readonly partition: number;
  readonly offset: bigint;
  readonly leaderEpoch: number;
  /** Leader epoch of the record before `offset`, -1 when not known: lets the broker see truncation. */
  readonly lastFetchedEpoch: number;
  readonly maxBytes: number;
}

/** What came of one partition. */
export interface FetchedPartition {
  readonly partition: number;
  readonly error: number;
  readonly lastStableOffset: bigint;
  readonly logStartOffset: bigint;
  readonly aborted: readonly AbortedTransaction[];
  /** Set when the log lost records that had been fetched (KIP-595): its own history ends here. */
  readonly divergedAt: bigint | undefined;
  /** A view into the response. */
  readonly records: Buffer;
}

/** Answer to a fetch, in the order asked for. */
export interface FetchResponse {
  readonly throttleMs: number;
  readonly error: number;
  readonly partitions: readonly FetchedPartition[];
}

/** Committed records of several partitions of one topic; by topic id from version 13 on. */
export function fetchCall(
  version: number,
  request: {
    readonly topic: string;
    readonly topicId: string;
    readonly maxWaitMs: number;
    readonly maxBytes: number;
    readonly partitions: readonly FetchPartition[];
  },
): ApiCall<FetchResponse> {
  const flexible = version >= 12;
  const byTopicId = version >= 13;
  return call({
    name: 'Fetch',
    key: API.fetch.key,
    version,
    flexible,
    write: (w) => {
      // Consumer, wait, min bytes, max bytes, read_committed, no fetch session.
      w.int32(-1)
        .int32(request.maxWaitMs)
        .int32(1)
        .int32(request.maxBytes)
        .int8(1)
        .int32(0)
        .int32(-1);
      w.array([request], ({ topic, topicId, partitions }) => {
        if (byTopicId) w.uuid(topicId);
        else w.string(topic);
        w.array(partitions, (one) => {
          w.int32(one.partition).int32(one.leaderEpoch).int64(one.offset);
          if (flexible) w.int32(one.lastFetchedEpoch);
          w.int64(-1n).int32(one.maxBytes).endStruct();
        });
        w.endStruct();
      });
      // No forgotten topics, no rack.
      w.array([], () => {}).string('');
    },
    read: (r) => {
      const throttleMs = r.int32();
      const error = r.int16();
      r.int32();
      const partitions = r.array(() => {
        if (byTopicId) r.raw(16);
        else r.string();
        const fetched = r.array(() => readFetchedPartition(r));
        r.endStruct();
        return fetched;
      });
      return { throttleMs, error, partitions: partitions.flat() };
    },
  });
}

function readFetchedPartition(r: WireReader): FetchedPartition {
  const partition = r.int32();
  const error = r.int16();
  r.int64();
  const lastStableOffset = r.int64();
  const logStartOffset = r.int64();
  const aborted = r.array(() => {
    const transaction = { producerId: r.int64(), firstOffset: r.int64() };
    r.endStruct();
    return transaction;
  });
  r.int32();
  const records = r.bytes();
  let divergedAt: bigint | undefined;
  r.endStruct((tag, field) => {
    if (tag !== 0) return;
    field.int32();
    divergedAt = field.int64();
  });
  return { partition, error, lastStableOffset, logStartOffset, aborted, divergedAt, records };
}

/** The broker that keeps a consumer group's offsets. */
export function findCoordinatorCall(
  version: number,
  group: string,
): ApiCall<BrokerNode & { readonly error: number }> {
  return call({
    name: 'FindCoordinator',
    key: API.findCoordinator.key,
    version,
    write: (w) => w.string(group).int8(0),
    read: (r) => {
      r.int32();
      const error = r.int16();
      r.nullableString();
      return { error, nodeId: r.int32(), host: r.string(), port: r.int32() };
    },
  });
}

/**
 * Stores group offsets as a consumer that is not a member of the group.
 * @returns the error code of each partition
 */
export function offsetCommitCall(
  version: number,
  request: {
    readonly group: string;
    readonly topic: string;
    readonly offsets: ReadonlyMap<number, bigint>;
  },
): ApiCall<readonly number[]> {
  return call({
    name: 'OffsetCommit',
    key: API.offsetCommit.key,
    version,
    write: (w) => {
      w.string(request.group).int32(-1).string('');
      w.array([request], ({ topic, offsets }) => {
        w.string(topic);
        w.array([...offsets], ([partition, offset]) => {
          w.int32(partition).int64(offset).nullString();
        });
      });
    },
    read: (r) => {
      r.int32();
      const errors = r.array(() => {
        r.string();
        return r.array(() => {
          r.int32();
          return r.int16();
        });
      });
      return errors.flat();
    },
  });
}
