/**
 * Removes the part of a log that no version younger than the table's log retention needs.
 * Source: PROTOCOL.md "Metadata Cleanup"; delta#606, delta-rs#2174 and #3692 for what goes wrong.
 *
 * LC1 The newest checkpoint at or before the cutoff stays, with its commit and everything after; it
 *     is read before anything before it is removed. Without such a checkpoint nothing is removed.
 * LC2 The cutoff is midnight UTC, and what readers still ask for is kept whatever its age.
 * LC3 Files go in the order of versions, so that an interrupted clean-up leaves one contiguous log.
 */
import { crashPoint } from '../../crash-points.ts';
import { PipelineError } from '../../errors.ts';
import type { DeltaEnvironment } from './delta-table.ts';
import { logPrefix, parseLogFileName } from './log-path.ts';
import { LogReader } from './log-reader.ts';

/** What is removed. */
export interface LogCleanup {
  /** Version of the checkpoint at which the log begins now; undefined when nothing could be removed. */
  readonly firstVersion: number | undefined;
  readonly files: number;
}

export interface LogCleanupOptions {
  readonly root: string;
  /** Age from which entries may go, milliseconds. */
  readonly retentionMs: number;
  /** The oldest version that somebody may still load, or whose successors somebody still reads. */
  readonly neededVersion: number;
  /** Only say what would be removed. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

interface OldVersion {
  readonly version: number;
  readonly names: readonly string[];
}

const DAY_MS = 86_400_000;
const VERSION_NAME = /^(\d{20})\./;

/** Cleans up the log of one table. @throws PipelineError unavailable */
export async function cleanUpLog(
  env: DeltaEnvironment,
  options: LogCleanupOptions,
): Promise<LogCleanup> {
  const { root, retentionMs, neededVersion, dryRun, signal } = options;
  const cutoffMs = Math.floor((env.ambient.clock.nowMs() - retentionMs) / DAY_MS) * DAY_MS;
  const old = await oldVersions(env, root, { cutoffMs, neededVersion });
  const firstVersion = await usableCheckpoint(env, root, old);
  if (firstVersion === undefined) return { firstVersion: undefined, files: 0 };
  const keys = old
    .filter(({ version }) => version < firstVersion)
    .flatMap(({ names }) => names.map((name) => logPrefix(root) + name));
  let files = 0;
  // LC3: one after another, for of deletes under way at once the later may be all that is done.
  for (const key of keys) {
    if (signal?.aborted) break;
    if (!dryRun) await env.store.delete(key);
    crashPoint('m.cleanup.deleted');
    files++;
  }
  return { firstVersion, files };
}

/** The versions up to the last commit that is old enough and not needed (LC2). */
async function oldVersions(
  env: DeltaEnvironment,
  root: string,
  limits: { readonly cutoffMs: number; readonly neededVersion: number },
): Promise<readonly OldVersion[]> {
  const prefix = logPrefix(root);
  const versions: OldVersion[] = [];
  let current: { version: number; names: string[]; committed: boolean } | undefined;
  for await (const { key, modifiedMs } of env.store.list(prefix)) {
    const name = key.slice(prefix.length);
    const version = Number(VERSION_NAME.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(version)) continue;
    if (current?.version !== version) {
      if (current?.committed) versions.push(current);
      if (version > limits.neededVersion) return versions;
      current = { version, names: [], committed: false };
    }
    current.names.push(name);
    if (parseLogFileName(name)?.kind !== 'commit') continue;
    // A commit is no older than those before it, whatever clocks the store had.
    if (modifiedMs > limits.cutoffMs) return versions;
    current.committed = true;
  }
  if (current?.committed) versions.push(current);
  return versions;
}

/** LC1 */
async function usableCheckpoint(
  env: DeltaEnvironment,
  root: string,
  old: readonly OldVersion[],
): Promise<number | undefined> {
  const reader = new LogReader({ ...env, root });
  for (const { version, names } of old.toReversed()) {
    const parts = names.flatMap((name) => {
      const parsed = parseLogFileName(name);
      return parsed?.kind === 'checkpoint' ? [parsed.parts] : [];
    });
    const whole = parts.find((count) => parts.filter((one) => one === count).length === count);
    if (whole === undefined) continue;
    try {
      await reader.readCheckpoint(version, whole);
      return version;
    } catch (thrown) {
      if (!(thrown instanceof PipelineError) || thrown.kind !== 'corrupt') throw thrown;
    }
  }
  return undefined;
}
