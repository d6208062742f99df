import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  appendFile,
  copyFile,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { type Clock, systemAmbient } from '../../../src/ambient.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import { acquireDirectoryLock } from '../../../src/storage/source/directory-lock.ts';
import { openEmbeddedEventSource } from '../../../src/storage/source/embedded-event-source.ts';
import { EmbeddedLog } from '../../../src/storage/source/embedded-log.ts';
import {
  headsPath,
  listSegments,
  manifestPath,
  partitionPath,
  segmentPath,
  writerLockPath,
} from '../../../src/storage/source/embedded-log-files.ts';
import { openEmbeddedRecordSink } from '../../../src/storage/source/embedded-record-sink.ts';
import { partitionOfKey } from '../../../src/storage/source/murmur2.ts';
import { encodeRecordBatch } from '../../../src/storage/source/record-batch-encoder.ts';
import type { EmbeddedSourceConfig } from '../../../src/storage/source/source-context.ts';
import { readToEnd } from '../../support/source-records.ts';

const context = { ambient: systemAmbient, logger: silentLogger };
const T0 = 1_790_000_000_000;

async function newConfig(t: TestContext, partitions = 1): Promise<EmbeddedSourceConfig> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-log-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return {
    kind: 'embedded',
    path: join(folder, 'log'),
    topic: 'events',
    partitions,
    key: undefined,
    maxRecordBytes: 1 << 24,
  };
}

function pending(partition: number, ...values: string[]) {
  const records = values.map((value) => ({ timestampMs: T0, value: Buffer.from(value) }));
  return { partition, batch: Buffer.from(encodeRecordBatch(records, { baseOffset: 0n })) };
}

async function valuesOf(config: EmbeddedSourceConfig, partition = 0): Promise<string[]> {
  const source = await openEmbeddedEventSource(config, context);
  try {
    return (await readToEnd(source, partition)).rows.map(({ value }) => String(value));
  } finally {
    await source.close();
  }
}

function failsWith(kind: string, code: string) {
  return (error: unknown) =>
    error instanceof PipelineError && error.kind === kind && error.code === code;
}

/** Makes the lock look as if a process that is no more had taken it. */
async function pretendHolder(
  config: EmbeddedSourceConfig,
  number: number,
  { host }: { readonly host: string },
): Promise<string> {
  const path = `${writerLockPath(config.path)}.${number}`;
  const holder = { pid: process.pid, started: '1', host, note: '', released: false };
  await writeFile(path, JSON.stringify(holder));
  return path;
}

/** Appends `a` and `b` durably, then `c` as a process that died before it wrote the heads. */
async function crashedLog(
  config: EmbeddedSourceConfig,
): Promise<{ readonly path: string; readonly size: number }> {
  const log = await EmbeddedLog.open(config, context);
  await log.append([pending(0, 'a')]);
  await log.append([pending(0, 'b')]);
  await copyFile(headsPath(config.path), `${config.path}.heads`);
  const path = segmentPath(config.path, 0, 0n);
  const { size } = await stat(path);
  await log.append([pending(0, 'c')]);
  await log.close();
  await copyFile(`${config.path}.heads`, headsPath(config.path));
  return { path, size };
}

test('a whole batch behind the heads is kept, wherever a torn one is cut it goes (E2, W1)', async (t) => {
  const config = await newConfig(t);
  const { path, size } = await crashedLog(config);
  assert.deepEqual(await valuesOf(config), ['a', 'b', 'c']);
  const whole = await readFile(path);
  for (let end = size; end < whole.length; end++) {
    await copyFile(`${config.path}.heads`, headsPath(config.path));
    await writeFile(path, whole.subarray(0, end));
    assert.deepEqual(await valuesOf(config), ['a', 'b'], `cut at ${end}`);
    assert.equal((await stat(path)).size, size);
  }
});

test('appending goes on with the next offset after a torn tail was cut off (E3)', async (t) => {
  const config = await newConfig(t);
  const { path, size } = await crashedLog(config);
  await truncate(path, size + 30);
  const log = await EmbeddedLog.open(config, context);
  const ranges = await log.append([pending(0, 'd', 'e'), pending(0, 'f')]);
  assert.deepEqual(ranges.get(0), { earliest: 2n, latest: 5n });
  await log.close();
  assert.deepEqual(await valuesOf(config), ['a', 'b', 'd', 'e', 'f']);
});

test('lost heads are found again from the segments', async (t) => {
  const config = await newConfig(t, 2);
  const log = await EmbeddedLog.open(config, context, { segmentBytesMax: 200 });
  for (const value of ['a', 'b', 'c', 'd'])
    await log.append([pending(0, value), pending(1, value)]);
  await log.close();
  assert.ok((await listSegments(config.path, 0)).length > 1);
  await rm(headsPath(config.path));
  assert.deepEqual(await valuesOf(config, 0), ['a', 'b', 'c', 'd']);
  assert.deepEqual(await valuesOf(config, 1), ['a', 'b', 'c', 'd']);
});

