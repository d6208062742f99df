/**
 * Writes a checkpoint and announces it. Source: PROTOCOL.md "Checkpoints", "Last Checkpoint File".
 *
 * W1 A checkpoint is never left in the log unless it was read back and says what the snapshot says:
 *    other readers pick the newest one they list and cannot all recover from a bad one.
 *    Its version checksum is written beside it.
 * W2 `_last_checkpoint` names only checkpoints that passed W1, and its version never goes back.
 */
import type { Clock } from '../../ambient.ts';
import { crashPoint } from '../../crash-points.ts';
import { PipelineError } from '../../errors.ts';
import type { ObjectStore } from '../object-store/object-store.ts';
import { checkpointColumns, checkpointEntry, encodeLastCheckpoint } from './checkpoint.ts';
import { checkpointKey, checksumKey, lastCheckpointKey } from './log-path.ts';
import type { CheckpointCodec, LogReader } from './log-reader.ts';
import { sameBytes, sameColumns } from './same-columns.ts';
import type { TableSnapshot } from './snapshot.ts';
import { encodeVersionChecksum } from './version-checksum.ts';

/** What writing a checkpoint needs. */
export interface CheckpointWriterOptions {
  readonly store: ObjectStore;
  readonly codec: CheckpointCodec;
  readonly clock: Clock;
  readonly reader: LogReader;
  readonly root: string;
}

/**
 * Writes the checkpoint of `snapshot` unless a newer one is announced.
 * @param expiryMs removes older than this, milliseconds since the epoch, are left out
 * @returns whether it was announced
 * @throws PipelineError corrupt when it did not read back the same; then it was deleted
 */
export async function writeCheckpoint(
  options: CheckpointWriterOptions,
  snapshot: TableSnapshot,
  expiryMs: number,
): Promise<boolean> {
  const { store, codec, clock, reader, root } = options;
  const { version } = snapshot;
  if (((await reader.lastCheckpointHint()) ?? -1) >= version) return false;

  const key = checkpointKey(root, version);
  const entry = checkpointEntry(snapshot, expiryMs);
  const columns = checkpointColumns(entry);
  await clock.yieldTurn();
  const bytes = await codec.encode(columns, { compression: 'snappy' });
  await clock.yieldTurn();
  if (!sameColumns(columns, await codec.decode(bytes, columns.schema))) {
    throw unfaithful(key, 'does not decode to what was encoded');
  }
  await clock.yieldTurn();
  crashPoint('m.checkpoint.part');
  await store.put(key, bytes);
  crashPoint('m.checkpoint.put');
  const stored = await store.get(key);
  if (!stored || !sameBytes(stored, bytes)) {
    // Another process may have written its own at the same time; only a broken one has to go.
    const readable = await reader.readCheckpoint(version).then(
      () => true,
      () => false,
    );
    if (readable) return false;
    await store.delete(key);
    throw unfaithful(key, 'was not stored as it was sent');
  }
  // VC1: the first one stays.
  await store.createIfAbsent(checksumKey(root, version), encodeVersionChecksum(snapshot));
  crashPoint('m.crc.written');

  if (((await reader.lastCheckpointHint()) ?? -1) >= version) return false;
  const hint = encodeLastCheckpoint({
    version,
    size: columns.length,
    sizeInBytes: bytes.length,
    numOfAddFiles: entry.adds.length,
  });
  await store.put(lastCheckpointKey(root), hint);
  crashPoint('m.lastcheckpoint.put');
  return true;
}

function unfaithful(key: string, problem: string): PipelineError {
  return new PipelineError('corrupt', 'TM_CHECKPOINT_CORRUPT', `checkpoint ${key} ${problem}`);
}
