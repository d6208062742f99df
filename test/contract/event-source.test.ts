/** Runs the event source contract on the embedded log; Kafka's run is in test/integration. */
import { mkdtemp, rm, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemAmbient } from '../../src/ambient.ts';
import { silentLogger } from '../../src/logger.ts';
import { openEmbeddedEventSource } from '../../src/storage/source/embedded-event-source.ts';
import { EmbeddedLog } from '../../src/storage/source/embedded-log.ts';
import { listSegments, segmentPath } from '../../src/storage/source/embedded-log-files.ts';
import { encodeRecordBatch } from '../../src/storage/source/record-batch-encoder.ts';
import { eventSourceContract } from './event-source.contract.ts';

const context = { ambient: systemAmbient, logger: silentLogger };

eventSourceContract('embedded log', async (t, partitions) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark log ü%23#-'));
  t.after(() => rm(folder, { recursive: true }));
  const config = {
    kind: 'embedded',
    path: join(folder, 'log'),
    topic: 'events',
    partitions,
    key: undefined,
    maxRecordBytes: 1 << 24,
  } as const;
  // Small segments, so that reading crosses many of them.
  const openLog = (partitionCount = partitions) =>
    EmbeddedLog.open({ ...config, partitions: partitionCount }, context, {
      segmentBytesMax: 1 << 20,
    });
  let log = await openLog();
  t.after(() => log.close());
  return {
    async open() {
      const source = await openEmbeddedEventSource(config, context);
      t.after(() => source.close());
      return source;
    },
    async openMissing() {
      const path = join(folder, 'missing');
      const source = await openEmbeddedEventSource({ ...config, path }, context);
      t.after(() => source.close());
      await rm(path, { recursive: true });
      return source;
    },
    async append(partition, records) {
      const batch = Buffer.from(encodeRecordBatch(records, { baseOffset: 0n }));
      await log.append([{ partition, batch }]);
    },
    async deleteBefore(partition, offset) {
      const segments = await listSegments(config.path, partition);
      for (const segment of segments.filter((base) => base < offset)) {
        await unlink(segmentPath(config.path, partition, segment));
      }
    },
    async recreate() {
      await log.close();
      await rm(config.path, { recursive: true });
      log = await openLog();
    },
    async addPartitions(partitionCount) {
      await log.close();
      log = await openLog(partitionCount);
    },
  };
});
