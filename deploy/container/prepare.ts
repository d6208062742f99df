/**
 * Makes the topic and the bucket that a pipeline file names, where they are missing:
 * `node prepare.ts FILE PARTITIONS`. For trying out; in production both have owners.
 *
 * PR1 What is there is left as it is, so that it may run before every start.
 */
import { pathToFileURL } from 'node:url';
import { CreateBucketCommand, HeadBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { systemAmbient } from '../../src/ambient.ts';
import { loadPipeline } from '../../src/config.ts';
import { createLogger } from '../../src/logger.ts';
import type { PipelineConfig } from '../../src/pipeline/pipeline-config.ts';
import { createKafkaClient } from '../../src/storage/source/kafka-client.ts';

/** PR1. @returns what was made; rejects when a service is away */
export async function prepare(
  config: PipelineConfig,
  partitionCount: number,
): Promise<readonly string[]> {
  return [...(await makeTopic(config, partitionCount)), ...(await makeBucket(config))];
}

async function makeTopic({ source }: PipelineConfig, partitionCount: number): Promise<string[]> {
  if (source.kind !== 'kafka') return [];
  const logger = createLogger({ clock: systemAmbient.clock, level: 'error', write: () => {} });
  const client = await createKafkaClient(source, { ambient: systemAmbient, logger });
  const admin = client.admin();
  await admin.connect();
  try {
    const { topic } = source;
    const isNew = await admin.createTopics({ topics: [{ topic, numPartitions: partitionCount }] });
    return isNew ? [`topic ${topic} with ${partitionCount} partitions`] : [];
  } finally {
    await admin.disconnect();
  }
}

async function makeBucket({ lake }: PipelineConfig): Promise<string[]> {
  if (lake.kind !== 's3') return [];
  const { region, endpoint, forcePathStyle, bucket } = lake;
  const client = new S3Client({ region, forcePathStyle, ...(endpoint ? { endpoint } : {}) });
  try {
    const isThere = await client.send(new HeadBucketCommand({ Bucket: bucket })).then(
      () => true,
      (thrown: { readonly $metadata?: { readonly httpStatusCode?: number } }) => {
        if (thrown.$metadata?.httpStatusCode === 404) return false;
        throw thrown;
      },
    );
    if (isThere) return [];
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    return [`bucket ${bucket}`];
  } finally {
    client.destroy();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [file = 'pipeline.yaml', partitions = '4'] = process.argv.slice(2);
  const config = loadPipeline(file, { environment: process.env, cwd: process.cwd() });
  try {
    const made = await prepare(config, Number(partitions));
    console.log(made.length > 0 ? `made ${made.join(' and ')}` : 'topic and bucket are there');
  } catch (thrown) {
    console.error((thrown as Error).message);
    process.exitCode = 1;
  }
}