test('damage with good batches behind it is corrupt, and nothing is cut (W2)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context);
  for (const value of ['a', 'b', 'c']) await log.append([pending(0, value)]);
  await log.close();
  const path = segmentPath(config.path, 0, 0n);
  const bytes = await readFile(path);
  bytes[bytes.length / 3 + 65]! ^= 1;
  await writeFile(path, bytes);
  await rm(headsPath(config.path));
  await assert.rejects(
    openEmbeddedEventSource(config, context),
    failsWith('corrupt', 'TM_LOG_CORRUPT'),
  );
  assert.equal((await stat(path)).size, bytes.length);
});

test('damage below the heads reaches the reader as corrupt, not as an end (P8)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context);
  for (const value of ['a', 'b', 'c']) await log.append([pending(0, value)]);
  await log.close();
  const path = segmentPath(config.path, 0, 0n);
  const bytes = await readFile(path);
  bytes[bytes.length / 3 + 65]! ^= 1;
  await writeFile(path, bytes);
  await assert.rejects(valuesOf(config), failsWith('corrupt', 'TM_RECORD_BATCH_CORRUPT'));
});

test('a missing or shortened segment is corrupt (P8)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context, { segmentBytesMax: 100 });
  for (const value of ['a', 'b', 'c']) await log.append([pending(0, value)]);
  await log.close();
  const newest = segmentPath(config.path, 0, 2n);
  await truncate(newest, 10);
  await assert.rejects(EmbeddedLog.open(config, context), failsWith('corrupt', 'TM_LOG_CORRUPT'));
  await rm(newest);
  await assert.rejects(EmbeddedLog.open(config, context), failsWith('corrupt', 'TM_LOG_CORRUPT'));
});

test('a log whose batches do not continue each other is corrupt, never a standstill or a gap (SR1)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context, { segmentBytesMax: 200 });
  for (const value of ['a', 'b', 'c', 'd']) await log.append([pending(0, value)]);
  await log.close();
  assert.equal((await listSegments(config.path, 0)).length, 2);
  const path = segmentPath(config.path, 0, 0n);
  const whole = await readFile(path);
  for (let end = 0; end < whole.length; end++) {
    await writeFile(path, whole.subarray(0, end));
    await assert.rejects(valuesOf(config), failsWith('corrupt', 'TM_LOG_CORRUPT'), `cut at ${end}`);
  }
  for (const at of [7, whole.length / 2 + 7]) {
    // The base offset, which no checksum covers.
    const moved = Buffer.from(whole);
    moved[at]! ^= 0x40;
    await writeFile(path, moved);
    await assert.rejects(valuesOf(config), failsWith('corrupt', 'TM_LOG_CORRUPT'), `at ${at}`);
  }
});

test('an append that fails in one partition shows nothing of itself in any, and can be repeated', async (t) => {
  const config = await newConfig(t, 2);
  const log = await EmbeddedLog.open(config, context, { segmentBytesMax: 100 });
  t.after(() => log.close());
  await log.append([pending(0, 'a'), pending(1, 'a')]);
  const away = `${config.path}.away`;
  // The next append starts a segment, for which partition 1 has no folder now.
  await rename(partitionPath(config.path, 1), away);
  await assert.rejects(
    log.append([pending(0, 'b'), pending(1, 'b')]),
    failsWith('unavailable', 'TM_SOURCE_UNAVAILABLE'),
  );
  await rename(away, partitionPath(config.path, 1));
  assert.deepEqual(await valuesOf(config, 0), ['a']);
  await log.append([pending(0, 'c'), pending(1, 'c')]);
  for (const partition of [0, 1]) assert.deepEqual(await valuesOf(config, partition), ['a', 'c']);
  await log.close();
  for (const partition of [0, 1]) assert.deepEqual(await valuesOf(config, partition), ['a', 'c']);
});

test('concurrent appends get dense offsets (E1, E3)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context);
  const ranges = await Promise.all(
    Array.from({ length: 20 }, (_, i) => log.append([pending(0, `${i}a`, `${i}b`)])),
  );
  assert.deepEqual(
    ranges.map((range) => range.get(0)!.earliest),
    Array.from({ length: 20 }, (_, i) => BigInt(2 * i)),
  );
  await log.close();
  assert.equal((await valuesOf(config)).length, 40);
});

test('only one writer at a time, and reading goes on beside it (E1)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context);
  t.after(() => log.close());
  await log.append([pending(0, 'a')]);
  await assert.rejects(EmbeddedLog.open(config, context, { waitMs: 0 }), (error: PipelineError) => {
    assert.equal(error.kind, 'unavailable');
    assert.match(error.message, new RegExp(`process ${process.pid} on `));
    return true;
  });
  assert.deepEqual(await valuesOf(config), ['a']);
});

