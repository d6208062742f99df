/**
 * The manifest of a shard's dedup index: which runs of parts hold the ids of which silver rows. Pure
 * but for the checksum.
 *
 * DM1 A manifest is a hint (P1): one that is absent, damaged, of another table, bucket count or
 *    format is as good as none, and the index is built again from the fingerprints of silver's files.
 */
import { crc32 } from 'node:zlib';

/** An object of fingerprints (dedup-part). */
export interface PartEntry {
  /** Object name within the index folder. */
  readonly name: string;
  readonly prefix: number;
  readonly rows: number;
  /** CRC-32 of the head's bytes. */
  readonly headCrc: number;
}

/** Parts that were made together and cover all hashes. */
export interface RunEntry {
  /** How many merges its rows went through. */
  readonly level: number;
  readonly prefixBits: number;
  readonly rows: number;
  readonly parts: readonly PartEntry[];
}

export interface DedupManifest {
  /** Silver table that it speaks of. */
  readonly tableId: string;
  readonly bucketCount: number;
  /** Silver version up to which all rows of the shard are in runs. */
  readonly version: number;
  /** Oldest first. */
  readonly runs: readonly RunEntry[];
}

const FORMAT = 1;

/** The manifest as stored. */
export function encodeManifest(manifest: DedupManifest): Uint8Array {
  const body = JSON.stringify(manifest);
  return new TextEncoder().encode(JSON.stringify({ format: FORMAT, crc: crc32(body), body }));
}

/** @returns undefined when the bytes are no manifest of this format (DM1) */
export function decodeManifest(bytes: Uint8Array): DedupManifest | undefined {
  try {
    const envelope = JSON.parse(new TextDecoder().decode(bytes)) as {
      readonly format?: unknown;
      readonly crc?: unknown;
      readonly body?: unknown;
    };
    const { format, crc, body } = envelope;
    if (format !== FORMAT || typeof body !== 'string' || crc32(body) !== crc) return undefined;
    return JSON.parse(body) as DedupManifest;
  } catch {
    return undefined;
  }
}
