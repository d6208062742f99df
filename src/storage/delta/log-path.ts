/**
 * Names in a table's folder: log entries, checkpoints and the data files that actions refer to.
 * Pure. Source: PROTOCOL.md "Delta Log Entries", "Checkpoints", "Add File and Remove File".
 *
 * L1 A path in an action is percent-encoded exactly once and decoded exactly once.
 * L2 A decoded path never leaves the table's folder: an absolute path, `..`, NUL or backslash is
 *    refused, whoever wrote the log.
 */
import { PipelineError } from '../../errors.ts';

/** What the name of a file in `_delta_log` says. Parts are numbered from 1. */
export type LogFileName =
  | { readonly kind: 'commit'; readonly version: number }
  | {
      readonly kind: 'checkpoint';
      readonly version: number;
      readonly part: number;
      readonly parts: number;
    };

const COMMIT_NAME = /^(\d{20})\.json$/;
const V2_CHECKPOINT_NAME = /^\d{20}\.checkpoint\.[0-9a-f-]{36}\.(?:json|parquet)$/;
const CHECKPOINT_NAME = /^(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$/;

/** Key prefix of everything in the log folder of the table at `root`, with the final slash. */
export function logPrefix(root: string): string {
  return `${root}/_delta_log/`;
}

/** Key of the log entry of `version`. */
export function commitKey(root: string, version: number): string {
  return `${logPrefix(root)}${versionText(version)}.json`;
}

/** Key of the classic single-file checkpoint of `version`. */
export function checkpointKey(root: string, version: number): string {
  return `${logPrefix(root)}${versionText(version)}.checkpoint.parquet`;
}

/** Key of one file of a checkpoint as it was listed. */
export function checkpointPartKey(
  root: string,
  checkpoint: { readonly version: number; readonly part: number; readonly parts: number },
): string {
  const { version, part, parts } = checkpoint;
  if (parts === 1) return checkpointKey(root, version);
  const digits = (n: number): string => String(n).padStart(10, '0');
  const name = `${versionText(version)}.checkpoint.${digits(part)}.${digits(parts)}.parquet`;
  return logPrefix(root) + name;
}

/** Key of the version checksum of `version`. */
export function checksumKey(root: string, version: number): string {
  return `${logPrefix(root)}${versionText(version)}.crc`;
}

/** Key of the hint that names the newest checkpoint. */
export function lastCheckpointKey(root: string): string {
  return `${logPrefix(root)}_last_checkpoint`;
}

/** A key before every file of `version` and after every file of the versions before it. */
export function beforeVersionKey(root: string, version: number): string {
  return logPrefix(root) + versionText(version);
}

/**
 * Reads a file name in `_delta_log`.
 * @returns undefined for names that mean nothing to this reader; they are to be ignored
 */
export function parseLogFileName(name: string): LogFileName | undefined {
  const commit = COMMIT_NAME.exec(name);
  if (commit) return { kind: 'commit', version: Number(commit[1]) };
  const checkpoint = CHECKPOINT_NAME.exec(name);
  if (!checkpoint) return undefined;
  const [, version, part = '1', parts = '1'] = checkpoint;
  return {
    kind: 'checkpoint',
    version: Number(version),
    part: Number(part),
    parts: Number(parts),
  };
}

/** Whether a file in `_delta_log` is a checkpoint as only the feature `v2Checkpoint` has them. */
export function isV2CheckpointName(name: string): boolean {
  return V2_CHECKPOINT_NAME.test(name);
}

/** Needs no encoding; almost every path, so it is worth a short cut. */
const PLAIN = /^[A-Za-z0-9_=./-]*$/;

/** `=` separates partition names from values in folders; encoding it would be legal and unreadable. */
const ENCODED_EQUALS = /%3D/g;

/**
 * Percent-encodes a relative path for an action (L1).
 * @throws PipelineError invalid for text that has no UTF-8 form
 */
export function encodeFilePath(path: string): string {
  if (PLAIN.test(path)) return path;
  if (!path.isWellFormed()) {
    throw new PipelineError('invalid', 'TM_LOG_UNSUPPORTED', 'a file path is not well-formed text');
  }
  return path
    .split('/')
    .map((segment) => encodeURIComponent(segment).replace(ENCODED_EQUALS, '='))
    .join('/');
}

const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:/;
// oxlint-disable-next-line no-control-regex -- NUL ends a path in C libraries
const FORBIDDEN = /[\0\\]/;
/** A segment that is empty, `.` or `..`. */
const BAD_SEGMENT = /(?:^|\/)\.{0,2}(?:\/|$)/;

/**
 * Decodes a path out of an action (L1, L2).
 * @returns the path relative to the table's root
 * @throws PipelineError invalid for absolute paths, corrupt for those that lead outside or are malformed
 */
export function decodeFilePath(encoded: string): string {
  if (SCHEME.test(encoded) || encoded.startsWith('/')) {
    throw new PipelineError(
      'invalid',
      'TM_LOG_UNSUPPORTED',
      `absolute file path (shallow clones are not supported): ${shown(encoded)}`,
    );
  }
  let path: string;
  try {
    path = encoded.includes('%') ? decodeURIComponent(encoded) : encoded;
  } catch (cause) {
    throw unsafePath('malformed percent-encoding', encoded, cause);
  }
  if (path.startsWith('/') || FORBIDDEN.test(path)) throw unsafePath('unsafe character', encoded);
  if (BAD_SEGMENT.test(path)) throw unsafePath('empty or relative segment', encoded);
  return path;
}

function versionText(version: number): string {
  return String(version).padStart(20, '0');
}

function unsafePath(problem: string, encoded: string, cause?: unknown): PipelineError {
  const message = `file path with ${problem}: ${shown(encoded)}`;
  return new PipelineError('corrupt', 'TM_LOG_CORRUPT', message, { cause });
}

function shown(path: string): string {
  return JSON.stringify(path.length > 200 ? `${path.slice(0, 200)}…` : path);
}