test('the lock of a process that was killed is taken over at once (DL2)', async (t) => {
  const config = await newConfig(t);
  const script = `
    import { acquireDirectoryLock } from '${import.meta.resolve('../../../src/storage/source/directory-lock.ts')}';
    import { systemAmbient } from '${import.meta.resolve('../../../src/ambient.ts')}';
    await acquireDirectoryLock(process.argv[1], systemAmbient, 0);
    console.log('held');
    setInterval(() => {}, 1000);`;
  await (await EmbeddedLog.open(config, context)).close();
  const path = writerLockPath(config.path);
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script, path]);
  await new Promise((resolve, reject) => {
    holder.stdout.once('data', resolve);
    holder.once('exit', () => reject(new Error('the holder ended')));
  });
  assert.equal(await acquireDirectoryLock(path, systemAmbient, 0), undefined);
  holder.kill('SIGKILL');
  await new Promise((resolve) => holder.once('exit', resolve));
  const log = await EmbeddedLog.open(config, context, { waitMs: 0 });
  await log.close();
});

test('a younger process with the number of a dead holder does not count as the holder (DL2)', async (t) => {
  const config = await newConfig(t);
  await (await EmbeddedLog.open(config, context)).close();
  await pretendHolder(config, 7, { host: hostname() });
  await (await EmbeddedLog.open(config, context, { waitMs: 0 })).close();
});

test('a holder on another host is believed while its heart beats, and no longer (DL3)', async (t) => {
  const config = await newConfig(t);
  await (await EmbeddedLog.open(config, context)).close();
  const path = await pretendHolder(config, 7, { host: 'elsewhere' });
  let elapsedMs = 0;
  let beating = true;
  const clock = Object.create(systemAmbient.clock, {
    monotonicMs: { value: () => elapsedMs },
    sleep: {
      async value(delayMs: number) {
        elapsedMs += delayMs;
        if (beating) await appendFile(path, ' ');
      },
    },
  }) as Clock;
  const ambient = { ...systemAmbient, clock };
  const lockPath = writerLockPath(config.path);
  assert.equal(await acquireDirectoryLock(lockPath, ambient, 60_000), undefined);
  beating = false;
  const lock = await acquireDirectoryLock(lockPath, ambient, 60_000);
  assert.ok(lock);
  await lock.release();
});

test('of many who find a dead holder, one gets the lock (DL1)', async (t) => {
  const config = await newConfig(t);
  await (await EmbeddedLog.open(config, context)).close();
  for (let round = 1; round <= 10; round++) {
    await pretendHolder(config, round * 100, { host: hostname() });
    const path = writerLockPath(config.path);
    const locks = await Promise.all(
      Array.from({ length: 20 }, () => acquireDirectoryLock(path, systemAmbient, 0)),
    );
    const held = locks.filter((lock) => lock !== undefined);
    assert.equal(held.length, 1);
    await held[0]!.release();
  }
});

test('a writer that was taken for dead never writes again (DL3, E1)', async (t) => {
  const config = await newConfig(t);
  const log = await EmbeddedLog.open(config, context);
  await log.append([pending(0, 'a')]);
  await pretendHolder(config, 99, { host: 'elsewhere' });
  await assert.rejects(log.append([pending(0, 'b')]), failsWith('fenced', 'TM_STOPPED'));
  await log.close();
  await rm(`${writerLockPath(config.path)}.99`);
  assert.deepEqual(await valuesOf(config), ['a']);
});

test('the log of another topic, or a damaged manifest, is refused', async (t) => {
  const config = await newConfig(t);
  await (await EmbeddedLog.open(config, context)).close();
  await assert.rejects(
    EmbeddedLog.open({ ...config, topic: 'other' }, context),
    failsWith('invalid', 'TM_CONFIG_INVALID'),
  );
  await writeFile(manifestPath(config.path), '{"topic":');
  await assert.rejects(EmbeddedLog.open(config, context), failsWith('corrupt', 'TM_LOG_CORRUPT'));
});

test('opening with fewer partitions than there are keeps them all', async (t) => {
  const config = await newConfig(t, 3);
  const log = await EmbeddedLog.open(config, context);
  await log.append([pending(2, 'a')]);
  await log.close();
  assert.deepEqual(await valuesOf({ ...config, partitions: 1 }, 2), ['a']);
});

test('the sink keeps the order of a key in the partition that Kafka would choose', async (t) => {
  const config = await newConfig(t, 4);
  const sink = await openEmbeddedRecordSink(config, context);
  const keys = ['a', 'b', 'c', 'd', 'e'];
  const records = [1, 2, 3].flatMap((round) =>
    keys.map((key) => ({ key, value: `${key}${round}`, timestampMs: T0 + round })),
  );
  await sink.append([...records, { key: undefined, value: 'no key', timestampMs: T0 }]);
  await sink.close();
  const found = await Promise.all([0, 1, 2, 3].map((partition) => valuesOf(config, partition)));
  for (const key of keys) {
    const partition = partitionOfKey(Buffer.from(key), 4);
    assert.deepEqual(
      found[partition]!.filter((value) => value.startsWith(key)),
      [`${key}1`, `${key}2`, `${key}3`],
    );
  }
  assert.equal(found.flat().length, records.length + 1);
});
