/**
 * A pipeline as parsed and validated from its YAML file (src/config.ts). Pure types: every stage
 * takes what it needs from here. Durations are milliseconds, sizes are bytes.
 */
import type { StructType } from './types.ts';

export type SourceConfig =
  | {
      readonly kind: 'embedded';
      readonly path: string;
      readonly topic: string;
      readonly partitions: number;
      /** Field of the JSON event whose value becomes the record's key, and so its partition. */
      readonly key: string | undefined;
      readonly maxRecordBytes: number;
    }
  | {
      readonly kind: 'kafka';
      readonly brokers: readonly string[];
      readonly topic: string;
      readonly clientId: string;
      readonly tls: KafkaTls | undefined;
      readonly sasl: KafkaSasl | undefined;
      /** Where a broker is reached, by the `host:port` that it advertises. */
      readonly addressMap: Readonly<Record<string, string>>;
      readonly maxRecordBytes: number;
    };

export interface KafkaTls {
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly serverName: string | undefined;
}

export type KafkaSasl =
  | { readonly mechanism: 'plain'; readonly username: string; readonly password: string }
  | {
      readonly mechanism: 'scram-sha-256' | 'scram-sha-512';
      readonly username: string;
      readonly password: string;
    }
  | {
      readonly mechanism: 'oauthbearer';
      /** OAuth 2 client credentials grant, or a file that holds a token. */
      readonly token:
        | { readonly kind: 'file'; readonly path: string }
        | {
            readonly kind: 'client-credentials';
            readonly tokenUrl: string;
            readonly clientId: string;
            readonly clientSecret: string;
            readonly scope: string | undefined;
          };
    };

export type LakeConfig =
  | { readonly kind: 'fs'; readonly path: string }
  | {
      readonly kind: 's3';
      readonly bucket: string;
      /** Without leading or trailing slash; may be empty. */
      readonly prefix: string;
      readonly endpoint: string | undefined;
      readonly region: string;
      readonly forcePathStyle: boolean;
    };

export type StateConfig =
  | { readonly kind: 'embedded'; readonly path: string }
  | { readonly kind: 'redis'; readonly url: string; readonly prefix: string };

/** When a bronze batch is sealed: whichever comes first. */
export interface CommitConfig {
  readonly maxLatencyMs: number;
  readonly maxRows: number;
  readonly maxBytes: number;
}

export interface EventConfig {
  /** Field that identifies an event. */
  readonly id: string;
  readonly time: {
    readonly field: string;
    /** How the field is written: RFC 3339 text, or epoch numbers of that unit. */
    readonly unit: 'rfc3339' | 's' | 'ms' | 'us';
  };
  readonly schemaVersion: number;
  /** Declared fields in order; `nullable: false` where `required: true`. */
  readonly schema: StructType;
}

export interface LateConfig {
  readonly afterMs: number;
  readonly futureToleranceMs: number;
  readonly idlePartitionMs: number;
}

export type MeasureFn = 'count' | 'sum' | 'min' | 'max' | 'avg' | 'countDistinct';

export interface MeasureConfig {
  readonly name: string;
  readonly fn: MeasureFn;
  /** undefined only for `count` of rows. */
  readonly field: string | undefined;
}

export interface AggregateConfig {
  readonly name: string;
  readonly windowMs: number;
  readonly groupBy: readonly string[];
  readonly measures: readonly MeasureConfig[];
}

export interface RetentionConfig {
  readonly bronze: { readonly hotMs: number; readonly archiveMs: number };
}

/** The daily reconciliation (P7). */
export interface ReconcileConfig {
  readonly enabled: boolean;
  /** Minutes after midnight, UTC. */
  readonly atMinute: number;
}

/** What is done for the tables on a timer. */
export interface HousekeepingConfig {
  /** Compaction, retention, vacuum and log clean-up; checkpoints are always taken. */
  readonly enabled: boolean;
  readonly optimizeEveryMs: number;
  /** Size of a compacted file. */
  readonly targetFileBytes: number;
  readonly cleanUpEveryMs: number;
  readonly vacuumRetainMs: number;
  readonly checkpointEveryMs: number;
}

export interface HttpToken {
  readonly name: string;
  readonly role: 'viewer' | 'operator';
  readonly token: string;
}

export interface SupervisorConfig {
  readonly http: {
    readonly host: string;
    readonly port: number;
    readonly tokens: readonly HttpToken[];
  };
}

/** Bounds on memory (P10), in bytes. */
export interface LimitsConfig {
  /** Raw bytes fetched but not yet committed to bronze, per worker. */
  readonly inFlightBytes: number;
  /** Batches kept in memory so that the next stage need not read them back. */
  readonly batchCacheBytes: number;
  /** Resident gold windows. */
  readonly goldStateBytes: number;
  /** Dedup index of one silver writer. */
  readonly dedupBytes: number;
}

export interface PipelineConfig {
  /** As in the file: [a-z0-9-]. */
  readonly name: string;
  /** `name` with `-` as `_`: the table name. */
  readonly tableName: string;
  readonly source: SourceConfig;
  readonly lake: LakeConfig;
  readonly state: StateConfig;
  readonly commit: CommitConfig;
  readonly event: EventConfig;
  readonly late: LateConfig;
  readonly gold: readonly AggregateConfig[];
  readonly retention: RetentionConfig;
  readonly reconcile: ReconcileConfig;
  readonly housekeeping: HousekeepingConfig;
  readonly supervisor: SupervisorConfig;
  readonly limits: LimitsConfig;
  /** Fixed when the silver table is created: the number of dedup buckets (P2, P5). */
  readonly dedupBuckets: number;
  /** Silver writers side by side, each with its share of the dedup buckets. */
  readonly silverWriters: number;
}
