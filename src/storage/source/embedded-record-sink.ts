/** The record sink on the embedded log. */
import { EmbeddedLog, type PendingBatch } from './embedded-log.ts';
import { partitionOfKey } from './murmur2.ts';
import { RecordBatchBuilder } from './record-batch-encoder.ts';
import type { NewRecord, RecordSink } from './record-sink.ts';
import type { EmbeddedSourceConfig, SourceContext } from './source-context.ts';

/** A batch is closed when it reaches this size. */
const BATCH_BYTES = 1 << 20;

/**
 * Opens the embedded log for writing; it is locked until `close`.
 * @throws PipelineError unavailable (another writer, disk) | invalid | corrupt
 */
export async function openEmbeddedRecordSink(
  config: EmbeddedSourceConfig,
  context: SourceContext,
): Promise<RecordSink> {
  const log = await EmbeddedLog.open(config, context);
  return {
    description: `embedded log ${config.path} topic ${config.topic}`,
    append: async (records) => {
      await log.append(batchesOf(records, log.partitionCount));
    },
    close: () => log.close(),
  };
}

/** Batches per partition, records of one partition in their order; without a key, by the value. */
function batchesOf(records: readonly NewRecord[], partitionCount: number): PendingBatch[] {
  const builders = new Map<number, RecordBatchBuilder>();
  const batches: PendingBatch[] = [];
  const close = (partition: number, builder: RecordBatchBuilder): void => {
    if (builder.recordCount > 0)
      batches.push({ partition, batch: builder.finish({ baseOffset: 0n }) });
  };
  for (const { key, value, timestampMs } of records) {
    const keyBytes = key === undefined ? null : Buffer.from(key);
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    const partition = partitionOfKey(keyBytes ?? bytes, partitionCount);
    let builder = builders.get(partition);
    if (!builder) {
      builder = new RecordBatchBuilder();
      builders.set(partition, builder);
    }
    builder.append(timestampMs, keyBytes, 0, keyBytes?.length ?? 0, bytes, 0, bytes.length);
    if (builder.byteLength >= BATCH_BYTES) close(partition, builder);
  }
  for (const [partition, builder] of builders) close(partition, builder);
  return batches;
}
