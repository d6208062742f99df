/**
 * Version checksum files (`N.crc`): what the table adds up to at one version, so that whoever
 * reconstructs that version can tell whether a log entry or a checkpoint was lost or changed. Pure.
 * Source: PROTOCOL.md "Version Checksum File".
 *
 * VC1 A checksum is exact or absent; it is written once and never replaced.
 */
import { actionLines, type TxnAction } from './actions.ts';
import { parseExactJson, stringifyExactJson } from './exact-json.ts';
import { JsonFields } from './json-fields.ts';
import type { TableSnapshot } from './snapshot.ts';

/** The checksum file of a snapshot's version, as JSON. */
export function encodeVersionChecksum(snapshot: TableSnapshot): Uint8Array {
  const { version, protocol, metadata } = snapshot;
  const actions = { version, protocol, metadata, txns: byAppId(snapshot), adds: [], removes: [] };
  const lines = actionLines(actions);
  const only = (name: string): unknown[] => lines.flatMap((line) => line[name] ?? []);
  const checksum = {
    tableSizeBytes: snapshot.totalBytes,
    numFiles: snapshot.fileCount,
    numMetadata: 1,
    numProtocol: 1,
    setTransactions: only('txn'),
    metadata: only('metaData')[0],
    protocol: only('protocol')[0],
  };
  return new TextEncoder().encode(stringifyExactJson(checksum));
}

/**
 * Compares a snapshot with the checksum file of its version, whoever wrote it.
 * @returns what differs; undefined when nothing does, or when the file says nothing that is understood
 */
export function checksumMismatch(snapshot: TableSnapshot, bytes: Uint8Array): string | undefined {
  let checksum: Readonly<Record<string, unknown>>;
  try {
    const json = parseExactJson(new TextDecoder().decode(bytes));
    checksum = JsonFields.of(json, '.crc').fields;
  } catch {
    return undefined;
  }
  const { numFiles, tableSizeBytes, setTransactions } = checksum;
  if (Number.isSafeInteger(numFiles) && numFiles !== snapshot.fileCount) {
    return `${snapshot.fileCount} files instead of ${numFiles as number}`;
  }
  if (Number.isSafeInteger(tableSizeBytes) && tableSizeBytes !== snapshot.totalBytes) {
    return `${snapshot.totalBytes} bytes instead of ${tableSizeBytes as number}`;
  }
  for (const txn of Array.isArray(setTransactions) ? (setTransactions as unknown[]) : []) {
    const { appId, version } = Object(txn) as Readonly<Record<string, unknown>>;
    if (typeof appId !== 'string' || !isInteger(version)) continue;
    const actual = snapshot.progress(appId);
    if (actual !== BigInt(version)) return `progress ${actual} of ${appId} instead of ${version}`;
  }
  return undefined;
}

function isInteger(value: unknown): value is number | bigint {
  return typeof value === 'bigint' || Number.isSafeInteger(value);
}

function byAppId(snapshot: TableSnapshot): TxnAction[] {
  return snapshot.txns().toSorted((a, b) => (a.appId < b.appId ? -1 : 1));
}
